"""Entropy and mutual information of codes from counts, with what is known of their bias.

From n observations the plug-in entropy -Σ p log2 p is too low, by about (m - 1) / 2n nats where m entries occurred
(Miller 1955), and the plug-in mutual information too high. Two codebooks of 1024 entries have a joint table of a
million cells, far more than most data sets have frames, so the bias is told in two ways:

- Miller-Madow: the first-order term. Too small where most cells of the table were seen once or never.
- shuffled: the plug-in value after one codebook's codes were put into random order, the mean of several shuffles. The
  two are then independent, so all of it is bias. `excess` is what the real order has beyond that.

`excess` errs on the low side: of codebooks that depend on each other less is bias than of shuffled ones. Where hardly
any pair of codes occurs twice, it goes to 0 whatever the dependence. There `collision` still sees it, which is another
measure: log2 of how many times as often two frames agree in both codebooks as they would if the codebooks were
independent (Rényi's second-order entropies; each rate is estimated without bias as Σ c (c - 1) / n (n - 1)).

Frames count as independent; those of one clip resemble each other, which leaves some bias in `excess` and `collision`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

DENSE_CELLS = 1 << 16  # a joint table of so many cells, or of 4 an observation, is counted densely; others by sorting


def entropy_bits(counts: np.ndarray) -> float:
    """The plug-in entropy, in bits, of how often each entry occurred; NaN where nothing did. Zeros do not count."""
    counts = counts[counts > 0].astype(np.float64)
    total = counts.sum()
    if not total:
        return math.nan
    return max(float(math.log2(total) - (counts * np.log2(counts)).sum() / total), 0.0)


def miller_madow(plugin: float, used: int, total: int) -> float:
    """A plug-in entropy in bits with Miller and Madow's correction, (used - 1) / 2 total nats.

    Args:
        used: entries that occurred; total: observations.
    """
    return plugin + (used - 1) / (2 * total * math.log(2)) if total else math.nan


def collision_rate(counts: np.ndarray, total: int) -> float:
    """The probability that two observations are equal, estimated without bias; NaN of fewer than two."""
    counts = counts.astype(np.float64)
    return float((counts * (counts - 1)).sum() / (total * (total - 1))) if total > 1 else math.nan


def joint_counts(first: np.ndarray, second: np.ndarray, second_size: int) -> np.ndarray:
    """How often each pair of codes occurred, of those that did: [pairs].

    Args:
        first, second: codes [n] of two codebooks in the same frames; second_size: entries of the second.
    """
    keys = first.astype(np.int64) * second_size + second
    cells = (int(first.max(initial=-1)) + 1) * second_size
    if cells <= max(DENSE_CELLS, 4 * len(keys)):
        counts = np.bincount(keys)
        return counts[counts > 0]
    keys.sort()
    edges = np.flatnonzero(np.diff(keys)) + 1
    return np.diff(np.concatenate([[0], edges, [len(keys)]]))


@dataclass(frozen=True)
class MutualInformation:
    """Of two codebooks, in bits; NaN where nothing was observed.

    Attributes:
        observations: frames in which both have a code.
        plugin: H(first) + H(second) - H(both), from the counts as they are.
        miller_madow: the same of corrected entropies.
        shuffled, shuffled_max: mean and maximum of the plug-in value over the shuffles.
        excess: plugin - shuffled.
        collision, collision_shuffled_max: see the module; NaN where no pair of codes occurred twice.
    """

    observations: int
    plugin: float
    miller_madow: float
    shuffled: float
    shuffled_max: float
    excess: float
    collision: float
    collision_shuffled_max: float


def mutual_information(
    first: np.ndarray, second: np.ndarray, second_size: int, shuffles: int = 20, seed: int = 0
) -> MutualInformation:
    """The mutual information of two codebooks.

    Args:
        first, second: codes [n] of both in the same frames; second_size: entries of the second.
        shuffles: how often the second is put into random order; with 0 there is no `shuffled` and no `excess`.
    """
    n = len(first)
    if not n:
        return MutualInformation(0, *[math.nan] * 7)
    own = [counts[counts > 0] for counts in (np.bincount(first), np.bincount(second))]
    single = sum(entropy_bits(counts) for counts in own)
    apart = math.prod(collision_rate(counts, n) for counts in own)

    def measured(joint: np.ndarray) -> tuple[float, float]:
        """The plug-in value and the collisions of a joint table."""
        together = collision_rate(joint, n)
        return max(single - entropy_bits(joint), 0.0), math.log2(together / apart) if together > 0 else math.nan

    joint = joint_counts(first, second, second_size)
    plugin, collision = measured(joint)
    cells = sum(len(counts) - 1 for counts in own) - (len(joint) - 1)
    generator = np.random.default_rng(seed)
    by_chance = np.array(
        [measured(joint_counts(first, generator.permutation(second), second_size)) for _ in range(shuffles)]
    ).reshape(-1, 2)
    shuffled = float(by_chance[:, 0].mean()) if shuffles else math.nan
    return MutualInformation(
        observations=n,
        plugin=plugin,
        miller_madow=plugin + cells / (2 * n * math.log(2)),
        shuffled=shuffled,
        shuffled_max=max(by_chance[:, 0].tolist(), default=math.nan),
        excess=plugin - shuffled,
        collision=collision,
        collision_shuffled_max=max((x for x in by_chance[:, 1].tolist() if not math.isnan(x)), default=math.nan),
    )
