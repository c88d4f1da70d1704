"""SQCodec's encoder blocks against their definitions, and items of their own length."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codeczoo.base.key_map import KeyMap
from codeczoo.nn.trend import EPS, TrendBlock, Unit, unit_rules
from codeczoo.weights.convert import convert
from codeczoo.weights.load import randomise

WINDOWS = (1, 5, 11, 21, 45)


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def filled(module: nn.Module) -> nn.Module:
    randomise(module)
    return module.double().requires_grad_(False)


def test_the_trend_block_is_its_definition() -> None:
    """Each branch convolves the average of the maximum of |x|, but that of window 1, which convolves x."""
    block, x = filled(TrendBlock(6, 4, WINDOWS)), noise(2, 1, 80)
    branches = []
    for window, conv in zip(WINDOWS, block.trend.convs, strict=True):
        y = x
        if window > 1:
            y = F.avg_pool1d(F.max_pool1d(x.abs(), window, 1, window // 2), window, 1, window // 2)
        branches.append(F.conv1d(y, conv.weight, conv.bias, padding=3))
    y = F.gelu(F.conv1d(torch.cat(branches, dim=1), block.conv1.weight, block.conv1.bias))
    weight = torch.cat([block.conv2.weight, block.raw[:, None, None]], dim=1)
    expected = F.conv1d(torch.cat([y, x], dim=1), weight, block.conv2.bias)
    torch.testing.assert_close(block(x), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("norm", [False, True])
def test_a_unit_is_its_definition(norm: bool) -> None:
    """Its tensors as published: the global response norm, with its norm over time and channels, lies folded."""
    c, x = 4, noise(1, 4, 30)
    unit = filled(Unit(c, norm))
    shapes = {
        "dw_conv.weight": (c, 1, 7),
        "dw_conv.bias": (c,),
        "pw_conv1.weight": (4 * c, c),
        "pw_conv1.bias": (4 * c,),
    }
    shapes |= {"pw_conv2.weight": (c, 4 * c), "pw_conv2.bias": (c,), "act.alpha": (1, 1, 4 * c)}
    shapes |= {"grn.gamma": (1, 4 * c), "grn.beta": (1, 4 * c)}
    shapes |= {"norm.weight": (c,), "norm.bias": (c,)} if norm else {}
    p = {name: 0.3 + 0.2 * noise(*shape) for name, shape in shapes.items()}
    wanted = {f"unit_0.{name}": tensor for name, tensor in unit.state_dict().items()}
    published = {f"units.0.module.{name}": tensor for name, tensor in p.items()}
    found = convert(published, wanted, [KeyMap("", unit_rules("unit", "units"))], "a unit")
    unit.load_state_dict({name.removeprefix("unit_0."): tensor for name, tensor in found.items()})

    y = F.conv1d(x, p["dw_conv.weight"], p["dw_conv.bias"], padding=3, groups=c).mT
    if norm:
        y = F.layer_norm(y, (c,), p["norm.weight"], p["norm.bias"], EPS)
    y = F.linear(y, p["pw_conv1.weight"], p["pw_conv1.bias"])
    y = y + (y * p["act.alpha"]).sin().square() / (p["act.alpha"] + EPS)
    size = torch.linalg.vector_norm(y, dim=(1, 2), keepdim=True)
    y = p["grn.gamma"] * (y * size / (size + EPS)) + p["grn.beta"] + y
    expected = x + F.linear(y, p["pw_conv2.weight"], p["pw_conv2.bias"]).mT
    torch.testing.assert_close(unit(x.clone()), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("module", [TrendBlock(6, 4, WINDOWS), Unit(6, norm=False)], ids=["trend", "unit"])
def test_an_item_of_a_batch_is_as_alone(module: nn.Module) -> None:
    block, lengths = filled(module), [70, 1, 33]
    x = noise(3, 1 if isinstance(block, TrendBlock) else 6, 70)
    batch = block(x.clone(), torch.tensor(lengths))
    for row, item, length in zip(batch, x, lengths, strict=True):
        torch.testing.assert_close(row[:, :length], block(item[None, :, :length])[0], rtol=1e-10, atol=1e-12)
