"""Results as files: JSON with everything, CSV with a row for each number's place, Markdown to read and to paste."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from codeczoo.executor.record import write_atomically

PROBE, DRIFT = "probe.json", "drift.json"
Rows = Iterator[Sequence[Any]]
Result = Mapping[str, Any]


def check_folder(out: str | Path, mark: str, overwrite: bool) -> None:
    """Whether results may be written there; nothing is touched.

    Args:
        mark: the file by which results are known, PROBE or DRIFT.

    Raises:
        ValueError: results are there and `overwrite` is not given, or something else is there.
    """
    folder = Path(out)
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / mark).is_file():
        raise ValueError(f"{folder} is there already and holds no {mark}: name another --out, or empty it")
    if not overwrite:
        raise ValueError(f"{folder} holds results already: name another --out, or replace them with --overwrite")


def write_probe(result: Result, out: str | Path) -> Path:
    """probe.json and four CSV files, in place of what `check_folder` has passed; returns the folder."""
    folder = _emptied(out)
    _write_csv(folder / "codebooks.csv", CODEBOOKS, _codebooks(result))
    _write_csv(folder / "mutual_information.csv", PAIRS, _pairs(result))
    _write_csv(folder / "stability.csv", STABILITY, _stability(result))
    _write_csv(folder / "ngrams.csv", NGRAMS, _ngrams(result))
    write_atomically(folder / PROBE, result)
    return folder


def write_drift(result: Result, out: str | Path) -> Path:
    """drift.json, drift.csv and drift.md, in the same way."""
    folder = _emptied(out)
    _write_csv(folder / "drift.csv", DRIFTS, _drifts(result))
    (folder / "drift.md").write_text(drift_markdown(result), "utf-8", newline="\n")
    write_atomically(folder / DRIFT, result)
    return folder


def _emptied(out: str | Path) -> Path:
    folder = Path(out)
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    return folder


def _write_csv(path: Path, head: Sequence[str], rows: Rows) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(head)
        writer.writerows(["" if cell is None else cell for cell in row] for row in rows)


# -- of a probe -----------------------------------------------------------------------------------

CODEBOOK_KEYS = (
    "codebook", "codes", "size", "used", "dead", "dead_if_even", "utilisation", "entropy_bits",
    "entropy_bits_miller_madow", "entropy_ratio", "perplexity", "most_common_share", "equal_by_chance",
)  # fmt: skip
PAIR_KEYS = (
    "first", "second", "observations", "plugin", "miller_madow", "shuffled", "shuffled_max", "excess", "collision",
    "collision_shuffled_max",
)  # fmt: skip
SHARE_KEYS = ("share", "low", "high", "codes")
CODEBOOKS = ("codec", *CODEBOOK_KEYS)
PAIRS = ("codec", *PAIR_KEYS)
STABILITY = ("codec", "change", "repetition", "against", "codebook", *SHARE_KEYS, "clips")
NGRAMS = ("codec", "order", "codebook", "bits", "perplexity")


def _codebooks(result: Result) -> Rows:
    for codec in result["codecs"]:
        for row in codec["codebooks"]:
            yield codec["name"], *(row[key] for key in CODEBOOK_KEYS)


def _pairs(result: Result) -> Rows:
    for codec in result["codecs"]:
        for row in codec["mutual_information"]["pairs"]:
            yield codec["name"], *(row[key] for key in PAIR_KEYS)


def _stability(result: Result) -> Rows:
    for codec in result["codecs"]:
        found = codec["stability"]
        for name, words in result["changes"].items():
            yield from _shares((codec["name"], words, None, "before"), found[name])
        for step in found["reencode"]:
            for against in ("first", "previous"):
                yield from _shares((codec["name"], "re-encoded", step["repetition"], against), step[against])


def _shares(head: Sequence[Any], agreement: Mapping[str, Any]) -> Rows:
    for k, share in [("all", agreement["all"]), *enumerate(agreement["codebooks"])]:
        yield *head, k, *(share[key] for key in SHARE_KEYS), agreement["clips"]


def _ngrams(result: Result) -> Rows:
    for codec in result["codecs"]:
        for row in codec["ngram"]["orders"]:
            yield codec["name"], row["order"], "frame", row["bits_per_frame"], None
            for k, (bits, perplexity) in enumerate(zip(row["bits"], row["perplexity"], strict=True)):
                yield codec["name"], row["order"], k, bits, perplexity


def probe_text(result: Result) -> str:
    """The main numbers, a line each codec."""
    head = ("codec", "frames", "used", "entropy", *result["changes"].values(), "re-encoded", "n-gram", "")
    lines = [_texts(codec, result) for codec in result["codecs"]]
    widths = [max(len(line[i]) for line in (head, *lines)) for i in range(len(head))]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() + "\n"
        for line in (head, *lines)
    )


def _texts(codec: Result, result: Result) -> Sequence[str]:
    share = lambda value: "-" if value is None else f"{100 * value:.1f} %"  # noqa: E731
    books, found = codec["codebooks"], codec["stability"]
    used = sum(row["used"] for row in books) / sum(row["size"] for row in books)
    rate = codec["entropy_bitrate"]
    orders = [row["bits_per_second"] for row in codec["ngram"]["orders"]]
    return (
        codec["name"],
        f"{codec['frames']:,}",
        share(used),
        "-" if rate is None else f"{rate / 1000:.3g} of {codec['nominal_bitrate'] / 1000:.3g} kbit/s",
        *(share(found[name]["all"]["share"]) for name in result["changes"]),
        share(found["reencode"][0]["first"]["all"]["share"]) if found["reencode"] else "-",
        f"{min(orders) / 1000:.3g} kbit/s" if orders else "-",
        "random weights" if codec["random_weights"] else "",
    )


# -- of a drift report ----------------------------------------------------------------------------

DRIFTS = ("codec", "weights", "kind", "label", "against", "codebook", "share", "codes", "codes_changed", "reason")


def _drifts(result: Result) -> Rows:
    for codec in result["codecs"]:
        for row in codec["rows"]:
            head = codec["name"], weights_text(codec), row["kind"], row["label"], row["against"]
            yield *head, "all", row["share"], row["codes"], row["codes_changed"], row["reason"]
            for k, share in enumerate(row["codebooks"]):
                if share is not None:
                    yield *head, k, share, None, None, None


def weights_text(codec: Result) -> str:
    """ "random" or "published" (or given); "none" of a codec without weights."""
    if codec["random_weights"]:
        return "random"
    return "real" if codec["codec"]["weights_hash"] else "none"


def drift_markdown(result: Result) -> str:
    """Two tables: the share of changed codes by condition, and by codebook where any changed."""
    codecs = result["codecs"]
    keys = list(dict.fromkeys((row["kind"], row["label"]) for codec in codecs for row in codec["rows"]))
    cells = {(codec["name"], row["kind"], row["label"]): row for codec in codecs for row in codec["rows"]}
    head = ["what is changed", "to", *(f"`{codec['name']}`" for codec in codecs)]
    weights = ", ".join(f"{codec['name']} {weights_text(codec)}" for codec in codecs)
    facts, versions = result["environment"], result["versions"]
    what = (
        f"{_count_text(codecs)} of {result['dataset']['name']}, on {facts['device']} (threads: {facts['threads']}), "
        f"torch {versions['torch']}, codeczoo {versions['codeczoo']}. Changed codes of all codes; 0 is an exact 0."
    )
    lines = [
        "# Drift: codes that change with how the same audio is encoded",
        "",
        what,
        "",
        f"Weights: {weights}.",
        "",
        _line(head),
        _line(["---"] * 2 + ["---:"] * len(codecs)),
    ]
    for kind, label in keys:
        found = [cells.get((codec["name"], kind, label)) for codec in codecs]
        lines.append(_line([kind, label, *("" if row is None else _changed(row) for row in found)]))
    lines += ["", "## By codebook", "", _line(["codec", "what is changed", "to", "by codebook, from the first"])]
    lines.append(_line(["---"] * 4))
    changed = [(codec, row) for codec in codecs for row in codec["rows"] if row["codes_changed"]]
    for codec, row in changed:
        shares = ", ".join("–" if share is None else percent(share) for share in row["codebooks"])
        lines.append(_line([f"`{codec['name']}`", row["kind"], row["label"], shares]))
    if not changed:
        lines[-2:] = ["No code changed."]
    notes = dict.fromkeys(
        f"{codec['name']}, {row['kind']} {row['label']}: {text}"
        for codec in codecs
        for row in codec["rows"]
        for text in (row["reason"], row["note"])
        if text
    )
    return "\n".join([*lines, *(["", "## Notes", "", *(f"- {note}" for note in notes)] if notes else []), ""])


def _count_text(codecs: Sequence[Result]) -> str:
    segments = [codec["segments"] for codec in codecs]
    return " or ".join(dict.fromkeys(f"{one['count']} segments of {one['seconds']:g} s" for one in segments))


def _changed(row: Result) -> str:
    if row["share"] is None:
        return "–"
    return "0" if not row["codes_changed"] else f"{percent(row['share'])} ({row['codes_changed']} of {row['codes']})"


def percent(share: float) -> str:
    """A share from 0 to 1 with two significant digits; what is not 0 never reads as 0."""
    return "0" if not share else f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.1f} %"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
