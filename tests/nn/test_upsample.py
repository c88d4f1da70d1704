"""Linear upsampling: PyTorch's rule, and each item by itself."""

from __future__ import annotations

import pytest
import torch

from codeczoo.nn.upsample import LinearUpsample


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("steps", [1, 2, 9])
def test_is_interpolation(factor: int, steps: int) -> None:
    x = torch.randn(2, 3, steps, dtype=torch.float64)
    expected = torch.nn.functional.interpolate(x, scale_factor=factor, mode="linear")
    torch.testing.assert_close(LinearUpsample(factor)(x), expected, rtol=1e-12, atol=1e-12)


def test_each_item_ends_by_itself() -> None:
    x, lengths = torch.randn(3, 2, 7, dtype=torch.float64), torch.tensor([7, 4, 1])
    up = LinearUpsample(3)
    alone = [up(x[i : i + 1, :, :n].clone()) for i, n in enumerate(lengths)]
    batch = up(x, lengths)
    for i, expected in enumerate(alone):
        assert torch.equal(batch[i : i + 1, :, : expected.shape[-1]], expected)
