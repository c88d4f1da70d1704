"""Convolutions over time that know their padding, their lengths and their streaming state.

Three rules of padding cover the published codecs:
  "causal"   all on the left: (kernel - 1) * dilation + 1 - stride;
  "same"     the same amount split in two, the larger half on the left;
  (l, r)     as given.
With `pad_to_full_window`, the right side also gets what the last window lacks: n samples give ceil(n / stride) steps.
Weights are plain: weight norm is folded when a checkpoint is read.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codeczoo.base.exporting import exporting
from codeczoo.nn.bfloat16 import cat_steps, channels_last, convolve, convolve_transposed, in_bfloat16
from codeczoo.nn.padding import pad, zero_tail_

Length = TypeVar("Length", int, Tensor)
Padding = str | tuple[int, int]

MATMUL_MAX_STEPS = 64  # on a CPU a convolution becomes one matrix product up to this many output steps of a batch
# On CUDA it becomes one up to this many input steps, and this many values in its unfolded input.
CUDA_MATMUL_MAX_STEPS, CUDA_MATMUL_MAX_VALUES = 512, 1 << 25
# cuDNN transposes the whole signal for grouped convolutions. With 2 to 8 groups and at least 16,384 output steps, one
# call a group is faster.
SPLIT_MAX_GROUPS, SPLIT_MIN_STEPS = 8, 1 << 14
CACHE_TILE_VALUES = 1 << 19  # an intermediate result of this many values stays in a CPU's cache (2 MiB of float32)


class Conv1d(nn.Module):
    """[B, in, T] → [B, out, T'] with T' = out_length(T)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        *,
        bias: bool = True,
        padding: Padding = "same",
        pad_mode: str = "zeros",
        pad_to_full_window: bool = False,
    ) -> None:
        super().__init__()
        self.in_channels, self.stride, self.dilation, self.groups = in_channels, stride, dilation, groups
        self.span = (kernel_size - 1) * dilation + 1  # samples that one output sees
        self.pad_mode, self.pad_to_full_window = pad_mode, pad_to_full_window
        if isinstance(padding, tuple):
            self.left, self.right = padding
        else:
            total = self.span - stride
            self.right = 0 if padding == "causal" else total // 2
            self.left = total - self.right
        self.causal = self.right == 0
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels // groups, kernel_size))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None

    def out_length(self, length: Length) -> Length:
        """Steps that `length` samples give: int or tensor."""
        if self.pad_to_full_window:
            return -(-length // self.stride) if self.stride > 1 else length
        beside = self.left + self.right - self.span + 1  # with stride 1 mostly 0: on CUDA each operation counts
        if self.stride == 1:
            return length + beside if beside else length
        return (length + beside - 1) // self.stride + 1

    def extra_padding(self, length: Length) -> Length:
        """Samples that the last window lacks: the padding beyond `right` (0 without `pad_to_full_window`)."""
        if not self.pad_to_full_window:
            return length * 0
        return (self.out_length(length) - 1) * self.stride + self.span - length - self.left - self.right

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        return self._forward(x, lengths, self.bias)

    def without_bias(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """The convolution alone, for a caller that adds the bias together with what follows."""
        return self._forward(x, lengths, None)

    def _forward(self, x: Tensor, lengths: Tensor | None, bias: Tensor | None) -> Tensor:
        simple = self.pad_mode == "zeros" and self.left == self.right
        simple = simple and not (exporting() and self.pad_to_full_window) and self.extra_padding(x.shape[-1]) == 0
        if simple and (lengths is None or not self.pad_to_full_window):
            # F.conv1d pads by itself, without a copy of x.
            x = zero_tail_(x, lengths, self.right)
            if (
                x.device.type == "cpu"
                and not exporting()
                and self._is_depthwise
                and bias is self.bias
                and x.stride(1) == 1
                and not in_bfloat16(self.weight)
            ):
                return self.depthwise_last(x)
            return self._convolve(x, bias, self.left)
        if lengths is None:
            x = pad(x, None, self.left, self.right + self.extra_padding(x.shape[-1]), self.pad_mode)
        else:
            total, widest = x.shape[-1], self.right + self.max_extra_padding
            # The right side by item is computed only where a short item is lengthened to it.
            right = widest if widest <= self.left else self.right + self.extra_padding(lengths)
            x = pad(x, lengths, self.left, right, self.pad_mode, widest)
            return self._convolve(x, bias, 0)[..., : self.out_length(total)]
        return self._convolve(x, bias, 0)

    def convolve(self, x: Tensor) -> Tensor:
        """The convolution without any padding."""
        return self._convolve(x, self.bias, 0)

    def _convolve(self, x: Tensor, bias: Tensor | None, padding: int) -> Tensor:
        """Convolve with `padding` zeros on each side."""
        if exporting():
            return F.conv1d(x, self.weight, bias, self.stride, padding, self.dilation, self.groups)
        if in_bfloat16(self.weight):
            return convolve(self, x, bias is not None, padding)
        steps = len(x) * ((x.shape[-1] + 2 * padding - self.span) // self.stride + 1)
        if self.groups == self.dilation == 1 and steps > 0 and self._is_matmul(x, steps):
            return self._matmul(F.pad(x, (padding, padding)) if padding else x, bias)
        if x.is_cuda and 1 < self.groups <= SPLIT_MAX_GROUPS and steps >= SPLIT_MIN_STEPS:
            parts = zip(x.chunk(self.groups, 1), self.weight.chunk(self.groups), strict=True)
            out = torch.cat([F.conv1d(p, w, None, self.stride, padding, self.dilation) for p, w in parts], dim=1)
            return out if bias is None else out.add_(bias[:, None])
        return F.conv1d(x, self.weight, bias, self.stride, padding, self.dilation, self.groups)

    def _is_matmul(self, x: Tensor, steps: int) -> bool:
        """Whether one matrix product is faster. A CPU convolution reorders the weights first, and for few steps that is
        most of the time. cuDNN may choose a Fourier transform for short signals, 200 times as slow (EnCodec 48 kHz,
        [31, 128, 156])."""
        if x.device.type == "cpu":
            return steps <= MATMUL_MAX_STEPS
        short = x.is_cuda and x.shape[-1] <= CUDA_MATMUL_MAX_STEPS
        return short and self.span > 1 and steps * self.in_channels * self.span <= CUDA_MATMUL_MAX_VALUES

    def _matmul(self, x: Tensor, bias: Tensor | None) -> Tensor:
        windows = x.unfold(-1, self.span, self.stride).transpose(1, 2)  # [B, T', in, kernel]
        return F.linear(windows.flatten(2), self.weight.flatten(1), bias).mT

    @property
    def _is_depthwise(self) -> bool:
        return self.groups == self.in_channels == len(self.weight) and self.dilation == 1

    def depthwise_last(self, x: Tensor) -> Tensor:
        """The convolution with zeros on both sides, of an x whose channels lie last in memory. PyTorch has a 2-d kernel
        for this order, ten times as fast on a CPU as those for the other."""
        if in_bfloat16(self.weight):
            return convolve(self, x, True, self.left)
        y = F.conv2d(x[:, :, None], self.weight[:, :, None], self.bias, self.stride, (0, self.left), 1, self.groups)
        return y[:, :, 0]

    # -- streaming (causal only) ----------------------------------------------------------------

    def initial_state(self, batch_size: int) -> Tensor:
        """State of a clip's start under zero padding: the last `left` inputs, [B, in, left]."""
        return self.weight.new_zeros(batch_size, self.in_channels, self.left)

    def first_chunk(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The first T samples of a clip under its own padding → out_length(T) steps, and the state after them.

        Reflection on the left reads samples 1 to `left`, so T is more than `left`, or the whole clip. T is a multiple
        of the stride unless the clip ends here; `lengths` [B] say where each item ends (T for an item that goes on).
        """
        total = x.shape[-1]
        lacking = self.extra_padding(total) if lengths is None else self.extra_padding(lengths)
        x = pad(x, lengths, self.left, lacking, self.pad_mode, self.max_extra_padding)
        return self.convolve(x)[..., : self.out_length(total)], x[..., total : total + self.left].clone()

    def step(self, x: Tensor, state: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The next T samples → out_length(T) steps, and the state after them; T and `lengths` as in `first_chunk`.

        With `pad_to_full_window` and reflection, the mirrored samples lie in the state: left >= stride - 1.
        """
        total = x.shape[-1]
        x = cat_steps([state, x])
        if self.max_extra_padding:
            lacking = self.extra_padding(total) if lengths is None else self.extra_padding(lengths)
            own = None if lengths is None else lengths + self.left
            x = pad(x, own, 0, lacking, self.pad_mode, self.max_extra_padding)
        return self.convolve(x)[..., : self.out_length(total)], x[..., total : total + self.left].clone()

    @property
    def max_extra_padding(self) -> int:
        return self.stride - 1 if self.pad_to_full_window else 0

    def extra_repr(self) -> str:
        out, _, kernel = self.weight.shape
        return (
            f"{self.in_channels}, {out}, kernel={kernel}, stride={self.stride}, dilation={self.dilation}, "
            f"padding=({self.left}, {self.right}) {self.pad_mode}"
        )


class ConvTranspose1d(nn.Module):
    """[B, in, N] → [B, out, N']: the full transposed convolution without `trim` = (left, right) samples at its ends.

    `trim="causal"` drops kernel - stride samples on the right, so that N steps give N * stride samples.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int,
        groups: int = 1,
        *,
        bias: bool = True,
        trim: str | tuple[int, int] = "causal",
    ) -> None:
        super().__init__()
        self.kernel_size, self.stride, self.groups = kernel_size, stride, groups
        if isinstance(trim, tuple):
            self.left, self.right = trim
        else:
            total = kernel_size - stride
            self.right = total if trim == "causal" else total // 2
            self.left = total - self.right
        self.weight = nn.Parameter(torch.empty(in_channels, out_channels // groups, kernel_size))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None

    def out_length(self, length: Length) -> Length:
        return (length - 1) * self.stride + self.kernel_size - self.left - self.right

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        reach = self.kernel_size - self.stride - self.right  # kept samples that steps behind an item reach into
        if reach > 0:
            x = zero_tail_(x, lengths, -(-reach // self.stride))
        if self.left == self.right and not (self._faster_by_matmuls(x) or self._in_bfloat16):
            return F.conv_transpose1d(x, self.weight, self.bias, self.stride, self.left, 0, self.groups)
        y = self.convolve(x)
        return y[..., self.left : y.shape[-1] - self.right]

    def convolve(self, x: Tensor, bias: bool = True) -> Tensor:
        """The transposed convolution without any trimming."""
        if self._in_bfloat16:
            return convolve_transposed(self, x, bias)
        offset = self.bias if bias else None
        if self._faster_by_matmuls(x):
            return _transposed_by_matmuls(x, self.weight, offset, self.stride)
        y = F.conv_transpose1d(x, self.weight, offset, self.stride, 0, 0, self.groups)
        return channels_last(y) if in_bfloat16(self.weight) else y  # what follows wants them so

    @property
    def _in_bfloat16(self) -> bool:
        return self.groups == 1 and self.kernel_size % self.stride == 0 and in_bfloat16(self.weight)

    def _faster_by_matmuls(self, x: Tensor) -> bool:
        return x.device.type == "cpu" and not exporting() and self.groups == 1 and self.kernel_size % self.stride == 0

    # -- streaming (trim="causal" only) ---------------------------------------------------------

    def initial_state(self, batch_size: int) -> Tensor:
        """State of a clip's start: the overhang of earlier steps, [B, out, kernel - stride]."""
        return self.weight.new_zeros(batch_size, self.weight.shape[1] * self.groups, self.kernel_size - self.stride)

    def first_chunk(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The first n steps of a clip → n * stride samples, and the overhang after them."""
        return self.step(x, self.initial_state(x.shape[0]))

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """The next n steps → n * stride samples, and the overhang after them (without the bias)."""
        ready = x.shape[-1] * self.stride
        if self._in_bfloat16 and self.bias is not None:  # whose bias costs nothing in the product, and a pass after it
            y = self.convolve(x)
            y[..., : state.shape[-1]] += state.to(y.dtype)
            return y[..., :ready], y[..., ready:] - self.bias.to(y.dtype)[:, None]
        y = self.convolve(x, bias=False)
        y[..., : state.shape[-1]] += state
        out = y[..., :ready]
        return out if self.bias is None else out.add_(self.bias[:, None]), y[..., ready:].clone()

    def extra_repr(self) -> str:
        inputs, out, kernel = self.weight.shape
        return f"{inputs}, {out * self.groups}, kernel={kernel}, stride={self.stride}, trim=({self.left}, {self.right})"


def _transposed_by_matmuls(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
    """The full transposed convolution of a kernel of whole strides, 2 to 3 times as fast on a CPU as PyTorch's.

    One matrix product gives each input's contribution to its own stride of outputs and to the `lap` strides after it;
    the output is the sum of these, shifted. It runs tile by tile, so that the contributions stay in the cache.
    """
    batch, _, steps = x.shape
    _, out, kernel = weight.shape
    lap = kernel // stride - 1
    width = max(CACHE_TILE_VALUES // (out * kernel), 512)
    flat = weight.flatten(1)
    x = F.pad(x, (lap, lap))
    each = x.shape[-1]
    joined = batch > 1 and batch * each <= width  # short items end to end: the weights are read once for all
    rows = x.transpose(0, 1).flatten(1)[None] if joined else x
    y = x.new_empty(len(rows), out, rows.shape[-1], stride)  # of each item's positions the last `lap` stay unused
    for item in range(len(rows)):
        for start in range(0, rows.shape[-1] - lap, width):
            tile = rows[item, :, start : start + width + lap]
            narrow = tile.shape[-1] <= MATMUL_MAX_STEPS
            part = (tile.T @ flat).T if narrow else flat.T @ tile  # [out * kernel, T], whichever order is faster
            part = part.unflatten(0, (out, lap + 1, stride))
            total = part[:, 0, :, lap:]
            for late in range(1, lap + 1):
                total += part[:, late, :, lap - late : -late]
            if bias is not None:
                total += bias[:, None, None]
            y[item, :, start : start + total.shape[-1]] = total.mT
    if joined:
        y = y.view(out, batch, each, stride).transpose(0, 1)
    return y[:, :, : steps + lap].flatten(2)
