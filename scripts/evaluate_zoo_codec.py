"""How good `zoo_16k` is on recordings that training did not see, beside Opus.

    PYTHONPATH=. python scripts/evaluate_zoo_codec.py DATA/heldout                  # the weights of the package
    PYTHONPATH=. python scripts/evaluate_zoo_codec.py DATA/heldout --weights zoo.safetensors --out zoo_16k.json

Each file's name begins with its kind (speech, music, audio). For each kind, codec and number of codebooks: means of the
metrics over the clips with intervals of 95 % (bootstrap over clips), and for zoo_16k the difference to `--beside` on
the same clips, with its interval.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from codeczoo import BaseCodec, load_codec
from codeczoo.base.inputs import collate, read_clips
from codeczoo.metrics import evaluate

METRICS = ("mel", "stft", "stoi", "estoi", "pesq_wb", "si_sdr")
RESAMPLES = 2000

Values = NDArray[np.float64]  # [clips], NaN where a metric is undefined


def main() -> None:
    options = parse()
    codec = load_codec("zoo_16k", weights=options.weights, device="cpu")
    others = [load_codec(name, device="cpu") for name in options.others]
    files = sorted(options.heldout.glob("*.flac"))
    report: dict[str, Any] = {"weights": codec.weights_source, "sha256": codec.weights_hash, "kinds": {}}
    for kind in sorted({path.name.partition("-")[0] for path in files}):
        clips = [path for path in files if path.name.startswith(f"{kind}-")]
        measured: dict[str, dict[str, Values]] = {}
        for other in others:
            measured[other.name] = scores(other, clips, None)
        for count in options.codebooks:
            measured[f"zoo_16k, {count} codebooks"] = scores(codec, clips, count)
        report["kinds"][kind] = {"clips": len(clips), "codecs": told(measured, options.beside)}
        show(kind, report["kinds"][kind])
    if options.out:
        options.out.write_text(json.dumps(report, indent=1) + "\n")


def scores(codec: BaseCodec, clips: Sequence[Path], count: int | None) -> dict[str, Values]:
    """Every metric of each clip, and the bits a second that were spent."""
    values: dict[str, list[float]] = {name: [] for name in (*METRICS, "kbps")}
    for path in clips:
        original = collate(read_clips(path))
        codes = codec.encode(original, num_codebooks=count)
        made = codec.match_input(codec.decode(codes), original)
        found = evaluate(original, made, metrics=METRICS)
        for name in METRICS:
            values[name].append(float(found[name][0]))
        values["kbps"].append(float(codes.num_bits[0]) / (int(original.lengths[0]) / original.sample_rate) / 1000)
    return {name: np.array(row) for name, row in values.items()}


def interval(values: Values) -> tuple[float, float, float]:
    """Mean of the defined values, and the ends of its interval of 95 %."""
    values = values[np.isfinite(values)]
    if not len(values):
        return (np.nan, np.nan, np.nan)
    picks = np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.percentile(values[picks].mean(axis=1), [2.5, 97.5])
    return float(values.mean()), float(low), float(high)


def told(measured: dict[str, dict[str, Values]], beside: str) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for codec, own in measured.items():
        out[codec] = {name: [round(x, 4) for x in interval(values)] for name, values in own.items()}
        if codec.startswith("zoo_16k") and beside in measured:
            for name in METRICS:
                difference = interval(own[name] - measured[beside][name])
                out[codec][f"{name} less {beside}'s"] = [round(x, 4) for x in difference]
    return out


def show(kind: str, table: dict[str, Any]) -> None:
    print(f"\n{kind}: {table['clips']} clips; mean (95 % interval)")
    print(f"{'':24}{'kbit/s':>8}" + "".join(f"{name:>24}" for name in METRICS))
    for codec, own in table["codecs"].items():
        cells = "".join(f"{own[m][0]:>10.3f} ({own[m][1]:.3f}, {own[m][2]:.3f})".rjust(24) for m in METRICS)
        print(f"{codec:24}{own['kbps'][0]:>8.2f}{cells}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("heldout", type=Path, help="folder of FLAC files")
    parser.add_argument("--weights", type=Path, help="default: those of the package")
    parser.add_argument("--codebooks", type=int, nargs="+", default=[1, 2, 3, 4, 6, 8, 10, 12])
    parser.add_argument("--others", nargs="+", default=["opus_6k", "opus_8k", "opus_12k"])
    parser.add_argument("--beside", default="opus_6k", help="the codec whose difference is told")
    parser.add_argument("--out", type=Path, help="JSON to write")
    return parser.parse_args()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
