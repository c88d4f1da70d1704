"""RIFF: WAV, RF64 and what else is kept in them. The sizes of their chunks, and which of them are none."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from codeczoo.base.audio_files import mpeg
from codeczoo.base.audio_files.parts import File, Part, Window, warn

FORMS = (b"RIFF", b"RIFX", b"RF64", b"BW64")
MPEG_TAGS = (0x50, 0x55)
BLOCK_CODECS = (0x02, 0x11, 0x31)  # MS ADPCM, IMA ADPCM, GSM 6.10: the last block is filled up
LIBSNDFILE_TAGS = (0x01, 0x02, 0x03, 0x06, 0x07, 0x11, 0x31, 0x38, 0x40, 0x64)  # formats of samples that it decodes
EXTENSIBLE = 0xFFFE
BEHIND = (b"LIST", b"bext", b"iXML", b"id3 ", b"ID3 ", b"cue ", b"smpl", b"JUNK", b"PAD ", b"PEAK")  # chunks
FULL = 2**32 - 1
# What writers into a pipe leave in place of a size they cannot go back to: all ones, the largest signed number, or
# either less a header.
NOT_FILLED_IN = (range(2**31 - 2**16, 2**31 + 2**12), range(2**32 - 2**16, 2**32))


@dataclass
class Wave:
    """One RIFF form of WAVE, as its chunks describe it."""

    begin: int
    stop: int  # where the next form may begin
    tag: int = 0
    data: tuple[int, int] | None = None  # start and stop of the samples
    fact: int | None = None  # samples, by the chunk `fact`
    patches: dict[int, bytes] = field(default_factory=dict)  # at offsets from `begin`


def parts(file: File) -> list[Part]:
    """The WAV streams of a file, one after another.

    Raises:
        ValueError: fewer bytes of samples are there than announced.
    """
    waves = [_wave(file, 0)]
    while (begin := _next(file, waves[-1])) is not None:
        waves.append(_wave(file, begin))
    _check_behind(file, waves[-1])
    if len(waves) == 1:
        waves[0].stop = file.size
    return [part for wave in waves for part in _parts(file, wave)]


def _parts(file: File, wave: Wave) -> list[Part]:
    if wave.tag in MPEG_TAGS and wave.data is not None:
        start, stop = wave.data
        return mpeg.parts(file.at(start, stop - start), file.name)
    handle = Window(file.handle, wave.begin, wave.stop, wave.patches)
    if wave.tag not in LIBSNDFILE_TAGS and wave.data is not None:
        return [Part(handle, demuxer="wav")]
    return [Part(handle, most=wave.fact if wave.tag in BLOCK_CODECS else None)]


def _next(file: File, wave: Wave) -> int | None:
    """Where another form of WAVE begins, right behind one."""
    ends = {wave.stop, wave.data[1] if wave.data else wave.stop}
    places = sorted({end + odd for end in ends for odd in (0, 1)})
    return next((at for at in places if at > wave.begin and _is_form(file.at(at, 12))), None)


def _check_behind(file: File, wave: Wave) -> None:
    """Warn of bytes behind the last form that are neither zeros, nor a chunk, nor a tag."""
    count = file.size - wave.stop
    head = file.at(wave.stop, 1000)
    known = head.startswith((*BEHIND, *(b"\0" + chunk for chunk in BEHIND), b"TAG", b"ID3", b"APETAGEX", b"_PMX"))
    if wave.data is not None and head.strip(b"\0") and not known:
        warn(file.name, f"{count} bytes behind what the sizes of the WAV count are left out")


def _wave(file: File, begin: int) -> Wave:
    """The form that begins at `begin`, up to its samples: what stands behind them is not needed."""
    head = file.at(begin, 12)
    order: Literal["big", "little"] = "big" if head[:4] == b"RIFX" else "little"
    riff = int.from_bytes(head[4:8], order)
    wave = Wave(begin, min(begin + 8 + riff, file.size))
    long_size: int | None = None
    ds64 = 0
    at = begin + 12
    while len(head := file.at(at, 8)) == 8 and len(head[:4].strip(b"\0")) == 4:
        size = int.from_bytes(head[4:], order)
        body = at + 8
        if head[:4] == b"ds64":
            ds64 = body
            fields = file.at(body, 16)
            riff = int.from_bytes(fields[:8], "little")
            wave.stop = min(begin + 8 + riff, file.size)
            long_size = int.from_bytes(fields[8:], "little")
        elif head[:4] == b"fmt ":
            fmt = file.at(body, min(size, 40))
            wave.tag = int.from_bytes(fmt[:2], order)
            if wave.tag == EXTENSIBLE and len(fmt) >= 26:
                wave.tag = int.from_bytes(fmt[24:26], order)
        elif head[:4] == b"fact" and size >= 4:
            wave.fact = int.from_bytes(file.at(body, 4), order)
        elif head[:4] == b"data":
            if size == FULL and long_size is not None:
                size = long_size
            there = file.size - body
            if _never_filled_in(file, begin + 8 + riff, size, body):
                wave.data, wave.stop = (body, file.size), file.size
                wave.patches = _sizes(begin, at, ds64, there, file.size, order)
            elif size > there:
                raise ValueError(f"{file.name}: truncated: {size} bytes of samples are announced and {there} are there")
            else:
                wave.data = (body, body + size)
                wave.stop = max(wave.stop, body + size)
            break
        at = body + size + size % 2
    return wave


def _never_filled_in(file: File, counted: int, size: int, body: int) -> bool:
    """Whether the size of the samples, which begin at `body`, was left open, so that they go on to the end of the file.

    0 is such a size if bytes follow that the size of the whole (up to `counted`) does not count either, and that are
    not further chunks.
    """
    there = file.size - body
    if size == 0:
        following = file.at(body, 12)
        open_end = counted <= body or counted - 8 > file.size
        return there > 0 and open_end and not _is_form(following) and following[:4] not in BEHIND
    return size > there and (size >= 2**62 or any(size in numbers for numbers in NOT_FILLED_IN))


def _is_form(head: bytes) -> bool:
    return head[:4] in FORMS and head[8:] == b"WAVE"


def _sizes(begin: int, at: int, ds64: int, there: int, end: int, order: Literal["big", "little"]) -> dict[int, bytes]:
    """The sizes, filled in."""
    if ds64:
        whole = (end - begin - 8).to_bytes(8, "little") + there.to_bytes(8, "little") + bytes(8)
        return {ds64 - begin: whole, at + 4 - begin: b"\xff" * 4}
    return {
        4: min(end - begin - 8, FULL).to_bytes(4, order),
        at + 4 - begin: min(there, FULL).to_bytes(4, order),
    }
