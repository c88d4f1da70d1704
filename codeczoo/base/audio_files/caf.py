"""CAF whose size was never filled in, which libsndfile takes for broken."""

from __future__ import annotations

from codeczoo.base.audio_files.parts import File, Part, Window


def parts(file: File) -> list[Part]:
    """The file as it is, or with the size of its samples filled in.

    Raises:
        ValueError: more bytes of samples are announced than are there.
    """
    at = 8
    while len(head := file.at(at, 12)) == 12:
        size = int.from_bytes(head[4:], "big", signed=True)
        there = file.size - at - 12
        if head[:4] == b"data":
            if size == -1:
                size_there = {at + 4: there.to_bytes(8, "big")}
                return [Part(Window(file.handle, 0, file.size, patches=size_there), fallback="caf")]
            if size > there:
                raise ValueError(f"{file.name}: truncated: {size} bytes of samples are announced and {there} are there")
        if size < 0:
            break
        at += 12 + size
    return [Part(file.handle, fallback="caf")]
