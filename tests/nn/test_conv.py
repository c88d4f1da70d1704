"""Convolutions give the same whatever order their input has in memory."""

from __future__ import annotations

import pytest
import torch

from codeczoo.nn.conv import Conv1d


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("lengths", [None, [40, 17, 1]])
def test_depthwise_of_channels_last_is_that_of_channels_first(stride: int, lengths: list[int] | None) -> None:
    generator = torch.Generator().manual_seed(0)
    conv = Conv1d(6, 6, 7, stride, groups=6, padding=(3, 3)).double()
    for parameter in conv.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    first = torch.randn(3, 6, 40, generator=generator, dtype=torch.float64)
    last = first.mT.contiguous().mT
    own = None if lengths is None else torch.tensor(lengths)
    with torch.inference_mode():
        y, expected = conv(last.clone(), own), conv(first.clone(), own)
    for one, other, n in zip(y, expected, lengths or [40] * 3, strict=True):
        steps = conv.out_length(n)
        torch.testing.assert_close(one[:, :steps], other[:, :steps], rtol=1e-12, atol=1e-12)
    assert y.stride(1) == 1  # the channels stay last
