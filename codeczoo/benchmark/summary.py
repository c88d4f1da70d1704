"""The summary of a benchmark: means with confidence intervals, bitrates, use of the codes, and failures."""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from codeczoo.benchmark.against_original import against_original
from codeczoo.benchmark.bootstrap import interval, resamples, unit_numbers, unit_sums
from codeczoo.benchmark.embeddings import sets_of, summaries
from codeczoo.benchmark.results import Results
from codeczoo.executor.record import write_atomically
from codeczoo.metrics import RUN_METRICS
from codeczoo.metrics.error_rates import errors_and_units
from codeczoo.metrics.networks.models import NO_MODEL, NOT_INSTALLED
from codeczoo.metrics.table import twin_of, without_twins

BOOTSTRAP_RESAMPLES = 2000
MISSING = (NO_MODEL, NOT_INSTALLED)
SIGNIFICANT_DIGITS = 6  # further digits vary with the number of threads and the kind of processor


def summarise(results: Results, codecs: Sequence[str], metrics: Sequence[str], clips: int) -> dict[str, Any]:
    """Read all lines, write summary.json and summary.csv, return the summary.

    For each codec, category and metric: the mean over the clips where it is defined and finite, its 95% confidence
    interval (bootstrap percentiles), and how many values are defined, infinite, and undefined for which reason. Where
    clips have speakers, the interval over speakers (`ci95_speakers`) and their number too. Of metrics that judge the
    original as well, the difference to it (`against_original`). Of error rates, the rate of all clips (`corpus`)
    beside the mean of the clips' rates. `missing` names the metrics whose network or package is not there, if any.
    """
    metrics = without_twins(metrics)
    run = json.loads((results.folder / "run.json").read_text("utf-8"))
    summary: dict[str, Any] = {
        "format": run["format"],
        "protocol": run["protocol"],
        "dataset": run["settings"]["dataset"] or "embedded clips",
        "clips": clips,
        "metrics": list(metrics),
        "codecs": {},
    }
    for codec in codecs:
        mine = sorted(results.rows(codec), key=lambda row: row["id"])  # codec by codec, to save memory
        ok = [row for row in mine if row["status"] == "ok"]
        categories = sorted({row["category"] for row in ok if row["category"]})
        seconds = sum(row["seconds"] for row in ok)
        coded = [row for row in ok if row["bits"] is not None]
        info = run["codecs"].get(codec, {})
        of_clips, of_run = ([name for name in metrics if (name in RUN_METRICS) == wanted] for wanted in (False, True))
        sets = summaries(of_run, sets_of(results.sets_folder(codec)), ok, categories) if of_run else {}
        summary["codecs"][codec] = {
            "clips": len(mine),
            "ok": len(ok),
            "failed": _failures(mine),
            "seconds": rounded(seconds),
            "nominal_bitrate": rounded(info.get("bitrate")),
            "bitrate": rounded(sum(row["bits"] for row in coded) / seconds) if coded else None,
            "tokens_per_second": rounded(sum(row["tokens"] for row in coded) / seconds) if coded else None,
            "codes": _code_statistics(results, codec, info.get("codebook_sizes") or [], seconds),
            "overall": {**_metrics(ok, of_clips), **_rounded_distances(sets, None)},
            "categories": {
                name: {**_metrics([r for r in ok if r["category"] == name], of_clips), **_rounded_distances(sets, name)}
                for name in categories
            },
        }
    if missing := _missing(list(summary["codecs"].values()), metrics):
        summary["missing"] = missing
    write_atomically(results.folder / "summary.json", summary)
    _write_csv(results, summary)
    return summary


def _missing(codecs: Sequence[Mapping[str, Any]], metrics: Sequence[str]) -> dict[str, str]:
    """Metric → why no clip can have a value: its network is not there, or its package."""
    undefined = {name: {r for entry in codecs for r in entry["overall"][name]["undefined"]} for name in metrics}
    return {name: reason for name, reasons in undefined.items() for reason in MISSING if reason in reasons}


def _failures(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    return [{key: row[key] for key in ("id", "stage", "reason")} for row in rows if row["status"] == "failed"]


def _metrics(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    out = {}
    for name in names:
        values = [row["metrics"][name] for row in rows if name in row["metrics"]]
        numeric = [row for row in rows if isinstance(row["metrics"].get(name), float | int)]
        finite = [row["metrics"][name] for row in numeric]
        speakers = [row.get("speaker") for row in numeric]
        reasons = Counter(row["undefined"][name] for row in rows if name in row["undefined"])
        stand_ins = Counter(r for row in rows if (r := row.get("stand_ins", {}).get(name)) is not None)
        low, high = confidence_interval(finite)
        counts = [errors_and_units(made) for row in rows if (made := row.get("details", {}).get(name)) is not None]
        out[name] = {
            "mean": rounded(float(np.mean(finite))) if finite else None,
            "ci95": [rounded(low), rounded(high)],
            "count": len(finite),
            "infinite": sum(isinstance(value, str) for value in values),
            "undefined": dict(sorted(reasons.items())),
            **({"stand_ins": dict(sorted(stand_ins.items()))} if stand_ins else {}),
            **_against_original(rows, name),
            **(_of_corpus(counts) if counts else {}),
            **(_over_speakers(finite, speakers) if any(speaker is not None for speaker in speakers) else {}),
        }
    return out


def _against_original(rows: Sequence[Mapping[str, Any]], name: str) -> dict[str, Any]:
    """Under its name, rounded; nothing of metrics without a twin."""
    twin = twin_of(name)
    found = against_original(rows, name, twin) if twin else None
    if found is None:
        return {}
    numbers = {key: rounded(value) if isinstance(value, float) else value for key, value in found.items()}
    intervals = {key: [rounded(end) for end in value] for key, value in found.items() if isinstance(value, tuple)}
    return {"against_original": {**numbers, **intervals}}


def _rounded_distances(sets: Mapping[str | None, Mapping[str, Any]], category: str | None) -> dict[str, Any]:
    return {name: {**entry, "mean": rounded(entry["mean"])} for name, entry in sets.get(category, {}).items()}


def confidence_interval(values: Sequence[float]) -> tuple[float | None, float | None]:
    """95% interval of the mean, from a seeded bootstrap; (None, None) for fewer than two values."""
    if len(values) < 2:
        return None, None
    sample = np.asarray(values, dtype=np.float64)
    generator = np.random.default_rng(0)
    means = np.array(
        [sample[generator.integers(0, len(sample), len(sample))].mean() for _ in range(BOOTSTRAP_RESAMPLES)]
    )
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def _of_corpus(counts: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """An error rate of all clips together: the errors of all over the words (or characters) of all, and its interval
    when clips are drawn. `mean` is the mean of the clips' own rates."""
    table = np.array(counts, dtype=np.float64)
    errors, units = (int(total) for total in table.sum(0))
    out = {"corpus": rounded(errors / units) if units else None, "errors": errors, "units": units}
    if len(table) < 2 or not units:
        return {**out, "ci95_corpus": [None, None]}
    totals = np.concatenate([weights @ table for weights in resamples(len(table), BOOTSTRAP_RESAMPLES)])
    totals = totals[totals[:, 1] > 0]
    low, high = interval(totals[:, 0] / totals[:, 1])
    return {**out, "ci95_corpus": [rounded(float(low)), rounded(float(high))]}


def _over_speakers(values: Sequence[float], speakers: Sequence[str | None]) -> dict[str, Any]:
    """The 95% interval of the mean when whole speakers are drawn: clips of one speaker resemble each other."""
    units = unit_numbers(speakers)
    count = int(units.max()) + 1
    if count < 2:
        return {"speakers": count, "ci95_speakers": [None, None]}
    sums = unit_sums(np.column_stack([values, np.ones(len(values))]), units)
    totals = np.concatenate([weights @ sums for weights in resamples(count, BOOTSTRAP_RESAMPLES)])
    low, high = interval(totals[:, 0] / totals[:, 1])
    return {"speakers": count, "ci95_speakers": [rounded(float(low)), rounded(float(high))]}


def _code_statistics(results: Results, codec: str, sizes: Sequence[int], seconds: float) -> dict[str, Any] | None:
    """Use and entropy of each codebook over the data set, and the bitrate after an ideal entropy coder."""
    totals: list[Counter[str]] = []
    for batch in results.statistics(codec):
        for k, counts in enumerate(batch):
            if k == len(totals):
                totals.append(Counter())
            totals[k].update(counts)
    if not totals or not seconds:
        return None
    levels, bits = [], 0.0
    for k, counts in enumerate(totals):
        times = np.array(sorted(counts.values()), dtype=np.float64)
        share = times / times.sum()
        entropy = float(-(share * np.log2(share)).sum()) + 0.0
        bits += entropy * float(times.sum())
        size = sizes[k] if k < len(sizes) else None
        levels.append(
            {
                "size": size,
                "used": len(times),
                "utilisation": rounded(len(times) / size) if size else None,
                "entropy_bits": rounded(entropy),
                "perplexity": rounded(2**entropy),
            }
        )
    return {"levels": levels, "entropy_bitrate": rounded(bits / seconds)}


def rounded(value: float | None) -> float | None:
    """To six significant digits; None for NaN and infinities."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.{SIGNIFICANT_DIGITS}g}")


def _write_csv(results: Results, summary: Mapping[str, Any]) -> None:
    """One line a codec, category and metric: long format, for pandas and R."""
    part = results.folder / "summary.csv.part"
    with part.open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file)
        head = ["codec", "category", "metric", "mean", "ci95_low", "ci95_high", "count", "infinite", "undefined"]
        out.writerow([*head, "original", "difference", "difference_ci95_low", "difference_ci95_high"])
        for codec, entry in summary["codecs"].items():
            for category, metrics in {"overall": entry["overall"], **entry["categories"]}.items():
                for name, m in metrics.items():
                    lost = sum(m["undefined"].values())
                    original = m.get("against_original")
                    loss = [original["original"], original["difference"], *original["ci95"]] if original else [None] * 4
                    out.writerow([codec, category, name, m["mean"], *m["ci95"], m["count"], m["infinite"], lost, *loss])
    part.replace(results.folder / "summary.csv")


def table(summary: Mapping[str, Any], metrics: Sequence[str] | None = None) -> str:
    """The summary as a text table: one row a codec, sorted by bitrate. Of metrics that judge the original as well:
    "4.10 -> 3.62 (-0.48)"."""
    names = list(metrics or summary["metrics"])
    head = ["codec", "kbit/s", "clips", "failed", *names]
    body = []
    for codec, entry in sorted(summary["codecs"].items(), key=lambda item: item[1]["bitrate"] or 0):
        row = [codec, f"{(entry['bitrate'] or 0) / 1000:.2f}", str(entry["ok"]), str(len(entry["failed"]))]
        for name in names:
            row.append(_cell(entry["overall"][name]))
        body.append(row)
    widths = [max(len(row[i]) for row in [head, *body]) for i in range(len(head))]
    lines = [
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in [head, *body]
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _cell(metric: Mapping[str, Any]) -> str:
    mean, against = metric["mean"], metric.get("against_original") or {}
    if mean is None:
        return next((f"({reason.replace('_', ' ')})" for reason in MISSING if reason in metric["undefined"]), "-")
    if against.get("difference") is None:
        return f"{mean:.3f}"
    if against["count"] < metric["count"]:  # the original is silent on some clips, say
        return f"{mean:.2f} ({against['difference']:+.2f} from {against['original']:.2f}, n {against['count']})"
    return f"{against['original']:.2f} -> {mean:.2f} ({against['difference']:+.2f})"
