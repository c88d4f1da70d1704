"""How many codes stay the same, by codebook, with an interval over clips."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from codeczoo.base.codes import Codes
from codeczoo.probe.sample import clip_number

RESAMPLES = 400


def equal_codes(one: Codes, other: Codes, missing: bool = False) -> tuple[Tensor, Tensor]:
    """How many codes two batches of the same clips have in common, place by place.

    Args:
        missing: whether codes that only one of them has count as different; else they are left out.

    Returns:
        equal, total: [B, K] int64 each, on the CPU.
    """
    one, other = one.cpu(), other.cpu()
    both = torch.minimum(one.counts, other.counts)
    shared = min(one.codes.shape[-1], other.codes.shape[-1])
    own = torch.arange(shared) < both[..., None]
    equal = ((one.codes[..., :shared] == other.codes[..., :shared]) & own).sum(-1)
    return equal, torch.maximum(one.counts, other.counts) if missing else both


@dataclass(frozen=True)
class Share:
    """A share of codes; None where there are none, and no interval of fewer than two clips."""

    share: float | None
    low: float | None
    high: float | None
    codes: int


class Agreement:
    """Sums the equal codes of clips, and those of resamples of the clips: each clip counts as often as a Poisson
    distribution of mean 1 says, drawn from its id (a bootstrap that needs one pass and keeps no clip).

    Args:
        codebooks: how many.
    """

    def __init__(self, codebooks: int) -> None:
        self.clips = 0
        self.left_out: dict[str, int] = {}  # reason → clips
        self._sums = np.zeros((2, codebooks), np.int64)  # equal, total
        self._resampled = np.zeros((RESAMPLES, 2, codebooks), np.int64)

    def add(self, id: str, equal: np.ndarray, total: np.ndarray) -> None:
        """A clip's codes, [K] each."""
        sums = np.stack([equal, total])
        times = np.random.default_rng(clip_number(id)).poisson(1.0, RESAMPLES)
        self.clips += 1
        self._sums += sums
        self._resampled += times[:, None, None] * sums

    def leave_out(self, reason: str) -> None:
        self.left_out[reason] = self.left_out.get(reason, 0) + 1

    def codebooks(self) -> list[Share]:
        """Of each codebook."""
        return [self._share(k) for k in range(self._sums.shape[1])]

    def overall(self) -> Share:
        """Of all codes."""
        return self._share(slice(None))

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "clips": self.clips,
            "left_out": self.left_out,
            "all": vars(self.overall()),
            "codebooks": [vars(share) for share in self.codebooks()],
        }

    def _share(self, k: int | slice) -> Share:
        equal, total = self._sums[:, k].reshape(2, -1).sum(1).tolist()
        if not total:
            return Share(None, None, None, 0)
        sums = self._resampled[:, :, k].reshape(RESAMPLES, 2, -1).sum(-1)
        sums = sums[sums[:, 1] > 0]
        low, high = np.percentile(sums[:, 0] / sums[:, 1], [2.5, 97.5]).tolist() if self.clips > 1 else (None, None)
        return Share(equal / total, low, high, total)
