"""Seeded bootstrap over clips, or over the speakers of the clips."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np

MAX_WEIGHTS = 4_000_000  # of one block of resamples, 8 bytes each
MAX_CACHED = 20_000  # units whose 1000 resamples are kept: many pairs of codecs have the same clips


def unit_numbers(names: Sequence[str | None]) -> np.ndarray:
    """Number the units that are drawn together: [n] names (a speaker each) → [n] integers from 0.

    A clip without a name is a unit by itself.
    """
    numbers: dict[object, int] = {}
    return np.array([numbers.setdefault(name if name is not None else i, len(numbers)) for i, name in enumerate(names)])


def unit_sums(values: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Sums of values [n, ...] over the units [n] → [units, ...]."""
    out = np.zeros((int(units.max(initial=-1)) + 1, *values.shape[1:]))
    np.add.at(out, units, values)
    return out


def resamples(units: int, count: int, seed: int = 0) -> Iterator[np.ndarray]:
    """How often each unit is drawn in `count` resamples with replacement: blocks of [resamples, units]."""
    blocks = _cached(units, count, seed) if units <= MAX_CACHED else _draw(units, count, seed)
    return (block.astype(np.float64) for block in blocks)


@lru_cache(maxsize=2)
def _cached(units: int, count: int, seed: int) -> tuple[np.ndarray, ...]:
    return tuple(_draw(units, count, seed))


def _draw(units: int, count: int, seed: int) -> Iterator[np.ndarray]:
    generator = np.random.default_rng(seed)
    block = max(1, MAX_WEIGHTS // max(units, 1))
    for start in range(0, count, block):
        rows = min(block, count - start)
        drawn = generator.integers(0, units, (rows, units)) + units * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * units).reshape(rows, units).astype(np.uint32)


def interval(values: np.ndarray, axis: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The 95% percentile interval of bootstrap values."""
    low, high = np.percentile(values, [2.5, 97.5], axis=axis)
    return low, high


def mean_interval(values: np.ndarray, units: np.ndarray, count: int = 2000) -> tuple[float, float] | tuple[None, None]:
    """The 95% interval of the mean of values [n] when `units` [n] of them are drawn; (None, None) below two units."""
    number = int(units.max(initial=-1)) + 1
    if number < 2:
        return None, None
    sums = unit_sums(np.column_stack([values, np.ones(len(values))]), units)
    totals = np.concatenate([weights @ sums for weights in resamples(number, count)])
    low, high = interval(totals[:, 0] / totals[:, 1])
    return float(low), float(high)
