"""The run: steps in their order until time is over, what they find, and the exit code."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

import perf.gpu_check
from codeczoo.base.device import choose_device
from perf.compare import environment, quiet_codecs
from perf.gpu_check.drift import check_drift
from perf.gpu_check.order import EVERYTHING, Step, folders, steps
from perf.gpu_check.promises import PROMISES, Check, Row, make_weights
from perf.gpu_check.speed import check_hours, check_precision, check_shapes
from perf.gpu_check.system import check_metrics, check_pipeline
from perf.gpu_check.tables import tables


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m perf.gpu_check",
        description=perf.gpu_check.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--device", help="cuda, cpu, ... (CUDA > MPS > CPU)")
    parser.add_argument("--codecs", nargs="+", choices=folders(), metavar="C", help=f"of {', '.join(folders())}")
    parser.add_argument("--quick", action="store_true", help="short clips and few repeats: does the script run?")
    parser.add_argument("--sections", nargs="+", choices=EVERYTHING, default=EVERYTHING, metavar="S", help="only these")
    parser.add_argument("--compiled", action="store_true", help="speed under torch.compile too: a minute or so a codec")
    parser.add_argument("--minutes", type=float, default=9.5, help="begin nothing after this many minutes (9.5)")
    parser.add_argument("--jobs", type=int, default=2, help="processes that make weights meanwhile (2)")
    parser.add_argument("--out", type=Path, help="JSON of all that was found; the tables beside it as .md")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    with quiet_codecs():
        return check_all(args, choose_device(args.device))


def check_all(args: argparse.Namespace, device: torch.device) -> int:
    began = time.monotonic()
    record: dict[str, Any] = {"environment": environment(device), "quick": args.quick, "rows": [], "left_out": []}
    record["took"] = took = {}  # seconds of each section, to plan the next run by
    rows: list[Row] = record["rows"]
    todo = list(steps(args.codecs, args.sections))
    to_come = Counter(step.codec for step in todo)
    spawn = multiprocessing.get_context("spawn")
    with TemporaryDirectory() as temporary, ProcessPoolExecutor(args.jobs, spawn) as pool:
        weights = {
            name: pool.submit(make_weights, name, Path(temporary, f"{name}.safetensors"))
            for name in to_come
            if name is not None
        }
        for step in todo:
            to_come[step.codec] -= 1
            if time.monotonic() - began > 60 * args.minutes:
                record["left_out"].append(f"{step.codec or 'all codecs'} ({', '.join(step.sections)})")
                if step.codec is not None:
                    weights[step.codec].cancel()
                continue
            for row in rows_of(step, weights, device, args, took):
                rows.append(row)
                print(json.dumps(row), file=sys.stderr, flush=True)
            if step.codec is not None and not to_come[step.codec]:
                weights[step.codec].result().unlink()
            record["seconds"] = round(time.monotonic() - began, 1)
            if args.out:
                args.out.write_text(json.dumps(record, indent=1) + "\n", "utf-8")
                args.out.with_suffix(".md").write_text(tables(rows), "utf-8")
    return tell(record)


def rows_of(
    step: Step,
    weights: Mapping[str, Future[Path]],
    device: torch.device,
    args: argparse.Namespace,
    took: dict[str, float],
) -> Iterator[Row]:
    """What a step finds. A section that ends in an error is a row that says so, and the next one goes on."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    check = None
    for section in step.sections:
        head: Row = {"codec": step.codec or "–", "section": section}
        began = time.monotonic()
        try:
            if step.codec is not None and check is None:
                check = Check.of(step.codec, weights[step.codec].result(), device, args.quick)
            for row in _found(section, check, device, args):
                yield {**head, **({} if check is None else {"codec": check.name}), **row}
        except Exception as error:  # noqa: BLE001 (the machine is lent for minutes: the rest is wanted all the same)
            reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            yield {**head, "failed": reason, **({"kept": False} if section in (*PROMISES, "shapes") else {})}
        took[f"{step.codec or 'all'} {section}"] = round(time.monotonic() - began, 1)


def _found(section: str, check: Check | None, device: torch.device, args: argparse.Namespace) -> Iterator[Row]:
    if check is None:
        return {"metric": check_metrics, "pipeline": check_pipeline}[section](device, args.quick)
    others = {
        "hours": check_hours,
        "precision": partial(check_precision, compiled=args.compiled),
        "shapes": check_shapes,
        "drift": check_drift,
    }
    return others[section](check) if section in others else getattr(check, section)()


def tell(record: Mapping[str, Any]) -> int:
    """Print all of it; the exit code."""
    rows: Sequence[Row] = record["rows"]
    print(json.dumps(record["environment"]))
    print(tables(rows))

    def those(which: Iterator[Row]) -> str:
        return ", ".join(dict.fromkeys(f"{row['codec']} {row['section']}" for row in which)) or "none"

    broken = [row for row in rows if row.get("kept") is False]
    print(f"errors: {those(row for row in rows if row.get('failed'))}")
    print(f"fast keeps fewer codes than docs/precision.md says: {those(r for r in rows if r.get('policy') is False)}")
    print(f"promises broken: {those(iter(broken))}; left out: {', '.join(record['left_out']) or 'none'}")
    return 1 if broken else 0
