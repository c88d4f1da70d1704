"""Peak memory of encode and decode as clips get longer: length is no limit, so it must not grow with them.

    python -m perf.memory --small                                 # one codec of every family, 2 and 20 minutes
    python -m perf.memory --codecs mimi encodec_24k --minutes 2 20
    python -m perf.memory --codecs dac_44k --set encoder_dim=8 decoder_dim=96

Run it from the repository's root. Each figure comes from a process of its own, with random weights. `peak` is the
process's largest resident size; `audio` what the clip itself takes, which nobody can do without (the waveform that went
in, float32, the codes, int64, and the waveform that came out); `growth` compares peak minus audio between the shortest
and the longest clip. `--small` takes the networks of few channels that the tests use (`SMALL`, tests/codecs/), `--set`
changes single numbers: so a slow codec can be run on a long clip, and what grows with length stands out the more.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import subprocess
import sys
from pathlib import Path

import torch

from codeczoo import Audio
from codeczoo.base.catalogue import find_variant, variants
from codeczoo.weights.load import load_weights
from tests.support.declarations import small_numbers


def measure(name: str, minutes: float, seconds_per_pass: float | None, changes: dict[str, object]) -> dict[str, float]:
    """Encode and decode one clip of noise in this process."""
    variant = find_variant(name)
    codec = dataclasses.replace(variant, network={**variant.network, **changes}).build()
    load_weights(codec, "random")
    codec.eval().requires_grad_(False)
    codec.max_chunk_seconds = seconds_per_pass
    samples = int(minutes * 60 * codec.sample_rate)
    generator = torch.Generator().manual_seed(0)
    waveform = torch.empty(1, codec.channels[-1], samples).uniform_(-0.3, 0.3, generator=generator)
    start = peak_bytes()
    codes = codec.encode(Audio(waveform, torch.tensor([samples]), codec.sample_rate))
    encoded = peak_bytes()
    decoded = codec.decode(codes) if codec.supports_decode else None
    return {
        "minutes": minutes,
        "start": start,
        "encode_peak": encoded,
        "peak": peak_bytes(),
        "audio_in": waveform.nbytes,
        "audio_out": decoded.waveform.nbytes if decoded is not None else 0,
        "codes": codes.codes.nbytes,
    }


def one_of_each_family() -> list[str]:
    """The first variant of each, and EnCodec's two networks, which have little in common."""
    first = {variant.family: name for name, variant in reversed(variants().items())}
    return sorted({*first.values(), "encodec_48k"})


def peak_bytes() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def net(row: dict[str, float]) -> tuple[float, float]:
    """Peaks of encode, and of both, without the clip itself."""
    kept = row["audio_in"] + row["codes"]
    return row["encode_peak"] - kept, row["peak"] - kept - row["audio_out"]


def value_of(text: str) -> tuple[str, object]:
    name, _, value = text.partition("=")
    return name, json.loads(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codecs", nargs="+", default=one_of_each_family(), help="default: one of every family")
    parser.add_argument("--minutes", nargs="+", type=float, default=[2.0, 20.0])
    parser.add_argument("--max-chunk-seconds", "--max-seconds-per-pass", type=float, help="of the codec")
    parser.add_argument("--small", action="store_true", help="the small networks of tests/codecs/")
    parser.add_argument("--set", nargs="*", default=[], metavar="FIELD=VALUE", help="change the network's numbers")
    parser.add_argument("--out", type=Path, help="write the figures as JSON too")
    parser.add_argument("--child", nargs=1, type=float, help=argparse.SUPPRESS)
    args = parser.parse_args()
    changes = dict(value_of(text) for text in args.set)
    if args.child:
        small = small_numbers(find_variant(args.codecs[0]).family) if args.small else {}
        print(json.dumps(measure(args.codecs[0], args.child[0], args.max_chunk_seconds, {**small, **changes})))
        return
    report = {}
    for name in args.codecs:
        rows = []
        for minutes in args.minutes:
            command = [sys.executable, "-m", "perf.memory", "--codecs", name, "--child", str(minutes)]
            command += ["--set", *args.set, *(["--small"] if args.small else [])]
            if args.max_chunk_seconds:
                command += ["--max-chunk-seconds", str(args.max_chunk_seconds)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            row = json.loads(done.stdout.splitlines()[-1])
            rows.append(row)
            mib = [value / 2**20 for value in (row["encode_peak"], row["peak"], row["audio_in"], *net(row))]
            print(
                f"{name:24} {minutes:5g} min: encode peak {mib[0]:7.0f} MiB, peak {mib[1]:7.0f} MiB, "
                f"audio {mib[2]:6.0f} MiB; "
                f"without audio {mib[3]:7.0f} and {mib[4]:7.0f} MiB",
                flush=True,
            )
        growth = {
            op: last / first - 1 for op, first, last in zip(("encode", "all"), net(rows[0]), net(rows[-1]), strict=True)
        }
        print(f"{name:24} growth without audio: encode {growth['encode']:+.1%}, encode and decode {growth['all']:+.1%}")
        report[name] = {"rows": rows, "growth": growth, "small": args.small, "set": changes}
        if args.out:
            args.out.write_text(json.dumps(report, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
