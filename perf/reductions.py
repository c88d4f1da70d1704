"""Sums over a clip's whole time, as in GroupNorm and in a level: what each way of taking them costs, and its error.

    python -m perf.reductions

One thread, processor time, the least of several rounds, the ways taking turns. Error: the largest difference from the
same in float64, over the largest value. Signals: noise about 0, and the same about 10 and 1000, where a variance that
is the difference of two sums loses its digits.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from codeczoo.nn.group_norm import GroupNorm

SHAPES = ((32, 24000), (128, 6000), (512, 750), (32, 480000))  # channels, steps
OFFSETS = (0.0, 10.0, 1000.0)
ROUNDS = 5


def native(x: Tensor, norm: GroupNorm) -> Tensor:
    """What `GroupNorm` does on a CPU: PyTorch's (Welford's update over vectors and blocks)."""
    return F.group_norm(x, norm.groups, norm.weight, norm.bias, norm.eps)


def masked(x: Tensor, norm: GroupNorm) -> Tensor:
    """What `GroupNorm` does elsewhere: two passes in float32."""
    return norm.all_at_once(x, torch.tensor([x.shape[-1]]))


def in_float64(x: Tensor, norm: GroupNorm) -> Tensor:
    """Sums in float64, values in float32."""
    variance, mean = torch.var_mean(x.double(), (1, 2), correction=0, keepdim=True)
    scale = norm.weight[:, None].double() * (variance + norm.eps).rsqrt()
    return torch.addcmul((norm.bias[:, None] - mean * scale).float(), x, scale.float())


def centred_in_float64(x: Tensor, norm: GroupNorm) -> Tensor:
    """The same, with the mean taken off before the product: nothing is lost about a large mean."""
    variance, mean = torch.var_mean(x.double(), (1, 2), correction=0, keepdim=True)
    scale = (norm.weight[:, None] * (variance + norm.eps).rsqrt()).float()
    return torch.addcmul(norm.bias[:, None], x - mean.float(), scale)


def one_pass(x: Tensor, norm: GroupNorm) -> Tensor:
    """E[x²] - E[x]², in float32: one sweep."""
    count = x[0].numel()
    mean = x.sum((1, 2), keepdim=True) / count
    variance = torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True).square() / count - mean.square()
    scale = norm.weight[:, None] * (variance.clamp(min=0) + norm.eps).rsqrt()
    return torch.addcmul(norm.bias[:, None] - mean * scale, x, scale)


WAYS: dict[str, Callable[[Tensor, GroupNorm], Tensor]] = {
    "PyTorch's (used on CPUs)": native,
    "two passes (used elsewhere)": masked,
    "sums in float64": in_float64,
    "sums in float64, centred": centred_in_float64,
    "one pass": one_pass,
}


def level(x: Tensor, dtype: torch.dtype) -> Tensor:
    return x.to(dtype).square().sum(-1).div(x.shape[-1]).sqrt()


def main() -> None:
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    heads = [f"[{c}, {t}]: ms" for c, t in SHAPES] + [f"error about {offset:g}" for offset in OFFSETS]
    print("| GroupNorm, one group | " + " | ".join(heads) + " | error of the longest |\n|" + "---|" * (len(heads) + 2))
    cells: dict[str, list[str]] = {name: [] for name in WAYS}
    errors: dict[str, list[float]] = {name: [0.0] * len(OFFSETS) for name in WAYS}
    longest: dict[str, float] = {}
    for shape in SHAPES:
        norm = GroupNorm(1, shape[0]).requires_grad_(False)
        norm.weight.copy_(torch.rand(shape[0], generator=generator) + 0.5)
        norm.bias.copy_(torch.randn(shape[0], generator=generator))
        noise = torch.randn(1, *shape, generator=generator)
        for i, offset in enumerate(OFFSETS[:1] if shape == SHAPES[-1] else OFFSETS):
            x = noise + offset
            truth = F.group_norm(x.double(), 1, norm.weight.double(), norm.bias.double(), norm.eps)
            for name, way in WAYS.items():
                longest[name] = float((way(x, norm) - truth).abs().max() / truth.abs().max())
                if shape != SHAPES[-1]:
                    errors[name][i] = max(errors[name][i], longest[name])
        best = dict.fromkeys(WAYS, float("inf"))
        for _ in range(ROUNDS):
            for name, way in WAYS.items():
                began = time.thread_time()
                way(noise, norm)
                best[name] = min(best[name], time.thread_time() - began)
        for name in WAYS:
            cells[name].append(f"{1000 * best[name]:.2f}")
    for name in WAYS:
        told = [*cells[name], *(f"{error:.1e}" for error in errors[name]), f"{longest[name]:.1e}"]
        print(f"| {name} | " + " | ".join(told) + " |")
    print("\n| level of a clip at 48 kHz | 1 s: ms | error | 60 s: ms | error |\n|---|---|---|---|---|")
    for kind in (torch.float32, torch.float64):
        told = []
        for seconds in (1, 60):
            x = 0.1 * torch.randn(2, 48000 * seconds, generator=generator)
            exact, best_time = level(x, torch.float64), float("inf")
            for _ in range(ROUNDS):
                began = time.thread_time()
                found = level(x, kind)
                best_time = min(best_time, time.thread_time() - began)
            told += [f"{1000 * best_time:.2f}", f"{float(((found - exact) / exact).abs().max()):.1e}"]
        print(f"| sums in {str(kind).removeprefix('torch.')} | " + " | ".join(told) + " |")


if __name__ == "__main__":
    main()
