"""`ClipSample`: the codes of some clips of a data set, whole, in bounded memory."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

HELD_OUT = 5  # every fifth clip is held out of training
LONGEST = 8  # of one clip at most an eighth of the sample


def clip_number(id: str) -> int:
    """A number of 64 bits that follows from a clip's id: the order in which clips are taken, and the seed of its
    noise."""
    return int.from_bytes(hashlib.blake2b(id.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "big")


@dataclass
class ClipSample:
    """Those clips whose ids have the smallest numbers, as many as have `max_frames` frames together.

    Which they are follows from the data set and not from the order in which they come. Of a clip that is longer than
    an eighth of `max_frames` the beginning is taken.

    Attributes:
        sizes: entries of each of the K codebooks; strides: codebook k has one code for each strides[k] frames.
        frames: of the clips that are held; cut: clips of which the beginning alone was taken.
        complete: whether no clip was left out.
    """

    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    max_frames: int = 1 << 20
    frames: int = 0
    cut: int = 0
    complete: bool = True
    _clips: dict[int, np.ndarray] = field(default_factory=dict)  # by their numbers; codes [K, N]
    _limit: int = 1 << 64  # numbers from here on are left out

    def add(self, id: str, codes: np.ndarray) -> None:
        """A clip's codes, whole numbers [K, N] (codes of slower codebooks at the left of their rows)."""
        number = clip_number(id)
        if number >= self._limit:
            self.complete = False
            return
        longest = max(self.max_frames // LONGEST, 1)
        if codes.shape[1] > longest:
            self.cut += 1
        kind = np.int16 if max(self.sizes) <= 1 << 15 else np.int32
        self._clips[number] = codes[:, :longest].astype(kind)
        self.frames += self._clips[number].shape[1]
        while self.frames > self.max_frames:
            self._limit = max(self._clips)
            self.frames -= self._clips.pop(self._limit).shape[1]
            self.complete = False

    def __len__(self) -> int:
        return len(self._clips)

    def clips(self, k: int) -> list[np.ndarray]:
        """The codes of codebook k, a clip each, in the order of their numbers."""
        stride = self.strides[k]
        return [self._clips[n][k, : -(-self._clips[n].shape[1] // stride)] for n in sorted(self._clips)]

    def split(self, k: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """The same in two parts: clips for training, and every fifth for testing."""
        clips = self.clips(k)
        return [c for i, c in enumerate(clips) if i % HELD_OUT != 1], clips[1::HELD_OUT]

    def pair(self, first: int, second: int) -> tuple[np.ndarray, np.ndarray]:
        """The codes of two codebooks that belong together, [n] each: one pair for each code of the faster one."""
        columns = [self.clips(first), self.clips(second)]
        strides = self.strides[first], self.strides[second]
        if strides[0] != strides[1]:
            slow = int(strides[1] > strides[0])
            fast = columns[1 - slow]
            columns[slow] = [
                codes[np.arange(len(other)) * min(strides) // max(strides)]
                for codes, other in zip(columns[slow], fast, strict=True)
            ]
        return _joined(columns[0]), _joined(columns[1])


def _joined(columns: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([*columns, np.zeros(0, np.int16)]).astype(np.int64)
