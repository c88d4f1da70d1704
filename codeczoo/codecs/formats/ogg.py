"""The smallest Ogg file with the same audio packets, so that a clip always has the same bytes, and few of them.

An encoder's file has a random serial number, comments (libsndfile reserves almost 800 bytes for those of Opus, as much
as a second of speech) and short pages. Here the serial number is 0, the comments are empty, and neighbouring pages are
joined while their segments fit in one. Decoders give the same audio.

Sources: RFC 3533 (Ogg), RFC 7845 (Opus in Ogg), the Vorbis I specification.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

PAGE = struct.Struct("<4sBBqIIIB")  # capture pattern, version, flags, granule, serial, sequence, checksum, segments
CONTINUED, FIRST, LAST = 1, 2, 4
MAX_SEGMENTS = 255

# start of the identification packet → number of header packets, and the second of them without comments
HEADERS = {
    b"OpusHead": (2, b"OpusTags" + bytes(8)),
    b"\x01vorbis": (3, b"\x03vorbis" + bytes(8) + b"\x01"),
}

_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


class Page(NamedTuple):
    """One page. `granule`: the position at the end of its last whole packet, -1 if no packet ends on it."""

    flags: int
    granule: int
    segments: bytes  # the length of each segment; a packet ends with one below 255
    body: bytes


def minimal(data: bytes) -> list[Page]:
    """The pages of a file of one Opus or Vorbis stream, as few and as small as possible: two of headers, then audio."""
    pages = list(read_pages(data))
    count, comments = next(value for start, value in HEADERS.items() if pages[0].body.startswith(start))
    used = next(n for n in range(1, len(pages) + 1) if len(packets(pages[:n])) >= count)
    first, _, *more = packets(pages[:used])
    second = [comments, *more]
    head = Page(FIRST, 0, _lacing(first), first)
    tail = Page(0, 0, b"".join(map(_lacing, second)), b"".join(second))
    return [head, tail, *_join(pages[used:])]


def read_pages(data: bytes) -> Iterator[Page]:
    """The pages of a whole, valid file."""
    position = 0
    while position < len(data):
        pattern, _, flags, granule, _, _, _, count = PAGE.unpack_from(data, position)
        if pattern != b"OggS":
            raise ValueError(f"no Ogg page at byte {position}")
        start = position + PAGE.size
        segments = data[start : start + count]
        position = start + count + sum(segments)
        yield Page(flags, granule, segments, data[start + count : position])


def write_pages(pages: Iterable[Page]) -> bytes:
    """A file of one stream, with serial number 0."""
    out = []
    for number, page in enumerate(pages):
        fields = (b"OggS", 0, page.flags, page.granule, 0, number)
        rest = page.segments + page.body
        bare = PAGE.pack(*fields, 0, len(page.segments)) + rest
        out.append(PAGE.pack(*fields, checksum(bare), len(page.segments)) + rest)
    return b"".join(out)


def packets(pages: Iterable[Page]) -> list[bytes]:
    """The packets of the pages; a last packet that is cut off comes as far as it goes."""
    found: list[bytes] = []
    for page in pages:
        position, goes_on = 0, bool(page.flags & CONTINUED)
        for size in page.segments:
            segment = page.body[position : position + size]
            position += size
            if goes_on:
                found[-1] += segment
            else:
                found.append(segment)
            goes_on = size == 255
    return found


def checksum(page: bytes) -> int:
    """Ogg's CRC-32 of a page whose checksum field is zero.

    It has zlib's polynomial, takes the bits of a byte in the other order, begins at 0 and is not inverted.
    """
    mirrored = zlib.crc32(page.translate(_MIRRORED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{mirrored:032b}"[::-1], 2)


def _lacing(packet: bytes) -> bytes:
    return b"\xff" * (len(packet) // 255) + bytes([len(packet) % 255])


def _join(pages: Iterable[Page]) -> Iterator[Page]:
    """Neighbours as one page while their segments fit."""
    held: Page | None = None
    for page in pages:
        if held is not None and len(held.segments) + len(page.segments) <= MAX_SEGMENTS:
            granule = held.granule if page.granule == -1 else page.granule
            flags = held.flags | page.flags & LAST
            held = Page(flags, granule, held.segments + page.segments, held.body + page.body)
            continue
        if held is not None:
            yield held
        held = page
    if held is not None:
        yield held
