"""What a million hours of audio take to tokenise. docs/scale.md holds the figures.

    python -m perf.scale plan --hours 1e6 --codec mimi --gpus 64            # a table from measured rates
    python -m perf.scale plan --codec dac_44k --precision tf32 --audio "mp3 44.1 kHz stereo" --gpu-price 2.5
    python -m perf.scale table --hours 1e6                                  # GPU-hours of all codecs
    python -m perf.scale simulate --codec mimi --gpus 64 --mtbf 1000 --slow-share 0.05
    python -m perf.scale measure --out docs/measurements/scale.json         # the rates of one core here: 3 minutes
    python -m perf.scale files --clips 100000                               # as files, in a tar, in Parquet: 3 minutes
    python -m perf.scale local --nodes 6                                    # a run in several processes: 4 minutes

Run it from the root of the repository.

  plan      arithmetic: hours, a codec and GPUs in, GPU-hours, cores, bytes, files and memory out. The rates of GPUs are
            those of docs/measurements/gpu.json, those of a core of docs/measurements/scale.json (--rates names another)
  simulate  the same run event by event, with nodes that are slow or die; static shares (`--shard I/N`, torchrun, Slurm)
            beside the queue (Ray). It takes the package simpy
  measure   decoding, resampling, headers, tokens by form, resuming: least processor time of several rounds
  files     many tiny clips in every form of data set: how long they take to list and to read, and what they take up
  local     codeczoo's own processes and a Ray cluster on this machine, with one slow node and one that is killed; then
            the simulation of the same. The "GPU" of a node is G.711 that waits until the audio would be through
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

from perf.scale.plan import Work, plan, table
from perf.scale.rates import LOCAL_FILE, PRECISIONS, read_rates


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m perf.scale", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("plan", "simulate"):
        command = commands.add_parser(name)
        command.add_argument("--hours", type=float, default=1e6, help="of audio (1e6)")
        command.add_argument("--codec", default="mimi", metavar="NAME")
        command.add_argument("--precision", choices=list(PRECISIONS), default="exact")
        command.add_argument("--gpus", type=int, default=64)
        command.add_argument("--gpus-per-node", type=int, default=8)
        command.add_argument("--clip-seconds", type=float, default=10.0)
        command.add_argument("--shard-clips", type=int, default=1000, help="clips in a shard of tokens (1000)")
        command.add_argument("--rates", type=Path, default=LOCAL_FILE, help="what `measure` wrote")
        command.add_argument("--out", type=Path, metavar="FILE", help="the figures as JSON")
        if name == "plan":
            command.add_argument("--audio", default="flac 24 kHz mono", help="form of the audio, as `measure` names it")
            command.add_argument("--listing", choices=("folder", "csv", "tar", "parquet"), default="tar")
            command.add_argument("--gpu-price", type=float, help="of a GPU-hour, in your money")
            command.add_argument("--storage-price", type=float, help="of a TB a month")
        else:
            command.add_argument(
                "--mtbf", type=float, default=1000.0, help="hours between failures of a node; 0 = none"
            )
            command.add_argument("--restart", type=float, default=600.0, help="seconds until a dead node is back")
            command.add_argument("--start", type=float, default=30.0, help="seconds until a program is at work")
            command.add_argument(
                "--notice", type=float, default=30.0, help="seconds until Ray sees that a node is dead"
            )
            command.add_argument("--slow-share", type=float, default=0.0, help="of the GPUs")
            command.add_argument("--slow-speed", type=float, default=0.5, help="of the slow ones (0.5)")
            command.add_argument("--spread", type=float, default=0.03, help="of the others' speeds (0.03)")
            command.add_argument(
                "--slices", type=int, nargs=2, metavar=("FIRST", "LARGEST"), help="batches in one (256 16384)"
            )
            command.add_argument("--runs", type=int, default=20)
    command = commands.add_parser("table")
    command.add_argument("--hours", type=float, default=1e6, help="of audio (1e6)")
    command.add_argument("--out", type=Path, metavar="FILE", help="the figures as JSON")
    for name in ("measure", "files", "local"):
        command = commands.add_parser(name)
        command.add_argument("--out", type=Path, metavar="FILE", help="the figures as JSON; what is there is kept")
        if name == "measure":
            command.add_argument("--rounds", type=int, default=5)
            command.add_argument(
                "--only", nargs="+", metavar="PART", help="decode, resample, host, tokens, listing, resume"
            )
        elif name == "files":
            command.add_argument("--clips", type=int, default=100_000)
            command.add_argument("--folder", type=Path, help="where they are written (a temporary one)")
        else:
            command.add_argument("--nodes", type=int, default=6)
            command.add_argument("--clips", type=int, default=3000)
            command.add_argument("--engines", nargs="+", choices=("static", "ray"), default=["static", "ray"])
    args = parser.parse_args(argv)
    try:
        found = _run(args)
    except (KeyError, ValueError, FileNotFoundError) as error:
        parser.error(str(error.args[0] if isinstance(error, KeyError) else error))
    if args.out:
        before = json.loads(args.out.read_text("utf-8")) if args.out.exists() else {}
        args.out.write_text(json.dumps({**before, **found}, indent=1) + "\n", encoding="utf-8")
    return 0


def _run(args: argparse.Namespace) -> dict[str, Any]:
    if args.command == "plan":
        names = ("hours", "codec", "precision", "gpus", "gpus_per_node", "audio", "clip_seconds", "shard_clips",
                 "listing", "gpu_price", "storage_price")  # fmt: skip
        rows = list(plan(Work(**{name: getattr(args, name) for name in names}), read_rates(local=args.rates)))
        print(table(iter(rows)))
        return {"plan": [row._asdict() for row in rows]}
    if args.command == "table":
        return {"table": _table(args.hours)}
    if args.command == "simulate":
        return {"simulation": _simulate(args)}
    if args.command == "measure":
        from perf.scale.measure import measure

        return measure(args.rounds, args.only)
    if args.command == "files":
        from perf.scale.files import compare_forms

        return {"files": compare_forms(args.clips, args.folder)}
    from perf.scale.local import run_here

    return {"local": run_here(args.nodes, args.clips, args.engines)}


def _table(hours: float) -> dict[str, dict[str, float]]:
    """GPU-hours of every codec that was measured, by precision."""
    rates = read_rates().gpu
    found = {codec: {mode: hours / rate for mode, rate in modes.items()} for codec, modes in rates.items()}
    print(f"| codec | {' | '.join(PRECISIONS)} |\n|---|{'--:|' * len(PRECISIONS)}")
    for codec, modes in sorted(found.items(), key=lambda item: item[1]["exact"]):
        print(f"| {codec} | {' | '.join(format(modes[mode], ',.0f') for mode in PRECISIONS)} |")
    return found


def _simulate(args: argparse.Namespace) -> list[dict[str, Any]]:
    from perf.scale.simulate import Cluster, simulate_often

    rate = read_rates(local=args.rates).encode(args.codec, args.precision)
    seconds = args.shard_clips * args.clip_seconds
    common = {
        "workers": args.gpus, "per_node": args.gpus_per_node, "shards": math.ceil(args.hours * 3600 / seconds),
        "shard_seconds": seconds / rate, "mtbf": args.mtbf * 3600 if args.mtbf else math.inf, "restart": args.restart,
        "start": args.start, "notice": args.notice, "slow_share": args.slow_share, "slow_speed": args.slow_speed,
        "spread": args.spread,
    }  # fmt: skip
    # A slice is of batches, each of 1200 s of audio on a GPU (executor.settings.BATCH_SECONDS).
    first, largest = (max(1, round(count * 1200 / seconds)) for count in args.slices or (256, 16384))
    kinds = {
        "static shares": Cluster(**common, policy="static"),
        "one queue": Cluster(**common, policy="queue"),
        f"queue in slices of {first} to {largest} shards": Cluster(**common, policy="queue", slices=(first, largest)),
    }
    ideal = common["shards"] * common["shard_seconds"] / args.gpus
    print(
        f"{common['shards']:,} shards of {common['shard_seconds']:.2f} s; {ideal / 3600:.2f} h if nothing ever waits\n"
    )
    print("| policy | h, p5 | p50 | p95 | × ideal | failures | lost GPU h | down | starting | idle |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    found = []
    for name, cluster in kinds.items():
        mean = simulate_often(cluster, args.runs)
        hours = [f"{mean[key] / 3600:.2f}" for key in ("finish_p5", "finish_p50", "finish_p95")]
        rest = [f"{mean[key] / 3600:.1f}" for key in ("lost", "down", "starting", "idle")]
        share = f"{mean['finish'] / ideal:.3f}"
        print(f"| {name} | {' | '.join([*hours, share, format(mean['failures'], '.1f'), *rest])} |", flush=True)
        found.append({"policy": name, "ideal": ideal, **mean})
    return found


if __name__ == "__main__":
    raise SystemExit(main())
