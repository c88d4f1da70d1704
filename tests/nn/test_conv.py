"""Convolutions give the same whatever order their input has in memory, and whichever way a device does them."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

from codeczoo.nn.conv import SPLIT_MIN_STEPS, Conv1d
from tests.support.fake_device import DEVICE, FakeDevice


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


@pytest.mark.parametrize(
    ("what", "samples", "options"),
    [
        ("one product", 100, {"kernel_size": 7}),
        (
            "one product",
            100,
            {"kernel_size": 8, "stride": 4, "padding": "causal", "pad_mode": "reflect", "pad_to_full_window": True},
        ),
        ("one product", 512, {"kernel_size": 7, "bias": False}),
        ("as it is", 513, {"kernel_size": 7}),
        ("group by group", SPLIT_MIN_STEPS // 2, {"kernel_size": 5, "groups": 3}),
        (
            "group by group",
            SPLIT_MIN_STEPS // 2,
            {"kernel_size": 5, "groups": 3, "dilation": 3, "padding": "causal", "bias": False},
        ),
        ("as it is", 400, {"kernel_size": 5, "groups": 3}),
    ],
)
def test_what_a_gpu_does_in_other_ways_comes_to_the_same(what: str, samples: int, options: dict[str, Any]) -> None:
    generator = torch.Generator().manual_seed(0)
    conv = Conv1d(6, 12, **options).double()
    for parameter in conv.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    x = torch.randn(2, 6, samples, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        expected = conv(x)
        with FakeDevice(), Called() as called:
            found = copy.deepcopy(conv).to(DEVICE)(x.to(DEVICE)).cpu()
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert called.count("conv1d") == {"one product": 0, "as it is": 1, "group by group": 3}[what]
    assert called.count("linear") == (what == "one product")


class Called(TorchFunctionMode):
    """The names of PyTorch's functions that were called."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def count(self, name: str) -> int:
        return self.names.count(name)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(getattr(func, "__name__", ""))
        return func(*args, **(kwargs or {}))
