"""Rate-distortion plots: one figure a metric, with one set of points a category."""

from __future__ import annotations

import html
import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from codeczoo.report.formatting import better, decimals, fixed, kbps, unit
from codeczoo.report.results import CodecResult, Report

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
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star")


@dataclass(frozen=True)
class CodecGroup:
    """Codecs that share a colour and symbol: a family, or a file format."""

    name: str
    colour: str
    symbol: str


@dataclass(frozen=True)
class Plot:
    """A metric over one category (None: all clips), as plotly.js takes it.

    `absent`: which codecs that decode are not in it, and why.
    """

    metric: str
    category: str | None
    figure: Mapping[str, Any]
    absent: Sequence[str]


def group_name(codec: CodecResult) -> str:
    """The codec's family; for codecs without weights, which are one family, its file format."""
    if codec.info.get("parameters") == 0:
        return codec.name.partition("_")[0]
    return codec.info.get("family") or codec.name


def groups(report: Report) -> dict[str, CodecGroup]:
    """Name → colour and symbol; all differ for up to 70 groups."""
    names = sorted({group_name(codec) for codec in report.codecs if not codec.encode_only})
    return {
        name: CodecGroup(name, COLOURS[i % len(COLOURS)], SYMBOLS[i % len(SYMBOLS)]) for i, name in enumerate(names)
    }


def plots(report: Report) -> list[Plot]:
    """Every metric over all clips and over each category."""
    return [_plot(report, metric, category) for metric in report.metrics for category in (None, *report.categories)]


def _plot(report: Report, metric: str, category: str | None) -> Plot:
    drawn: dict[str, list[CodecResult]] = defaultdict(list)
    absent = []
    for codec in report.codecs:
        why = _why_absent(codec, metric, category)
        if codec.encode_only:
            continue  # the page says so once
        if why:
            absent.append(f"{codec.label} ({why})")
        else:
            drawn[group_name(codec)].append(codec)
    places = decimals(value.mean for codec in report.codecs if (value := codec.value(metric, category))) + 1
    figure = go.Figure()
    for name, group in groups(report).items():
        # A line joins the bitrates of one thing: the same weights, or one format; others stand for themselves.
        lines: dict[Any, list[CodecResult]] = defaultdict(list)
        for codec in drawn[name]:
            weights = codec.info.get("weights_hash")
            alone = codec.label if weights is None and codec.info.get("parameters") != 0 else None
            lines[(weights, alone, codec.run.label)].append(codec)
        for codecs in lines.values():
            figure.add_trace(_trace(codecs, group, metric, category, places))
    low, high = _span(report)
    marks = [mark * 10**power for power in range(-3, 5) for mark in (1, 2, 5)]
    figure.update_xaxes(
        type="log",
        title_text="kbit/s, measured",
        range=[math.log10(low * 0.8), math.log10(high * 1.25)],
        tickvals=marks,
        ticktext=[f"{mark:g}" for mark in marks],
    )
    figure.update_yaxes(title_text=_axis(metric))
    figure.update_layout(template="none", showlegend=False, hovermode="closest")
    return Plot(metric, category, json.loads(figure.to_json()), absent)


def _span(report: Report) -> tuple[float, float]:
    """The lowest and the highest bitrate in kbit/s: all plots share one axis."""
    parts = [part for codec in report.codecs for part in (codec.overall, *codec.categories.values())]
    rates = [part.bitrate / 1000 for part in parts if part.bitrate] or [1.0]
    return min(rates), max(rates)


def _why_absent(codec: CodecResult, metric: str, category: str | None) -> str | None:
    part, value = codec.part(category), codec.value(metric, category)
    if part is None:
        return "no such clips"
    if part.ok == 0:
        return "every clip failed"
    if value is None:
        return "not measured"
    if value.mean is None:
        return "undefined on every clip"
    return None if part.bitrate else "no bitrate"


def _trace(
    codecs: Sequence[CodecResult], group: CodecGroup, metric: str, category: str | None, places: int
) -> go.Scatter:
    values = [value for codec in codecs if (value := codec.value(metric, category))]
    rates = [(part.bitrate or 0.0) if (part := codec.part(category)) else 0.0 for codec in codecs]
    means = [value.mean or 0.0 for value in values]
    above = [(value.high if value.high is not None else mean) - mean for value, mean in zip(values, means, strict=True)]
    below = [mean - (value.low if value.low is not None else mean) for value, mean in zip(values, means, strict=True)]
    texts = []
    for codec, value, rate in zip(codecs, values, rates, strict=True):
        interval = (
            f"95% CI {fixed(value.low, places)} to {fixed(value.high, places)}"
            if value.low is not None
            else "no interval: one clip"
        )
        count = f"n = {value.count}" + (f", {value.lost} without a finite value" if value.lost else "")
        shown = f"{html.escape(metric)} {fixed(value.mean, places)} {unit(metric)}".rstrip()
        texts.append(f"<b>{html.escape(codec.label)}</b><br>{shown}<br>{interval}<br>{count}<br>{kbps(rate)} kbit/s")
    return go.Scatter(
        x=[rate / 1000 for rate in rates],
        y=means,
        error_y={"type": "data", "symmetric": False, "array": above, "arrayminus": below, "thickness": 1, "width": 3},
        mode="lines+markers",
        line={"color": group.colour, "width": 1.5},
        marker={"color": group.colour, "symbol": group.symbol, "size": 9},
        name=group.name,
        hovertext=texts,
        hoverinfo="text",
    )


def _axis(metric: str) -> str:
    what = f"{html.escape(metric)} ({unit(metric)})" if unit(metric) else html.escape(metric)
    return f"{what}, {better(metric)} is better" if better(metric) else what
