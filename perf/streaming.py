"""How long a step of a stream takes, and how evenly: ours beside moshi's streaming Mimi, the same weights.

    python -m perf.streaming                                  # 300 steps, batches of 1 and 4, one thread
    python -m perf.streaming --batch 1 --steps 1000 --out docs/measurements/streaming-cpu.json
    python -m perf.streaming --ours-only --codecs encodec_24k # another codec that streams; no package is needed

Run it from the repository's root. A step is one frame of Mimi: 80 ms of audio in, codes of all its codebooks out, or
the way back. Both sides run in one process; at each step first the one, then the other, in turns, encodes the same
samples and decodes the same codes. `--warm-up` steps before are not counted. Weights are those of the golden manifest.

  p50, p99  milliseconds that half, and 99 in 100, of the steps stay within
  jitter    p99 - p50
  late      steps that took longer than the audio of one lasts
  (x)       moshi's p50 / ours: above 1, ours is faster
  codes     the share of moshi's codes that equal ours, over all steps, and the first frame that differs. (From 10 s on
            moshi's stream differs from moshi's own whole clip: docs/measurements/beside-cpu.md. Ours equals it.)
  error     largest difference of the two sides' audio, relative to its peak

On a machine that does other work too, `--clock cpu` (processor time of the step) is what repeats; p99 of wall time then
tells of the other work.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from codeczoo import BaseCodec
from perf.beside import case_of, cases_of, golden_codec
from perf.compare import agreement, environment, peak_error, why_skipped
from tests.support import golden_weights

OPS = ("encode", "decode")
CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}

Row = dict[str, Any]
Steps = dict[str, Callable[[Tensor], Tensor]]  # by operation: [B, C, hop] → [B, K, 1], and the way back


# -- the sides ------------------------------------------------------------------------------------


def ours(codec: BaseCodec, batch: int) -> Steps:
    stream = codec.stream(batch)
    return {
        "encode": lambda chunk: stream.encode(chunk).codes,
        "decode": lambda codes: stream.decode(codes).waveform,
    }


def moshi(state: Mapping[str, Tensor], num_codebooks: int, batch: int) -> Steps:
    from moshi.models import loaders

    from perf.published.interface import loaded

    model = loaded(loaders.get_mimi(None, device="cpu", num_codebooks=num_codebooks), state)
    model.streaming_forever(batch)
    return {"encode": torch.no_grad()(model.encode), "decode": torch.no_grad()(model.decode)}


# -- measuring ------------------------------------------------------------------------------------


def chunks(codec: BaseCodec, batch: int, steps: int) -> Tensor:
    """[steps, B, C, hop], speech-like."""
    hop = codec.hop_length
    if hop is None:
        raise ValueError(f"{codec.name} has no hop: it does not stream")
    waveform = golden_weights.audio(f"streaming/{codec.name}", batch, codec.channels[0], steps * hop, codec.sample_rate)
    whole = torch.from_numpy(waveform.astype(np.float32))
    return whole.unflatten(-1, (steps, hop)).movedim(2, 0).contiguous()


def run(sides: Mapping[str, Steps], inputs: Tensor, warm_up: int, clock: str) -> list[Row]:
    """All steps of all sides, in turns; a row an operation and side."""
    now = CLOCKS[clock]
    spent: dict[tuple[str, str], list[float]] = {(op, name): [] for op in OPS for name in sides}
    made: dict[tuple[str, str], list[Tensor]] = {key: [] for key in spent}
    for number, chunk in enumerate(inputs):
        order = list(sides) if number % 2 == 0 else list(reversed(sides))
        given = chunk
        for op in OPS:
            for name in order:
                started = now()
                result = sides[name][op](given)
                seconds = now() - started
                if number >= warm_up:
                    spent[op, name].append(seconds)
                made[op, name].append(result)
            given = made[op, "ours"][-1]
            if given.shape[-1] == 0:  # the codec looks ahead, and has not begun
                break
    rows = []
    for (op, name), seconds in spent.items():
        if not seconds:
            raise ValueError(f"{name} had given nothing to {op} after {len(inputs)} steps: more --steps are needed")
        row = {"op": op, "side": name, **spread(seconds)}
        if name != "ours":
            mine, theirs = (torch.cat(made[op, side], dim=-1) for side in ("ours", name))
            row |= closeness(mine, theirs) if op == "encode" else {"error": peak_error(mine, theirs)}
        rows.append(row)
    return rows


def closeness(ours: Tensor, theirs: Tensor) -> Row:
    """Of the codes of all steps: the share that are equal, and the first frame that differs (None: none does)."""
    apart = (ours != theirs).flatten(0, 1).any(0).nonzero()
    return {"codes": agreement(ours, theirs), "apart_from": int(apart[0]) if len(apart) else None}


def spread(seconds: Sequence[float]) -> Row:
    """p50, p99 and their difference, in milliseconds, of at least one step; and all of them."""
    milliseconds = 1e3 * np.asarray(seconds)
    p50, p99 = (float(np.percentile(milliseconds, share)) for share in (50, 99))
    return {"p50": p50, "p99": p99, "jitter": p99 - p50, "steps": [round(float(one), 4) for one in milliseconds]}


def measure(variant: str, batch: int, args: argparse.Namespace) -> list[Row]:
    codec, state, _ = golden_codec(variant)
    sides = {"ours": ours(codec, batch)}
    if not args.ours_only:
        sides["moshi"] = moshi(state, codec.num_codebooks, batch)
    inputs = chunks(codec, batch, args.warm_up + args.steps)
    step_ms = 1e3 * inputs.shape[-1] / codec.sample_rate
    rows = run(sides, inputs, args.warm_up, args.clock)
    return [
        {"variant": variant, "batch": batch, "step_ms": step_ms, "late": sum(one > step_ms for one in row["steps"])}
        | row
        for row in rows
    ]


# -- what is told ---------------------------------------------------------------------------------


def table(rows: Sequence[Row]) -> str:
    lines = [
        "| codec | op | B | side | p50 ms | p99 ms | jitter ms | late | codes | error |",
        "|---|---|--:|---|--:|--:|--:|--:|--:|--:|",
    ]
    mine = {(row["variant"], row["op"], row["batch"]): row for row in rows if row["side"] == "ours"}
    for row in rows:
        p50 = f"{row['p50']:.2f}"
        if row["side"] != "ours":
            p50 += f" ({row['p50'] / mine[row['variant'], row['op'], row['batch']]['p50']:.2f})"
        codes = f"{row['codes']:.4%}" if "codes" in row else "–"
        if row.get("apart_from") is not None:
            codes += f", apart from frame {row['apart_from']}"
        error = f"{row['error']:.1e}" if "error" in row else "–"
        lines.append(
            f"| {row['variant']} | {row['op']} | {row['batch']} | {row['side']} | {p50} | {row['p99']:.2f} | "
            f"{row['jitter']:.2f} | {row['late']} of {len(row['steps'])} | {codes} | {error} |"
        )
    return "\n".join(lines)


# -- command line ---------------------------------------------------------------------------------


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m perf.streaming", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--codecs", nargs="+", metavar="NAME", default=["mimi"], help="variants; others than mimi with --ours-only")
    add("--ours-only", action="store_true", help="without moshi")
    add("--batch", type=int, nargs="+", default=[1, 4], metavar="B", help="clips side by side (1 4)")
    add("--steps", type=int, default=300, help="counted steps (300)")
    add("--warm-up", type=int, default=10, help="steps before, not counted (10)")
    add("--threads", type=int, default=1, help="of torch (1)")
    add("--clock", choices=tuple(CLOCKS), default="wall", help="what is timed (wall)")
    add("--out", type=Path, help="JSON, with every step's time")
    args = parser.parse_args(argv)
    if min(*args.batch, args.steps, args.threads) < 1 or args.warm_up < 0:
        parser.error("--batch, --steps and --threads are at least 1, --warm-up at least 0")
    if not args.ours_only:
        if args.codecs != ["mimi"]:
            parser.error(f"moshi streams mimi alone; --codecs {' '.join(args.codecs)} takes --ours-only")
        if reason := why_skipped(case_of("moshi", "mimi"), args):
            parser.error(f"{reason}, or --ours-only")
    unknown = [name for name in args.codecs if not cases_of(name)]
    if unknown:
        parser.error(f"there are no golden weights here for {', '.join(unknown)}")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    torch.set_num_threads(args.threads)
    rows = []
    for variant in args.codecs:
        for batch in args.batch:
            rows += measure(variant, batch, args)
    facts = {**environment(torch.device("cpu")), "clock": args.clock, "warm_up": args.warm_up}
    if args.out:
        args.out.write_text(json.dumps({"environment": facts, "rows": rows}, indent=1) + "\n", "utf-8")
    print(json.dumps(facts))
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
