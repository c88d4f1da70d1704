"""Which codecs are one codec at several bitrates, and which of them are on the Pareto front."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from codeczoo.report.formatting import better
from codeczoo.report.results import CodecResult, Report

PREFERRED_ANCHOR = "opus"


@dataclass(frozen=True)
class CodecCurve:
    """Codecs with the same weights, or of one file format, by bitrate; or one codec by itself."""

    name: str
    group: str
    codecs: Sequence[CodecResult]

    @property
    def classical(self) -> bool:
        return self.codecs[0].info.get("parameters") == 0


def group_name(codec: CodecResult) -> str:
    """The codec's family; for codecs without weights, which are one family, its file format."""
    if codec.info.get("parameters") == 0:
        return codec.name.partition("_")[0]
    return codec.info.get("family") or codec.name


def codec_curves(report: Report) -> list[CodecCurve]:
    """All codecs that decode, by curve."""
    lines: dict[Any, list[CodecResult]] = defaultdict(list)
    for codec in report.codecs:
        if codec.encode_only:
            continue
        weights = codec.info.get("weights_hash")
        alone = codec.label if weights is None and codec.info.get("parameters") != 0 else None
        lines[(group_name(codec), weights, alone, codec.run.label)].append(codec)
    curves = [CodecCurve(_name(key[0], codecs), key[0], codecs) for key, codecs in lines.items()]
    names = [curve.name for curve in curves]
    return [
        CodecCurve(f"{c.name} ({c.codecs[0].run.label})", c.group, c.codecs) if names.count(c.name) > 1 else c
        for c in curves
    ]


def _name(group: str, codecs: Sequence[CodecResult]) -> str:
    """Of one codec its label; of several the group, or what their names have in common."""
    if len(codecs) == 1:
        return codecs[0].label
    common = _common_start([codec.name for codec in codecs]).rpartition("_")[0]
    return common if len(common) > len(group) else group


def _common_start(names: Sequence[str]) -> str:
    shared = takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    return "".join(letters[0] for letters in shared)


def default_anchor(curves: Sequence[CodecCurve]) -> CodecCurve | None:
    """The curve that others are compared with: Opus, else the classical one with most bitrates, else any with most.
    None where no codec has two bitrates."""
    able = [curve for curve in curves if sum(bool(codec.overall.bitrate) for codec in curve.codecs) > 1]
    return max(able, key=lambda c: (c.name == PREFERRED_ANCHOR, c.classical, len(c.codecs), c.name), default=None)


def find_anchor(curves: Sequence[CodecCurve], name: str | None) -> CodecCurve | None:
    """The curve of that name, or with a codec of that name; without a name `default_anchor`.

    Raises:
        ValueError: there is none, or it has one bitrate only.
    """
    if name is None:
        return default_anchor(curves)
    for curve in curves:
        if name == curve.name or name in [codec.label for codec in curve.codecs]:
            if len(curve.codecs) < 2:
                raise ValueError(f"{name} has one bitrate in these results: an anchor takes two at least")
            return curve
    able = ", ".join(curve.name for curve in curves if len(curve.codecs) > 1) or "none"
    raise ValueError(f"no codec {name!r} is in these results; with two bitrates or more there are: {able}")


def pareto_front(points: Iterable[tuple[str, float, float]], better: str) -> set[str]:
    """The names of the points (name, bitrate, score) that no other one beats: none is as cheap and as good, and
    cheaper or better. Empty below two points, and where it is not known which scores are better."""
    sign = {"higher": 1.0, "lower": -1.0}.get(better)
    listed = [(name, rate, sign * score) for name, rate, score in points] if sign else []
    if len(listed) < 2:
        return set()
    return {
        name
        for name, rate, score in listed
        if not any(r <= rate and s >= score and (r < rate or s > score) for _, r, s in listed)
    }


def pareto_fronts(report: Report) -> Mapping[tuple[str | None, str], set[str]]:
    """(category, metric) → labels of the codecs on its front. Codecs with random weights take no part."""
    fronts = {}
    for category in (None, *report.categories):
        for metric in report.metrics:
            points = [
                (codec.label, part.bitrate, value.mean)
                for codec in report.codecs
                if (part := codec.part(category)) and part.bitrate and not codec.random_weights
                if (value := codec.value(metric, category)) and value.mean is not None
            ]
            fronts[(category, metric)] = pareto_front(points, better(metric))
    return fronts
