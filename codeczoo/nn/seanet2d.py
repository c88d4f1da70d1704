"""SEANet over time and frequency (FunCodec, arXiv 2309.07405): the nets of `seanet` with 2-D convolutions.

    encoder: conv, then for each stride: residual units, activation, strided conv; activation, conv over time
    decoder: conv over time; then for each stride: activation, transposed conv, residual units; activation, conv

x is [B, C, F, T]: frequency before time, so that `lengths` and all that is said in `padding` hold for the last axis.
Every convolution mirrors its input at the edges of both axes and is followed by a GroupNorm of one group. Down the
encoder the frequencies become one row, which is then dropped; the decoder starts from one row.

Layers lie in one flat list whose indices are the published ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codeczoo.base.exporting import exporting
from codeczoo.base.ragged import pad_stack
from codeczoo.nn.conv import Conv1d, Length
from codeczoo.nn.group_norm import GroupNorm
from codeczoo.nn.padding import pad, zero_tail_
from codeczoo.nn.seanet import NormedConv1d

Pair = tuple[int, int]  # of frequency and time


class NormedConv2d(nn.Module):
    """[B, in, F, T] → [B, out, F', ceil(T / stride)], mirrored at the edges by kernel - stride in all, and normed.

    What the last window over time lacks is added in *front*. So the number of steps decides on which of them the
    windows lie. Over frequency nothing is added.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: Pair, stride: Pair = (1, 1), groups: int = 1):
        super().__init__()
        self.kernel, self.stride, self.groups = kernel, stride, groups
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels // groups, *kernel))
        self.bias = nn.Parameter(torch.empty(out_channels))
        self.norm = GroupNorm(1, out_channels)

    def out_length(self, length: Length) -> Length:
        return -(-length // self.stride[1])

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        if lengths is not None and self.stride[1] > 1:  # the windows lie differently in every item
            items = zip(x, lengths.tolist(), strict=True)
            return pad_stack([self(item[None, ..., :length])[0] for item, length in items])[0]
        (low, high), (left, right) = (_halves(k - s) for k, s in zip(self.kernel, self.stride, strict=True))
        left += self.out_length(x.shape[-1]) * self.stride[1] - x.shape[-1]
        channels = x.shape[1]
        x = pad(x.flatten(1, 2), lengths, left, right, "reflect").unflatten(1, (channels, -1))
        x = F.pad(x, (0, 0, low, high), mode="reflect") if low else x
        y = F.conv2d(x, self.weight, self.bias, self.stride, groups=self.groups)
        return self.norm(y, lengths)


class NormedConvTranspose2d(nn.Module):
    """[B, in, F, T] → [B, out, F * stride + more, T * stride]: kernel of two strides, normed, then trimmed.

    Args:
        more: rows that the trimming leaves at the high end beyond F * stride.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: Pair, groups: int = 1, more: int = 0):
        super().__init__()
        self.stride, self.groups, self.more = stride, groups, more
        self.weight = nn.Parameter(torch.empty(in_channels, out_channels // groups, *(2 * s for s in stride)))
        self.bias = nn.Parameter(torch.empty(out_channels))
        self.norm = GroupNorm(1, out_channels)

    def out_length(self, length: Length) -> Length:
        return length * self.stride[1]

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        if lengths is not None:
            x = zero_tail_(x.flatten(1, 2), lengths, 2).view_as(x)
        y = F.conv_transpose2d(x, self.weight, self.bias, self.stride, groups=self.groups)
        y = self.norm(y, None if lengths is None else self.out_length(lengths) + self.stride[1])
        (low, high), (left, right) = (_halves(s) for s in self.stride)
        return y[..., low : y.shape[2] - high + self.more, left : y.shape[3] - right]


class ResidualUnit2d(nn.Module):
    """x through a 1x1 conv, plus activation, 3x3 conv to half the channels, activation, 1x1 conv back.

    Args:
        group_ratio: the groups of a conv are half of the smaller of its two channel counts, over this; None = 1.
    """

    def __init__(self, channels: int, group_ratio: int | None) -> None:
        super().__init__()
        hidden = channels // 2
        inner, outer = _groups(hidden, group_ratio), _groups(channels, group_ratio)
        self.block = nn.ModuleList(
            [
                nn.ELU(),
                NormedConv2d(channels, hidden, (3, 3), groups=inner),
                nn.ELU(inplace=True),
                NormedConv2d(hidden, channels, (1, 1), groups=inner),
            ]
        )
        self.shortcut = NormedConv2d(channels, channels, (1, 1), groups=outer)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        y = self.block[1](self.block[0](x), lengths)
        return self.block[3](self.block[2](y), lengths).add_(self.shortcut(x, lengths))


class Stack2d(nn.Module):
    """Layers one after the other."""

    layers: nn.ModuleList

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """x, lengths [B] or None → y, lengths in the steps of the output. On the CPU item by item, each of which is
        more than its cache holds."""
        apart = x.device.type == "cpu" and not exporting()
        y = self.item_by_item(x, lengths) if apart else self.all_at_once(x, lengths)
        return y, None if lengths is None else self.out_length(lengths)

    def item_by_item(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        own = [x.shape[-1]] * len(x) if lengths is None else lengths.tolist()
        return pad_stack([self.all_at_once(item[None, ..., :n])[0] for item, n in zip(x, own, strict=True)])[0]

    def all_at_once(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        for layer in self.layers:
            x = layer(x, lengths) if isinstance(layer, TIME) else layer(x)
            lengths = layer.out_length(lengths) if lengths is not None and isinstance(layer, STRIDED) else lengths
        return x

    def out_length(self, length: Length) -> Length:
        """Steps that `length` input steps give."""
        for layer in self.layers:
            length = layer.out_length(length) if isinstance(layer, STRIDED) else length
        return length


STRIDED = (NormedConv2d, NormedConvTranspose2d, Conv1d)  # layers that change the number of steps
TIME = (*STRIDED, ResidualUnit2d)  # layers that mix time steps


class SEANetEncoder2d(Stack2d):
    """[B, channels, F, T] → latents [B, dimension, N]."""

    def __init__(
        self,
        channels: int,
        dimension: int,
        filters: int,
        strides: Sequence[Pair],
        *,
        residual_units: int = 1,
        group_ratio: int | None = None,
    ) -> None:
        """`strides` in the order in which they run; width doubles with each."""
        super().__init__()
        layers: list[nn.Module] = [NormedConv2d(channels, filters, (3, 3))]
        width = filters
        for stride in strides:
            layers += [ResidualUnit2d(width, group_ratio) for _ in range(residual_units)]
            kernel, groups = (2 * stride[0], 2 * stride[1]), _groups(width, group_ratio)
            layers += [nn.ELU(inplace=True), NormedConv2d(width, 2 * width, kernel, stride, groups)]
            width *= 2
        last = NormedConv1d(width, dimension, 3, pad_mode="reflect", norm=True)
        self.layers = nn.ModuleList([*layers, nn.Flatten(1, 2), nn.ELU(inplace=True), last])


class SEANetDecoder2d(Stack2d):
    """Latents [B, dimension, N] → [B, channels, F, T], F one more than the product of the strides. No activation at
    the end."""

    def __init__(
        self,
        channels: int,
        dimension: int,
        filters: int,
        strides: Sequence[Pair],
        *,
        residual_units: int = 1,
        group_ratio: int | None = None,
        transposed_group_ratio: int | None = None,
    ) -> None:
        """`strides` in the order in which they run; width halves with each, down to `filters`. A transposed conv's
        groups are its output channels over `transposed_group_ratio`; None = 1."""
        super().__init__()
        width = filters * 2 ** len(strides)
        first = NormedConv1d(dimension, width, 3, pad_mode="reflect", norm=True)
        layers: list[nn.Module] = [first, nn.Unflatten(1, (width, 1))]
        for i, stride in enumerate(strides):
            half, more = width // 2, int(i == len(strides) - 1)
            groups = half // transposed_group_ratio if transposed_group_ratio else 1
            layers += [nn.ELU(inplace=True), NormedConvTranspose2d(width, half, stride, groups, more)]
            layers += [ResidualUnit2d(half, group_ratio) for _ in range(residual_units)]
            width = half
        self.layers = nn.ModuleList([*layers, nn.ELU(inplace=True), NormedConv2d(filters, channels, (3, 3))])


def _halves(total: int) -> Pair:
    """The larger half first."""
    return total - total // 2, total // 2


def _groups(smaller: int, ratio: int | None) -> int:
    return smaller // 2 // ratio if ratio else 1
