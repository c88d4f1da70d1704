"""Sony Wave64: WAV with sizes of 64 bits and GUIDs for names."""

from __future__ import annotations

from codeczoo.base.audio_files.parts import File, Part, Window

GUID_END = bytes.fromhex("f3acd3118cd100c04f8edb8a")  # of the chunks; the first four bytes are the name
HEAD = 24  # bytes of a chunk's GUID and size, which the size counts
OPEN = 2**62  # bytes; writers into a pipe announce at least as many
BLOCK_CODECS = (0x02, 0x11, 0x31)  # the last block of MS ADPCM, IMA ADPCM and GSM 6.10 is filled up


def parts(file: File) -> list[Part]:
    """The file as it is, or with the size of its samples filled in.

    Raises:
        ValueError: more bytes of samples are announced than are there.
    """
    at, tag, fact = 40, 0, None
    patches: dict[int, bytes] = {}
    while len(head := file.at(at, HEAD)) == HEAD and head[4:16] == GUID_END:
        size = int.from_bytes(head[16:], "little")
        if head[:4] == b"fmt ":
            tag = int.from_bytes(file.at(at + HEAD, 2), "little")
        elif head[:4] == b"fact":
            fact = int.from_bytes(file.at(at + HEAD, 8), "little")
        elif head[:4] == b"data":
            there = file.size - at
            if size >= OPEN:
                patches = {16: file.size.to_bytes(8, "little"), at + 16: there.to_bytes(8, "little")}
            elif size > there:
                raise ValueError(
                    f"{file.name}: truncated: {size - HEAD} bytes of samples are announced and {there - HEAD} are there"
                )
            break
        at += max(size + -size % 8, HEAD)
    most = fact if tag in BLOCK_CODECS else None
    return [Part(Window(file.handle, 0, file.size, patches), most=most, fallback="w64")]
