"""A stretch of a file in seconds, and the samples that are kept of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

# Seconds. Manifests give times with two or three decimals, and lossy formats add or cut a frame.
OVERSHOOT = 0.1


@dataclass(frozen=True)
class Stretch:
    """Where a stretch begins and how long it is, in seconds; None = the start, and to the end."""

    offset: float | None = None
    duration: float | None = None

    def __post_init__(self) -> None:
        if self.offset is not None and not 0 <= self.offset < math.inf:
            raise ValueError(f"offset must be at least 0 seconds; it is {self.offset}")
        if self.duration is not None and not 0 < self.duration < math.inf:
            raise ValueError(f"duration must be more than 0 seconds; it is {self.duration}")

    def bounds(self, rate: int, name: str) -> tuple[int, int | None]:
        """The first sample, and the one behind the last (None = the file's)."""
        start = round((self.offset or 0) * rate)
        if self.duration is None:
            return start, None
        if (count := round(self.duration * rate)) == 0:
            raise ValueError(f"{name}: a stretch of {self.duration} s holds no sample at {rate} Hz")
        return start, start + count


class Kept:
    """Blocks of samples, of which only those inside the bounds are kept."""

    def __init__(self, start: int, stop: int | None, channels: int) -> None:
        self._start, self._stop, self._channels = start, stop, channels
        self._blocks: list[np.ndarray] = []
        self.position = 0  # samples that came

    @property
    def full(self) -> bool:
        return self._stop is not None and self.position >= self._stop

    def add(self, block: np.ndarray) -> None:
        """The next block [T, C]."""
        first = max(self._start - self.position, 0)
        last = len(block) if self._stop is None else min(self._stop - self.position, len(block))
        self.position += len(block)
        if first < last:
            # A copy where only a piece is kept, so that the rest does not stay in memory.
            self._blocks.append(block if last - first == len(block) else block[first:last].copy())

    def samples(self) -> np.ndarray:
        """All that was kept, [C, T]. Blocks are freed as they are copied, so that memory holds them once."""
        self._blocks.reverse()
        out = np.empty((self._channels, sum(map(len, self._blocks))), np.float32)
        at = 0
        while self._blocks:
            block = self._blocks.pop()
            out[:, at : at + len(block)] = block.T
            at += len(block)
        return out
