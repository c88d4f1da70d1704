"""The static page: HTML from templates, with scripts and style beside it; nothing is loaded from the network."""

from __future__ import annotations

import json
import logging
import math
import re
import shutil
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape
from plotly.offline import get_plotlyjs

from codeczoo.report import formatting
from codeczoo.report.counts import INFINITE, stand_in
from codeczoo.report.export import to_csv, to_json
from codeczoo.report.listening import Listening, gather
from codeczoo.report.plots import groups, plots
from codeczoo.report.published import CATEGORIES, METRICS, compare
from codeczoo.report.results import CodecResult, Report, read_report
from codeczoo.report.spectrogram import ticks
from codeczoo.version import __version__

log = logging.getLogger(__name__)

ASSETS = ("report.css", "table.js", "plots.js", "player.js")
REPORT_MARK = "report.json"  # a folder with this file is a report, which may be overwritten
EXAMPLE_CLIPS = 5  # clips that are named for an undefined value
PAGES = (
    ("index.html", "Leaderboard"),
    ("categories.html", "Categories"),
    ("listening.html", "Listening"),
    ("failures.html", "Failures"),
    ("published.html", "Published table"),
    ("about.html", "About"),
)
# The marks of plotly.js as SVG paths of about its size, for the legend.
SHAPES = {
    "circle": "M5,0A5,5 0 1 1 -5,0A5,5 0 1 1 5,0Z",
    "square": "M-4.5,-4.5H4.5V4.5H-4.5Z",
    "diamond": "M0,-6L6,0L0,6L-6,0Z",
    "triangle-up": "M0,-6L5.5,4H-5.5Z",
    "cross": "M-2,-6H2V-2H6V2H2V6H-2V2H-6V-2H-2Z",
    "x": "M0,2.8L3,5.8L5.8,3L2.8,0L5.8,-3L3,-5.8L0,-2.8L-3,-5.8L-5.8,-3L-2.8,0L-5.8,3L-3,5.8Z",
    "star": "M0,-6.5L1.6,-2.2L6.2,-2L2.6,0.8L3.8,5.3L0,2.7L-3.8,5.3L-2.6,0.8L-6.2,-2L-1.6,-2.2Z",
}


def write_report(
    folders: Sequence[str | Path],
    out: str | Path = "report",
    *,
    clips: int | None = 100,
    title: str | None = None,
    allow_mixed: bool = False,
) -> Path:
    """Write the page of one or several results folders; returns its index.html.

    The same results give the same bytes. `out` is there whole or not at all.

    Args:
        clips: how many saved clips the listening page shows at most; None = all.
        title: of the page; without it, the data sets' names.
        allow_mixed: join runs of different protocols or data sets (the page says that they are).

    Raises:
        FileNotFoundError, ValueError: see `read_report`; or `out` holds something that is not a report.
    """
    report, out = read_report(folders, allow_mixed), Path(out)
    if out.exists() and not (out / REPORT_MARK).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} is there already and is no report: name another place with -o, or empty it")
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        _write(report, part, clips, title)
    except BaseException:
        shutil.rmtree(part)
        raise
    if out.exists():
        shutil.rmtree(out)
    part.rename(out)
    return out / "index.html"


def _write(report: Report, out: Path, clips: int | None, title: str | None) -> None:
    (out / "assets").mkdir()
    for name in ASSETS:
        text = (resources.files(__package__) / "assets" / name).read_text("utf-8")
        (out / "assets" / name).write_text(text, "utf-8", newline="\n")
    (out / "assets" / "plotly.min.js").write_text(get_plotlyjs(), "utf-8", newline="\n")
    listening = gather(report, out, clips)
    environment = _environment()
    context = _context(report, listening, title)
    for page, _ in PAGES:
        text = environment.get_template(page).render(context, page=page)
        # A file name that is no Unicode may be part of an id.
        (out / page).write_text(text, "utf-8", errors="backslashreplace", newline="\n")
    (out / "leaderboard.csv").write_text(to_csv(report), "utf-8", errors="backslashreplace", newline="\n")
    (out / REPORT_MARK).write_text(to_json(report), "utf-8", errors="backslashreplace", newline="\n")


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("codeczoo.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "fixed": formatting.fixed,
        "kbps": formatting.kbps,
        "better": formatting.better,
        "unit": formatting.unit,
        "summary": formatting.summary,
        "round_number": lambda value: formatting.fixed(value, formatting.decimals([value])),
        "searchable": _searchable,
        "breakable": _breakable,
        "plain": _plain,
        "ticks": ticks,
    }
    return environment


def _context(report: Report, listening: Listening, title: str | None) -> dict[str, Any]:
    comparison = compare(report)
    parts = [part for codec in report.codecs for part in (codec.overall, *codec.categories.values())]
    places = {
        metric: formatting.decimals(part.values[metric].mean for part in parts if metric in part.values)
        for metric in report.metrics
    }
    datasets = dict.fromkeys(run.dataset for run in report.runs)
    return {
        "report": report,
        "title": title or f"codeczoo: {', '.join(datasets)}",
        "version": __version__,
        "pages": PAGES,
        "places": places,
        "best": _best(report),
        "failed": sum(len(codec.failed) for codec in report.codecs),
        "missing": [codec for codec in report.codecs if codec.missing],
        "random": [codec.label for codec in report.codecs if codec.random_weights],
        "encode_only": [codec.label for codec in report.codecs if codec.encode_only],
        "groups": list(groups(report).values()),
        "shapes": SHAPES,
        "plot_data": _script_data([vars(plot) for plot in plots(report)]),
        "failures": _failures(report),
        "lost": _lost(report),
        "listening": listening,
        "comparison": comparison,
        "published_categories": CATEGORIES,
        "published_places": {
            metric: formatting.decimals(row.cells[c][i].theirs for row in comparison.rows for c in CATEGORIES) + 1
            for i, metric in enumerate(METRICS)
        },
        "measured": sum(row.codec is not None for row in comparison.rows),
        "other_data": any(comparison.dataset not in run.dataset for run in report.runs),
    }


def _script_data(content: Any) -> Markup:
    """JSON that is safe inside a script element."""
    text = json.dumps(content, allow_nan=False, sort_keys=True, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _searchable(codec: CodecResult) -> str:
    """The text that the leaderboard's filter searches."""
    keys = ("family", "description", "code_licence", "weights_licence")
    return " ".join([codec.label, *(str(codec.info.get(key, "")) for key in keys)]).lower()


def _breakable(text: str) -> Markup:
    """A name that may break after underscores and slashes only."""
    return Markup(re.sub(r"([_/])", r"\1<wbr>", str(escape(text))))


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(inner)}" for key, inner in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(_plain(inner) for inner in value) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "default" if value is None else str(value)


def _best(report: Report) -> dict[tuple[str | None, str], set[str]]:
    """The codecs with the best mean by category and metric; none if fewer than two have a mean."""
    out: dict[tuple[str | None, str], set[str]] = {}
    for category in (None, *report.categories):
        for metric in report.metrics:
            means = {
                codec.label: value.mean
                for codec in report.codecs
                if (value := codec.value(metric, category)) is not None and value.mean is not None
            }
            choose = {"higher": max, "lower": min}.get(formatting.better(metric))
            best = choose(means.values()) if choose and len(means) > 1 else math.nan
            out[(category, metric)] = {label for label, mean in means.items() if mean == best}
    return out


def _failures(report: Report) -> list[dict[str, Any]]:
    """Every clip that failed, with its category."""
    return [
        {"codec": codec.label, "category": codec.run.tally.failed_in.get(failure["id"]), **failure}
        for codec in report.codecs
        for failure in codec.failed
    ]


def _lost(report: Report) -> list[dict[str, Any]]:
    """Undefined values and stand-ins for them, by metric and reason: counts by codec, and EXAMPLE_CLIPS clips."""
    found: dict[tuple[str, str], dict[str, int]] = {}
    for codec in report.codecs:
        for metric, value in codec.overall.values.items():
            stand_ins = {stand_in(reason): count for reason, count in value.stand_ins.items()}
            for reason, count in {**value.undefined, INFINITE: value.infinite, **stand_ins}.items():
                if count:
                    found.setdefault((metric, reason), {})[codec.label] = count
    order = {metric: i for i, metric in enumerate(report.metrics)}
    out = []
    for (metric, reason), codecs in sorted(found.items(), key=lambda item: (order[item[0][0]], item[0][1])):
        measured = [codec for codec in report.codecs if (v := codec.value(metric)) and v.count + v.lost > 0]
        clips = sorted(set().union(*(run.tally.lost.get((metric, reason), ()) for run in report.runs)))
        out.append(
            {
                "metric": metric,
                "reason": reason,
                "total": sum(codecs.values()),
                "codecs": list(codecs.items()),
                "alike": len(codecs) == len(measured) > 1 and len(set(codecs.values())) == 1,
                "clips": clips[:EXAMPLE_CLIPS],
                "more": max(len(clips) - EXAMPLE_CLIPS, 0),
            }
        )
    return out
