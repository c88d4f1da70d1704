"""Speed beside the published implementations, on the same weights and machine, in one run.

    python -m perf.compare --families mimi encodec            # 10 s of audio, batches of 1 and 8
    python -m perf.compare --families dac --seconds 4 --batch 1 2 --threads 1 --clock cpu
    python -m perf.compare --families wavtokenizer audiodec --checkouts path/to/clones
    python -m perf.compare --ragged-only                      # no published package is needed

Run it from the repository's root: the weights are those of the golden manifests under tests/golden, made from names, so
nothing is downloaded. The published packages are an extra, `pip install -e .[compare]` (perf/README.md says which
more there are); one that is missing is named and skipped.

For each variant the two sides take turns (published, ours, ours, published, ...), so that a busy machine slows both
alike. Both encode the same clips, and both decode the codes that ours made. Ours is timed through `encode` and `decode`
as a user calls them; the published one through its authors' calls on tensors. The table gives the minimum over the
rounds, the JSON every run.

  ratio    published / ours: above 1, ours is faster
  codes    the fraction of codes on which the two agree
  error    largest difference of the two decoders' audio, relative to its peak

"Ragged" is ours alone: a batch with lengths between 60% and 100% beside a full one of the same padded shape, in one
pass. On CUDA each precision is timed, the published side under the same TF32 setting, and codes are compared with the
published ones without TF32.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import importlib.metadata
import json
import logging
import os
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from codeczoo import Audio, Codes, __version__, load_codec
from codeczoo.base.device import PRECISIONS, choose_device, matmul_precision
from codeczoo.base.processor import cpu_name
from codeczoo.base.ragged import valid_mask
from perf.published import CASES, Case, Given, Published
from tests.support import golden_weights

GOLDEN = Path(__file__).parents[1] / "tests" / "golden"
WARM_UP_SECONDS = 1.0

Run = dict[str, float]  # seconds by clock: "wall", "cpu"
Row = dict[str, Any]


# -- measuring ----------------------------------------------------------------------------------


def timed(function: Callable[[], object], device: torch.device) -> Run:
    """One call; on CUDA to the end of its work there."""
    synchronize(device)
    wall, cpu = time.perf_counter(), time.process_time()
    function()
    synchronize(device)
    return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def take_turns(
    sides: Mapping[str, Callable[[], Any]],
    repeats: int,
    device: torch.device,
    measure: Callable[[Callable[[], Any], torch.device], Run] = timed,
) -> dict[str, list[Run]]:
    """`repeats` runs of each side, in alternating order."""
    runs: dict[str, list[Run]] = {name: [] for name in sides}
    for round_ in range(repeats):
        for name in list(sides) if round_ % 2 == 0 else reversed(list(sides)):
            runs[name].append(measure(sides[name], device))
    return runs


def row_of(runs: Mapping[str, list[Run]], over: str, under: str, clock: str, **facts: object) -> Row:
    """Minimum and median of two sides, and the ratios over / under."""
    row: Row = dict(facts)
    for name in (over, under):
        times = [run[clock] for run in runs[name]]
        row[name] = {"min": min(times), "median": statistics.median(times), "runs": runs[name]}
    row["ratio"] = row[over]["min"] / row[under]["min"]
    row["ratio_of_medians"] = row[over]["median"] / row[under]["median"]
    return row


def agreement(ours: Tensor, theirs: Tensor) -> float:
    """The fraction of equal codes; frames that one side lacks count as different."""
    frames = min(ours.shape[-1], theirs.shape[-1])
    equal = int((ours[..., :frames] == theirs[..., :frames]).sum())
    return equal / max(ours.numel(), theirs.numel())


def peak_error(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference relative to the peak, over the samples that both have."""
    theirs = theirs.reshape(*ours.shape[:-1], -1)
    samples = min(ours.shape[-1], theirs.shape[-1])
    ours, theirs = ours[..., :samples].double(), theirs[..., :samples].double()
    return float((ours - theirs).abs().max() / theirs.abs().max())


# -- one case -----------------------------------------------------------------------------------


class Comparison:
    """One variant, ours in each precision, beside one published implementation."""

    def __init__(self, case: Case, args: argparse.Namespace, device: torch.device) -> None:
        self.case, self.args, self.device = case, args, device
        manifest = golden_manifest(case)
        state = golden_state(case, manifest)
        self.ours = {
            precision: load_codec(case.variant, weights=state, device=device, precision=precision)
            for precision in args.precision
        }
        codec = next(iter(self.ours.values()))
        self.published: Published | None = None
        if not args.ragged_only:
            self.published = case.build(Given(state, codec, manifest.get("config", {}), checkout_of(case, args)))
        state.clear()  # each side has its own; an adapter may hold what it was given

    def clips(self, batch: int, seconds: float) -> Tensor:
        """[B, C, T], speech-like."""
        codec = next(iter(self.ours.values()))
        samples = int(seconds * codec.sample_rate)
        name = f"compare/{self.case.variant}"
        waveform = golden_weights.audio(name, batch, codec.channels[0], samples, codec.sample_rate)
        return torch.from_numpy(waveform).to(self.device)

    def against_published(self, batch: int) -> list[Row]:
        assert self.published is not None
        theirs, rows = self.published, []
        self.warm_up(batch)
        waveform = self.clips(batch, self.args.seconds)
        reference: Tensor | None = None
        for precision, codec in self.ours.items():
            facts = {"batch": batch, "precision": precision}
            kept: dict[str, Any] = {}
            with matmul_precision(precision):
                runs = self.duel(
                    kept, lambda: theirs.encode(waveform), lambda c=codec: c.encode(waveform, c.sample_rate)
                )
            codes: Codes = kept["ours"]
            if reference is None:
                reference = theirs.to_ours(kept["published"])
            same = agreement(codes.codes, reference)
            rows.append(row_of(runs, "published", "ours", self.args.clock, op="encode", codes=same, **facts))
            decode = theirs.decode
            if decode is None:
                continue
            given = theirs.from_ours(codes)
            with matmul_precision(precision):
                runs = self.duel(kept, lambda: decode(given), lambda c=codec: c.decode(codes))  # noqa: B023
            error = peak_error(kept["ours"].waveform, kept["published"])
            rows.append(row_of(runs, "published", "ours", self.args.clock, op="decode", error=error, **facts))
        return rows

    def duel(self, kept: dict[str, Any], theirs: Callable[[], Any], ours: Callable[[], Any]) -> dict[str, list[Run]]:
        """Both in turn; `kept` gets what they return."""
        sides = {"published": lambda: kept.update(published=theirs()), "ours": lambda: kept.update(ours=ours())}
        with torch.inference_mode():
            return take_turns(sides, self.args.repeats, self.device)

    def warm_up(self, batch: int) -> None:
        """What only the first call costs (on CUDA: with the very shapes, for which kernels are chosen)."""
        waveform = self.clips(batch, self.args.seconds if self.device.type == "cuda" else WARM_UP_SECONDS)
        for codec in self.ours.values():
            codes = codec.encode(waveform, codec.sample_rate)
            if codec.supports_decode:
                codec.decode(codes)
            if self.published is not None:
                with torch.inference_mode():
                    self.published.encode(waveform)
                    if self.published.decode is not None:
                        self.published.decode(self.published.from_ours(codes))

    def ragged(self, batch: int) -> list[Row]:
        """Ours: the cost of lengths. One pass holds the whole batch, so that the shapes are the same."""
        rows = []
        waveform = self.clips(batch, self.args.seconds)
        full = torch.full((batch,), waveform.shape[-1], device=self.device)
        lengths = (full * torch.linspace(1.0, 0.6, batch, device=self.device)).long()
        short = waveform * valid_mask(lengths, waveform.shape[-1])[:, None]
        for precision, codec in self.ours.items():
            clips = {
                "ragged": Audio(short, lengths, codec.sample_rate),
                "dense": Audio(waveform, full, codec.sample_rate),
            }
            facts = {"batch": batch, "precision": precision}
            whole, codec.max_chunk_seconds = codec.max_chunk_seconds, 1.01 * batch * self.args.seconds
            codes: dict[str, Codes] = {}
            sides = {k: lambda k=k, v=v, c=codec, to=codes: to.update({k: c.encode(v)}) for k, v in clips.items()}
            runs = take_turns(sides, self.args.repeats, self.device)
            rows.append(row_of(runs, "ragged", "dense", self.args.clock, op="encode", **facts))
            if codec.supports_decode:
                sides = {k: lambda v=v, c=codec: c.decode(v) for k, v in codes.items()}
                runs = take_turns(sides, self.args.repeats, self.device)
                rows.append(row_of(runs, "ragged", "dense", self.args.clock, op="decode", **facts))
            codec.max_chunk_seconds = whole
        return rows


def golden_manifest(case: Case) -> dict[str, Any]:
    return json.loads((GOLDEN / case.folder / case.manifest).read_text("utf-8"))


def golden_state(case: Case, manifest: dict[str, Any]) -> dict[str, Tensor]:
    """The tensors of the case's manifest; those that the case wants silent are zeros."""
    tensors = golden_weights.state_dict(manifest, "public")
    state = {key: torch.from_numpy(value) for key, value in tensors.items()}
    if case.zeroed:
        state = {key: value * 0 if key.endswith(case.zeroed) else value for key, value in state.items()}
    return state


# -- what is told -------------------------------------------------------------------------------


def environment(device: torch.device) -> dict[str, object]:
    """The machine and versions, as far as a reader needs them."""
    facts: dict[str, object] = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "codeczoo": __version__,
    }
    if device.type == "cuda":
        facts["cuda"] = torch.version.cuda
        facts["cudnn"] = torch.backends.cudnn.version()
    return facts


def version_of(case: Case) -> str:
    """Of the published package; a repository has none."""
    return "repository" if case.repository else importlib.metadata.version(case.package)


def tables(records: Sequence[Mapping[str, Any]]) -> str:
    """The records as two Markdown tables."""
    lines = [
        "| variant | published | op | B | s of audio | precision | published s | ours s | ratio | codes | error |",
        "|---|---|---|--:|--:|---|--:|--:|--:|--:|--:|",
    ]
    for record in records:
        for row in record["rows"]:
            times = f"{row['published']['min']:.3f} | {row['ours']['min']:.3f}"
            lines.append(
                f"| {record['variant']} | {record['package']} {record['version']} | {row['op']} | {row['batch']} | "
                f"{record['seconds']:g} | {row['precision']} | {times} | {row['ratio']:.2f} | "
                f"{optional(row, 'codes', '.4%')} | {optional(row, 'error', '.1e')} |"
            )
    ragged = [
        "| variant | op | B | s of audio | precision | dense s | ragged s | ragged / dense |",
        "|---|---|--:|--:|---|--:|--:|--:|",
    ]
    for record in records:
        for row in record["ragged"]:
            ragged.append(
                f"| {record['variant']} | {row['op']} | {row['batch']} | {record['seconds']:g} | {row['precision']} | "
                f"{row['dense']['min']:.3f} | {row['ragged']['min']:.3f} | {row['ratio']:.2f} |"
            )
    return "\n".join([*(lines if len(lines) > 2 else []), "", *(ragged if len(ragged) > 2 else [])]).strip()


def summary(records: Sequence[Mapping[str, Any]]) -> str:
    """The extremes of the tables, as a Markdown list."""
    rows = [(record, row) for record in records for row in record["rows"]]
    ragged = [(record, row) for record in records for row in record["ragged"]]
    lines = []
    if rows:
        least, greatest = (choose(rows, key=lambda pair: pair[1]["ratio"]) for choose in (min, max))
        lines.append(f"- Ratios: {len(rows)}; least {named(*least)}, greatest {named(*greatest)}.")
        slower = [named(record, row) for record, row in rows if row["ratio"] < 1]
        lines.append(f"- Where ours is slower: {'; '.join(slower) or 'nowhere'}.")
        apart = [f"{named(*pair)}: {pair[1]['codes']:.4%}" for pair in rows if pair[1].get("codes", 1) < 1]
        error = max(row.get("error", 0) for _, row in rows)
        lines.append(
            f"- Codes that differ: {'; '.join(apart) or 'none'}. Greatest error of audio: {error:.1e} of its peak."
        )
    if ragged:
        lines.append(f"- Ragged beside dense, greatest cost: {named(*max(ragged, key=lambda pair: pair[1]['ratio']))}.")
    return "\n".join(lines)


def named(record: Mapping[str, Any], row: Row) -> str:
    return f"{row['ratio']:.2f} ({record['variant']}, {row['op']}, B = {row['batch']}, {record['seconds']:g} s)"


def optional(row: Row, key: str, form: str) -> str:
    return format(row[key], form) if key in row else "–"


def store(path: Path, record: Mapping[str, Any]) -> None:
    """Put `record` into the file, in place of an earlier one of the same variant, package, shape and device."""
    records = json.loads(path.read_text("utf-8")) if path.exists() else []
    keys = ("variant", "package", "seconds", "batch", "ragged_only")
    same = [
        all(old[key] == record[key] for key in keys)
        and old["environment"]["device"] == record["environment"]["device"]
        and old["environment"]["threads"] == record["environment"]["threads"]
        for old in records
    ]
    if any(same):
        records[same.index(True)] = record
    else:
        records.append(record)
    path.write_text(json.dumps(records, indent=1) + "\n", "utf-8")


# -- command line -------------------------------------------------------------------------------


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    families = list(dict.fromkeys(case.family for case in CASES))
    parser = argparse.ArgumentParser(
        prog="python -m perf.compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--families", nargs="+", choices=families, default=families, metavar="F", help=f"of {', '.join(families)}")
    add("--variants", nargs="+", metavar="V", help="only these variants (dac_44k, encodec_48k, ...)")
    add("--packages", nargs="+", metavar="P", help="only these published packages (moshi, transformers, ...)")
    add("--seconds", type=float, default=10.0, help="length of each clip (10)")
    add("--batch", type=int, nargs="+", default=[1, 8], metavar="B", help="clips a call (1 8)")
    add("--repeats", type=int, default=3, help="rounds; the table has the minimum (3)")
    add("--threads", type=int, help="torch's threads (torch's own choice)")
    add("--device", help="cpu, cuda, ... (CUDA > MPS > CPU)")
    add("--precision", nargs="+", choices=PRECISIONS, help="of ours (exact; on CUDA exact and fast)")
    add(
        "--clock",
        choices=("wall", "cpu"),
        default="wall",
        help="what the table shows; cpu = processor time of all threads, for a CPU that others use too (wall)",
    )
    add("--ragged-batch", type=int, default=4, metavar="B", help="clips of the ragged batch; 0 = not measured (4)")
    add("--ragged-only", action="store_true", help="only ragged beside dense: needs no published package")
    add("--checkouts", type=Path, metavar="PATH", help="a folder of clones, for what has no package")
    add("--out", type=Path, help="JSON; records of other variants that it holds already are kept")
    add("--tables", type=Path, metavar="JSON", help="only print the tables of an earlier --out, and their extremes")
    add("--strict", action="store_true", help="exit code 1 if a published implementation was skipped")
    args = parser.parse_args(argv)
    if min(args.batch) < 1 or args.repeats < 1 or args.seconds <= 0:
        parser.error("--batch and --repeats are at least 1, --seconds is more than 0")
    return args


def wanted(case: Case, args: argparse.Namespace) -> bool:
    return (
        case.family in args.families
        and (args.variants is None or case.variant in args.variants)
        and (args.packages is None or case.package in args.packages)
    )


def checkout_of(case: Case, args: argparse.Namespace) -> Path | None:
    """Where the clone of its repository is looked for."""
    return args.checkouts / case.package if case.repository and args.checkouts else None


def why_skipped(case: Case, args: argparse.Namespace) -> str | None:
    """Why the published side cannot run here; None if it can."""
    if case.repository:
        checkout = checkout_of(case, args)
        here = checkout is not None and checkout.is_dir()
        return None if here else f"no package: clone {case.repository} into the folder of --checkouts"
    try:
        importlib.metadata.version(case.package)
    except importlib.metadata.PackageNotFoundError:
        return f"{case.package} is not installed: pip install {case.package}"
    return None


@contextmanager
def quiet_codecs() -> Iterator[None]:
    """Without what loading says of licences and of the odd magnitudes of made-up weights."""
    log = logging.getLogger("codeczoo")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    if args.tables:
        records = json.loads(args.tables.read_text("utf-8"))
        print(summary(records), tables(records), sep="\n\n")
        return 0
    device = choose_device(args.device)
    if args.threads:
        torch.set_num_threads(args.threads)
    args.precision = args.precision or (list(PRECISIONS) if device.type == "cuda" else ["exact"])
    with quiet_codecs(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)
        records, skipped = compare(args, device)
    if records:
        print(json.dumps(records[-1]["environment"]))
        print(tables(records))
    return 1 if args.strict and skipped else 0


def compare(args: argparse.Namespace, device: torch.device) -> tuple[list[dict[str, Any]], list[Case]]:
    """The records of what was compared, and the cases that were left out."""
    records: list[dict[str, Any]] = []
    skipped: list[Case] = []
    done: set[str] = set()
    for case in CASES:
        if not wanted(case, args) or (args.ragged_only and case.variant in done):
            continue
        reason = None if args.ragged_only else why_skipped(case, args)
        if reason:
            print(f"skipped {case.variant}: {reason}", file=sys.stderr, flush=True)
            skipped.append(case)
            continue
        print(f"{case.name} ...", file=sys.stderr, flush=True)
        try:
            comparison = Comparison(case, args, device)
        except ImportError as error:
            print(f"skipped {case.variant}: {case.package} does not import: {error}", file=sys.stderr, flush=True)
            skipped.append(case)
            continue
        record: dict[str, Any] = {
            "variant": case.variant,
            "package": case.package,
            "version": "" if args.ragged_only else version_of(case),
            "seconds": args.seconds,
            "batch": args.batch,
            "clock": args.clock,
            "ragged_only": args.ragged_only,
            "environment": environment(device),
            "rows": [],
            "ragged": [],
        }
        if not args.ragged_only:
            for batch in args.batch:
                record["rows"] += comparison.against_published(batch)
        if args.ragged_batch and case.variant not in done:
            record["ragged"] = comparison.ragged(args.ragged_batch)
        done.add(case.variant)
        records.append(record)
        if args.out:
            store(args.out, record)
        print(tables([record]), file=sys.stderr, flush=True)
        del comparison
        gc.collect()
    return records, skipped


if __name__ == "__main__":
    sys.exit(main())
