"""Time and memory of source separation, beside the published package on the same weights in the same run.

    pip install demucs
    python perf/separate.py htdemucs --seconds 20 --repeats 3
    python perf/separate.py htdemucs --seconds 60 300 --no-published     # memory by length

The weights are the published class's own initial ones, which take as long as trained ones. Both sides separate the same
noise in turns, and the largest difference of their stems is told.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import sys
import time
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from codeczoo.separation import Separator, find_separator, load_separator


def published(name: str, segment: float | None) -> Any:
    """The published network (one, or a bag), with its own initial weights."""
    from demucs.apply import BagOfModels
    from demucs.hdemucs import HDemucs
    from demucs.htdemucs import HTDemucs

    network = find_separator(name).network
    sources, count = network["sources"], network.get("models", 1)
    if name.startswith("htdemucs"):
        kwargs = {"dconv_mode": 3, "segment": Fraction(39, 5), "bottom_channels": network["bottom_channels"]}
        models = [HTDemucs(sources, **kwargs, t_layers=5, t_heads=8) for _ in range(count)]
    else:
        models = [HDemucs(sources, segment=segment or 44) for _ in range(count)]
    identity = [[float(i == k) for k in range(len(sources))] for i in range(count)]
    return BagOfModels(models, identity if count > 1 else None)


def ours(name: str, bag: Any | None, device: str) -> Separator:
    if bag is None:
        return load_separator(name, "random", device=device)
    if len(bag.models) == 1:
        return load_separator(name, bag.models[0].state_dict(), device=device)
    from codeczoo.separation.htdemucs import FINE_TUNED

    parts = zip(FINE_TUNED, bag.models, strict=True)
    return load_separator(name, {stem: dict(model.state_dict()) for stem, model in parts}, device=device)


def separate_published(bag: Any, mix: Tensor, segment: float | None) -> Tensor:
    """As the package's `Separator.separate_tensor` does, without its random shifts."""
    from demucs.apply import apply_model

    ref = mix.mean(1)
    mean, std = ref.mean(), ref.std() + 1e-8
    return apply_model(bag, (mix - mean) / std, shifts=0, overlap=0.25, segment=segment) * std + mean


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", default="htdemucs")
    parser.add_argument("--seconds", type=float, nargs="+", default=[20.0])
    parser.add_argument("--segment", type=float)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--no-published", action="store_true")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    bag = None if args.no_published else published(args.name, args.segment).eval().to(args.device)
    separator = ours(args.name, bag, args.device)
    for seconds in args.seconds:
        generator = torch.Generator().manual_seed(0)
        mix = torch.randn(1, 2, int(seconds * separator.sample_rate), generator=generator).mul_(0.1).to(args.device)
        before = peak_memory(args.device)
        times: dict[str, list[tuple[float, float]]] = {}
        difference = None
        for _ in range(args.repeats):
            started = now()
            stems = separator.separate(mix, separator.sample_rate, segment=args.segment)
            synchronise(args.device)
            times.setdefault("codeczoo", []).append(since(started))
            if bag is not None:
                started = now()
                with torch.no_grad():
                    theirs = separate_published(bag, mix, args.segment)
                synchronise(args.device)
                times.setdefault("demucs", []).append(since(started))
                both = torch.stack([audio.waveform for audio in stems.values()], dim=1)
                difference = float((both - theirs).abs().max() / theirs.abs().max())
        row = {
            "name": args.name,
            "seconds": seconds,
            "device": args.device,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "machine": platform.processor() or platform.machine(),
            "wall_s": {side: [one for one, _ in found] for side, found in times.items()},
            "cpu_s": {side: [one for _, one in found] for side, found in times.items()},
            "largest_difference_of_peak": difference,
            "peak_memory_mb": [before, peak_memory(args.device)],
        }
        sys.stdout.write(json.dumps(row) + "\n")
        sys.stdout.flush()


def now() -> tuple[float, float]:
    """Wall and CPU: with one thread the second hardly depends on what else the machine does."""
    return time.perf_counter(), time.process_time()


def since(started: tuple[float, float]) -> tuple[float, float]:
    return round(time.perf_counter() - started[0], 2), round(time.process_time() - started[1], 2)


def synchronise(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def peak_memory(device: str) -> int:
    """In MB: of the process, or of the GPU."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() >> 20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


if __name__ == "__main__":
    main()
