"""Fréchet distance between two sets of embeddings, by their means and covariances: the arithmetic of FAD.

Paper: "Fréchet Audio Distance" (arXiv 1812.08466).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from torch import Tensor

from codeczoo.metrics.pair import double

MIN_FRAMES = 2  # that have a covariance


@dataclass(frozen=True)
class Moments:
    """What a Fréchet distance needs of a set of embeddings. Sets add up: `a + b` is of the frames of both.

    Attributes:
        count: of frames.
        mean: [D] float64.
        scatter: [D, D] float64, the sum over the frames of the outer products of what lies off the mean. (Sums of raw
            squares would lose the digits that a mean far from zero takes.)
    """

    count: int
    mean: np.ndarray
    scatter: np.ndarray

    @classmethod
    def of(cls, frames: Tensor) -> Self:
        """Of embeddings [N, D], one a frame; computed in float64 where they lie."""
        values = double(frames)
        mean = values.mean(0) if len(values) else values.new_zeros(values.shape[1])
        apart = values - mean
        return cls(len(values), mean.cpu().numpy(), (apart.T @ apart).cpu().numpy())

    def __add__(self, other: Moments) -> Moments:
        count = self.count + other.count
        if not count:
            return self
        apart = other.mean - self.mean
        share = other.count / count
        scatter = self.scatter + other.scatter + np.outer(apart, apart) * (self.count * share)
        return Moments(count, self.mean + apart * share, scatter)

    @property
    def covariance(self) -> np.ndarray:
        """[D, D], with the divisor n - 1."""
        return self.scatter / (self.count - 1)


def frechet_distance(reference: Moments | Tensor, estimate: Moments | Tensor) -> float:
    """Fréchet distance of two sets of embeddings; 0 is best, NaN where a set has fewer than 2 frames.

    Args:
        reference, estimate: their `Moments`, or the embeddings [N, D] themselves.

    |m1 - m2|² + tr C1 + tr C2 - 2 tr (C1 C2)^½, in float64. The root is taken as the sum of the square roots of the
    eigenvalues of S C2 S with S = C1^½, which is real and stable for fewer frames than dimensions too. Few frames make
    it larger: sets compare at equal numbers of frames only.

    Raises:
        ValueError: embeddings of different sizes, or that are not [N, D].
    """
    a, b = (side if isinstance(side, Moments) else _moments(side) for side in (reference, estimate))
    if a.mean.shape != b.mean.shape:
        raise ValueError(f"embeddings of {a.mean.shape[0]} and of {b.mean.shape[0]} values do not compare")
    if min(a.count, b.count) < MIN_FRAMES:
        return math.nan
    values, vectors = np.linalg.eigh(a.covariance)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    mixed = np.linalg.eigvalsh(root @ b.covariance @ root).clip(min=0)
    apart = a.mean - b.mean
    distance = apart @ apart + np.trace(a.covariance) + np.trace(b.covariance) - 2 * np.sqrt(mixed).sum()
    return max(float(distance), 0.0)


def _moments(frames: Tensor) -> Moments:
    if frames.ndim != 2:
        raise ValueError(f"embeddings must be [N, D]; their shape is {tuple(frames.shape)}")
    return Moments.of(frames)
