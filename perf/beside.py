"""Ours, transformers, the published package and codec.cpp on one machine, in one run, with the same weights.

    python -m perf.beside --seconds 4                                       # what is installed, one thread
    python -m perf.beside --codecs mimi --codec-cpp path/to/libcodec.so --batch 1 8 --threads 1 2
    python -m perf.beside --checkouts path/to/clones --out docs/measurements/beside-cpu.json
    python -m perf.beside --tables docs/measurements/beside-cpu.json        # only print its tables

Run it from the repository's root, on a CPU. Weights are those of the golden manifests, so nothing is downloaded;
transformers gets them under its own names, codec.cpp as the GGUF file (F32) that `codeczoo export` writes.
codec.cpp is built from its source (perf/codec_cpp.py says how), needs the extra [gguf], and codes with all codebooks;
so do all. A side that is not there is named and left out (`--strict`: exit code 1).

Each side is a process of its own with `--threads` threads, its model loaded beforehand; a call is timed inside that
process. First each side does every operation once, untimed, and its memory is taken; then the sides take turns, and
the table has the least of `--repeats` rounds. All encode the same clips, and all decode the codes that ours made.

  (x)      that side's time / ours: above 1, ours is faster
  codes    the share of codes that equal ours; frames that one side lacks count as different
  error    largest difference from our audio, relative to its peak
  memory   resident MiB of the whole process: at rest with the model loaded, and at the most within a call

codec.cpp encodes one clip a call, so a batch is a loop; its batch call for decoding is a loop inside. Both are timed
as they are offered.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from codeczoo import BaseCodec, codec_info
from codeczoo.base.catalogue import find_variant
from codeczoo.weights.export import export_gguf
from codeczoo.weights.load import load_weights
from perf.compare import (
    agreement,
    environment,
    golden_manifest,
    golden_state,
    peak_error,
    quiet_codecs,
    row_of,
    take_turns,
    why_skipped,
)
from perf.published import CASES, Case
from perf.sides import OPS, Side
from tests.support import golden_weights

CODECS = ("mimi", "dac_24k", "wavtokenizer_large_speech_75")
ENGINE = "codec.cpp"
CPU = torch.device("cpu")

Record = dict[str, Any]


# -- weights, the same for all --------------------------------------------------------------------


def cases_of(variant: str) -> list[Case]:
    """Its published implementations, the authors' first."""
    return sorted((case for case in CASES if case.variant == variant), key=lambda case: case.package == "transformers")


def case_of(package: str, variant: str) -> Case:
    return next(case for case in cases_of(variant) if case.package == package)


def without_weights(variant: str) -> BaseCodec:
    """Ours, which codes with all its codebooks if it is not asked otherwise: codec.cpp knows no fewer."""
    return replace(find_variant(variant), num_codebooks=None).build()


def golden_codec(
    variant: str, weights: str | Path | None = None
) -> tuple[BaseCodec, dict[str, Tensor], dict[str, Any]]:
    """Ours with all its codebooks; its tensors under the authors' names; and their manifest.

    `weights`: where `saved` has put the tensors; None = they are made anew, which takes seconds.
    """
    case = cases_of(variant)[0]
    manifest = golden_manifest(case)
    state = load_file(weights) if weights else golden_state(case, manifest)
    codec = without_weights(variant)
    with quiet_codecs():
        load_weights(codec, state)
    return codec.eval().requires_grad_(False), state, manifest


def saved(variant: str, folder: Path) -> Path:
    """The tensors under the authors' names in `folder`, written once."""
    path = folder / f"{variant}.safetensors"
    if not path.exists():
        case = cases_of(variant)[0]
        save_file(golden_state(case, golden_manifest(case)), path)
    return path


def exported(variant: str, folder: Path) -> Path:
    """The same as codec.cpp reads them, F32.

    Raises:
        ImportError: no extra [gguf].
        ValueError: codec.cpp does not know the variant.
    """
    path = folder / f"{variant}.gguf"
    if not path.exists():
        export_gguf(golden_codec(variant, saved(variant, folder))[0], path, "F32")
    return path


def clips(variant: str, batch: int, seconds: float) -> np.ndarray:
    """float32 [B, C, T], speech-like; whole frames, because codec.cpp drops the samples of a last part of one."""
    info = codec_info(variant)
    hop = info.hop_length or 1
    samples = max(1, round(seconds * info.sample_rate / hop)) * hop
    found: np.ndarray = golden_weights.audio(
        f"beside/{variant}", batch, min(info.channels), samples, info.sample_rate
    ).astype(np.float32)
    return found


# -- one variant ----------------------------------------------------------------------------------


def sides_of(variant: str, args: argparse.Namespace, folder: Path) -> Iterator[tuple[str, dict[str, str] | str]]:
    """Each side's name, and what it is started with, or why it is left out."""
    given = {"weights": str(saved(variant, folder))}
    yield "ours", given
    for case in cases_of(variant):
        clone = {"checkout": str(args.checkouts / case.package)} if case.repository and args.checkouts else {}
        yield case.package, why_skipped(case, args) or {**given, **clone}
    if args.codec_cpp is None:
        yield ENGINE, "--codec-cpp names no library"
        return
    try:
        yield ENGINE, {"library": str(args.codec_cpp), "gguf": str(exported(variant, folder))}
    except (ImportError, ValueError) as error:
        yield ENGINE, str(error)


def measure(variant: str, threads: int, args: argparse.Namespace, folder: Path) -> tuple[Record, list[str]]:
    """The record of one variant at one number of threads, and the names of the sides that were left out."""
    record: Record = {
        "variant": variant,
        "threads": threads,
        "seconds": args.seconds,
        "repeats": args.repeats,
        "clock": args.clock,
        "environment": {**environment(CPU), "threads": threads, "published": versions()},
        "rows": [],
        "memory": [],
        "agreement": [],
    }
    left_out: list[str] = []
    with ExitStack() as stack:
        sides: dict[str, Side] = {}
        for name, given in sides_of(variant, args, folder):
            if args.sides and name not in (*args.sides, "ours"):
                continue
            try:
                if isinstance(given, str):
                    raise RuntimeError(given)
                sides[name] = Side(name, variant, threads, **given)
                stack.callback(sides[name].close)
            except RuntimeError as error:
                if name == "ours":
                    raise
                print(f"{variant}: left out {name}: {error}", file=sys.stderr, flush=True)
                left_out.append(name)
        for batch in args.batch:
            compare_batch(sides, batch, clips(variant, batch, args.seconds), record)
    return record, left_out


def compare_batch(sides: Mapping[str, Side], batch: int, waveform: np.ndarray, record: Record) -> None:
    """All sides, both operations, one batch: into the record."""
    inputs, facts = waveform, {"batch": batch}
    for op in OPS:
        results = {}
        for name, side in sides.items():
            side.give(op, inputs)
            record["memory"].append({**facts, "op": op, "side": name, **side.memory(op)})
            results[name] = torch.from_numpy(side.result(op))
        for name in (name for name in sides if name != "ours"):
            found = closeness(op, results["ours"], results[name])
            record["agreement"].append({**facts, "op": op, "side": name, **found})
        runs = take_turns(
            {name: lambda side=side, op=op: side.run(op) for name, side in sides.items()},
            record["repeats"],
            CPU,
            lambda run, _: run(),  # a side has its own clock
        )
        others = [name for name in sides if name != "ours"] or ["ours"]
        record["rows"] += [row_of(runs, name, "ours", record["clock"], side=name, op=op, **facts) for name in others]
        inputs = results["ours"].numpy()


def closeness(op: str, ours: Tensor, theirs: Tensor) -> dict[str, float]:
    if op == "encode":
        return {"codes": agreement(ours, theirs), "frames": theirs.shape[-1] - ours.shape[-1]}
    return {"error": peak_error(ours, theirs), "samples": theirs.shape[-1] - ours.shape[-1]}


@cache
def versions() -> dict[str, str]:
    """Of the published packages that are installed."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for package in sorted({case.package for name in CODECS for case in cases_of(name)}):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


# -- what is told ---------------------------------------------------------------------------------


def tables(records: Sequence[Record]) -> str:
    """Times, memory and agreement as Markdown."""
    return "\n\n".join([*(times(record) for record in records), memory(records), closenesses(records)])


def sides_in(records: Sequence[Record]) -> list[str]:
    """In the order of the tables: ours, the authors', transformers, codec.cpp."""
    found = dict.fromkeys(row["side"] for record in records for row in record["memory"])
    return sorted(found, key=lambda name: (name != "ours", name == ENGINE, name == "transformers"))


def times(record: Record) -> str:
    """One variant at one number of threads: a row an operation and batch."""
    names = sides_in([record])
    threads = f"{record['threads']} thread{'s' * (record['threads'] > 1)}"
    measured = f"clips of {record['seconds']:g} s, least of {record['repeats']}, {record['clock']} seconds"
    lines = [
        f"{record['variant']}, {threads}, {measured}:\n",
        f"| op | B | {' | '.join(names)} |",
        f"|---|--:|{'--:|' * len(names)}",
    ]
    shapes = dict.fromkeys((row["op"], row["batch"]) for row in record["rows"])
    for op, batch in shapes:
        rows = {row["side"]: row for row in record["rows"] if (row["op"], row["batch"]) == (op, batch)}
        ours = next(iter(rows.values()))["ours"]["min"]
        cells = [f"{ours:.3f}"]
        for name in names[1:]:
            row = rows[name]
            cells.append(f"{row[name]['min']:.3f} ({row['ratio']:.2f})")
        lines.append(f"| {op} | {batch} | {' | '.join(cells)} |")
    return "\n".join(lines)


def memory(records: Sequence[Record]) -> str:
    names = sides_in(records)
    lines = [
        "Peak memory, MiB (of which at rest with the model loaded):\n",
        f"| codec | threads | op | B | {' | '.join(names)} |",
        f"|---|--:|---|--:|{'--:|' * len(names)}",
    ]
    for record in records:
        for op, batch in dict.fromkeys((row["op"], row["batch"]) for row in record["memory"]):
            rows = {row["side"]: row for row in record["memory"] if (row["op"], row["batch"]) == (op, batch)}
            cells = [
                f"{rows[name]['peak'] / 2**20:.0f} ({rows[name]['rest'] / 2**20:.0f})" if name in rows else "–"
                for name in names
            ]
            lines.append(f"| {record['variant']} | {record['threads']} | {op} | {batch} | {' | '.join(cells)} |")
    return "\n".join(lines)


def closenesses(records: Sequence[Record]) -> str:
    """The least agreement and the greatest error over batches and threads."""
    lines = [
        "Agreement with ours, the worst over batches and threads:\n",
        "| codec | side | codes equal | frames more or fewer | error of audio | samples more or fewer |",
        "|---|---|--:|--:|--:|--:|",
    ]
    variants = dict.fromkeys(record["variant"] for record in records)
    for variant in variants:
        rows = [row for record in records if record["variant"] == variant for row in record["agreement"]]
        for side in dict.fromkeys(row["side"] for row in rows):
            encode = [row for row in rows if row["side"] == side and row["op"] == "encode"]
            decode = [row for row in rows if row["side"] == side and row["op"] == "decode"]
            lines.append(
                f"| {variant} | {side} | {min(row['codes'] for row in encode):.4%} | {encode[0]['frames']:+d} | "
                f"{max(row['error'] for row in decode):.1e} | {decode[0]['samples']:+d} |"
            )
    return "\n".join(lines)


def store(path: Path, record: Record) -> None:
    """Put `record` into the file, in place of an earlier one of the same variant and number of threads."""
    records = json.loads(path.read_text("utf-8")) if path.exists() else []
    kept = [old for old in records if (old["variant"], old["threads"]) != (record["variant"], record["threads"])]
    path.write_text(json.dumps([*kept, record], indent=1) + "\n", "utf-8")


# -- command line ---------------------------------------------------------------------------------


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m perf.beside", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--codecs", nargs="+", metavar="NAME", default=list(CODECS), help=f"variants ({' '.join(CODECS)})")
    add("--sides", nargs="+", metavar="S", help="only these beside ours: a package's name, transformers, codec.cpp")
    add("--codec-cpp", type=Path, metavar="LIBRARY", help="codec.cpp's shared library; without it, it is left out")
    add("--checkouts", type=Path, metavar="PATH", help="a folder of clones, for what has no package (WavTokenizer)")
    add("--seconds", type=float, default=4.0, help="length of each clip, rounded to whole frames (4)")
    add("--batch", type=int, nargs="+", default=[1, 8], metavar="B", help="clips a call (1 8)")
    add("--threads", type=int, nargs="+", default=[1], metavar="N", help="of each side, one after the other (1)")
    add("--repeats", type=int, default=3, help="rounds; the table has the least (3)")
    add(
        "--clock",
        choices=("wall", "cpu"),
        default="wall",
        help="what the table shows; cpu = processor time of all threads, for one thread on a busy machine (wall)",
    )
    add("--out", type=Path, help="JSON; records of other variants and threads that it holds already are kept")
    add("--tables", type=Path, metavar="JSON", help="only print the tables of an earlier --out")
    add("--strict", action="store_true", help="exit code 1 if a side was left out")
    args = parser.parse_args(argv)
    if min(*args.batch, *args.threads, args.repeats) < 1 or args.seconds <= 0:
        parser.error("--batch, --threads and --repeats are at least 1, --seconds is more than 0")
    unknown = [name for name in args.codecs if not cases_of(name)]
    if unknown:
        known = ", ".join(dict.fromkeys(case.variant for case in CASES))
        parser.error(f"no published implementation of {', '.join(unknown)} is known here; there are: {known}")
    if args.codec_cpp is not None and not args.codec_cpp.is_file():
        parser.error(f"--codec-cpp {args.codec_cpp}: there is no such file")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    if args.tables:
        print(tables(json.loads(args.tables.read_text("utf-8"))))
        return 0
    warnings.filterwarnings("ignore", category=FutureWarning)
    records, left_out = [], []
    with tempfile.TemporaryDirectory() as folder:
        for variant in args.codecs:
            for threads in args.threads:
                record, missing = measure(variant, threads, args, Path(folder))
                records.append(record)
                left_out += missing
                if args.out:
                    store(args.out, record)
                print(times(record), file=sys.stderr, flush=True)
    print(json.dumps(records[0]["environment"]))
    print(tables(records))
    return 1 if args.strict and left_out else 0


if __name__ == "__main__":
    sys.exit(main())
