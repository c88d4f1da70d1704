"""How many codes stay the same, and how much the audio changes, when weights are stored in fewer bits.

    python -m perf.small_weights                         # one variant a family
    python -m perf.small_weights --codecs mimi dac_24k --seconds 5

Run it from the root of the repository, with its tests beside it: weights are those of the golden manifests, of the
published networks' keys, shapes and scales, but of noise, which gives networks more near ties than training does.
Kinds: int8 (`codeczoo export --format safetensors --type int8`); F16 and Q8_0 of GGUF, for families of codec.cpp.

`codes`: those of the embedded speech that stay the same, in % of all and of the first codebook's. `audio`: how far the
decoder's output for the same codes is from the full weights', as a signal-to-difference ratio in dB. Sizes in MB;
"packed" is the int8 file after `codeczoo pack`.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from codeczoo import BaseCodec
from codeczoo.base.catalogue import find_variant
from codeczoo.weights.export import export_gguf, export_safetensors
from codeczoo.weights.gguf_layout import layout_of
from codeczoo.weights.load import load_weights
from codeczoo.weights.packed import pack
from tests.support import golden_weights
from tests.support.golden import GOLDEN
from tests.support.sound import speech


def one_of_each_family() -> list[str]:
    """Golden folders: the first of each family whose name is a codec's too."""
    found: dict[str, str] = {}
    for path in sorted(GOLDEN.glob("*/manifest.json")):
        with contextlib.suppress(KeyError):
            found.setdefault(find_variant(path.parent.name).family, path.parent.name)
    return list(found.values())


def loaded(name: str, weights: Path | dict[str, Tensor]) -> BaseCodec:
    codec = find_variant(name).build()
    load_weights(codec, weights)
    return codec.eval().requires_grad_(False)


def golden(name: str) -> BaseCodec:
    tensors = golden_weights.state_dict(GOLDEN / name / "manifest.json", "public")
    return loaded(name, {key: torch.from_numpy(array) for key, array in tensors.items()})


def compared(name: str, seconds: float, place: Path) -> Iterator[str]:
    codec = golden(name)
    clip, everything = speech(codec.sample_rate, seconds), max(codec.codebook_choices)
    codes = codec.encode(clip, codec.sample_rate, num_codebooks=everything)
    audio = codec.decode(codes).waveform if codec.supports_decode else None
    size = sum(tensor.nbytes for tensor in codec.state_dict().values()) / 1e6
    writers = {"int8": lambda path: export_safetensors(codec, path, "INT8")}
    if (layout := layout_of(codec)) and not layout.refusal(codec):
        writers |= {kind: lambda path, kind=kind: export_gguf(codec, path, kind) for kind in ("F16", "Q8_0")}
    for kind, write in writers.items():
        path = place / f"small.{'safetensors' if kind == 'int8' else 'gguf'}"
        write(path)
        smaller, packed = path.stat().st_size / 1e6, ""
        if kind == "int8":
            pack(path, place / "packed.safetensors")
            packed = f"{(place / 'packed.safetensors').stat().st_size / 1e6:.0f}"
        other = loaded(name, path)
        same = other.encode(clip, codec.sample_rate, num_codebooks=everything).codes == codes.codes
        level = "-"
        if audio is not None:
            difference = other.decode(codes, allow_other_weights=True).waveform - audio
            level = f"{10 * torch.log10(audio.double().square().sum() / difference.double().square().sum()):.0f}"
        agreement = f"{100 * same.double().mean():.1f} | {100 * same[:, 0].double().mean():.1f}"
        yield f"| {name} | {kind} | {agreement} | {level} | {size:.0f} | {smaller:.0f} | {packed} |"
        del other
        gc.collect()


def main() -> None:
    logging.basicConfig(level=logging.CRITICAL)
    logging.disable(logging.CRITICAL)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codecs", nargs="*", help="names of golden folders (default: one of each family)")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--most", type=float, default=400.0, help="millions of parameters; larger ones are left out")
    args = parser.parse_args()
    torch.set_grad_enabled(False)
    chosen = args.codecs or one_of_each_family()
    print("| codec | stored as | codes % | first codebook % | audio dB | F32 MB | MB | packed MB |")
    print("|---|---|---|---|---|---|---|---|")
    for name in chosen:
        with torch.device("meta"):
            parameters = sum(p.numel() for p in find_variant(name).build().parameters()) / 1e6
        if parameters > args.most:
            print(f"| {name} | left out: {parameters:.0f} M parameters | | | | | | |", flush=True)
            continue
        with tempfile.TemporaryDirectory() as place:
            for line in compared(name, args.seconds, Path(place)):
                print(line, flush=True)
        gc.collect()


if __name__ == "__main__":
    main()
