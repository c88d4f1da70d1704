"""The adapter behind a speech model: what its skip carries, and items of their own length."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from codeczoo.nn.semantic_adapter import SemanticAdapter


def adapter(dim: int, hidden: int | None = None) -> SemanticAdapter:
    made = SemanticAdapter(dim, hidden).double().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for parameter in made.parameters():
        parameter.uniform_(-0.5, 0.5, generator=generator)
    return made


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_the_skip_carries_the_rectified_value() -> None:
    made, x = adapter(4, 6), noise(2, 4, 9)
    h = F.conv1d(x, made.first.weight, padding=1).relu()
    y = F.conv1d(h, made.conv1.weight, made.conv1.bias, padding=1).relu()
    y = F.conv1d(y, made.conv2.weight, made.conv2.bias, padding=1) + h
    assert bool((F.conv1d(x, made.first.weight, padding=1) < 0).any())
    torch.testing.assert_close(made(x), F.conv1d(y, made.last.weight, padding=1), rtol=1e-10, atol=1e-12)


def test_an_item_of_a_batch_is_as_alone() -> None:
    made, x, lengths = adapter(4), noise(3, 4, 9), [9, 1, 5]
    batch = made(x.clone(), torch.tensor(lengths))
    for row, item, length in zip(batch, x, lengths, strict=True):
        torch.testing.assert_close(row[:, :length], made(item[None, :, :length])[0], rtol=1e-10, atol=1e-12)
