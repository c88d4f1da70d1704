"""Plots of what `codeczoo probe` and `codeczoo drift` found, as plots.js draws them: one line or map a codec."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from codeczoo.report.formatting import NO_VALUE
from codeczoo.report.plots import COLOURS, SYMBOLS, CodecGroup

Result = Mapping[str, Any]
SCALE = "Viridis"
UNORDERED = ("order", "precision", "device")  # kinds of change whose places have no order


@dataclass(frozen=True)
class Figure:
    """One plot.

    Attributes:
        name: of the element that it is drawn into; title, what: above it.
        figure: as plotly.js takes it; absent: which codecs are not in it, and why.
    """

    name: str
    title: str
    what: str
    figure: Mapping[str, Any]
    absent: Sequence[str] = ()

    def data(self) -> dict[str, Any]:
        """For plots.js, which takes these for plots against the one axis they have."""
        return {
            "metric": self.name,
            "axis": "bitrate",
            "category": None,
            "figure": self.figure,
            "absent": list(self.absent),
        }


def codec_groups(codecs: Sequence[Result]) -> list[CodecGroup]:
    """A colour and a mark for each codec; all differ for up to 70."""
    return [
        CodecGroup(codec["name"], COLOURS[i % len(COLOURS)], SYMBOLS[i % len(SYMBOLS)])
        for i, codec in enumerate(codecs)
    ]


# -- of a probe -----------------------------------------------------------------------------------


def probe_figures(result: Result) -> list[Figure]:
    """Entropy, use, stability, n-grams: a line each codec; and for each codec maps of pairs and of re-encoding."""
    codecs = result["codecs"]
    count = max(len(codec["codebooks"]) for codec in codecs)
    figures = [
        _by_codebook(codecs, count, "entropy", "entropy_ratio", "Entropy", "of a code, of log2 of its codebook's size"),
        _by_codebook(codecs, count, "used", "utilisation", "Entries used", "of each codebook's, on these clips"),
    ]
    for name, words in result["changes"].items():
        values = {
            codec["name"]: [share["share"] for share in codec["stability"][name]["codebooks"]] for codec in codecs
        }
        figures.append(
            _lines(codecs, f"change-{name}", "Codes that stay", words, _codebook_axis(count), values, "equal codes")
        )
    repeats = max(len(codec["stability"]["reencode"]) for codec in codecs)
    if repeats:
        for against, words in (("first", "against the first codes"), ("previous", "against the codes before")):
            values = {
                codec["name"]: [step[against]["all"]["share"] for step in codec["stability"]["reencode"]]
                for codec in codecs
            }
            figures.append(
                _lines(
                    codecs,
                    f"again-{against}",
                    "Decoded and encoded again",
                    f"{words}, all codebooks",
                    [str(i + 1) for i in range(repeats)],
                    values,
                    "equal codes",
                    "repetition",
                )
            )
    if orders := max(len(codec["ngram"]["orders"]) for codec in codecs):
        rates = {codec["name"]: codec["ngram"]["orders"] for codec in codecs}
        values = {
            name: [row["bits_per_frame"] / rows[0]["bits_per_frame"] for row in rows] for name, rows in rates.items()
        }
        what = "bits of held-out codes after those before them, of the bits if all entries were as likely"
        names = ["even", *(f"{n}-gram" for n in range(1, orders))]
        figures.append(_lines(codecs, "ngram", "Predictability", what, names, values, "bits", ""))
    for codec in codecs:
        figures += _pair_map(codec)
        figures += _repetition_map(codec)
    return figures


def _codebook_axis(count: int) -> list[str]:
    return [str(k + 1) for k in range(count)]


def _by_codebook(codecs: Sequence[Result], count: int, name: str, key: str, title: str, what: str) -> Figure:
    values = {codec["name"]: [row[key] for row in codec["codebooks"]] for codec in codecs}
    return _lines(codecs, name, title, what, _codebook_axis(count), values, "")


def _pair_map(codec: Result) -> list[Figure]:
    found = codec["mutual_information"]
    if not found["pairs"]:
        return []
    count = len(codec["codebooks"])
    z: list[list[float | None]] = [[None] * count for _ in range(count)]
    for row in found["pairs"]:
        z[row["first"]][row["second"]] = z[row["second"]][row["first"]] = row["excess"]
    what = f"{codec['name']}: bits of mutual information beyond shuffled codes, {found['frames']:,} frames"
    figure = _map(z, _codebook_axis(count), _codebook_axis(count), "codebook", "codebook", "%{z:.3f} bits")
    return [Figure(f"pairs-{codec['name']}", "Between codebooks", what, figure)]


def _repetition_map(codec: Result) -> list[Figure]:
    steps = codec["stability"]["reencode"]
    if len(steps) < 2 or len(codec["codebooks"]) < 2:
        return []
    z = [[share["share"] for share in step["first"]["codebooks"]] for step in steps]
    what = f"{codec['name']}: share of codes equal to the first ones, by codebook"
    rows = [str(step["repetition"]) for step in steps]
    figure = _map(z, _codebook_axis(len(z[0])), rows, "codebook", "repetition", "%{z:.1%}", top=1.0)
    return [Figure(f"again-{codec['name']}", "Decoded and encoded again", what, figure)]


# -- of a drift report ----------------------------------------------------------------------------


def drift_figures(result: Result) -> list[Figure]:
    """One a kind of change: the share of changed codes, a line each codec; and for each codec a map by codebook of the
    changes that had an effect."""
    codecs, figures = result["codecs"], []
    kinds = dict.fromkeys(row["kind"] for codec in codecs for row in codec["rows"])
    for kind in kinds:
        cells = {(codec["name"], row["label"]): row for codec in codecs for row in codec["rows"] if row["kind"] == kind}
        labels = list(dict.fromkeys(label for _, label in cells))
        values = {
            codec["name"]: [
                row["share"] if (row := cells.get((codec["name"], label))) is not None else None for label in labels
            ]
            for codec in codecs
        }
        if any(value is not None for row in values.values() for value in row):
            what = f"against {next(row['against'] for row in cells.values())}"
            head = _slug(kind), kind.capitalize(), what
            figures.append(_lines(codecs, *head, labels, values, "changed codes", "", joined=kind not in UNORDERED))
    for codec in codecs:
        rows = [row for row in codec["rows"] if row["codes_changed"] and len(row["codebooks"]) > 1]
        if rows:
            names = [f"{row['kind']}: {row['label']}" for row in rows]
            z = [row["codebooks"] for row in rows]
            figure = _map(z, _codebook_axis(len(z[0])), names, "codebook", "", "%{z:.2%}")
            what = f"{codec['name']}: share of changed codes, by codebook"
            figures.append(Figure(f"books-{codec['name']}", "By codebook", what, figure))
    return figures


def _slug(text: str) -> str:
    return text.replace(" ", "-")


# -- drawing --------------------------------------------------------------------------------------


def _lines(
    codecs: Sequence[Result],
    name: str,
    title: str,
    what: str,
    across: Sequence[str],
    values: Mapping[str, Sequence[float | None]],
    y_title: str,
    x_title: str = "codebook",
    joined: bool = True,
) -> Figure:
    """The shares of each codec at named places; there may be fewer of them. `joined`: whether by a line."""
    traces, absent, top = [], [], 0.0
    for group in codec_groups(codecs):
        own = list(values[group.name])
        known = [value for value in own if value is not None]
        if not known:
            absent.append(f"{group.name} (not measured)")
            continue
        top = max(top, *known)
        shown = [NO_VALUE if value is None else f"{100 * value:.3g} %" for value in own]
        places = list(across[: len(own)])
        heads = [html.escape(f"{x_title} {place}".strip()) for place in places]
        hover = [f"<b>{html.escape(group.name)}</b><br>{head}: {text}" for head, text in zip(heads, shown, strict=True)]
        traces.append(
            {
                "type": "scatter",
                "x": places,
                "y": own,
                "mode": "lines+markers" if joined else "markers",
                "line": {"color": group.colour, "width": 1.5},
                "marker": {"color": group.colour, "symbol": group.symbol, "size": 8},
                "name": group.name,
                "hovertext": hover,
                "hoverinfo": "text",
            }
        )
    y_axis: dict[str, Any] = {"title": {"text": y_title}, "range": [-0.03 * (top or 1e-3), 1.06 * (top or 1e-3)]}
    y_axis["tickformat"] = ".0%" if top > 0.05 else "~%"
    layout = {
        "xaxis": {"type": "category", "title": {"text": x_title}, "categoryarray": list(across)},
        "yaxis": y_axis,
        "showlegend": False,
        "hovermode": "closest",
    }
    return Figure(name, title, what, {"data": traces, "layout": layout}, absent)


def _map(
    z: Sequence[Sequence[float | None]],
    across: Sequence[str],
    up: Sequence[str],
    x_title: str,
    y_title: str,
    hover: str,
    top: float | None = None,
) -> dict[str, Any]:
    trace: dict[str, Any] = {
        "type": "heatmap",
        "x": list(across),
        "y": list(up),
        "z": [list(row) for row in z],
        "zmin": 0,
        "zmax": top or max((value for row in z for value in row if value is not None), default=0) or 1,
        "colorscale": SCALE,
        "colorbar": {"thickness": 10, "outlinewidth": 0, "tickfont": {"size": 10}},
        "hovertemplate": f"%{{y}}, {x_title} %{{x}}: {hover}<extra></extra>",
        "name": "",
    }
    return {
        "data": [trace],
        "layout": {
            "xaxis": {"type": "category", "title": {"text": x_title}, "showgrid": False},
            "yaxis": {
                "type": "category",
                "title": {"text": y_title},
                "autorange": "reversed",
                "showgrid": False,
            },
            "showlegend": False,
        },
    }
