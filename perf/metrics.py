"""What the metrics cost, beside the packages that compute them elsewhere.

See `python perf/metrics.py --help`.
"""

# ruff: noqa: E402 (NumPy's threads are set before it is imported)

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"  # for pystoi; torch's own number is set below

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile as sf
import torch
from pesq import pesq
from pystoi import stoi as pystoi

from codeczoo import metrics
from codeczoo.base.resampling import resample
from codeczoo.metrics.pool import usable_cores

RECORDINGS = Path(__file__).parent.parent / "tests" / "golden" / "metrics" / "audio"
PAIRS = (
    ("r_aishell_16k", "r_aishell_16k__opus_12"),
    ("s_en_16k", "s_en_16k__opus_16"),
    ("s_zh_16k", "s_zh_16k__opus_12"),
    ("s_de_f_16k", "s_de_f_16k__opus_9"),
    ("s_fr_24k", "s_fr_24k__opus_24"),
    ("s_es_44k", "s_es_44k__opus_10"),
)
# CPU seconds of Codec-SUPERB's get_metrics over those of pystoi's stoi for one clip of 10 s, in one process on one
# core (AMD EPYC), by rate: 0.33 / 0.046, 0.34 / 0.053, 0.55 / 0.084.
CODEC_SUPERB = {16_000: 7.2, 24_000: 6.4, 44_100: 6.5}

HELP = """\
Two questions are answered, each by runs in turn in one process, of which the least time counts:

  1. Is STOI of a batch faster than pystoi in a loop?      codeczoo.metrics.stoi on [B, 1, T] against
                                                           pystoi.stoi on each clip
  2. What do all default metrics together cost?            codeczoo.metrics.evaluate(reference, estimate, rate)
                                                           against the same loop of pystoi, as a common measure
                                                           with Codec-SUPERB's get_metrics, which costs 7.2 times
                                                           pystoi at 16 kHz (in CPU time; it has one process).
                                                           Its two calls of wide-band PESQ are also timed here

The clips are speech (one recording, synthetic voices) and its Opus version, repeated to the length asked for.
Wall-clock seconds are what a user waits for, with --threads for the batched metrics and --workers for PESQ and Praat
beside them; CPU seconds add up all processes and threads.
"""

EXAMPLES = """\
examples:
  python perf/metrics.py                         64 clips of 10 s at 16 kHz
  python perf/metrics.py --rate 44100 --clips 16
  python perf/metrics.py --each                  the cost of each metric alone, too
  python perf/metrics.py --json metrics.json     the figures for a program to read
"""


class Cost(NamedTuple):
    """Seconds a clip."""

    wall: float
    cpu: float

    def over(self, other: Cost) -> Cost:
        return Cost(self.wall / other.wall, self.cpu / other.cpu)


def main(arguments: Sequence[str] | None = None) -> None:
    args = parser().parse_args(arguments)
    torch.set_num_threads(args.threads)
    reference, estimate = clips(args.clips, args.seconds, args.rate)
    values: dict[str, np.ndarray] = {}

    def loop() -> None:
        pairs = zip(reference[:, 0].numpy(), estimate[:, 0].numpy(), strict=True)
        values["theirs"] = np.array([pystoi(x, y, args.rate) for x, y in pairs])

    def batched() -> None:
        values["ours"] = metrics.stoi(reference, estimate, args.rate).values.numpy()

    def evaluated(names: Sequence[str] | None) -> Callable[[], object]:
        return lambda: metrics.evaluate(reference, estimate, args.rate, names, pool=pool)

    runs: dict[str, Callable[[], object]] = {"pystoi in a loop": loop, "stoi, batched": batched}
    if not args.stoi_only:
        runs["all defaults"] = evaluated(None)
    if args.rate == 16_000 and not args.stoi_only:
        runs["wide-band PESQ, twice"] = lambda: pesq_twice(reference, estimate)
    if args.each and not args.stoi_only:
        runs |= {name: evaluated([name]) for name in metrics.DEFAULT_METRICS}
    with metrics.WorkerPool(args.workers) as pool:
        costs = dict(zip(runs, least(list(runs.values()), args, pool), strict=True))
    difference = float(np.abs(values["ours"] - values["theirs"]).max())

    show(args, costs, difference)


def show(args: argparse.Namespace, costs: dict[str, Cost], difference: float) -> None:
    """The table, and the file for a program to read."""
    base = costs["pystoi in a loop"]
    load = f", load {os.getloadavg()[0]:.1f} on {usable_cores()} cores" if hasattr(os, "getloadavg") else ""
    print(
        f"{args.clips} clips of {args.seconds:g} s at {args.rate} Hz, {args.threads} threads, {args.workers} workers"
        f"{load}\n"
    )
    print(f"{'seconds a clip':<26}{'wall':>10}{'CPU':>10}{'wall / pystoi':>16}{'CPU / pystoi':>15}")
    for name, cost in costs.items():
        ratio = cost.over(base)
        print(f"{name:<26}{cost.wall:>10.4f}{cost.cpu:>10.4f}{ratio.wall:>16.2f}{ratio.cpu:>15.2f}")
    batched = costs["stoi, batched"].over(base)
    print(
        f"\nSTOI, batched: {1 / batched.wall:.2f} times as fast as pystoi in a loop by the clock, "
        f"{1 / batched.cpu:.2f} in CPU time; largest difference {difference:.1e}"
    )
    if args.stoi_only:
        return
    ratio, count = costs["all defaults"].over(base), len(metrics.DEFAULT_METRICS)
    print(f"All {count} defaults: {ratio.wall:.2f} times pystoi by the clock, {ratio.cpu:.2f} in CPU time")
    theirs = CODEC_SUPERB.get(args.rate)
    if theirs:
        print(
            f"  Codec-SUPERB's seven: {theirs:.1f} times pystoi; "
            f"ours are {ratio.wall / theirs:.2f} of that by the clock and {ratio.cpu / theirs:.2f} in CPU time"
        )
    if args.json:
        report = {
            "settings": vars(args) | {"json": str(args.json)},
            "versions": {"torch": torch.__version__, "numpy": np.__version__},
            "seconds_per_clip": {name: cost._asdict() for name, cost in costs.items()},
            "stoi_over_pystoi": batched._asdict(),
            "stoi_difference": difference,
            "all_over_pystoi": ratio._asdict(),
            "codec_superb_over_pystoi": theirs,
        }
        args.json.write_text(json.dumps(report, indent=1) + "\n")


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="perf/metrics.py",
        description=HELP,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("--clips", type=int, default=64, metavar="B", help="clips in the batch (default 64)")
    result.add_argument("--seconds", type=float, default=10.0, metavar="S", help="length of each (default 10)")
    result.add_argument("--rate", type=int, default=16_000, metavar="HZ", help="sample rate (default 16000)")
    result.add_argument("--threads", type=int, default=2, metavar="N", help="threads of torch (default 2)")
    result.add_argument("--workers", type=int, default=2, metavar="N", help="processes for PESQ and Praat (default 2)")
    result.add_argument(
        "--repeat", type=int, default=3, metavar="N", help="runs, of which the least counts (default 3)"
    )
    result.add_argument("--stoi-only", action="store_true", help="answer the first question only")
    result.add_argument("--each", action="store_true", help="measure each default metric alone, too")
    result.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    return result


def clips(count: int, seconds: float, rate: int) -> tuple[torch.Tensor, torch.Tensor]:
    """References and estimates, float32 [B, 1, T]: pairs of recordings, each begun somewhere else."""
    samples = round(seconds * rate)
    sides: tuple[list, list] = ([], [])
    for i in range(count):
        for side, name in zip(sides, PAIRS[i % len(PAIRS)], strict=True):
            waveform, own_rate = sf.read(RECORDINGS / f"{name}.flac", dtype="float32")
            waveform = resample(torch.from_numpy(waveform), own_rate, rate).numpy()
            side.append(np.resize(np.roll(waveform, 1000 * i), samples))
    reference, estimate = (torch.from_numpy(np.stack(side))[:, None] for side in sides)
    return reference, estimate


def pesq_twice(reference: torch.Tensor, estimate: torch.Tensor) -> None:
    """What Codec-SUPERB does for its `pesq` and `pesq-wb`, which is the largest part of its cost."""
    for x, y in zip(reference[:, 0].numpy(), estimate[:, 0].numpy(), strict=True):
        for _ in range(2):
            pesq(16_000, x, y, "wb")


def least(runs: Sequence[Callable[[], object]], args: argparse.Namespace, pool: metrics.WorkerPool) -> list[Cost]:
    """The least wall-clock and the least CPU time a clip of each; all run in turn, the first time uncounted."""
    measured: list[list[Cost]] = [[] for _ in runs]
    for counted in range(args.repeat + 1):
        for run, costs in zip(runs, measured, strict=True):
            wall, cpu = time.perf_counter(), cpu_seconds(pool)
            run()
            if counted:
                costs.append(Cost((time.perf_counter() - wall) / args.clips, (cpu_seconds(pool) - cpu) / args.clips))
    return [Cost(min(c.wall for c in costs), min(c.cpu for c in costs)) for costs in measured]


def cpu_seconds(pool: metrics.WorkerPool) -> float:
    """Of this process and its workers, which stay; Linux tells what those have used."""
    ticks = 0
    for pid in pool.pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])  # user and system time
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
