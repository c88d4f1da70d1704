"""Files, damaged: bits turned, bytes overwritten, cut, doubled, moved and put in."""

from __future__ import annotations

import numpy as np

from tests.support.audio_files import ogg_pages, with_checksum

EXTREMES = (b"\x00", b"\xff", b"\x7f", b"\x80", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", bytes(8))
HEAD = 256  # bytes at the start, which are hit as often as all others together


def damaged(data: bytes, seed: int) -> bytes:
    """`data` with one to four kinds of damage, the same for the same seed. Half of the Ogg files get new checksums."""
    rng = np.random.default_rng(seed)
    out = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        if not out:
            break
        at = int(rng.integers(min(len(out), HEAD) if rng.random() < 0.5 else len(out)))
        count = int(rng.integers(1, 1 + min(len(out) - at, int(2 ** rng.integers(0, 12)))))
        kind = rng.integers(7)
        if kind == 0:
            out[at] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            out[at : at + count] = rng.bytes(count)
        elif kind == 2:
            word = EXTREMES[rng.integers(len(EXTREMES))]
            out[at : at + len(word)] = word
        elif kind == 3:
            del out[at:]
        elif kind == 4:
            del out[at : at + count]
        elif kind == 5:
            out[at:at] = out[at : at + count]
        else:
            out[at:at] = rng.bytes(min(count, 64))
    if data.startswith(b"OggS") and seed % 2:
        # Damage inside the packets, which only a decoder notices.
        return b"".join(with_checksum(page) for page in ogg_pages(_inside_pages(data, bytes(out))))
    return bytes(out)


def _inside_pages(data: bytes, other: bytes) -> bytes:
    """`data` with the bytes of `other` where a page holds packets."""
    out, at = bytearray(data), 0
    for page in ogg_pages(data):
        begin, stop = at + 27 + page[26], min(at + len(page), len(other))
        out[begin : max(begin, stop)] = other[begin : max(begin, stop)]
        at += len(page)
    return bytes(out)
