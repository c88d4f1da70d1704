"""Plots of quality against bitrate and speed: one figure a metric, with one set of points a category."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from codeczoo.report.curves import CodecCurve, codec_curves, group_name
from codeczoo.report.formatting import better, decimals, fixed, kbps, reason_text, round_number, signed, unit
from codeczoo.report.labels import Labels
from codeczoo.report.results import CodecResult, Report, Value

# Middle tones, which keep 3:1 against white and against near-black.
COLOURS = (
    "#3b7dd8",
    "#d0602a",
    "#2a9669",
    "#a860c4",
    "#b0820f",
    "#d6456b",
    "#2b8fa6",
    "#8a7250",
    "#7a8088",
    "#5c9430",
)
LEVEL_COLOUR = "#7a8088"
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star")


@dataclass(frozen=True)
class CodecGroup:
    """Codecs that share a colour and symbol: a family, or a file format."""

    name: str
    colour: str
    symbol: str


@dataclass(frozen=True)
class Plot:
    """A metric over one category (None: all clips) against one of AXES, as plotly.js takes it.

    `absent`: which codecs that decode are not in it, and why.
    """

    metric: str
    category: str | None
    axis: str
    figure: Mapping[str, Any]
    absent: Sequence[str]


@dataclass(frozen=True)
class Axis:
    """What a plot's horizontal axis shows. `value` of a codec and a category; None where it has none, which `missing`
    words. `joined`: whether lines between the bitrates of one codec have a meaning."""

    title: str
    value: Callable[[CodecResult, str | None], float | None]
    missing: str
    joined: bool = False
    by_category: bool = False


def _rate(codec: CodecResult, category: str | None) -> float | None:
    part = codec.part(category)
    return part.bitrate / 1000 if part and part.bitrate else None


AXES: Mapping[str, Axis] = {
    "bitrate": Axis("kbit/s, measured", _rate, "no bitrate", joined=True, by_category=True),
    "encode": Axis("encodes × real time", lambda codec, _: codec.speed.encode, "speed not measured"),
    "decode": Axis("decodes × real time", lambda codec, _: codec.speed.decode, "speed not measured"),
}


class Point(NamedTuple):
    """One codec in a plot."""

    codec: CodecResult
    x: float
    value: Value


def groups(report: Report) -> dict[str, CodecGroup]:
    """Name → colour and symbol; all differ for up to 70 groups."""
    names = sorted({group_name(codec) for codec in report.codecs if not codec.encode_only})
    return {
        name: CodecGroup(name, COLOURS[i % len(COLOURS)], SYMBOLS[i % len(SYMBOLS)]) for i, name in enumerate(names)
    }


def axes(report: Report) -> dict[str, Axis]:
    """Those of AXES for which some codec has a value."""
    return {
        name: axis
        for name, axis in AXES.items()
        if name == "bitrate" or any(axis.value(codec, None) for codec in report.codecs)
    }


def plots(report: Report) -> list[Plot]:
    """Every metric over all clips and over each category, against the bitrate; and over all clips against speeds."""
    curves = codec_curves(report)
    return [
        _plot(report, curves, metric, category, name)
        for metric in report.metrics
        for name, axis in axes(report).items()
        for category in (None, *(report.categories if axis.by_category else ()))
    ]


def _plot(report: Report, curves: Sequence[CodecCurve], metric: str, category: str | None, axis_name: str) -> Plot:
    axis = AXES[axis_name]
    drawn: list[tuple[CodecCurve, list[Point]]] = []
    absent = []
    for curve in curves:
        points: list[Point] = []
        for codec in curve.codecs:
            value, x = codec.value(metric, category), axis.value(codec, category)
            if why := _why_absent(codec, metric, category) or (None if x else axis.missing):
                absent.append(f"{codec.label} ({why})")
            elif value and x:
                points.append(Point(codec, x, value))
        if points:
            drawn.append((curve, points))
    places = decimals(value.mean for codec in report.codecs if (value := codec.value(metric, category))) + 1
    xs = [axis.value(codec, part) for codec in report.codecs for part in (None, *codec.categories)]
    left, right = _widened([math.log10(x) for x in xs if x] or [0.0], 0.06, 0.1)
    values = [point.value for _, points in drawn for point in points]
    original = report.original(metric, category)
    ends = [end for v in values for end in (v.mean, v.low, v.high) if end is not None]
    ends += [] if original is None else [original]
    bottom, top = _widened(ends or [0.0], 0.07, 1e-9)
    line = None if original is None else (original - bottom) / (top - bottom)
    labels = _labels(drawn, (left, right), (bottom, top), line)
    traces = []
    colours = groups(report)
    for curve, points in drawn:
        shown = [labels[point.codec.label] for point in points]
        hover = [_hover(point, metric, category, places) for point in points]
        traces.append(_trace(points, shown, hover, colours[curve.group], axis.joined))
    marks = [mark * 10**power for power in range(-3, 6) for mark in (1, 2, 5)]
    layout = {
        "xaxis": {
            "type": "log",
            "title": {"text": axis.title},
            "range": [left, right],
            "tickvals": marks,
            "ticktext": [f"{mark:g}" for mark in marks],
        },
        "yaxis": {"title": {"text": _axis(metric)}, "range": [bottom, top]},
        "showlegend": False,
        "hovermode": "closest",
        **({} if original is None else _level(original, f"original {fixed(original, places)}")),
    }
    return Plot(metric, category, axis_name, {"data": traces, "layout": layout}, absent)


def _level(height: float, text: str) -> dict[str, Any]:
    """A dashed line across the plot, and what it is."""
    line = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": height, "y1": height, "layer": "below"}
    note = {"xref": "paper", "x": 1, "xanchor": "right", "y": height, "yanchor": "bottom", "showarrow": False}
    return {
        "shapes": [{**line, "line": {"color": LEVEL_COLOUR, "width": 1, "dash": "dash"}}],
        "annotations": [{**note, "text": html.escape(text), "font": {"size": 10}}],
    }


def _widened(values: Sequence[float], share: float, least: float) -> tuple[float, float]:
    """A range around the values, wider by a share of theirs on both sides."""
    low, high = min(values), max(values)
    more = max((high - low) * share, least) if high > low else max(abs(high) * 0.1, 0.1)
    return low - more, high + more


def _labels(
    drawn: Sequence[tuple[CodecCurve, Sequence[Point]]],
    across: tuple[float, float],
    up: tuple[float, float],
    line: float | None,
) -> dict[str, tuple[str, str]]:
    """Codec's label → the text at its point ("" where there is no room), and its place.

    Above `line` (its height) stands what it is. Each curve bears one whole name, at its highest bitrate if there is
    room; then the others get what tells them apart.
    """

    def spot(point: Point) -> tuple[float, float]:
        x = (math.log10(point.x) - across[0]) / (across[1] - across[0])
        return x, ((point.value.mean or 0.0) - up[0]) / (up[1] - up[0])

    labels = Labels(spot(point) for _, points in drawn for point in points)
    if line is not None:
        labels.keep_free(0.75, line, 1, line + 0.06)
    out: dict[str, tuple[str, str]] = {}
    for _, points in drawn:
        for point in reversed(points):
            if place := labels.place(*spot(point), point.codec.label):
                out[point.codec.label] = (html.escape(point.codec.label), place)
                break
    for curve, points in drawn:
        for point in points:
            if point.codec.label not in out:
                rest = point.codec.label.removeprefix(f"{curve.name}_")
                place = labels.place(*spot(point), rest)
                out[point.codec.label] = (html.escape(rest) if place else "", place or "top center")
    return out


def _why_absent(codec: CodecResult, metric: str, category: str | None) -> str | None:
    part, value = codec.part(category), codec.value(metric, category)
    if part is None:
        return "no such clips"
    if part.ok == 0:
        return "every clip failed"
    if value is None:
        return "not measured"
    if value.mean is not None:
        return None
    return (
        f"undefined on every clip: {reason_text(*value.undefined)}"
        if len(value.undefined) == 1
        else "undefined on every clip"
    )


def _trace(
    points: Sequence[Point],
    labels: Sequence[tuple[str, str]],
    hover: Sequence[str],
    group: CodecGroup,
    joined: bool,
) -> dict[str, Any]:
    means = [point.value.mean or 0.0 for point in points]
    ends = [(p.value.low, p.value.high) for p in points]
    return {
        "type": "scatter",
        "x": [point.x for point in points],
        "y": means,
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": [(mean if high is None else high) - mean for (_, high), mean in zip(ends, means, strict=True)],
            "arrayminus": [mean - (mean if low is None else low) for (low, _), mean in zip(ends, means, strict=True)],
            "thickness": 1,
            "width": 3,
        },
        "mode": "lines+markers+text" if joined else "markers+text",
        "line": {"color": group.colour, "width": 1.5},
        "marker": {"color": group.colour, "symbol": group.symbol, "size": 9},
        "text": [text for text, _ in labels],
        "textposition": [place for _, place in labels],
        "name": group.name,
        "hovertext": list(hover),
        "hoverinfo": "text",
    }


def _hover(point: Point, metric: str, category: str | None, places: int) -> str:
    value, codec = point.value, point.codec
    interval = (
        f"95% CI {fixed(value.low, places)} to {fixed(value.high, places)}"
        if value.low is not None
        else "no interval: one clip"
    )
    count = f"n = {value.count}" + (f", {value.lost} without a finite value" if value.lost else "")
    shown = f"{html.escape(metric)} {fixed(value.mean, places)} {unit(metric)}".rstrip()
    against = []
    if (found := value.against) is not None and found.count:
        ends = "" if found.low is None else f" (95% CI {signed(found.low, places)} to {signed(found.high, places)})"
        against = [f"original {fixed(found.original, places)}, {signed(found.difference, places)}{ends}"]
    speeds = [
        f"{verb} {round_number(speed)} × real time"
        for verb, speed in (("encodes", codec.speed.encode), ("decodes", codec.speed.decode))
        if speed
    ]
    part = codec.part(category)
    rate = f"{kbps(part.bitrate)} kbit/s" if part and part.bitrate else "no bitrate"
    return "<br>".join([f"<b>{html.escape(codec.label)}</b>", shown, interval, *against, count, rate, *speeds])


def _axis(metric: str) -> str:
    what = f"{html.escape(metric)} ({unit(metric)})" if unit(metric) else html.escape(metric)
    return f"{what}, {better(metric)} is better" if better(metric) else what
