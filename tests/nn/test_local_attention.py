"""Windowed attention against its definition, and in pieces."""

from __future__ import annotations

import pytest
import torch

from codeczoo.nn.chunked import run_chunked
from codeczoo.nn.local_attention import LocalTransformer

WINDOW = 5


def transformer(layers: int) -> LocalTransformer:
    made = LocalTransformer(8, layers, WINDOW, num_heads=2, head_dim=4).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.uniform_(-0.5, 0.5, generator=generator)
    return made.requires_grad_(False)


def noise(steps: int) -> torch.Tensor:
    return torch.randn(2, 8, steps, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("steps", [1, 4, 5, 6, 10, 23])
def test_equals_its_definition(steps: int) -> None:
    """One layer, query by query: the window before and its own up to itself, scores plus a term of the distance."""
    made = transformer(1)
    layer, x = made.layers[0], noise(steps)
    q, k, v = layer.attention.project(layer.norm1(x.mT))
    out = torch.empty_like(q)
    for i in range(steps):
        seen = torch.arange(max((i // WINDOW - 1) * WINDOW, 0), i + 1)
        scores = (q[:, :, i, None] * k[:, :, seen]).sum(-1) / 4**0.5 + made.bias(i - seen)
        out[:, :, i] = (scores.softmax(-1)[..., None] * v[:, :, seen]).sum(2)
    y = x.mT + layer.attention.merge(out)
    torch.testing.assert_close(made(x), (y + layer.feed_forward(layer.norm2(y))).mT, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("sizes", [(23,), (5, 10, 8), (1, 3, 9, 10), (11, 12)])
def test_pieces_of_any_size_are_the_whole(sizes: tuple[int, ...]) -> None:
    made, x = transformer(3), noise(23)
    pieces = torch.cat(list(run_chunked([made], x.split(sizes, dim=-1))), dim=-1)
    torch.testing.assert_close(pieces, made(x), rtol=1e-10, atol=1e-12)
