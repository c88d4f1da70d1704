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
from codeczoo.report.formatting import NO_VALUE, better, decimals, fixed, kbps, signed
from codeczoo.report.results import AgainstOriginal, CodecResult, Report, Value

CATEGORY_FIELDS = ("ok", "failed", "bitrate", "tokens_per_second")
CODEC_FIELDS = ("clips", "missing", "nominal_bitrate", "entropy_bitrate", "codebook_use")
SPEED_FIELDS = ("encode", "decode")  # seconds of audio a second
VALUE_FIELDS = ("mean", "ci95_low", "ci95_high", "count", "infinite", "undefined")
SPEAKER_FIELDS = ("speakers", "ci95_speakers_low", "ci95_speakers_high")  # only where clips have speakers
AGAINST_FIELDS = (  # only of metrics that judge the original as well
    "original",
    "difference",
    "difference_ci95_low",
    "difference_ci95_high",
    "difference_count",
)


def to_csv(report: Report) -> str:
    """One row a codec and category (empty: all clips). Values that are undefined or were not measured are empty."""
    file = io.StringIO()
    out = csv.writer(file, lineterminator="\n")
    facts = ["codec", "category", "protocol", "dataset", "weights_hash", "precision", *CODEC_FIELDS]
    facts += [*(f"{way}_speed" for way in SPEED_FIELDS), *CATEGORY_FIELDS]
    fields = VALUE_FIELDS + (SPEAKER_FIELDS if has_speakers(report) else ())
    more = {metric: AGAINST_FIELDS if judges_original(report, metric) else () for metric in report.metrics}
    out.writerow([*facts, *(f"{metric}_{name}" for metric in report.metrics for name in (*fields, *more[metric]))])
    for codec in report.codecs:
        info = [codec.info.get(key) for key in ("weights_hash", "precision")]
        for category, part in {"": codec.overall, **codec.categories}.items():
            row: list[Any] = [codec.label, category, codec.run.protocol, codec.run.dataset, *info]
            row += [getattr(codec, key) for key in CODEC_FIELDS] + [getattr(codec.speed, key) for key in SPEED_FIELDS]
            row += [getattr(part, key) for key in CATEGORY_FIELDS]
            for metric in report.metrics:
                value = part.values.get(metric)
                row += _cells(value)[: len(fields)] + _cells_of_original(value)[: len(more[metric])]
            out.writerow(row)
    return file.getvalue()


def _cells(value: Value | None) -> list[float | int | None]:
    if value is None:
        return [None] * (len(VALUE_FIELDS) + len(SPEAKER_FIELDS))
    counts = [value.count, value.infinite, sum(value.undefined.values())]
    return [value.mean, value.low, value.high, *counts, value.speakers, value.speaker_low, value.speaker_high]


def _cells_of_original(value: Value | None) -> list[float | int | None]:
    against = value.against if value else None
    if against is None:
        return [None] * len(AGAINST_FIELDS)
    return [against.original, against.difference, against.low, against.high, against.count]


def judges_original(report: Report, metric: str) -> bool:
    """Whether a metric of any codec has the original's value beside it."""
    return any(codec.against(metric) for codec in report.codecs)


def has_speakers(report: Report) -> bool:
    """Whether any value has an interval over speakers."""
    return any(value.speakers for codec in report.codecs for value in codec.overall.values.values())


def to_markdown(report: Report) -> str:
    """A table of all clips: mean, interval, and the number of clips if it is not all. Metrics that judge the original
    as well have "4.10 → 3.62", and the difference with its own interval."""
    head = ["codec", "kbit/s", "clips", "failed", *(_heading(report, metric) for metric in report.metrics)]
    places = _places(report)
    rows = [
        [codec.label, kbps(codec.overall.bitrate), f"{codec.overall.ok} of {codec.clips}", str(codec.overall.failed)]
        + [_text(_shown(report, codec, metric), places[metric]) for metric in report.metrics]
        for codec in report.codecs
    ]
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "".join(f"| {' | '.join(map(_plain, line))} |\n" for line in lines)


def _heading(report: Report, metric: str) -> str:
    arrows = {"higher": " ↑", "lower": " ↓", "": ""}
    return (report.columns[metric].heading if metric in report.columns else metric) + arrows[better(metric)]


def _places(report: Report) -> dict[str, int]:
    """Metric → decimals of its column."""
    means = {m: [value.mean for codec in report.codecs if (value := codec.value(m))] for m in report.metrics}
    return {m: report.columns[m].places if m in report.columns else decimals(found) for m, found in means.items()}


def _shown(report: Report, codec: CodecResult, metric: str) -> Value | None:
    """The value in the unit of its column; in a table for a paper, an error rate is that of all clips together."""
    value, column = codec.value(metric), report.columns.get(metric)
    if value is None or column is None:
        return value
    return value if column.scale == 1 else value.of_corpus().scaled(column.scale)


def _plain(cell: str) -> str:
    """Escape text so that Markdown shows it literally."""
    return html.escape(cell, quote=False).replace("|", "\\|").replace("\n", " ")


def _text(value: Value | None, places: int) -> str:
    if value is None or (value.mean is None and not value.lost):
        return NO_VALUE
    if value.mean is None:
        return f"undefined (0 of {value.lost})"
    text = fixed(value.mean, places)
    against = value.against if value.against and value.against.count else None
    if against and value.against_all:
        text = f"{fixed(against.original, places)} → {text}"
    if value.low is not None:
        text += f" [{fixed(value.low, places)}, {fixed(value.high, places)}]"
    if against:
        text += f", {signed(against.difference, places)}"
        if against.low is not None:
            text += f" [{signed(against.low, places)}, {signed(against.high, places)}]"
        if not value.against_all:
            text += f" from {fixed(against.original, places)} on {against.count}"
    return f"{text} ({value.count} of {value.count + value.lost})" if value.lost else f"{text} (n {value.count})"


LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "−": "$-$",
    "–": "--",
    "→": r"$\to$",
    "Δ": r"$\Delta$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "\n": " ",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def to_latex(report: Report) -> str:
    """A table of all clips for the package booktabs: mean and half the interval's width; what is on the Pareto front of
    bitrate and metric is bold. Where metrics judge the original as well, it has the first row, and a column behind each
    of them has the difference to it."""
    judged = [metric for metric in report.metrics if judges_original(report, metric)]
    head = ["codec", "kbit/s"]
    for metric in report.metrics:
        head += [_heading(report, metric), *(["Δ"] if metric in judged else [])]
    places = _places(report)
    fronts = pareto_fronts(report)
    lines = [
        f"% codeczoo: {', '.join(f'{run.dataset}, protocol {run.protocol}' for run in report.runs)}",
        "% mean $\\pm$ half of the 95% interval; bold: no codec is cheaper and better",
        *(["% Delta: codec minus original, mean over the same clips"] if judged else []),
        rf"\begin{{tabular}}{{lr{'r' * (len(report.metrics) + len(judged))}}}",
        r"\toprule",
        " & ".join(map(_latex, head)) + r" \\",
        r"\midrule",
    ]
    if any(report.original(metric) is not None for metric in judged):
        cells = ["original", "--"]
        for metric in report.metrics:
            mean = report.original(metric) if metric in judged else None
            cells += [_latex(fixed(mean, places[metric])), *(["--"] if metric in judged else [])]
        lines += [" & ".join(cells) + r" \\", r"\midrule"]
    for codec in report.codecs:
        cells = [_latex(codec.label), _latex(kbps(codec.overall.bitrate))]
        for metric in report.metrics:
            value, front = _shown(report, codec, metric), codec.label in fronts[(None, metric)]
            cells.append(_latex_value(value, places[metric], front))
            if metric in judged:
                cells.append(_latex_difference(codec.against(metric), places[metric]))
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


def _latex_difference(against: AgainstOriginal | None, places: int) -> str:
    if against is None:
        return "--"
    text = _latex(signed(against.difference, places))
    if against.low is None or against.high is None:
        return text
    return rf"{text} {{\footnotesize $\pm$ {fixed((against.high - against.low) / 2, places)}}}"


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
