"""Statistics of codes: how much of each codebook is used, and how many bits the codes are really worth.

A codebook of size V whose entries occur with probabilities p has entropy H = -Σ p log2 p bits a code, at most log2 V,
and perplexity 2^H, the size of a codebook as evenly used. Counted over a whole data set: a few seconds of audio cannot
show more entries than they have frames.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any, Self

import torch
from torch import Tensor

from codeczoo.base.codes import Codes
from codeczoo.base.ragged import check_lengths


@dataclass(frozen=True)
class LevelSummary:
    """One codebook over everything that was counted; NaN where nothing was."""

    size: int  # entries
    used: int  # entries that occurred
    utilisation: float  # used / size
    entropy_bits: float  # a code
    entropy_ratio: float  # entropy / log2(size)
    perplexity: float  # 2 ** entropy
    most_common_share: float  # of the entry that occurred most


@dataclass(frozen=True)
class CodeSummary:
    """All codebooks over everything that was counted.

    Bitrates and `tokens_per_second` are None for codes without a frame rate (the bytes of a compressed file).
    """

    levels: tuple[LevelSummary, ...]
    frames: int
    utilisation_mean: float
    entropy_bits_sum: float
    perplexity_mean: float
    nominal_bitrate: float | None  # bit/s, every code at log2(size) bits
    entropy_bitrate: float | None  # bit/s, every code at its level's entropy: what an ideal entropy coder would send
    tokens_per_second: float | None
    reason: str | None = None  # `no_frames`: nothing was counted

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


class CodeStatistics:
    """Counts codes, batch by batch, and is merged with what others counted.

        statistics = CodeStatistics((1024,) * 8, frame_rate=75)
        for batch in batches:
            statistics.update(codec.encode(batch))
        print(statistics.summary().entropy_bitrate)

    Args:
        codebook_sizes: entries of each of the K codebooks.
        frame_rate: frames a second; None = none.
        strides: codebook k has one code for each strides[k] frames; empty = all 1.

    Raises:
        ValueError: no codebook, a size or a rate that is not positive, another number of strides than of sizes.
    """

    def __init__(
        self, codebook_sizes: Sequence[int], frame_rate: float | None = None, strides: Sequence[int] = ()
    ) -> None:
        self.codebook_sizes = tuple(int(size) for size in codebook_sizes)
        self.frame_rate = frame_rate
        self.strides = tuple(int(stride) for stride in strides) or (1,) * len(self.codebook_sizes)
        if not self.codebook_sizes or min(self.codebook_sizes) < 1:
            raise ValueError(f"codebook_sizes must be positive numbers of entries; they are {self.codebook_sizes}")
        if frame_rate is not None and not (math.isfinite(frame_rate) and frame_rate > 0):
            raise ValueError(f"frame_rate must be a positive number of frames a second; it is {frame_rate}")
        if len(self.strides) != len(self.codebook_sizes) or min(self.strides) < 1:
            raise ValueError(f"{len(self.codebook_sizes)} codebooks cannot have the strides {self.strides}")
        self.frames = 0
        self._counts = [torch.zeros(size, dtype=torch.int64) for size in self.codebook_sizes]

    @classmethod
    def of(cls, codes: Codes) -> Self:
        """Of one batch, with its sizes and rates."""
        statistics = cls(codes.codebook_sizes, codes.frame_rate, codes.strides)
        statistics.update(codes)
        return statistics

    @property
    def counts(self) -> tuple[Tensor, ...]:
        """For each codebook how often each entry occurred: int64 [size]."""
        return tuple(count.clone() for count in self._counts)

    def update(self, codes: Codes | Tensor, lengths: Tensor | None = None) -> None:
        """Count a batch.

        Args:
            codes: `Codes`, or whole numbers [B, K, N].
            lengths: [B] frames of each item of a tensor; None = N. What lies behind is not looked at.

        Raises:
            TypeError: codes that are not whole numbers.
            ValueError: another number or size of codebooks, a code that its codebook does not have.
        """
        if not isinstance(codes, Codes):
            self._count(codes, lengths)
            return
        if (codes.codebook_sizes, codes.strides) != (self.codebook_sizes, self.strides):
            raise ValueError(
                f"these statistics are of codebooks of {self.codebook_sizes} with strides {self.strides}; "
                f"the codes are of {codes.codebook_sizes} with {codes.strides}"
            )
        self._count(codes.codes, codes.lengths)

    def _count(self, codes: Tensor, lengths: Tensor | None) -> None:
        if codes.is_floating_point() or codes.dtype == torch.bool:
            raise TypeError(f"codes must be whole numbers; their type is {codes.dtype}")
        if codes.ndim != 3 or codes.shape[1] != len(self.codebook_sizes):
            raise ValueError(f"codes must be [B, {len(self.codebook_sizes)}, N]; their shape is {tuple(codes.shape)}")
        if lengths is None:
            lengths = torch.full((len(codes),), codes.shape[-1])
        lengths = check_lengths(lengths, len(codes), codes.shape[-1], "frames").to(codes.device)
        counted = []
        for k, (size, stride) in enumerate(zip(self.codebook_sizes, self.strides, strict=True)):
            own = torch.arange(codes.shape[-1], device=codes.device) < -(-lengths // stride)[:, None]
            level = codes[:, k][own].long()
            wrong = level[(level < 0) | (level >= size)]
            if len(wrong):
                raise ValueError(f"codebook {k} has {size} entries; the codes hold {int(wrong[0])}")
            counted.append(torch.bincount(level, minlength=size).cpu())
        self.frames += int(lengths.sum())
        self._counts = [before + now for before, now in zip(self._counts, counted, strict=True)]

    def merge(self, other: CodeStatistics) -> None:
        """Add what `other` counted, on another machine or part of the data.

        Raises:
            ValueError: statistics of other codebooks or rates.
        """
        mine, theirs = ((s.codebook_sizes, s.strides, s.frame_rate) for s in (self, other))
        if mine != theirs:
            raise ValueError(f"statistics of different codes do not merge: {mine} and {theirs}")
        self.frames += other.frames
        self._counts = [a + b for a, b in zip(self._counts, other._counts, strict=True)]

    def summary(self) -> CodeSummary:
        """What the counts say."""
        levels = tuple(map(_level, self._counts))

        def rate(bits: Iterable[float]) -> float | None:
            """So many bits a code of each codebook → bit/s."""
            if self.frame_rate is None:
                return None
            return sum(self.frame_rate / stride * each for stride, each in zip(self.strides, bits, strict=True))

        return CodeSummary(
            levels=levels,
            frames=self.frames,
            utilisation_mean=fmean(level.utilisation for level in levels),
            entropy_bits_sum=sum(level.entropy_bits for level in levels),
            perplexity_mean=fmean(level.perplexity for level in levels),
            nominal_bitrate=rate(map(math.log2, self.codebook_sizes)),
            entropy_bitrate=rate(level.entropy_bits for level in levels),
            tokens_per_second=rate([1.0] * len(levels)),
            reason=None if self.frames else "no_frames",
        )

    def __repr__(self) -> str:
        return f"CodeStatistics({len(self.codebook_sizes)} codebooks, {self.frames} frames)"


def code_statistics(
    codes: Codes | Tensor,
    lengths: Tensor | None = None,
    codebook_sizes: Sequence[int] | None = None,
    frame_rate: float | None = None,
) -> CodeSummary:
    """`CodeStatistics` of one batch: `Codes` alone, or [B, K, N] with its codebooks' sizes.

    Raises:
        ValueError: a bare tensor without `codebook_sizes`; and as `CodeStatistics`.
    """
    if isinstance(codes, Codes):
        return CodeStatistics.of(codes).summary()
    if codebook_sizes is None:
        raise ValueError("a bare tensor of codes does not tell the sizes of its codebooks: pass codebook_sizes=")
    statistics = CodeStatistics(codebook_sizes, frame_rate)
    statistics.update(codes, lengths)
    return statistics.summary()


def _level(counts: Tensor) -> LevelSummary:
    size, total = len(counts), int(counts.sum())
    if not total:
        return LevelSummary(size, 0, *[math.nan] * 5)
    share = counts[counts > 0].double() / total
    entropy = max(float(-(share * share.log2()).sum()), 0.0)
    return LevelSummary(
        size=size,
        used=len(share),
        utilisation=len(share) / size,
        entropy_bits=entropy,
        entropy_ratio=entropy / math.log2(size) if size > 1 else math.nan,
        perplexity=2**entropy,
        most_common_share=float(share.max()),
    )
