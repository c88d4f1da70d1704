"""Ogg: its pages, their checksums, and the streams that stand end to end in one file."""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass, field

from codeczoo.base.audio_files.parts import Part, warn

CODECS = {  # first bytes of a stream's first packet → name; libsndfile reads the first two
    b"OpusHead": "Opus",
    b"\x01vorbis": "Vorbis",
    b"\x7fFLAC": "FLAC",
    b"Speex   ": "Speex",
}
READ_BY_LIBSNDFILE = ("Opus", "Vorbis")
FIRST, LAST = 2, 4  # flags of a stream's first and last page
UNKNOWN = 2**64 - 1  # a page's position where no packet ends on it
REVERSED = bytes(int(f"{i:08b}"[::-1], 2) for i in range(256))


@dataclass
class Stream:
    """The pages of one logical stream."""

    serial: bytes
    codec: str | None
    ended: bool = False
    pages: list[tuple[int, int]] = field(default_factory=list)  # start, stop
    position: int = 0  # samples at its end, as its last page says


def parts(data: bytes, name: str) -> list[Part]:
    """The audio streams of an Ogg file, one after another.

    Raises:
        ValueError: the last page is cut, a page's checksum does not match, or no stream is audio that is known.
    """
    chain = [link for link in _links(data, name) if any(stream.codec for stream in link)]
    if not chain:
        raise ValueError(f"{name}: none of the Ogg file's streams is of {', '.join(CODECS.values())}")
    chosen = []
    for link in chain:
        audio = [stream for stream in link if stream.codec]
        if len(audio) > 1:
            warn(name, f"{len(audio)} streams of audio side by side; the first is read")
        chosen.append(audio[0])
    if not chosen[-1].ended:
        warn(name, "the Ogg stream ends without its end mark: what wrote it was stopped, or the file is cut")
    return [_part(data, stream) for stream in chosen]


def _part(data: bytes, stream: Stream) -> Part:
    handle = io.BytesIO(b"".join(data[start:stop] for start, stop in stream.pages))
    if stream.codec in READ_BY_LIBSNDFILE:
        return Part(handle)
    return Part(handle, demuxer="ogg", samples=stream.position if stream.codec == "FLAC" else None)


def _links(data: bytes, name: str) -> list[list[Stream]]:
    """Groups of streams that run side by side; a group follows the other."""
    links: list[dict[bytes, Stream]] = []
    opening = False  # the first pages of all streams of a group come before its other pages
    at = 0
    while at < len(data):
        if data[at : at + 4] != b"OggS":
            at = _after_gap(data, at, name)
            continue
        stop = _end_of_page(data, at)
        if stop is None:
            raise ValueError(f"{name}: truncated: the last page of the Ogg file is cut")
        if _checksum(data[at:stop]) != int.from_bytes(data[at + 22 : at + 26], "little"):
            raise ValueError(f"{name}: damaged: the Ogg page at byte {at} does not match its checksum")
        flags, serial = data[at + 5], data[at + 14 : at + 18]
        if flags & FIRST:
            if not opening:
                links.append({})
            packet = data[at + 27 + data[at + 26] : stop]
            codec = next((codec for start, codec in CODECS.items() if packet.startswith(start)), None)
            links[-1][serial] = Stream(serial, codec)
        opening = bool(flags & FIRST)
        if links and serial in links[-1]:
            stream = links[-1][serial]
            stream.pages.append((at, stop))
            stream.ended = bool(flags & LAST)
            position = int.from_bytes(data[at + 6 : at + 14], "little")
            stream.position = stream.position if position == UNKNOWN else position
        at = stop
    return [list(link.values()) for link in links]


def _after_gap(data: bytes, at: int, name: str) -> int:
    """Where the next page begins, behind bytes that are none."""
    following = data.find(b"OggS", at)
    gap = data[at : following if following >= 0 else len(data)]
    if following >= 0:
        raise ValueError(f"{name}: damaged: bytes {at} to {following} are no Ogg pages")
    if gap.strip(b"\0") and not gap.startswith((b"TAG", b"APETAGEX", b"ID3")):
        if b"OggS".startswith(gap[:3]):
            raise ValueError(f"{name}: truncated: the last page of the Ogg file is cut")
        warn(name, f"the last {len(gap)} bytes are no Ogg pages; they are left out")
    return len(data)


def _end_of_page(data: bytes, at: int) -> int | None:
    """Where the page at `at` ends; None if the file ends before."""
    if at + 27 > len(data):
        return None
    count = data[at + 26]
    stop = at + 27 + count + sum(data[at + 27 : at + 27 + count])
    return stop if stop <= len(data) else None


def _checksum(page: bytes) -> int:
    """Ogg's checksum: that of zlib with the bits of bytes and result reversed, from 0 and not inverted."""
    blank = page[:22] + bytes(4) + page[26:]
    found = zlib.crc32(blank.translate(REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{found:032b}"[::-1], 2)
