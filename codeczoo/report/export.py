"""The leaderboard as CSV, Markdown, LaTeX or JSON, with intervals and counts; comparisons as CSV."""

from __future__ import annotations

import csv
import html
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from codeczoo.benchmark.summary import rounded
from codeczoo.report.comparisons import Pairs, RateTable, with_holm
from codeczoo.report.curves import pareto_fronts
from codeczoo.report.formatting import NO_VALUE, better, decimals, fixed, kbps
from codeczoo.report.results import Report, Value

CATEGORY_FIELDS = ("ok", "failed", "bitrate", "tokens_per_second")
CODEC_FIELDS = ("clips", "missing", "nominal_bitrate", "entropy_bitrate", "codebook_use")
SPEED_FIELDS = ("encode", "decode")  # seconds of audio a second
VALUE_FIELDS = ("mean", "ci95_low", "ci95_high", "count", "infinite", "undefined")
SPEAKER_FIELDS = ("speakers", "ci95_speakers_low", "ci95_speakers_high")  # only where clips have speakers


def to_csv(report: Report) -> str:
    """One row a codec and category (empty: all clips). Values that are undefined or were not measured are empty."""
    file = io.StringIO()
    out = csv.writer(file, lineterminator="\n")
    facts = ["codec", "category", "protocol", "dataset", "weights_hash", "precision", *CODEC_FIELDS]
    facts += [*(f"{way}_speed" for way in SPEED_FIELDS), *CATEGORY_FIELDS]
    fields = VALUE_FIELDS + (SPEAKER_FIELDS if has_speakers(report) else ())
    out.writerow([*facts, *(f"{metric}_{name}" for metric in report.metrics for name in fields)])
    for codec in report.codecs:
        info = [codec.info.get(key) for key in ("weights_hash", "precision")]
        for category, part in {"": codec.overall, **codec.categories}.items():
            row: list[Any] = [codec.label, category, codec.run.protocol, codec.run.dataset, *info]
            row += [getattr(codec, key) for key in CODEC_FIELDS] + [getattr(codec.speed, key) for key in SPEED_FIELDS]
            row += [getattr(part, key) for key in CATEGORY_FIELDS]
            for metric in report.metrics:
                row += _cells(part.values.get(metric))[: len(fields)]
            out.writerow(row)
    return file.getvalue()


def _cells(value: Value | None) -> list[float | int | None]:
    if value is None:
        return [None] * (len(VALUE_FIELDS) + len(SPEAKER_FIELDS))
    counts = [value.count, value.infinite, sum(value.undefined.values())]
    return [value.mean, value.low, value.high, *counts, value.speakers, value.speaker_low, value.speaker_high]


def has_speakers(report: Report) -> bool:
    """Whether any value has an interval over speakers."""
    return any(value.speakers for codec in report.codecs for value in codec.overall.values.values())


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


LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "−": "$-$",
    "–": "--",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "\n": " ",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def to_latex(report: Report) -> str:
    """A table of all clips for the package booktabs: mean and half the interval's width; what is on the Pareto front of
    bitrate and metric is bold."""
    arrows = {"higher": " ↑", "lower": " ↓", "": ""}
    head = ["codec", "kbit/s", *(metric + arrows[better(metric)] for metric in report.metrics)]
    places = {m: decimals(v.mean for c in report.codecs if (v := c.value(m))) for m in report.metrics}
    fronts = pareto_fronts(report)
    lines = [
        f"% codeczoo: {', '.join(f'{run.dataset}, protocol {run.protocol}' for run in report.runs)}",
        "% mean $\\pm$ half of the 95% interval; bold: no codec is cheaper and better",
        rf"\begin{{tabular}}{{lr{'r' * len(report.metrics)}}}",
        r"\toprule",
        " & ".join(map(_latex, head)) + r" \\",
        r"\midrule",
    ]
    for codec in report.codecs:
        cells = [_latex(codec.label), _latex(kbps(codec.overall.bitrate))]
        for metric in report.metrics:
            value, front = codec.value(metric), codec.label in fronts[(None, metric)]
            cells.append(_latex_value(value, places[metric], front))
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _latex(text: str) -> str:
    return "".join(LATEX.get(character, character) for character in text)


def _latex_value(value: Value | None, places: int, front: bool) -> str:
    if value is None or value.mean is None:
        return "--"
    text = _latex(fixed(value.mean, places))
    text = rf"\textbf{{{text}}}" if front else text
    if value.low is None or value.high is None:
        return text
    return rf"{text} {{\footnotesize $\pm$ {fixed((value.high - value.low) / 2, places)}}}"


RATE_FIELDS = ("percent", "low", "high", "clips", "overlap", "reason")


def rates_to_csv(tables: Sequence[RateTable]) -> str:
    """One row an anchor, curve and metric: BD-rate in percent with its interval, or the reason why there is none."""
    file = io.StringIO()
    out = csv.writer(file, lineterminator="\n")
    out.writerow(["anchor", "codec", "bitrates", "metric", "drawn", *RATE_FIELDS])
    for table in tables:
        for row in table.rows:
            for drawn, cells in (("clips", row.by_clip), ("speakers", row.by_speaker)):
                for metric, found in cells.items():
                    values = [_rounded(getattr(found, key)) for key in RATE_FIELDS]
                    out.writerow([table.anchor.name, row.curve.name, len(row.curve.codecs), metric, drawn, *values])
    return file.getvalue()


PAIR_FIELDS = ("mean", "low", "high", "speaker_low", "speaker_high", "p", "clips", "speakers")


def pairs_to_csv(pairs: Pairs) -> str:
    """One row a metric and pair of codecs: the mean of first - second on their common clips, intervals, p, and p with
    Holm's correction for all pairs of the metric."""
    file = io.StringIO()
    out = csv.writer(file, lineterminator="\n")
    out.writerow(["metric", "first", "second", *PAIR_FIELDS, "p_holm"])
    for metric, found in pairs.items():
        corrected = with_holm(list(found.values()))
        for ((first, second), paired), after in zip(found.items(), corrected, strict=True):
            values = [_rounded(getattr(paired, key)) for key in PAIR_FIELDS]
            out.writerow([metric, first, second, *values, _rounded(after.p)])
    return file.getvalue()


def _rounded(value: Any) -> Any:
    return rounded(value) if isinstance(value, float) else value


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
                "speed": asdict(codec.speed),
                "failures": list(codec.failed),
                "overall": asdict(codec.overall),
                "categories": {category: asdict(part) for category, part in codec.categories.items()},
            }
            for codec in report.codecs
        ],
    }
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


EXPORTS: Mapping[str, Callable[[Report], str]] = {
    "csv": to_csv,
    "md": to_markdown,
    "tex": to_latex,
    "json": to_json,
}
