"""What `precision="fast"` and `"fastest"` gain on this device, and what they cost: time, codes kept, audio.

    python -m perf.fast                                  # ten codecs
    python -m perf.fast --codecs mimi --parts            # which part of the network costs how many codes

Run it from the root of the repository, with its tests beside it: weights are those of the golden manifests, of the
published networks' keys, shapes and scales, but of noise; `zoo_16k` has its own. One thread, the embedded speech; each
time is the least processor time of `--repeats`, the precisions taking turns. `kept`: share of the codes, of all
codebooks. `dB`: signal-to-difference ratio of what the same codes decode to.

`--parts`: everything that leads to codes in bfloat16 but one part, part after part; then nothing but that part.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from codeczoo import Audio, BaseCodec, Codes, load_codec
from codeczoo.base.device import native_bfloat16
from codeczoo.base.model import CALLS
from codeczoo.data import embedded_clips
from tests.support.golden import golden_codec

CODECS = {
    "mimi": "mimi",
    "encodec_24k": "encodec_24k",
    "wavtokenizer_large_40": "wavtokenizer_40",
    "dac_16k": "dac_16k",
    "bigcodec_1k": "bigcodec_16k",
    "speechtokenizer_16k": "speechtokenizer_16k",
    "snac_24khz": "snac_24khz",
    "nanocodec_1k78bps_12hz": "nanocodec_1k78bps_12hz",
    "focalcodec_50hz": "focalcodec_50hz",
    "zoo_16k": "",
}
KINDS = ("exact", "fast", "fastest")


def load(name: str) -> BaseCodec:
    return golden_codec(name, CODECS[name]) if CODECS[name] else load_codec(name, device="cpu")


def timed(calls: dict[str, Callable[[], Any]], repeats: int) -> dict[str, tuple[float, Any]]:
    """The least processor time of each call, in seconds, and what it gave; they take turns."""
    found: dict[str, tuple[float, Any]] = {}
    for _ in range(repeats):
        for key, call in calls.items():
            started = time.process_time()
            result = call()
            spent = time.process_time() - started
            found[key] = (min(spent, found[key][0]) if key in found else spent, result)
    return found


def kept(codes: Codes, exact: Codes) -> float:
    return float((codes.codes == exact.codes)[exact.codes >= 0].double().mean())


def decibels(audio: Audio, exact: Audio) -> float:
    difference = (audio.waveform - exact.waveform).double().square().sum()
    return float(10 * torch.log10(exact.waveform.double().square().sum() / difference))


def row(codec: BaseCodec, audio: Audio, repeats: int) -> str:
    sides = {kind: copy.deepcopy(codec) for kind in KINDS}  # a change of precision frees what was made for it
    for kind, side in sides.items():
        side.precision = kind
    encoded = timed({kind: lambda side=side: side.encode(audio) for kind, side in sides.items()}, repeats)
    codes = encoded["exact"][1]
    decoded = timed({kind: lambda side=side: side.decode(codes) for kind, side in sides.items()}, repeats)
    cells = [codec.name, f"{codes.num_codebooks}"]
    for kind in KINDS[1:]:
        cells += [
            f"{encoded['exact'][0] / encoded[kind][0]:.2f}",
            f"{100 * kept(encoded[kind][1], codes):.1f}",
            f"{decoded['exact'][0] / decoded[kind][0]:.2f}",
            f"{decibels(decoded[kind][1], decoded['exact'][1]):.0f}",
        ]
    return "| " + " | ".join([*cells, sides["fast"].arithmetic]) + " |"


def parts_of(codec: BaseCodec) -> Iterator[str]:
    """Names of the parts that lead to codes: of lists their entries."""
    for name, part in codec.named_children():
        if "decoder" in name or name.startswith("_"):
            continue
        for inner, child in part.named_children():
            if isinstance(child, nn.ModuleList | nn.Sequential):
                yield from (f"{name}.{inner}.{i}" for i in range(len(child)))
            else:
                yield f"{name}.{inner}"


def by_part(codec: BaseCodec, audio: Audio) -> Iterator[str]:
    codec.precision = "exact"
    exact = codec.encode(audio)
    parts = list(parts_of(codec))
    choices = {"nothing": (), **{part: (part,) for part in parts}}
    choices |= {f"all but {part}": tuple(other for other in parts if other != part) for part in parts}
    for title, names in choices.items():
        codec.variant = dataclasses.replace(codec.variant, float32_parts=names)
        codec.precision = "fast"
        codec.keep_parts_in_float32()
        found = timed({"": lambda: codec.encode(audio)}, 2)[""]
        yield f"| {title} | {1000 * found[0]:.0f} | {100 * kept(found[1], exact):.1f} |"
        for name in names:
            for method in CALLS:
                vars(codec.get_submodule(name)).pop(method, None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codecs", nargs="+", choices=list(CODECS), default=list(CODECS))
    parser.add_argument("--parts", action="store_true")
    parser.add_argument("--repeats", type=int, default=4)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    audio = Audio.load(embedded_clips()[0])
    print(f"bfloat16 in this CPU: {'yes' if native_bfloat16() else 'no'}\n")
    if options.parts:
        for name in options.codecs:
            print(f"{name}\n\n| in float32 | encode, ms | codes kept % |\n|---|---|---|", flush=True)
            for line in by_part(load(name), audio):
                print(line, flush=True)
        return
    columns = [f"{kind}: {what}" for kind in KINDS[1:] for what in ("encode ×", "kept %", "decode ×", "dB")]
    print("| " + " | ".join(["codec", "codebooks", *columns, "fast is"]) + " |\n|" + "---|" * (len(columns) + 3))
    for name in options.codecs:
        print(row(load(name), audio, options.repeats), flush=True)


if __name__ == "__main__":
    main()
