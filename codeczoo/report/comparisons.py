"""Codecs compared on the same clips: BD-rates to an anchor, and paired differences with their tests."""

from __future__ import annotations

import importlib.util
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from codeczoo.benchmark.bd_rate import NO_RATE, RateDifference, bootstrap_bd_rate
from codeczoo.benchmark.bootstrap import interval, resamples, unit_sums
from codeczoo.report.clip_values import ClipValues
from codeczoo.report.curves import CodecCurve
from codeczoo.report.formatting import better
from codeczoo.report.results import CodecResult, Report

RESAMPLES = 1000
NEIGHBOURS = 20  # at most so many codecs, the nearest in bitrate, are compared with each
EXACT_UP_TO = 50  # differences
TESTED_FROM = 6  # clips (or speakers): below, no p-value can be under 0.03
NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class RateRow:
    """One curve against the anchor: metric → by clips, and by speakers where clips have them."""

    curve: CodecCurve
    by_clip: Mapping[str, RateDifference]
    by_speaker: Mapping[str, RateDifference]


@dataclass(frozen=True)
class RateTable:
    """Every curve against the anchor."""

    anchor: CodecCurve
    rows: Sequence[RateRow]


def rate_table(report: Report, values: ClipValues, curves: Sequence[CodecCurve], anchor: CodecCurve) -> RateTable:
    """Every other curve against the anchor, in every metric of which it is known which way is better."""
    rows = []
    known = [metric for metric in report.metrics if better(metric)]
    for curve in curves:
        if curve is not anchor:
            rows.append(
                RateRow(
                    curve,
                    {m: _rate_difference(values, anchor, curve, m, None) for m in known},
                    {m: _rate_difference(values, anchor, curve, m, speakers) for m in known}
                    if (speakers := values.speakers) is not None
                    else {},
                )
            )
    return RateTable(anchor, rows)


def _rate_difference(
    values: ClipValues, anchor: CodecCurve, curve: CodecCurve, metric: str, units: np.ndarray | None
) -> RateDifference:
    sides = []
    for one in (anchor, curve):
        # A bitrate that was measured on no clip is no point of its curve.
        there = [c for c in one.codecs if np.isfinite(values.metrics[c.label][metric]).any()]
        priced = [codec for codec in there if np.isfinite(values.bits[codec.label]).any()]
        if not priced:
            return RateDifference(None, reason=NO_RATE if there else NOT_MEASURED)
        sides.append(values.curve(priced, metric))
    way: Literal["higher", "lower"] = "higher" if better(metric) == "higher" else "lower"
    return bootstrap_bd_rate(sides[0], sides[1], way, units)


@dataclass(frozen=True)
class Paired:
    """The difference first - second over the clips on which both have a finite value.

    Attributes:
        mean, low, high: with the 95% bootstrap interval over clips.
        speaker_low, speaker_high: the interval over speakers; None without speakers.
        p: of Wilcoxon's signed-rank test on clips (on the speakers' means where there are speakers), two-sided, without
            a correction for many pairs (`with_holm`); None below TESTED_FROM, or without SciPy.
        clips, speakers: how many there are.
    """

    mean: float
    low: float | None
    high: float | None
    speaker_low: float | None
    speaker_high: float | None
    p: float | None
    clips: int
    speakers: int | None

    def reversed(self) -> Paired:
        """Second - first."""

        def negative(value: float | None) -> float | None:
            return None if value is None else -value

        return replace(
            self,
            mean=-self.mean,
            low=negative(self.high),
            high=negative(self.low),
            speaker_low=negative(self.speaker_high),
            speaker_high=negative(self.speaker_low),
        )


Pairs = Mapping[str, Mapping[tuple[str, str], Paired]]  # metric → (first, second) → difference


def paired_differences(report: Report, values: ClipValues) -> Pairs:
    """Every codec against its NEIGHBOURS in bitrate. Of a pair the one that comes first in the report is first."""
    pairs = _neighbours([codec for codec in report.codecs if not codec.encode_only])
    return {metric: _paired(metric, pairs, values) for metric in report.metrics}


def _paired(metric: str, pairs: Sequence[tuple[str, str]], values: ClipValues) -> dict[tuple[str, str], Paired]:
    columns = {}
    alike: dict[bytes, list[tuple[str, str]]] = defaultdict(list)  # pairs on the same clips
    for pair in pairs:
        first, second = (values.metrics[label][metric] for label in pair)
        columns[pair] = first - second
        alike[np.isfinite(columns[pair]).tobytes()].append(pair)
    found: dict[tuple[str, str], Paired] = {}
    for mask, group in alike.items():
        there = np.frombuffer(mask, dtype=bool)
        if there.any():
            found |= zip(
                group, _differences(np.column_stack([columns[p][there] for p in group]), there, values), strict=True
            )
    return found


def _differences(table: np.ndarray, there: np.ndarray, values: ClipValues) -> list[Paired]:
    """Of differences [n, pairs] on the clips that `there` marks."""
    clips, means = len(table), table.mean(0)
    low, high = _mean_intervals(table, np.arange(clips))
    if values.speakers is None:
        return [
            Paired(float(m), a, b, None, None, p, clips, None)
            for m, a, b, p in zip(means, low, high, wilcoxon_p(table), strict=True)
        ]
    units = np.unique(values.speakers[there], return_inverse=True)[1]
    speaker_low, speaker_high = _mean_intervals(table, units)
    by_speaker = unit_sums(table, units) / np.bincount(units)[:, None]
    ends = zip(means, low, high, speaker_low, speaker_high, wilcoxon_p(by_speaker), strict=True)
    return [Paired(float(m), a, b, c, d, p, clips, len(by_speaker)) for m, a, b, c, d, p in ends]


def _mean_intervals(table: np.ndarray, units: np.ndarray) -> tuple[list[float | None], list[float | None]]:
    """95% intervals of the columns' means when units of rows are drawn; None with one unit."""
    count = int(units.max()) + 1
    if count < 2:
        return [None] * table.shape[1], [None] * table.shape[1]
    sums = unit_sums(np.column_stack([table, np.ones(len(table))]), units)
    totals = np.concatenate([weights @ sums for weights in resamples(count, RESAMPLES)])
    low, high = interval(totals[:, :-1] / totals[:, -1:])
    return low.tolist(), high.tolist()


def _neighbours(codecs: Sequence[CodecResult]) -> list[tuple[str, str]]:
    def distance(one: CodecResult, other: CodecResult) -> float:
        if not one.overall.bitrate or not other.overall.bitrate:
            return math.inf
        return abs(math.log(one.overall.bitrate / other.overall.bitrate))

    wanted = set()
    for i, codec in enumerate(codecs):
        others = [j for j in range(len(codecs)) if j != i]
        for j in sorted(others, key=lambda j, codec=codec: (distance(codec, codecs[j]), j))[:NEIGHBOURS]:  # type: ignore[misc]
            wanted.add((min(i, j), max(i, j)))
    return [(codecs[i].label, codecs[j].label) for i, j in sorted(wanted)]


def wilcoxon_p(differences: np.ndarray) -> list[float | None]:
    """The two-sided p-values of Wilcoxon's signed-rank test of differences [n, pairs], by SciPy.

    Exact up to EXACT_UP_TO differences without ties, else by the normal distribution. None below TESTED_FROM
    differences, and without SciPy.
    """
    count, pairs = differences.shape
    if count < TESTED_FROM or importlib.util.find_spec("scipy") is None:
        return [None] * pairs
    from scipy.stats import wilcoxon

    sizes = np.sort(np.abs(differences), axis=0)
    exact = (sizes[0] > 0) & (np.diff(sizes, axis=0) > 0).all(0) & (count <= EXACT_UP_TO)
    p = np.ones(pairs)  # where no clip differs
    for method, which in (("exact", exact), ("asymptotic", ~exact & (sizes[-1] > 0))):
        if which.any():
            p[which] = wilcoxon(differences[:, which], method=method, axis=0).pvalue
    return [float(value) for value in p]


def with_holm(pairs: Sequence[Paired]) -> list[Paired]:
    """The same with Holm's correction of p for all that have one, in their order."""
    tested = sorted((pair.p, i) for i, pair in enumerate(pairs) if pair.p is not None)
    out, highest = list(pairs), 0.0
    for rank, (p, i) in enumerate(tested):
        highest = max(highest, min(1.0, (len(tested) - rank) * p))
        out[i] = replace(pairs[i], p=highest)
    return out
