"""The static page: HTML from templates, with scripts and style beside it; nothing is loaded from the network."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codeczoo.report import formatting
from codeczoo.report.clip_values import read_clip_values
from codeczoo.report.comparisons import Paired, Pairs, RateTable, paired_differences, rate_table, with_holm
from codeczoo.report.counts import INFINITE, stand_in
from codeczoo.report.curves import codec_curves, find_anchor, pareto_fronts
from codeczoo.report.export import EXPORTS, judges_original, pairs_to_csv, rates_to_csv
from codeczoo.report.formatting import FIRST_METRICS
from codeczoo.report.listening import Listening, ListeningClip, ListeningSource, gather
from codeczoo.report.plots import axes, groups, plots
from codeczoo.report.published import CATEGORIES, METRICS, compare
from codeczoo.report.results import CodecResult, Report, read_report
from codeczoo.report.site import SHAPES, save, script_data, write_assets
from codeczoo.report.templating import template_environment
from codeczoo.version import __version__

log = logging.getLogger(__name__)

ASSETS = ("report.css", "table.js", "plots.js", "player.js", "blind.js")
REPORT_MARK = "report.json"  # a folder with this file is a report, which may be overwritten
EXAMPLE_CLIPS = 5  # clips that are named for an undefined value
PAGES = (
    ("index.html", "Leaderboard"),
    ("categories.html", "Categories"),
    ("pairs.html", "Pairs"),
    ("listening.html", "Listening"),
    ("blind.html", "Blind test"),
    ("failures.html", "Failures"),
    ("published.html", "Published table"),
    ("about.html", "About"),
)
FIRST_COUNT = 5
CLIP_METRICS = 3  # shown of a clip without opening its list
SOURCE_KEYS = "0123456789abcdefghijklmnopqrstuvwxyz"  # that choose a source on the listening page
MORE_ANCHORS = 5  # beside the chosen one


def write_report(
    folders: Sequence[str | Path],
    out: str | Path = "report",
    *,
    clips: int | None = 100,
    title: str | None = None,
    allow_mixed: bool = False,
    anchor: str | None = None,
    metrics: Sequence[str] = (),
) -> Path:
    """Write the page of one or several results folders; returns its index.html.

    The same results give the same bytes. `out` is there whole or not at all.

    Args:
        clips: how many saved clips the listening page shows at most; None = all.
        title: of the page; without it, the data sets' names.
        allow_mixed: join runs of different protocols or data sets (the page says that they are).
        anchor: the codec that bitrates are compared with; None = Opus, else another classical one, else any with
            several bitrates.
        metrics: that the tables show at first; none = up to five of FIRST_METRICS.

    Raises:
        FileNotFoundError, ValueError: see `read_report`; or `out` holds something that is not a report.
    """
    report, out = read_report(folders, allow_mixed), Path(out)
    analysis = analyse(report, anchor)
    shown = first_metrics(report, metrics)
    if out.exists() and not (out / REPORT_MARK).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} is there already and is no report: name another place with -o, or empty it")
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        _write(report, analysis, shown, part, clips, title)
    except BaseException:
        shutil.rmtree(part)
        raise
    if out.exists():
        shutil.rmtree(out)
    part.rename(out)
    return out / "index.html"


@dataclass(frozen=True)
class Analysis:
    """What is computed from the clips. `rates`: a table an anchor, the chosen one first."""

    rates: Sequence[RateTable]
    pairs: Pairs


def analyse(report: Report, anchor: str | None) -> Analysis:
    """Compare the codecs on the clips that they share.

    Raises:
        ValueError: no such anchor, or it has one bitrate.
    """
    curves = codec_curves(report)
    chosen = find_anchor(curves, anchor)
    values = read_clip_values(report)
    anchors = [] if chosen is None else [chosen]
    anchors += [curve for curve in curves if len(curve.codecs) > 1 and curve is not chosen][:MORE_ANCHORS]
    tables = [rate_table(report, values, curves, curve) for curve in anchors]
    return Analysis([table for table in tables if table.rows], paired_differences(report, values))


def first_metrics(report: Report, wanted: Sequence[str]) -> list[str]:
    """The metrics that tables show at first.

    Raises:
        ValueError: one that was not measured.
    """
    if missing := [name for name in wanted if name not in report.metrics]:
        raise ValueError(f"not measured: {', '.join(missing)}; there are: {', '.join(report.metrics)}")
    known = [name for name in FIRST_METRICS if name in report.metrics]
    all_of_them = [*known, *(name for name in report.metrics if name not in known)]
    # A metric without any value (its model is missing, say) comes last.
    empty = [name for name in all_of_them if not any((v := c.value(name)) and v.count for c in report.codecs)]
    return list(wanted) or [*(name for name in all_of_them if name not in empty), *empty][:FIRST_COUNT]


def _write(
    report: Report, analysis: Analysis, shown: Sequence[str], out: Path, clips: int | None, title: str | None
) -> None:
    write_assets(out, ASSETS)
    listening = gather(report, out, clips)
    templates = template_environment()
    context = _context(report, analysis, shown, listening, title)
    for page, _ in context["pages"]:
        save(out / page, templates.get_template(page).render(context, page=page))
    for name, make in EXPORTS.items():
        save(out / (REPORT_MARK if name == "json" else f"leaderboard.{name}"), make(report))
    save(out / "bd_rate.csv", rates_to_csv(analysis.rates))
    save(out / "pairs.csv", pairs_to_csv(analysis.pairs))


def _context(
    report: Report, analysis: Analysis, shown: Sequence[str], listening: Listening, title: str | None
) -> dict[str, Any]:
    comparison = compare(report)
    measured = sum(row.codec is not None for row in comparison.rows)
    fronts = pareto_fronts(report)
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
        "pages": _pages(report, analysis, listening, measured),
        "places": places,
        "fronts": fronts,
        "front_counts": {
            (category, codec.label): sum(codec.label in fronts[(category, metric)] for metric in report.metrics)
            for category in (None, *report.categories)
            for codec in report.codecs
        },
        "has_codes": any(codec.codebook_use is not None for codec in report.codecs),
        "ranked": sum(bool(fronts[(None, metric)]) for metric in report.metrics),
        "shown": shown,
        "judged": [metric for metric in report.metrics if judges_original(report, metric)],
        "clip_metrics": shown[:CLIP_METRICS],
        "rates": analysis.rates,
        "pairs": _pair_bodies(report, analysis),
        "speakers": max((v.speakers or 0 for part in parts for v in part.values.values()), default=0),
        "axes": axes(report),
        "failed": sum(len(codec.failed) for codec in report.codecs),
        "missing": [codec for codec in report.codecs if codec.missing],
        "random": [codec.label for codec in report.codecs if codec.random_weights],
        "encode_only": [codec.label for codec in report.codecs if codec.encode_only],
        "groups": list(groups(report).values()),
        "shapes": SHAPES,
        "plot_data": script_data([vars(plot) for plot in plots(report)]),
        "applications": _applications(report),
        "failures": _failures(report),
        "source_keys": SOURCE_KEYS,
        "blind": any(len(_heard(clip)) > 1 for clip in listening.clips),
        "blind_data": script_data(_blind(listening)),
        "lost": _lost(report),
        "listening": listening,
        "comparison": comparison,
        "published_categories": CATEGORIES,
        "published_places": {
            metric: formatting.decimals(row.cells[c][i].theirs for row in comparison.rows for c in CATEGORIES) + 1
            for i, metric in enumerate(METRICS)
        },
        "measured": measured,
        "other_data": any(comparison.dataset not in run.dataset for run in report.runs),
    }


def _pages(report: Report, analysis: Analysis, listening: Listening, measured: int) -> list[tuple[str, str]]:
    """The pages that have something to show."""
    there = {
        "categories.html": bool(report.categories),
        "pairs.html": any(analysis.pairs.values()),
        "listening.html": bool(listening.clips),
        "blind.html": any(len(_heard(clip)) > 1 for clip in listening.clips),
        "failures.html": any(codec.failed or codec.missing for codec in report.codecs) or bool(_lost(report)),
        "published.html": measured > 0,
    }
    return [(file, name) for file, name in PAGES if there.get(file, True)]


def _heard(clip: ListeningClip) -> list[ListeningSource]:
    return [source for source in clip.sources if source.audio]


def _blind(listening: Listening) -> list[dict[str, Any]]:
    """The clips of the blind test: those with two sources or more."""
    return [
        {
            "id": clip.id,
            "run": clip.run,
            "category": clip.category or "",
            "seconds": clip.seconds,
            "original": clip.has_original,
            "sources": [{"label": s.label, "audio": s.audio, "level": s.level} for s in _heard(clip)],
        }
        for clip in listening.clips
        if len(_heard(clip)) > 1
    ]


@dataclass(frozen=True)
class PairRow:
    """`other` beside the codec of its body. `cells`: metric → the body's codec minus `other`, p with Holm's correction
    for the body."""

    other: CodecResult
    cells: dict[str, Paired]


def _pair_bodies(report: Report, analysis: Analysis) -> list[tuple[CodecResult, list[PairRow]]]:
    """A codec at a time, the others beside it; first one of the anchor's bitrates."""
    cells: dict[tuple[str, str], dict[str, Paired]] = {}
    for metric, pairs in analysis.pairs.items():
        for (first, second), paired in pairs.items():
            cells.setdefault((first, second), {})[metric] = paired
            cells.setdefault((second, first), {})[metric] = paired.reversed()
    bodies = []
    for codec in report.codecs:
        rows = [PairRow(other, cells[key]) for other in report.codecs if (key := (codec.label, other.label)) in cells]
        for metric in report.metrics:
            tested = [row for row in rows if metric in row.cells]
            for row, paired in zip(tested, with_holm([row.cells[metric] for row in tested]), strict=True):
                row.cells[metric] = paired
        if rows:
            bodies.append((codec, rows))
    anchor = analysis.rates[0].anchor.codecs if analysis.rates else ()
    middle = anchor[len(anchor) // 2].label if anchor else None
    return sorted(bodies, key=lambda body: body[0].label != middle)


def _applications(report: Report) -> list[dict[str, Any]]:
    """What codecs did to applications, a step and run at a time: `rows` of codec, rates in percent and counts; none
    where the step was not done."""
    found = []
    for run in report.runs:
        labels = {codec.name: codec.label for codec in report.codecs if codec.run is run}
        for step in run.summary.get("applications", ()):
            codecs = step.get("codecs") or {} if step["done"] else {}
            rows = [_application_row(labels.get(name, name), entry) for name, entry in codecs.items()]
            found.append({**step, "run": run.label if len(report.runs) > 1 else "", "rows": rows})
    return found


def _application_row(label: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    rate = entry.get("eer", entry.get("wer"))
    lost = entry.get("left_out") or entry.get("undefined") or {}
    trials = entry["targets"] + entry["others"] if "targets" in entry else None
    counted = f"{entry.get('count', 0)} clips" if trials is None else f"{trials} trials"
    left = ", ".join(f"{count} left out: {formatting.reason_text(reason)}" for reason, count in lost.items())
    return {
        "label": label,
        "rate": None if rate is None else 100 * rate,
        "original": 100 * entry["original"] if "original" in entry else None,
        "counted": counted,
        "left": left,
    }


def _failures(report: Report) -> list[dict[str, Any]]:
    """Clips that failed, those of one clip, stage and reason together: `codecs` is empty where all failed."""
    found: dict[tuple[str, str, str, str], list[CodecResult]] = {}
    for codec in report.codecs:
        for failure in codec.failed:
            run = codec.run.label if report.differences else ""
            found.setdefault((run, failure["id"], failure["stage"], failure["reason"]), []).append(codec)
    rows = []
    for (run, id, stage, reason), codecs in sorted(found.items(), key=lambda item: item[0]):
        of = [codec for codec in report.codecs if run in ("", codec.run.label)]
        rows.append(
            {
                "id": id,
                "category": codecs[0].run.tally.failed_in.get(id),
                "stage": stage,
                "reason": reason,
                "codecs": [codec.label for codec in codecs],
                "all": len(codecs) == len(of) > 1,
            }
        )
    return rows


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
