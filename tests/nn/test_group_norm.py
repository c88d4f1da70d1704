"""Group norm over time: each item by its own steps, whatever stands behind them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from codeczoo.nn.group_norm import GroupNorm


def norm_of(groups: int, channels: int, dtype: torch.dtype = torch.float64, eps: float = 1e-6) -> GroupNorm:
    norm = GroupNorm(groups, channels, eps).to(dtype).requires_grad_(False)
    r = torch.Generator().manual_seed(groups)
    norm.weight.copy_(1 + 0.3 * torch.randn(channels, generator=r, dtype=torch.float64))
    norm.bias.copy_(torch.randn(channels, generator=r, dtype=torch.float64))
    return norm


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_definition(norm: GroupNorm, x: Tensor) -> Tensor:
    """One item [C, T], in the words of the paper (arXiv 1803.08494)."""
    out = torch.empty_like(x)
    size = len(x) // norm.groups
    for g in range(norm.groups):
        rows = slice(g * size, (g + 1) * size)
        group = x[rows]
        centred = group - group.sum() / group.numel()
        deviation = (centred.square().sum() / group.numel() + norm.eps).sqrt()
        out[rows] = centred / deviation * norm.weight[rows, None] + norm.bias[rows, None]
    return out


@pytest.mark.parametrize("way", ["item_by_item", "all_at_once"])  # the CPU's, and that of other devices
@pytest.mark.parametrize("groups", [1, 4, 32])
def test_each_item_is_normalised_by_its_own_steps(way: str, groups: int) -> None:
    norm, x, lengths = norm_of(groups, 64), 3 + noise(5, 64, 40), torch.tensor([1, 40, 2, 17, 39])
    for row, length in zip(x, lengths.tolist(), strict=True):
        row[:, length:] = torch.nan  # nothing of it may be read
    y = getattr(norm, way)(x.clone(), lengths)
    for row, out, length in zip(x, y, lengths.tolist(), strict=True):
        torch.testing.assert_close(out[:, :length], by_definition(norm, row[:, :length]), rtol=1e-11, atol=1e-11)
    assert bool(torch.isfinite(y).all()), "what stands behind an item is finite: attention reads it, with weight zero"


def test_ragged_is_dense_bit_for_bit_on_the_cpu() -> None:
    norm, x = norm_of(32, 64, torch.float32), noise(3, 64, 50).float()
    lengths = torch.tensor([50, 3, 31])
    y = norm(x, lengths)
    for row, out, length in zip(x, y, lengths.tolist(), strict=True):
        assert torch.equal(out[None, :, :length], norm(row[None, :, :length]))


@pytest.mark.parametrize("way", [None, "item_by_item", "all_at_once"])
def test_small_deviations_about_a_large_mean_survive_float32(way: str | None) -> None:
    """The second of two segments of a loud clip may be a constant but for a little: its variance must not drown."""
    x = 50 + 0.01 * noise(2, 32, 3000)
    double, single = norm_of(1, 32, eps=1e-5), norm_of(1, 32, torch.float32, eps=1e-5)
    x32 = x.float()
    expected = double(x32.double())
    y = single(x32) if way is None else getattr(single, way)(x32.clone(), torch.tensor([3000, 3000]))
    assert float((y.double() - expected).abs().max()) < 5e-3  # the input's own rounding, 4e-6 of 50, over 0.01


def test_half_precision_keeps_its_statistics_in_float32() -> None:
    norm = norm_of(1, 8, torch.bfloat16)
    x, lengths = (1 + noise(2, 8, 4000)).bfloat16(), torch.tensor([4000, 2500])
    y = norm.all_at_once(x.clone(), lengths)
    assert y.dtype == torch.bfloat16
    expected = norm.double().item_by_item(x.double(), lengths)
    assert float((y[1, :, :2500].double() - expected[1, :, :2500]).abs().max()) < 0.05


def test_an_empty_item_does_no_harm() -> None:
    norm, x = norm_of(1, 8), noise(2, 8, 10)
    for way in (norm.item_by_item, norm.all_at_once):
        y = way(x.clone(), torch.tensor([10, 0]))
        torch.testing.assert_close(y[0], by_definition(norm, x[0]))
        assert bool(torch.isfinite(y).all())
