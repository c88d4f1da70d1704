"""Groups of a batch side by side, each on one thread, against one group at a time on all threads.

    python -m perf.side_by_side                            # ten codecs, batches of 8, 16 and 32 clips of 1 s
    python -m perf.side_by_side --codecs encodec_24k mimi --batch 8 --rows 1 2 4 8
    python -m perf.side_by_side --lstm                     # what a step of an LSTM takes a clip, by clips in it

Random weights. Wall time, the least of --repeats rounds, the ways taking turns; run it on a machine that does nothing
else, for threads that wait for each other at the end of every layer wait for whatever else runs too. Each cell:
"one group's time / side by side". `rule`: what a codec does by itself; `codes`: whether all ways gave the same.
"""

from __future__ import annotations

import argparse
import logging
import time

import torch

from codeczoo import Audio, BaseCodec, Codes, load_codec
from codeczoo.base.strategy import Strategy, fixed_strategy

CODECS = (
    *("encodec_24k", "mimi", "dac_16k", "wavtokenizer_large_40", "snac_24khz", "speechtokenizer_16k", "zoo_16k"),
    *("nanocodec_1k78bps_12hz", "focalcodec_50hz", "s3tokenizer_v2_25hz"),
)


def race(codec: BaseCodec, given: Audio | Codes, ways: dict[str, Strategy], repeats: int) -> dict[str, float]:
    """The least time of each way, in seconds; NaN where it gave other codes than the first."""
    found: dict[str, float] = {}
    truth = None
    for round_ in range(repeats + 1):
        for name, way in ways.items():
            with fixed_strategy(way):
                began = time.perf_counter()
                result = codec.encode(given) if isinstance(given, Audio) else codec.decode(given)
                took = time.perf_counter() - began
            if isinstance(result, Codes):
                truth = result if truth is None else truth
                took = took if torch.equal(result.codes, truth.codes) else float("nan")
            if round_:  # the first one only warms up
                found[name] = min(took, found.get(name, took))
    return found


def rows_of(codec: BaseCodec, options: argparse.Namespace) -> None:
    threads, most = torch.get_num_threads(), codec._chunk_seconds()
    for batch in options.batch:
        samples = int(options.seconds * codec.sample_rate)
        waveform = 0.1 * torch.randn(batch, codec.channels[-1], samples, generator=torch.Generator().manual_seed(0))
        audio = Audio(waveform, torch.full((batch,), samples), codec.sample_rate)
        ways = {"one": Strategy(most)}
        for rows in options.rows:
            if rows * threads <= batch and rows * options.seconds <= most / threads:
                ways[str(rows)] = Strategy(rows * options.seconds, threads, 1)
        sides: dict[str, Audio | Codes] = {"encode": audio}
        if codec.supports_decode:
            sides["decode"] = codec.encode(audio)
        for side, given in sides.items():
            rule = codec.strategy(batch, options.seconds, side)
            times = race(codec, given, {**ways, "rule": rule}, options.repeats)
            cells = [f"{times['one'] / times[str(rows)]:.2f}" if str(rows) in times else "" for rows in options.rows]
            codes = "other" if any(took != took for took in times.values()) else "same"
            told = f"{1000 * times['one']:.0f}", *cells, f"{times['one'] / times['rule']:.2f} ({rule.beside})", codes
            print("| " + " | ".join((codec.name, side, str(batch), *told)) + " |", flush=True)


def lstm(repeats: int) -> None:
    print("| channels | " + " | ".join(f"B = {2**i}" for i in range(6)) + " |\n|" + "---|" * 7)
    torch.set_num_threads(1)
    for channels, steps in ((512, 75), (128, 50)):
        layers = torch.nn.LSTM(channels, channels, 2)
        cells = []
        for rows in (2**i for i in range(6)):
            x, best = torch.randn(steps, rows, channels), float("inf")
            with torch.no_grad():
                for _ in range(repeats + 1):
                    began = time.thread_time()
                    layers(x)
                    best = min(best, time.thread_time() - began)
            cells.append(f"{1000 * best / rows:.2f}")
        print(f"| {channels} | " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codecs", nargs="+", default=list(CODECS), metavar="NAME")
    parser.add_argument("--batch", nargs="+", type=int, default=[8, 16, 32])
    parser.add_argument("--seconds", type=float, default=1.0, help="of a clip (1)")
    parser.add_argument("--rows", nargs="+", type=int, default=[1, 2, 4, 8, 15], help="clips in a group, side by side")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--lstm", action="store_true")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    if options.lstm:
        return lstm(options.repeats)
    torch.set_num_threads(options.threads)
    columns = ["codec", "", "clips", "one group, ms", *(f"groups of {n}" for n in options.rows), "rule", "codes"]
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    for name in options.codecs:
        rows_of(load_codec(name, "random", device="cpu"), options)
    return None


if __name__ == "__main__":
    main()
