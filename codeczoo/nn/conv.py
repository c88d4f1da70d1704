"""Convolutions over time that know their padding, their lengths and their streaming state.

Three rules of padding cover the published codecs:
  "causal"   all on the left: (kernel - 1) * dilation + 1 - stride;
  "same"     the same amount split in two, the larger half on the left;
  (l, r)     as given.
With `fill`, the right side also gets what the last window lacks, so that n samples give ceil(n / stride) steps.
Weights are plain: weight norm is folded when a checkpoint is read.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codeczoo.nn.padding import pad, zero_tail_

Length = TypeVar("Length", int, Tensor)
Padding = str | tuple[int, int]


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
        fill: bool = False,
    ) -> None:
        super().__init__()
        self.in_channels, self.stride, self.dilation, self.groups = in_channels, stride, dilation, groups
        self.span = (kernel_size - 1) * dilation + 1  # samples that one output sees
        self.pad_mode, self.fill = pad_mode, fill
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
        if self.fill:
            return -(-length // self.stride)
        return (length + self.left + self.right - self.span) // self.stride + 1

    def missing(self, length: Length) -> Length:
        """Samples that the last window lacks (0 without `fill`)."""
        if not self.fill:
            return length * 0
        return (self.out_length(length) - 1) * self.stride + self.span - length - self.left - self.right

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        simple = self.pad_mode == "zeros" and self.left == self.right and self.missing(x.shape[-1]) == 0
        if simple and (lengths is None or not self.fill):
            # F.conv1d pads by itself, without a copy of x.
            x = zero_tail_(x, lengths, self.right)
            return F.conv1d(x, self.weight, self.bias, self.stride, self.left, self.dilation, self.groups)
        if lengths is None:
            x = pad(x, None, self.left, self.right + self.missing(x.shape[-1]), self.pad_mode)
        else:
            total, widest = x.shape[-1], self.right + (self.stride - 1 if self.fill else 0)
            x = pad(x, lengths, self.left, self.right + self.missing(lengths), self.pad_mode, widest)
            return self.convolve(x)[..., : self.out_length(total)]
        return self.convolve(x)

    def convolve(self, x: Tensor) -> Tensor:
        """Without any padding."""
        return F.conv1d(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)

    # -- streaming (causal only) ----------------------------------------------------------------

    def start(self, batch_size: int) -> Tensor:
        """State of a clip's start under zero padding: the last `left` inputs, [B, in, left]."""
        return self.weight.new_zeros(batch_size, self.in_channels, self.left)

    def begin(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The first T samples of a clip under its own padding, T a multiple of the stride and more than `left` where
        they are mirrored → T / stride steps, and the state after them."""
        x = pad(x, None, self.left, 0, self.pad_mode)
        return self.convolve(x), x[..., x.shape[-1] - self.left :]

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """The next T samples, T a multiple of the stride → T / stride steps, and the state after them."""
        x = torch.cat([state, x], dim=-1)
        return self.convolve(x), x[..., x.shape[-1] - self.left :]

    def end(self, x: Tensor, lengths: Tensor, state: Tensor) -> Tensor:
        """The last samples, as many as each item has left (at least 1 in the longest) → out_length(lengths) steps.
        Reflection must not reach behind the state: with `fill`, left >= stride - 1."""
        count = self.out_length(x.shape[-1])
        x = torch.cat([state, x], dim=-1)
        if self.fill:
            x = pad(x, lengths + self.left, 0, self.missing(lengths), self.pad_mode, self.stride - 1)
        return self.convolve(x)[..., :count]

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
        reach = self.kernel_size - self.stride - self.right  # kept samples that steps behind an item would touch
        if reach > 0:
            x = zero_tail_(x, lengths, -(-reach // self.stride))
        if self.left == self.right:
            return F.conv_transpose1d(x, self.weight, self.bias, self.stride, self.left, 0, self.groups)
        y = self.convolve(x)
        return y[..., self.left : y.shape[-1] - self.right]

    def convolve(self, x: Tensor) -> Tensor:
        """Without any trimming."""
        return F.conv_transpose1d(x, self.weight, self.bias, self.stride, 0, 0, self.groups)

    # -- streaming (trim="causal" only) ---------------------------------------------------------

    def start(self, batch_size: int) -> Tensor:
        """State of a clip's start: the overhang of earlier steps, [B, out, kernel - stride]."""
        return self.weight.new_zeros(batch_size, self.weight.shape[1] * self.groups, self.kernel_size - self.stride)

    def begin(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The first n steps of a clip → n * stride samples, and the overhang after them."""
        return self.step(x, self.start(len(x)))

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """The next n steps → n * stride samples, and the overhang after them (without the bias)."""
        y = F.conv_transpose1d(x, self.weight, None, self.stride, 0, 0, self.groups)
        overhang, ready = state.shape[-1], x.shape[-1] * self.stride
        y = torch.cat([y[..., :overhang] + state, y[..., overhang:]], dim=-1)
        out = y[..., :ready]
        return out if self.bias is None else out + self.bias[:, None], y[..., ready:]

    def extra_repr(self) -> str:
        inputs, out, kernel = self.weight.shape
        return f"{inputs}, {out * self.groups}, kernel={kernel}, stride={self.stride}, trim=({self.left}, {self.right})"
