"""Matroska and WebM: whether the last element is all there. Their blocks have sizes, their files often no length."""

from __future__ import annotations

from codeczoo.base.audio_files.parts import File

OPENED = (0x18538067, 0x1F43B675)  # segment, cluster: their elements are looked at, other elements stepped over


def check(file: File) -> None:
    """Raises ValueError if the file ends inside an element."""
    at = 0
    while at < file.size:
        head = file.at(at, 12)
        name = _width(head, 4)
        size = _width(head[name:], 8) if name else 0
        if not name or not size or name + size > len(head):
            if file.size - at < 12:
                raise ValueError(f"{file.name}: truncated: the last element has {file.size - at} bytes")
            return  # damage, which the demuxer judges
        identity = int.from_bytes(head[:name], "big")
        value = int.from_bytes(head[name : name + size], "big") & (1 << 7 * size) - 1
        unknown = value == (1 << 7 * size) - 1
        at += name + size
        if not unknown and at + value > file.size:
            raise ValueError(
                f"{file.name}: truncated: an element of {value} bytes is announced and {file.size - at} are there"
            )
        if identity not in OPENED:
            if unknown:
                return
            at += value


def _width(data: bytes, most: int) -> int:
    """Bytes of a number of variable length by its first byte; 0 if it is none."""
    width = 9 - data[0].bit_length() if data and data[0] else 0
    return width if width <= most else 0
