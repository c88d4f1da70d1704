"""ASF (WMA): its header tells the size of the file; FFmpeg guesses the length by what is there."""

from __future__ import annotations

from codeczoo.base.audio_files.parts import File, Part

PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")  # GUID of the object with the file's properties
SEARCHED = 1 << 16  # bytes
BROADCAST = 1  # flag: written as it was sent, sizes are not known


def parts(file: File) -> list[Part]:
    """Raises ValueError if the file is shorter than its header says."""
    head = file.at(0, SEARCHED)
    found = head.find(PROPERTIES)
    fields = head[found : found + 92]
    if found >= 0 and len(fields) == 92 and not fields[88] & BROADCAST:
        size = int.from_bytes(fields[40:48], "little")
        if size > file.size:
            raise ValueError(f"{file.name}: truncated: {size} bytes are announced and {file.size} are there")
    return [Part(file.handle, demuxer="asf")]
