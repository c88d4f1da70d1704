"""`Bucket`: the sizes of batch that graphs are captured for."""

from __future__ import annotations

from collections.abc import Hashable
from math import ceil, floor, log2
from typing import NamedTuple


class Bucket(NamedTuple):
    """What one graph is for.

    Attributes:
        rows, steps: size of the batch: samples of "encode", frames of "decode".
        dense: all rows are full.
        more: whatever else the arithmetic depends on.
    """

    side: str  # "encode" or "decode"
    rows: int
    steps: int
    num_codebooks: int
    dense: bool
    more: Hashable = ()

    def __str__(self) -> str:
        unit = "samples" if self.side == "encode" else "frames"
        books = f"{self.num_codebooks} codebook{'s' * (self.num_codebooks > 1)}"
        return f"{self.side} {self.rows} x {self.steps} {unit}, {books}, {'dense' if self.dense else 'ragged'}"


def frames_above(frames: int) -> int:
    """The size of a bucket for so many: at most 19% more, and the next whole number."""
    power = floor(4 * log2(frames)) - 1
    while (size := ceil(2 ** (power / 4))) < frames:
        power += 1
    return size


def rows_above(rows: int) -> int:
    """The size of a bucket for so many: at most half as many again."""
    power = 1 << (rows - 1).bit_length()
    return power * 3 // 4 if power >= 4 and rows <= power * 3 // 4 else power
