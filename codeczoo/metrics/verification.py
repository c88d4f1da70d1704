"""Verification on given scores: the equal error rate, and the detection cost.

    equal_error_rate([0.9, 0.8, 0.4, 0.1], [True, True, False, False]).rate    # 0.0

A trial asks whether two recordings are of one speaker (a target) or not; its score is higher, the likelier that is. A
threshold accepts the trials that score at least as much.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

Scores = Sequence[float] | np.ndarray | Tensor
Labels = Sequence[bool] | Sequence[int] | np.ndarray | Tensor


class EqualErrorRate(NamedTuple):
    """Attributes:
    rate: 0 to 1, at which targets are rejected and others accepted alike.
    threshold: the score at which that is; where the two rates cross between two scores, between them.
    targets, others: the numbers of trials.
    """

    rate: float
    threshold: float
    targets: int
    others: int


def equal_error_rate(scores: Scores, labels: Labels) -> EqualErrorRate:
    """The rate at which false rejections and false acceptances are equal.

    Between the operating points of neighbouring thresholds both rates are taken to be straight lines (as the ROC is
    drawn), which is where they cross; trials of one score are accepted or rejected together. (The script of
    Codec-SUPERB's speaker verification takes the greater of both rates at the nearest point: equal within one trial.)

    Args:
        scores: [N].
        labels: [N], true (or 1) for targets.

    Raises:
        ValueError: no targets or no others, labels that are neither 0 nor 1, scores that are NaN, or of other lengths.
    """
    rejected, accepted, thresholds, count = _rates(scores, labels)
    gap = rejected - accepted  # rises from -1 to 1
    after = int(np.flatnonzero(gap >= 0)[0])
    before = after - 1
    share = -gap[before] / (gap[after] - gap[before])
    rate = rejected[before] + share * (rejected[after] - rejected[before])
    ends = thresholds[[before, after]]
    inside = np.isfinite(ends).all()
    threshold = ends[0] + share * (ends[1] - ends[0]) if inside else ends[np.isfinite(ends)][0]
    return EqualErrorRate(float(rate), float(threshold), *count)


def detection_cost(
    scores: Scores, labels: Labels, *, target_share: float = 0.05, miss_cost: float = 1.0, false_cost: float = 1.0
) -> float:
    """minDCF: the least cost of any threshold, as a multiple of what accepting all or rejecting all costs.

    Args:
        scores, labels: as of `equal_error_rate`.
        target_share: how many trials are expected to be targets, 0 to 1 (both excluded).
        miss_cost, false_cost: of a target that is rejected, and of another that is accepted.

    The defaults are VoxCeleb's (p 0.05, costs 1). Source: NIST's evaluations of speaker recognition.

    Raises:
        ValueError: as `equal_error_rate`; a share or cost out of range.
    """
    if not 0 < target_share < 1 or min(miss_cost, false_cost) <= 0:
        raise ValueError(
            "target_share must be between 0 and 1, and costs greater than 0; they are "
            f"{target_share}, {miss_cost} and {false_cost}"
        )
    rejected, accepted, _, _ = _rates(scores, labels)
    weights = miss_cost * target_share, false_cost * (1 - target_share)
    return float((weights[0] * rejected + weights[1] * accepted).min() / min(weights))


def _rates(scores: Scores, labels: Labels) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[int, int]]:
    """Shares of targets that are rejected and of others that are accepted, [K + 1] each, at rising thresholds: below
    the lowest score, at each but the lowest, and above the highest."""
    values, kinds = _array(scores), _array(labels)
    if values.shape != kinds.shape or values.ndim != 1:
        raise ValueError(f"scores and labels must be [N] both; they are {list(values.shape)} and {list(kinds.shape)}")
    if np.isnan(values).any():
        raise ValueError(f"{int(np.isnan(values).sum())} of {len(values)} scores are NaN: leave those trials out")
    if not np.isin(kinds, (0, 1)).all():
        raise ValueError("labels must be true (1) for targets and false (0) for others")
    target = kinds == 1
    targets, others = int(target.sum()), int((~target).sum())
    if not targets or not others:
        raise ValueError(f"there must be targets and others; there are {targets} and {others}")
    distinct, number = np.unique(values, return_inverse=True)
    rejected = np.concatenate([[0], np.cumsum(np.bincount(number[target], minlength=len(distinct)))]) / targets
    accepted = 1 - np.concatenate([[0], np.cumsum(np.bincount(number[~target], minlength=len(distinct)))]) / others
    return rejected, accepted, np.append(distinct, np.inf), (targets, others)


def _array(values: Scores | Labels) -> np.ndarray:
    return np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values, dtype=np.float64)


# -- speakers -----------------------------------------------------------------------------------------

CROP, CROPS = 48_240, 5  # samples at 16 kHz, and how many of a clip


def crops_of(clip: Tensor) -> Tensor:
    """A clip [T] at 16 kHz → [5, 48240]: evenly spread, the first at the start and the last at the end; a shorter clip
    is repeated until it is as long."""
    if len(clip) < CROP:
        clip = clip.repeat(-(-CROP // len(clip)))[:CROP]
    starts = np.linspace(0, len(clip) - CROP, CROPS).astype(int).tolist()
    return torch.stack([clip[start : start + CROP] for start in starts])


def speaker_score(one: Tensor, other: Tensor) -> float:
    """Codec-SUPERB's score of a trial: half the cosine of the whole clips, and half the mean of the cosines of each
    crop with each.

    Args:
        one, other: embeddings [1 + C, E] of a clip, first of the whole and then of its crops.
    """
    one, other = (torch.nn.functional.normalize(side.double(), dim=1) for side in (one, other))
    cosines = one @ other.T
    return float((cosines[0, 0] + cosines[1:, 1:].mean()) / 2)
