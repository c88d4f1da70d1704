"""The leaderboard as CSV, Markdown or JSON, with intervals and counts."""

from __future__ import annotations

import csv
import html
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from codeczoo.report.formatting import NO_VALUE, better, decimals, fixed, kbps
from codeczoo.report.results import Report, Value

CATEGORY_FIELDS = ("ok", "failed", "bitrate", "tokens_per_second")
CODEC_FIELDS = ("clips", "missing", "nominal_bitrate", "entropy_bitrate")
VALUE_FIELDS = ("mean", "ci95_low", "ci95_high", "count", "infinite", "undefined")


def to_csv(report: Report) -> str:
    """One row a codec and category (empty: all clips). Values that are undefined or were not measured are empty."""
    file = io.StringIO()
    out = csv.writer(file, lineterminator="\n")
    facts = ("codec", "category", "protocol", "dataset", "weights_hash", "precision", *CODEC_FIELDS, *CATEGORY_FIELDS)
    out.writerow([*facts, *(f"{metric}_{name}" for metric in report.metrics for name in VALUE_FIELDS)])
    for codec in report.codecs:
        info = [codec.info.get(key) for key in ("weights_hash", "precision")]
        for category, part in {"": codec.overall, **codec.categories}.items():
            row: list[Any] = [codec.label, category, codec.run.protocol, codec.run.dataset, *info]
            row += [getattr(codec, key) for key in CODEC_FIELDS] + [getattr(part, key) for key in CATEGORY_FIELDS]
            for metric in report.metrics:
                row += _cells(part.values.get(metric))
            out.writerow(row)
    return file.getvalue()


def _cells(value: Value | None) -> list[float | int | None]:
    if value is None:
        return [None] * len(VALUE_FIELDS)
    return [value.mean, value.low, value.high, value.count, value.infinite, sum(value.undefined.values())]


def to_markdown(report: Report) -> str:
    """A table of all clips: mean, interval, and the number of clips if it is not all."""
    arrows = {"higher": " ↑", "lower": " ↓", "": ""}
    head = ["codec", "kbit/s", "clips", "failed", *(metric + arrows[better(metric)] for metric in report.metrics)]
    places = {m: decimals(v.mean for c in report.codecs if (v := c.value(m))) for m in report.metrics}
    rows = [
        [codec.label, kbps(codec.overall.bitrate), f"{codec.overall.ok} of {codec.clips}", str(codec.overall.failed)]
        + [_text(codec.value(metric), places[metric]) for metric in report.metrics]
        for codec in report.codecs
    ]
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "".join(f"| {' | '.join(map(_plain, line))} |\n" for line in lines)


def _plain(cell: str) -> str:
    """Escape text so that Markdown shows it literally."""
    return html.escape(cell, quote=False).replace("|", "\\|").replace("\n", " ")


def _text(value: Value | None, places: int) -> str:
    if value is None or (value.mean is None and not value.lost):
        return NO_VALUE
    if value.mean is None:
        return f"undefined (0 of {value.lost})"
    text = fixed(value.mean, places)
    if value.low is not None:
        text += f" [{fixed(value.low, places)}, {fixed(value.high, places)}]"
    return f"{text} ({value.count} of {value.count + value.lost})" if value.lost else f"{text} (n {value.count})"


def to_json(report: Report) -> str:
    """The whole leaderboard, by codec."""
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
                **{key: getattr(codec, key) for key in CODEC_FIELDS},
                "failures": list(codec.failed),
                "overall": asdict(codec.overall),
                "categories": {category: asdict(part) for category, part in codec.categories.items()},
            }
            for codec in report.codecs
        ],
    }
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


EXPORTS: Mapping[str, Callable[[Report], str]] = {"csv": to_csv, "md": to_markdown, "json": to_json}
