"""Focal modulation (arXiv 2203.11926) over time, and the stacks that FocalCodec (arXiv 2502.04465) makes of it.

A frame's query is multiplied by contexts of growing reach, which depthwise convolutions gather one from the other. The
last context is the mean over the clip, or where nothing may look ahead a convolution with a long kernel. Causal
convolutions repeat their first input before a clip's start.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codeczoo.base.exporting import exporting
from codeczoo.nn.causal_wavlm import step_from_start
from codeczoo.nn.conv import Conv1d, ConvTranspose1d, Length
from codeczoo.nn.inplace import overwritable
from codeczoo.nn.padding import mask_tail, zero_tail_
from codeczoo.nn.sequential import Layers, Linear
from codeczoo.nn.snake import Snake
from codeczoo.nn.transformer import FeedForward

POINTWISE_STEPS = 4096  # frames that a feed-forward takes at once


class DynamicTanh(nn.Module):
    """tanh(alpha x), in the place of a norm (arXiv 2503.10622)."""

    def __init__(self) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.empty(1))

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.alpha).tanh_()


class FocalModulation(nn.Module):
    """[B, T, C] → [B, T, C]. Without `causal` the mean over the clip is one context more than there are kernels."""

    def __init__(self, dim: int, kernels: Sequence[int], causal: bool) -> None:
        super().__init__()
        self.causal = causal
        self.widths = (dim, dim, len(kernels) + (not causal))  # of query, first context and gates
        self.in_proj = Linear(dim, sum(self.widths))
        padding, mode = ("causal", "replicate") if causal else ("same", "zeros")
        self.convs = nn.ModuleList(
            Conv1d(dim, dim, kernel, groups=dim, padding=padding, pad_mode=mode) for kernel in kernels
        )
        self.context_proj = Linear(dim, dim)
        self.out_proj = Linear(dim, dim)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        return self._modulate(x, lambda i, context: self.convs[i](context, lengths), lengths)

    def step(self, x: Tensor, past: list[Tensor], before: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The next T frames, and the state after them; `before` [B]: frames of each item so far."""
        after = list(past)

        def convolve(i: int, context: Tensor) -> Tensor:
            y, after[i] = step_from_start(self.convs[i], context, past[i], before)
            return y

        return self._modulate(x, convolve, None), after

    def _modulate(self, x: Tensor, convolve: Callable[[int, Tensor], Tensor], lengths: Tensor | None) -> Tensor:
        query, context, gates = self.in_proj(x).split(self.widths, dim=-1)
        total = torch.zeros_like(context)
        for i in range(len(self.convs)):
            context = F.gelu(convolve(i, context.mT)).mT
            total.addcmul_(context, gates[..., i : i + 1])
        if not self.causal:
            total.addcmul_(F.gelu(mean_over_time(context, lengths)), gates[..., -1:])
        return self.out_proj(self.context_proj(total).mul_(query))


class FocalBlock(nn.Module):
    """[B, T, C] → [B, T, C]: x plus its focal modulation, then plus a feed-forward."""

    def __init__(self, dim: int, kernels: Sequence[int], causal: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = (DynamicTanh() if causal else nn.LayerNorm(dim) for _ in range(2))
        self.modulation = FocalModulation(dim, kernels, causal)
        self.feed_forward = FeedForward(dim, 4 * dim, bias=True)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        return self._finish(self.modulation(self.norm1(x), lengths).add_(x))

    def step(self, x: Tensor, past: list[Tensor], before: Tensor) -> tuple[Tensor, list[Tensor]]:
        """As that of `FocalModulation`."""
        y, past = self.modulation.step(self.norm1(x), past, before)
        return self._finish(y.add_(x)), past

    def _finish(self, x: Tensor) -> Tensor:
        if exporting() or not overwritable(x):
            return x + self.feed_forward(self.norm2(x))
        for part in x.split(POINTWISE_STEPS, dim=1):
            part.add_(self.feed_forward(self.norm2(part)))
        return x


class CompressorLayer(nn.Module):
    """[B, in, T] → [B, out, ceil(T / stride)]: strided convolution, snake, focal block."""

    def __init__(self, in_dim: int, out_dim: int, stride: int, kernels: Sequence[int], causal: bool) -> None:
        super().__init__()
        self.down = Conv1d(in_dim, out_dim, stride, stride, padding=(0, 0), pad_to_full_window=stride > 1)
        self.snake = Snake(out_dim)
        self.block = FocalBlock(out_dim, kernels, causal)

    def out_length(self, length: Length) -> Length:
        return self.down.out_length(length)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        x = self.snake(self.down(x, lengths), inplace=True)
        return self.block(x.mT, None if lengths is None else self.out_length(lengths)).mT

    def step(self, x: Tensor, past: list[Tensor], before: Tensor) -> tuple[Tensor, list[Tensor]]:
        y, past = self.block.step(self.snake(self.down(x), inplace=True).mT, past, before)
        return y.mT, past


class DecompressorLayer(nn.Module):
    """[B, in, T] → [B, out, T * stride]: focal block, snake, transposed convolution."""

    def __init__(self, in_dim: int, out_dim: int, stride: int, kernels: Sequence[int], causal: bool) -> None:
        super().__init__()
        self.block = FocalBlock(in_dim, kernels, causal)
        self.snake = Snake(in_dim)
        self.up = ConvTranspose1d(in_dim, out_dim, stride, stride)

    def out_length(self, length: Length) -> Length:
        return self.up.out_length(length)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        return self.up(self.snake(self.block(x.mT, lengths).mT, inplace=True))

    def step(self, x: Tensor, past: list[Tensor], before: Tensor) -> tuple[Tensor, list[Tensor]]:
        y, past = self.block.step(x.mT, past, before)
        return self.up(self.snake(y.mT, inplace=True)), past


class FocalStack(Layers):
    """[B, in, T] → [B, out, T'] through layers of either kind. A causal one also takes a clip chunk by chunk."""

    def initial_state(self, batch_size: int) -> list[list[Tensor]]:
        """State of a clip's start."""
        return [[conv.initial_state(batch_size) for conv in layer.block.modulation.convs] for layer in self]

    def step(self, x: Tensor, state: list[list[Tensor]], before: Tensor) -> tuple[Tensor, list[list[Tensor]]]:
        """The next T frames, and the state after them; `before` [B]: frames of each item so far."""
        after = []
        for layer, past in zip(self, state, strict=True):
            x, past = layer.step(x, past, before)
            after.append(past)
        return x, after


class Refiner(nn.Module):
    """[B, C, T] → [B, C, T]: x plus two linear layers over each group of frames; a short last group is filled up with
    zeros."""

    def __init__(self, dim: int, group: int) -> None:
        super().__init__()
        self.group = group
        self.feed_forward = FeedForward(group * dim, group * dim, bias=True)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        steps = x.shape[-1]
        filled = F.pad(zero_tail_(x, lengths, self.group - 1), (0, -steps % self.group))
        groups = filled.mT.unflatten(1, (-1, self.group)).flatten(2)
        refined = self.feed_forward(groups).unflatten(2, (self.group, -1)).flatten(1, 2)
        return refined[:, :steps].mT + x


def mean_over_time(x: Tensor, lengths: Tensor | None) -> Tensor:
    """[B, T, C] → [B, 1, C], over each item's own frames."""
    if lengths is None:
        return x.mean(1, keepdim=True)
    return mask_tail(x.mT, lengths).sum(-1).div_(lengths[:, None])[:, None]
