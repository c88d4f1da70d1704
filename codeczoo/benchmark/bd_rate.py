"""How much more or less bitrate one codec takes than another for the same score: Bjøntegaard's delta rate (BD-rate).

The logarithm of the bitrate is interpolated over the score by a monotone cubic (PCHIP, as `scipy.interpolate` has it),
and averaged over the scores that both codecs reach (G. Bjøntegaard, VCEG-M33, 2001; with PCHIP as in VCEG-AL22, 2009).
It is written here for many curves at once, because each resample of a bootstrap has scores of its own, which SciPy
takes one by one only; the tests compare it with SciPy and with the package `bjontegaard`.

Example::

    bd_rate([6000, 12000, 24000], [1.8, 2.6, 3.4], [3000, 6000, 12000], [1.8, 2.6, 3.4]).percent  # -50.0
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from codeczoo.benchmark.bootstrap import interval, resamples, unit_sums

RESAMPLES = 1000
MIN_DEFINED = 0.95  # of the resamples: with fewer there is no interval

NO_RATE = "no bitrate"
NO_CLIPS = "no clip in common"
ONE_POINT = "the anchor has one bitrate only"
NO_OVERLAP = "no score in common"
UNSURE = "no interval: not defined in more than 5 % of the resamples"
OUTSIDE = "its score is outside of the anchor's"


@dataclass(frozen=True)
class Curve:
    """One codec at K bitrates, on n clips. Clips stand in the same order in all curves that are compared.

    Attributes:
        bits: [n, K]; seconds: [n]; scores: [n, K], NaN where undefined.
    """

    bits: np.ndarray
    seconds: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class RateDifference:
    """Attributes:
    percent: bitrate that is needed more (+) or less (-) than the anchor's; None where `reason` says why not.
    low, high: its 95% interval; None where there is none, of which `reason` may say why.
    clips: on which it was measured, for a bootstrap.
    overlap: of the test curve's range of scores, the share that the anchor reaches too (0 to 1); None for one bitrate.
    """

    percent: float | None
    low: float | None = None
    high: float | None = None
    reason: str | None = None
    clips: int = 0
    overlap: float | None = None


def bd_rate(
    anchor_rates: Sequence[float],
    anchor_scores: Sequence[float],
    rates: Sequence[float],
    scores: Sequence[float],
    better: Literal["higher", "lower"] = "higher",
) -> RateDifference:
    """BD-rate of a codec to an anchor.

    Args:
        anchor_rates, rates: bitrates in any unit, at least two of the anchor.
        anchor_scores, scores: at those bitrates.
        better: which scores are.

    A bitrate that a lower one of the same codec equals or exceeds in score is left out: what remains rises. Of a
    codec with one bitrate it is the difference to the anchor's bitrate at that score.
    """
    sign = 1.0 if better == "higher" else -1.0
    sides = [np.asarray(side, dtype=np.float64)[None] for side in (anchor_rates, anchor_scores, rates, scores)]
    percents, overlaps, reason = _differences(sides[0], sign * sides[1], sides[2], sign * sides[3])
    if np.isnan(percents[0]):
        return RateDifference(None, reason=reason)
    overlap = None if np.isnan(overlaps[0]) else float(overlaps[0])
    return RateDifference(float(percents[0]), overlap=overlap)


def bootstrap_bd_rate(
    anchor: Curve, test: Curve, better: Literal["higher", "lower"], units: np.ndarray | None = None
) -> RateDifference:
    """BD-rate on the clips on which every bitrate of both has a score, with a 95% bootstrap interval.

    Args:
        units: [n] numbers of what is drawn together (`bootstrap.unit_numbers`: clips of one speaker); None = clips.

    Bitrates and mean scores of both codecs are computed anew from each resample, so that what is uncertain in the
    bitrate is in the interval too.
    """
    sides = [anchor, test]
    whole = np.all([np.isfinite(np.hstack([c.scores, c.bits, c.seconds[:, None]])).all(1) for c in sides], axis=0)
    count = int(whole.sum())
    if not count:
        return RateDifference(None, reason=NO_CLIPS)
    columns = [column for c in sides for column in (c.bits, c.scores)] + [anchor.seconds[:, None]]
    sums = np.hstack([*(column[whole] for column in columns), np.ones((count, 1))])
    split = np.cumsum([anchor.bits.shape[1]] * 2 + [test.bits.shape[1]] * 2)

    def means(totals: np.ndarray) -> list[np.ndarray]:
        bits, scores, other_bits, other_scores, rest = np.split(totals, split, axis=1)
        seconds, clips = rest[:, :1], rest[:, 1:]
        return [bits / seconds, scores / clips, other_bits / seconds, other_scores / clips]

    a_rates, a_scores, rates, scores = means(sums.sum(0, keepdims=True))
    found = replace(bd_rate(a_rates[0], a_scores[0], rates[0], scores[0], better), clips=count)
    if found.percent is None:
        return found
    numbers = np.arange(count) if units is None else np.unique(units[whole], return_inverse=True)[1]
    by_unit = unit_sums(sums, numbers)
    if len(by_unit) < 2:
        return found
    sign = 1.0 if better == "higher" else -1.0
    drawn = []
    for weights in resamples(len(by_unit), RESAMPLES):
        a_rates, a_scores, rates, scores = means(weights @ by_unit)
        drawn.append(_differences(a_rates, sign * a_scores, rates, sign * scores)[0])
    percents = np.concatenate(drawn)
    defined = percents[~np.isnan(percents)]
    if len(defined) < MIN_DEFINED * RESAMPLES:
        return replace(found, reason=UNSURE)
    low, high = interval(defined)
    return replace(found, low=float(low), high=float(high))


def _differences(
    anchor_rates: np.ndarray, anchor_scores: np.ndarray, rates: np.ndarray, scores: np.ndarray
) -> tuple[np.ndarray, np.ndarray, str | None]:
    """Percent and overlap for each row of [R, K] and [R, M]; higher scores are better. NaN where there is none, and
    the reason of the last such row."""
    percents = np.full(len(rates), np.nan)
    overlaps = np.full(len(rates), np.nan)
    reason = None
    keep = np.hstack([_rising(anchor_rates, anchor_scores), _rising(rates, scores)])
    count = anchor_rates.shape[1]
    for pattern in np.unique(keep, axis=0):
        rows = np.flatnonzero((keep == pattern).all(1))
        here, there = pattern[:count], pattern[count:]
        log_rates = [np.log(side[rows]) for side in (anchor_rates, rates)]
        ax, ay = _sorted(anchor_scores[rows][:, here], log_rates[0][:, here])
        x, y = _sorted(scores[rows][:, there], log_rates[1][:, there])
        if ax.shape[1] < 2:
            reason = ONE_POINT
            continue
        low, high = np.maximum(ax[:, 0], x[:, 0]), np.minimum(ax[:, -1], x[:, -1])
        if x.shape[1] == 1:
            inside = low <= high
            difference = y[inside, 0] - _at(ax[inside], ay[inside], x[inside, 0])
            reason = reason if inside.all() else OUTSIDE
        else:
            inside = low < high
            low, high = low[inside], high[inside]
            areas = [_integral(u[inside], v[inside], low, high) for u, v in ((x, y), (ax, ay))]
            difference = (areas[0] - areas[1]) / (high - low)
            overlaps[rows[inside]] = (high - low) / (x[inside, -1] - x[inside, 0])
            reason = reason if inside.all() else NO_OVERLAP
        percents[rows[inside]] = 100 * np.expm1(difference)
    return percents, overlaps, reason


def _rising(rates: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Which points of each row no cheaper (or equally cheap, earlier) one of its row equals or exceeds: [R, K]."""
    order = np.argsort(rates, axis=1, kind="stable")
    ordered = np.take_along_axis(scores, order, 1)
    before = np.hstack([np.full((len(rates), 1), -np.inf), np.maximum.accumulate(ordered, 1)[:, :-1]])
    out = np.zeros(rates.shape, dtype=bool)
    np.put_along_axis(out, order, ordered > before, 1)
    return out


def _sorted(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(x, axis=1)
    return np.take_along_axis(x, order, 1), np.take_along_axis(y, order, 1)


def _slopes(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """PCHIP's derivatives at the points (Fritsch and Butland 1984; at the ends three points, held monotone)."""
    h = np.diff(x)
    d = np.diff(y) / h
    if d.shape[1] == 1:
        return np.hstack([d, d])
    before, after = h[:, :-1] + 2 * h[:, 1:], 2 * h[:, :-1] + h[:, 1:]
    same = d[:, :-1] * d[:, 1:] > 0
    left, right = np.where(same, d[:, :-1], 1.0), np.where(same, d[:, 1:], 1.0)
    inner = np.where(same, (before + after) / (before / left + after / right), 0.0)
    ends = [_end_slope(h[:, i], h[:, j], d[:, i], d[:, j])[:, None] for i, j in ((0, 1), (-1, -2))]
    return np.hstack([ends[0], inner, ends[1]])


def _end_slope(h: np.ndarray, h_next: np.ndarray, d: np.ndarray, d_next: np.ndarray) -> np.ndarray:
    slope = ((2 * h + h_next) * d - h * d_next) / (h + h_next)
    slope = np.where(np.sign(slope) != np.sign(d), 0.0, slope)
    return np.where((np.sign(d) != np.sign(d_next)) & (np.abs(slope) > 3 * np.abs(d)), 3 * d, slope)


def _segments(x: np.ndarray, y: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, list[np.ndarray]]]:
    """Start, width and coefficients (of 1, t, t², t³; t from 0 to 1) of each segment, of all rows."""
    m = _slopes(x, y)
    for k in range(x.shape[1] - 1):
        h, rise = x[:, k + 1] - x[:, k], y[:, k + 1] - y[:, k]
        a, b = h * m[:, k], h * m[:, k + 1]
        yield x[:, k], h, [y[:, k], a, 3 * rise - 2 * a - b, a + b - 2 * rise]


def _integral(x: np.ndarray, y: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    total = np.zeros(len(x))
    for start, h, coefficients in _segments(x, y):
        ends = [np.clip((end - start) / h, 0, 1) for end in (low, high)]
        for power, coefficient in enumerate(coefficients, 1):
            total += h * coefficient / power * (ends[1] ** power - ends[0] ** power)
    return total


def _at(x: np.ndarray, y: np.ndarray, where: np.ndarray) -> np.ndarray:
    out = y[:, 0].copy()
    for start, h, coefficients in _segments(x, y):
        t = (where - start) / h
        value = sum(coefficient * t**power for power, coefficient in enumerate(coefficients))
        out = np.where((t > 0) & (t <= 1), value, out)
    return out
