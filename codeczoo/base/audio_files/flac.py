"""FLAC: its length by its last frame, where the header does not say it, and files end to end."""

from __future__ import annotations

from codeczoo.base.audio_files.parts import File, Part, Window

MARKS = (b"fLaC\x00\x00\x00\x22", b"fLaC\x80\x00\x00\x22")  # a FLAC stream and the header of its STREAMINFO
COUNT = 8 + 13  # where the lower 32 of the 36 bits of the number of samples are
SEARCHED = 1 << 20  # bytes at the end, in which the last frame begins
READ_AT_ONCE = 1 << 20


def parts(file: File, start: int) -> list[Part]:
    """The FLAC streams of a file whose first begins at `start` (behind a tag).

    Raises:
        ValueError: the header says no length and the last frame is cut.
    """
    begins = _begins(file, start)
    found = []
    for begin, stop in zip(begins, [*begins[1:], file.size], strict=True):
        stream = file.part_of(begin, stop)
        head = stream.at(0, COUNT + 5)
        if len(head) < COUNT + 5:
            raise ValueError(f"{file.name}: truncated: the FLAC file ends inside its header")
        announced = (head[COUNT] & 15) << 32 | int.from_bytes(head[COUNT + 1 : COUNT + 5], "big")
        blank = {COUNT: bytes([head[COUNT] & 0xF0]) + bytes(4)}
        there = samples_by_last_frame(stream) if announced == 0 or stop == file.size else 0
        if there > announced > 0:
            # The header counts less than there is: it is overruled.
            found.append(Part(Window(stream.handle, 0, stream.size, patches=blank)))
        else:
            found.append(Part(stream.handle))
    return found


def _begins(file: File, start: int) -> list[int]:
    """Where FLAC streams begin."""
    found = [start]
    held, at = b"", start + 8
    while block := file.at(at, READ_AT_ONCE):
        text = held + block
        for mark in MARKS:
            place = text.find(mark)
            while place >= 0:
                found.append(at - len(held) + place)
                place = text.find(mark, place + 1)
        held = text[-7:]
        at += len(block)
    return sorted(set(found))


def samples_by_last_frame(file: File) -> int:
    """The number of samples at the end of the last frame that is found, by its header; 0 if none is found."""
    block = int.from_bytes(file.at(8, 2), "big")  # samples of a frame, where all have as many
    begin = max(file.size - SEARCHED, 0)
    tail = file.at(begin, SEARCHED)
    at = len(tail)
    while (at := tail.rfind(b"\xff", 0, at)) >= 0:
        if (found := _frame_end(tail[at : at + 16], block)) is not None:
            return found
    return 0


def _frame_end(head: bytes, block: int) -> int | None:
    """Samples up to the end of the frame that begins so; None if it is no frame's header."""
    if len(head) < 6 or head[1] & 0xFE != 0xF8 or head[3] & 1:
        return None
    size, rate = head[2] >> 4, head[2] & 15
    if size == 0 or rate == 15 or head[3] >> 4 > 10:
        return None
    # The number is coded like a character of UTF-8, of up to 7 bytes.
    ones = 8 - (~head[4] & 0xFF).bit_length()
    if ones == 1 or ones > 7:
        return None
    number, at = head[4] & (0x7F >> ones), 5
    for byte in head[5 : 4 + max(ones, 1)]:
        if byte & 0xC0 != 0x80:
            return None
        number, at = number << 6 | byte & 0x3F, at + 1
    extra = {6: 1, 7: 2}.get(size, 0)
    explicit = int.from_bytes(head[at : at + extra], "big") + 1
    at += extra + {12: 1, 13: 2, 14: 2}.get(rate, 0)
    if at >= len(head) or _crc8(head[:at]) != head[at]:
        return None
    samples = 192 if size == 1 else 576 << (size - 2) if size < 6 else explicit if extra else 256 << (size - 8)
    first = number if head[1] & 1 else number * block
    return first + samples


def _crc8(data: bytes) -> int:
    value = 0
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value << 1 ^ (0x07 if value & 0x80 else 0)) & 0xFF
    return value
