"""Kernels of several operations against the operations. They take a GPU; where there is none they are not used."""

from __future__ import annotations

import itertools

import pytest
import torch

from codeczoo.nn import cuda_kernels, padding
from codeczoo.nn.snake import SnakeUnit, snake
from tests.support.fake_device import DEVICE, FakeDevice

on_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_there_are_none_where_they_do_not_work() -> None:
    with torch.no_grad():
        assert not cuda_kernels.here(torch.ones(2))
        with FakeDevice():
            assert not cuda_kernels.here(torch.ones(2, device=DEVICE))


@on_cuda
def test_they_know_no_gradients_and_are_not_used_where_some_are_wanted() -> None:
    x = torch.ones(2, device="cuda")
    assert not cuda_kernels.here(x)
    with torch.no_grad():
        assert cuda_kernels.here(x)


@on_cuda
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_snake_there_is_snake_here(dtype: torch.dtype) -> None:
    x, alpha, beta, bias = (
        t.to(dtype) for t in (noise(3, 40, 997), noise(1, 40, 1), noise(1, 40, 1).exp(), noise(40, 1))
    )
    with torch.no_grad():
        for offset in (None, bias):
            there = snake(x.cuda(), alpha.cuda(), beta.cuda(), 1e-9, bias=None if offset is None else offset.cuda())
            torch.testing.assert_close(there.cpu(), snake(x, alpha, beta, 1e-9, bias=offset))


@on_cuda
def test_a_unit_there_is_the_unit_here() -> None:
    unit = SnakeUnit(24, dilation=3)
    for parameter in unit.parameters():
        parameter.data.copy_(noise(*parameter.shape) / 4)
    x, lengths = noise(3, 24, 500), torch.tensor([500, 301, 17])
    with torch.no_grad(), torch.backends.cudnn.flags(allow_tf32=False):
        here, there = unit(x.clone(), lengths), unit.cuda()(x.cuda(), lengths.cuda()).cpu()
    for i, length in enumerate(lengths.tolist()):
        torch.testing.assert_close(there[i, :, :length], here[i, :, :length], rtol=1e-4, atol=1e-5)


@on_cuda
@pytest.mark.parametrize("mode", padding.MODES)
def test_ragged_padding_there_is_that_here(mode: str) -> None:
    x, lengths = noise(6, 3, 30), torch.tensor([30, 29, 12, 5, 2, 1])
    rights = [0, 3, 9, torch.tensor([0, 1, 2, 3, 4, 5])]
    with torch.no_grad():
        for left, right in itertools.product([0, 1, 4, 12], rights):
            there = right.cuda() if isinstance(right, torch.Tensor) else right
            found = padding.pad(x.cuda(), lengths.cuda(), left, there, mode)
            assert torch.equal(found.cpu(), padding.pad(x, lengths, left, right, mode)), (left, right)
