"""The leaderboard as CSV, Markdown or JSON, with intervals and counts."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from codeczoo.report.data import CodecResult, Report, Value
from codeczoo.report.numbers import NOTHING, better, decimals, fixed, kbps

FACTS = (
    "clips",
    "ok",
    "failed",
    "missing",
    "bitrate",
    "nominal_bitrate",
    "tokens_per_second",
    "entropy_bitrate",
)


def to_csv(report: Report) -> str:
    """One row a codec and category (empty: all clips). What was not measured, or is undefined, is empty."""
    parts = ("mean", "ci95_low", "ci95_high", "count", "infinite", "undefined")
    file = io.StringIO()
    out = csv.writer(file, lineterminator="\n")
    facts = ("codec", "category", "protocol", "dataset", "weights_hash", "precision", *FACTS)
    out.writerow([*facts, *(f"{metric}_{part}" for metric in report.metrics for part in parts)])
    for codec in report.codecs:
        for category in (None, *codec.categories):
            values = codec.values(category)
            row: list[Any] = [codec.label, category or "", codec.run.protocol, codec.run.dataset]
            row += [codec.info.get("weights_hash"), codec.info.get("precision"), *_facts(codec).values()]
            for metric in report.metrics:
                row += _cells(values.get(metric))
            out.writerow(row)
    return file.getvalue()


def _cells(value: Value | None) -> list[float | int | None]:
    if value is None:
        return [None] * 6
    return [value.mean, value.low, value.high, value.count, value.infinite, sum(value.undefined.values())]


def to_markdown(report: Report) -> str:
    """A table of all clips: mean, interval, and on how many clips where they are not all."""
    arrows = {"higher": " ↑", "lower": " ↓", "": ""}
    head = ["codec", "kbit/s", "clips", "failed", *(metric + arrows[better(metric)] for metric in report.metrics)]
    places = {m: decimals(v.mean for c in report.codecs if (v := c.overall.get(m))) for m in report.metrics}
    rows = [
        [codec.label, kbps(codec.bitrate), f"{codec.ok} of {codec.clips}", str(len(codec.failed))]
        + [_text(codec.overall.get(metric), codec.ok, places[metric]) for metric in report.metrics]
        for codec in report.codecs
    ]
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def _text(value: Value | None, ok: int, places: int) -> str:
    if value is None:
        return NOTHING
    text = fixed(value.mean, places)
    if value.low is not None:
        text += f" [{fixed(value.low, places)}, {fixed(value.high, places)}]"
    return text if value.count == ok else f"{text} ({value.count} of {ok})"


def to_json(report: Report) -> str:
    """All that the leaderboard knows, by codec."""
    content = {
        "format": "codeczoo.report/1",
        "runs": [
            {
                "folder": run.label,
                "protocol": run.protocol,
                "dataset": run.dataset,
                "settings": run.description["settings"],
                "versions": run.description["versions"],
                "environment": run.description["environment"],
            }
            for run in report.runs
        ],
        "differences": list(report.differences),
        "metrics": {metric: {"better": better(metric) or None} for metric in report.metrics},
        "codecs": [
            {
                "codec": codec.label,
                "name": codec.name,
                "run": codec.run.label,
                "info": codec.info,
                **_facts(codec),
                "failures": list(codec.failed),
                "overall": _tree(codec.overall),
                "categories": {category: _tree(values) for category, values in codec.categories.items()},
            }
            for codec in report.codecs
        ],
    }
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _facts(codec: CodecResult) -> dict[str, Any]:
    return {name: len(codec.failed) if name == "failed" else getattr(codec, name) for name in FACTS}


def _tree(values: Mapping[str, Value]) -> dict[str, Any]:
    return {name: asdict(value) for name, value in values.items()}


EXPORTS: Mapping[str, Callable[[Report], str]] = {"csv": to_csv, "md": to_markdown, "json": to_json}
