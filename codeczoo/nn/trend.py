"""SQCodec's encoder blocks (arXiv 2504.04949), which DistillNeuCodec has too: trends of a waveform, ConvNeXt units.

Their global response norm divides one number, the norm over all time and channels, by itself plus a tiny constant. That
is 1 but for a signal of zeros, so the norm is an affine map and lies folded in the layer behind it.

x is [B, C, T] with the channels last in memory, but for the trend.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codeczoo.base.exporting import exporting
from codeczoo.base.key_map import Rule
from codeczoo.nn.cache_tiling import TILE_VALUES, tile_values
from codeczoo.nn.conv import Conv1d
from codeczoo.nn.convnext import DEPTHWISE_KERNEL, ConvNeXtBlock
from codeczoo.nn.inplace import overwritable
from codeczoo.nn.padding import zero_tail_
from codeczoo.nn.snake import Snake

EPS = 2.0**-23  # of every norm over channels and of snake


class PatchConv(Conv1d):
    """A convolution as wide as its stride: a linear layer of patches."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__(in_channels, out_channels, stride, stride, padding=(0, 0))

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        whole = self.out_length(x.shape[-1]) * self.stride
        patches = x.mT[:, :whole].contiguous().unflatten(1, (-1, self.stride)).flatten(2)  # [B, T', stride * in]
        return F.linear(patches, self.weight.mT.flatten(1), self.bias).mT


class SnakeOfLast(Snake):
    """Snake of [B, T, C], in place."""

    def forward(self, x: Tensor, inplace: bool = True) -> Tensor:
        return super().forward(x.mT, inplace).mT


class Unit(ConvNeXtBlock):
    """[B, C, T] → [B, C, T]: ConvNeXt with snake, with or without the norm."""

    reach = DEPTHWISE_KERNEL // 2

    def __init__(self, channels: int, norm: bool = True) -> None:
        super().__init__(channels, 4 * channels, EPS, SnakeOfLast(4 * channels, EPS), layer_scale=False)
        if not norm:
            self.norm = nn.Identity()

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        return super().forward(x.mT, lengths).mT

    def pointwise(self, y: Tensor) -> Tensor:
        """On a CPU tile by tile, so that the widened steps, at the waveform's rate, stay in its cache."""
        widened = self.pwconv1.out_features * y.shape[0] * y.shape[1]
        if (
            exporting()
            or y.device.type != "cpu"
            or widened <= 16 * TILE_VALUES
            or not overwritable(y, self.pwconv1.weight)
        ):
            return super().pointwise(y)
        for tile in y.split(max(y.shape[1] * tile_values() // widened, 1), dim=1):
            tile.copy_(super().pointwise(tile))
        return y


class Trend(nn.Module):
    """The first channel of [B, C, T] → [B, windows * width, T]: itself, and its envelopes over windows, convolved.

    An envelope is the average of the maximum of |x|. Only the branch of window 1 sees the sign.
    """

    def __init__(self, windows: Sequence[int], width: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.windows = tuple(windows)
        self.convs = nn.ModuleList(Conv1d(1, width, 7, dilation=d) for d in dilations)
        self.reach = max(2 * (w // 2) + 3 * d for w, d in zip(windows, dilations, strict=True))

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        first = x[:, :1].contiguous()
        magnitude = zero_tail_(first.abs(), lengths, max(self.windows) // 2)
        branches = []
        for window, conv in zip(self.windows, self.convs, strict=True):
            y = first if window == 1 else _envelope(magnitude, lengths, window)
            branches.append(conv(y, lengths))
        return torch.cat(branches, dim=1)


def _envelope(magnitude: Tensor, lengths: Tensor | None, window: int) -> Tensor:
    """Of magnitudes, zeros behind each item: no maximum minds them, and averages count them."""
    peaks = F.max_pool1d(magnitude, window, 1, window // 2)
    return F.avg_pool1d(zero_tail_(peaks, lengths, window // 2), window, 1, window // 2)


class TrendBlock(nn.Module):
    """Waveform [B, 1, T] → [B, channels, T]."""

    def __init__(self, channels: int, width: int, windows: Sequence[int] = (1, 5, 11, 21, 45)) -> None:
        super().__init__()
        self.trend = Trend(windows, width, [1] * len(windows))
        self.reach = self.trend.reach
        self.conv1 = PatchConv(len(windows) * width, 4 * len(windows) * width)
        self.conv2 = PatchConv(4 * len(windows) * width, channels)
        self.raw = nn.Parameter(torch.empty(channels))  # conv2's weights of one channel more: the waveform

    def forward(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        y = self.conv2(F.gelu(self.conv1(self.trend(waveform, lengths))))
        return torch.addcmul(y.mT, waveform.mT, self.raw).mT


def trend_rules(ours: str, theirs: str) -> tuple[Rule, ...]:
    """Rules from a `TrendBlock` at `ours` to the authors' names at `theirs`."""
    return (
        Rule(ours + r"\.trend\.convs\.(\d)\.(\w+)", theirs + r".blocks.\1.1.\2"),
        Rule(ours + r"\.conv1\.(\w+)", theirs + r".conv_1.\1"),
        Rule(ours + r"\.conv2\.weight", theirs + ".conv_2.weight", lambda weight: weight[:, :-1]),
        Rule(ours + r"\.raw", theirs + ".conv_2.weight", lambda weight: weight[:, -1, 0]),
        Rule(ours + r"\.conv2\.bias", theirs + ".conv_2.bias"),
    )


def _fold(weight: Tensor, gamma: Tensor) -> Tensor:
    """Of the linear layer behind the global response norm, which is x · (1 + gamma) + beta."""
    return (weight.double() * (1 + gamma.double())).to(weight)


def _fold_bias(bias: Tensor, weight: Tensor, beta: Tensor) -> Tensor:
    return (bias.double() + weight.double() @ beta[0].double()).to(bias)


def unit_rules(ours: str, theirs: str) -> tuple[Rule, ...]:
    """Rules from `Unit`s at `ours`_0, `ours`_1, ... to the authors' list of them at `theirs`."""
    at, to = rf"{ours}_(\d)\.", rf"{theirs}.\1.module."
    return (
        Rule(at + r"activation\.alpha", to + "act.alpha", lambda alpha: alpha.mT),
        Rule(at + r"pwconv2\.weight", (to + "pw_conv2.weight", to + "grn.gamma"), _fold),
        Rule(at + r"pwconv2\.bias", (to + "pw_conv2.bias", to + "pw_conv2.weight", to + "grn.beta"), _fold_bias),
        Rule(at + r"(dw|pw)conv(1?)\.(\w+)", rf"{to}\2_conv\3.\4"),
        Rule(at + r"norm\.(\w+)", rf"{to}norm.\2"),
    )
