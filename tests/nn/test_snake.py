"""Snake and its residual units: the formula, whatever the shape and however it is cut up."""

from __future__ import annotations

import pytest
import torch

from codeczoo.nn import cache_tiling
from codeczoo.nn.snake import Snake, SnakeBeta, SnakeUnits, snake


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("piece", [64, 1 << 20])
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 5, 97), (3, 40, 7)])
def test_snake_is_its_formula(monkeypatch, shape, inplace, piece):
    monkeypatch.setattr(cache_tiling, "TILE_VALUES", piece)
    x, alpha, beta = noise(*shape), noise(1, shape[1], 1, seed=1), noise(1, shape[1], 1, seed=2).exp()
    expected, before = x + torch.sin(alpha * x) ** 2 / (beta + 0.5), x.clone()
    y = snake(x, alpha, beta, 0.5, inplace)
    torch.testing.assert_close(y, expected, rtol=1e-14, atol=1e-14)
    assert torch.equal(x, y if inplace else before)


def test_snake_takes_the_bias_of_what_was_before_it():
    x, alpha, bias = noise(2, 5, 97), noise(1, 5, 1, seed=1).exp(), noise(5, 1, seed=2)
    before = x.clone()
    expected = snake(x + bias, alpha, alpha, 0.5)
    torch.testing.assert_close(snake(x, alpha, alpha, 0.5, bias=bias), expected, rtol=1e-14, atol=1e-14)
    assert torch.equal(x, before)


def test_snake_takes_a_stretch_of_a_longer_signal():
    layer = Snake(4).double()
    with torch.no_grad():
        layer.alpha.copy_(noise(1, 4, 1, seed=1))
        x = noise(2, 4, 50)
        assert torch.equal(layer(x[..., 10:30]), layer(x)[..., 10:30])


def test_snakes_divide_by_their_own_parameter():
    x = noise(1, 3, 20)
    one, two = Snake(3, eps=0.5).double(), SnakeBeta(3, eps=0.25).double()
    with torch.no_grad():
        one.alpha.copy_(torch.tensor([0.0, 1.0, -2.0])[:, None])
        two.alpha.copy_(torch.tensor([0.0, 1.0, -2.0])[:, None])
        two.beta.copy_(torch.tensor([3.0, 0.0, -1.0])[:, None])
        torch.testing.assert_close(one(x), x + torch.sin(one.alpha * x) ** 2 / (one.alpha + 0.5))
        torch.testing.assert_close(two(x), x + torch.sin(two.alpha.exp() * x) ** 2 / (two.beta.exp() + 0.25))


@torch.no_grad()
def test_units_add_what_they_see_to_their_input():
    """Against the formula of the paper's figure, written with torch's own functions."""
    units = random_units(6)
    x = noise(2, 6, 40)
    expected = x
    for unit, dilation in zip(units, (1, 3, 9), strict=True):
        y = torch.nn.functional.conv1d(
            unit.snake1(expected), unit.conv1.weight, unit.conv1.bias, padding=3 * dilation, dilation=dilation
        )
        y = torch.nn.functional.conv1d(unit.snake2(y), unit.conv2.weight, unit.conv2.bias)
        expected = expected + y
    torch.testing.assert_close(units(x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("tile", [50, 1 << 20])
@torch.no_grad()
def test_units_give_each_item_what_it_gets_alone(monkeypatch, tile):
    monkeypatch.setattr(cache_tiling, "TILE_VALUES", tile)
    units = random_units(4)
    lengths = torch.tensor([2000, 1, 40, 1999])
    x = noise(4, 4, 2000)
    for item, length in zip(x, lengths, strict=True):
        item[:, length:] = torch.nan  # unspecified values must not matter
    y = units(x.clone(), lengths)
    for i, length in enumerate(lengths):
        alone = units(x[i : i + 1, :, :length])
        torch.testing.assert_close(y[i : i + 1, :, :length], alone, rtol=1e-12, atol=1e-12)


def random_units(channels: int) -> SnakeUnits:
    units = SnakeUnits(channels).double().requires_grad_(False)
    for i, parameter in enumerate(units.parameters()):
        parameter.copy_(0.4 * noise(*parameter.shape, seed=i))
    return units
