"""HiFi-GAN (arXiv 2010.05646): residual blocks, their combinations, and the generator made of them.

    generator: conv; then for each stride: leaky ReLU, transposed conv, residual blocks; leaky ReLU, conv, tanh

The published networks look to both sides; `causal` ones look back only, and stream. A transposed conv's state is its
last input; before a clip's first step stands a copy of that step (`CausalConvTranspose1d`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codeczoo.nn.cache_tiling import run_tiled
from codeczoo.nn.conv import Conv1d, ConvTranspose1d, Length
from codeczoo.nn.receptive_field import convolutions_of, receptive_span

SLOPE = 0.1  # of leaky ReLU; torch's default is 0.01
KERNEL = 7  # of the generator's first and last convolution

State = Any  # a tree of tensors [B, ...]
Activation = Callable[[int, bool], nn.Module]  # (channels, inplace) -> module


def leaky_relu(channels: int, inplace: bool) -> nn.Module:
    """The activation of HiFi-GAN; it needs no channels."""
    return nn.LeakyReLU(SLOPE, inplace)


class ResidualUnit(nn.Module):
    """[B, C, T] → [B, C, T]: x plus activation, dilated conv, activation, plain conv. x stays as it is."""

    def __init__(
        self,
        channels: int,
        kernel_size: int,
        dilation: int,
        groups: int,
        causal: bool,
        activation: Activation = leaky_relu,
        pad_mode: str = "zeros",
    ) -> None:
        super().__init__()
        shared: dict[str, Any] = {"groups": groups, "padding": "causal" if causal else "same", "pad_mode": pad_mode}
        self.act1, self.act2 = activation(channels, False), activation(channels, True)
        self.conv1 = Conv1d(channels, channels, kernel_size, dilation=dilation, **shared)
        self.conv2 = Conv1d(channels, channels, kernel_size, **shared)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        y = self.conv1(self.act1(x), lengths)
        return self.conv2(self.act2(y), lengths).add_(x)

    def initial_state(self, batch_size: int) -> State:
        return [self.conv1.initial_state(batch_size), self.conv2.initial_state(batch_size)]

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        y, first = self.conv1.step(self.act1(x), state[0])
        y, second = self.conv2.step(self.act2(y), state[1])
        return y.add_(x), [first, second]


class ResidualBlock(nn.Module):
    """[B, C, T] → [B, C, T]: one residual unit for each dilation. x stays as it is."""

    def __init__(
        self,
        channels: int,
        kernel_size: int,
        dilations: Sequence[int],
        groups: int = 1,
        *,
        causal: bool = False,
        activation: Activation = leaky_relu,
        pad_mode: str = "zeros",
    ) -> None:
        super().__init__()
        units = nn.ModuleList(
            ResidualUnit(channels, kernel_size, dilation, groups, causal, activation, pad_mode)
            for dilation in dilations
        )
        self.units = cast(Sequence[ResidualUnit], units)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        return run_tiled(self.units, x, lengths)[0]

    def initial_state(self, batch_size: int) -> State:
        return [unit.initial_state(batch_size) for unit in self.units]

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """The next steps, and the state after them (causal only)."""
        after = []
        for unit, before in zip(self.units, state, strict=True):
            x, new = unit.step(x, before)
            after.append(new)
        return x, after


class MultiReceptiveField(nn.Module):
    """[B, C, T] → [B, C, T]: the mean of residual blocks of several kernel sizes, all on x."""

    def __init__(
        self,
        channels: int,
        kernel_sizes: Sequence[int],
        dilations: Sequence[int],
        *,
        causal: bool = False,
        activation: Activation = leaky_relu,
        pad_mode: str = "zeros",
    ) -> None:
        super().__init__()
        blocks = nn.ModuleList(
            ResidualBlock(channels, size, dilations, causal=causal, activation=activation, pad_mode=pad_mode)
            for size in kernel_sizes
        )
        self.blocks = cast(Sequence[ResidualBlock], blocks)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        total = self.blocks[0](x, lengths)
        for block in self.blocks[1:]:
            total.add_(block(x, lengths))
        return total.div_(len(self.blocks))

    def initial_state(self, batch_size: int) -> State:
        return [block.initial_state(batch_size) for block in self.blocks]

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """The next steps, and the state after them (causal only)."""
        parts, after = zip(*(block.step(x, own) for block, own in zip(self.blocks, state, strict=True)), strict=True)
        return sum(parts[1:], parts[0]) / len(parts), list(after)


class Copies(nn.Module):
    """[B, C, T] → [B, count * C, T]: x, and x again."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        return x.repeat(1, self.count, 1)


class MultiGroup(nn.Module):
    """[B, C, T] → [B, C, T]: one residual block on copies of x side by side, each copy a group of the convolutions, and
    their mix (AudioDec): several residual blocks at the price of one wide grouped one."""

    def __init__(self, channels: int, kernel_size: int, dilations: Sequence[int], groups: int) -> None:
        super().__init__()
        width = groups * channels
        self.copies = Copies(groups)
        self.block = ResidualBlock(width, kernel_size, dilations, groups, causal=True)
        self.conv_out = Conv1d(width, channels, 1, bias=False)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        return run_tiled([self.copies, *self.block.units, self.conv_out], x, lengths)[0]

    def initial_state(self, batch_size: int) -> State:
        return self.block.initial_state(batch_size)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        y, state = self.block.step(self.copies(x), state)
        return self.conv_out(y), state


class CausalConvTranspose1d(ConvTranspose1d):
    """[B, in, N] → [B, out, N * stride], of kernel 2 * stride: each input sounds in its own stride of samples and in
    the one after. Before the first input stands a copy of it.

    The state is the last input, and for each item whether there was one. An item that begins with a state of zeros
    which claims to be one (`begun`) begins after silence instead.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__(in_channels, out_channels, 2 * stride, stride, trim=(stride, stride))

    def out_length(self, length: Length) -> Length:
        return length * self.stride

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        return super().forward(torch.cat([x[..., :1], x], dim=-1))

    def initial_state(self, batch_size: int) -> State:
        begun = torch.zeros(batch_size, dtype=torch.bool, device=self.weight.device)
        return {"last": self.weight.new_zeros(batch_size, len(self.weight), 1), "begun": begun}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        last = torch.where(state["begun"].view(-1, 1, 1), state["last"], x[..., :1])
        y = super().forward(torch.cat([last, x], dim=-1))
        return y, {"last": x[..., -1:].clone(), "begun": torch.ones_like(state["begun"])}


class Generator(nn.Module):
    """Latents [B, in_channels, N] → waveform [B, 1, N * product of strides] between -1 and 1, and its lengths if they
    were given."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        strides: Sequence[int],
        kernel_sizes: Sequence[int],
        block: Callable[[int], MultiReceptiveField | MultiGroup],
        *,
        causal: bool = False,
        last_slope: float = SLOPE,
    ) -> None:
        """`channels` before the first stride; each halves them. `kernel_sizes` of the transposed convs (twice the
        stride where causal). `block` makes what follows each of them, out of the number of channels. `last_slope` of
        the leaky ReLU before the last conv."""
        super().__init__()
        if causal and any(size != 2 * stride for size, stride in zip(kernel_sizes, strides, strict=True)):
            raise ValueError(f"a causal generator has kernels of twice the strides {strides}; they are {kernel_sizes}")
        padding = "causal" if causal else "same"
        self.last_slope = last_slope
        self.conv_pre = Conv1d(in_channels, channels, KERNEL, padding=padding)
        ups, blocks = nn.ModuleList(), nn.ModuleList()
        for stride, size in zip(strides, kernel_sizes, strict=True):
            trim = (size - stride) // 2
            ups.append(
                CausalConvTranspose1d(channels, channels // 2, stride)
                if causal
                else ConvTranspose1d(channels, channels // 2, size, stride, trim=(trim, trim))
            )
            channels //= 2
            blocks.append(block(channels))
        self.ups = cast(Sequence[ConvTranspose1d], ups)
        self.blocks = cast(Sequence[MultiReceptiveField | MultiGroup], blocks)
        self.conv_post = Conv1d(channels, 1, KERNEL, padding=padding)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        x = self.conv_pre(x, lengths)
        for up, block in zip(self.ups, self.blocks, strict=True):
            x = up(F.leaky_relu_(x, SLOPE), lengths)
            lengths = None if lengths is None else up.out_length(lengths)
            x = block(x, lengths)
        return self.conv_post(F.leaky_relu_(x, self.last_slope), lengths).tanh_(), lengths

    def receptive_span(self) -> tuple[int, int]:
        """The first and the last step of the latents that the samples of step 0 see (not causal)."""
        hop = math.prod(up.stride for up in self.ups)
        stages = zip(self.ups, map(widest, self.blocks), strict=True)
        return receptive_span(convolutions_of(self.conv_pre, *chain(*stages), self.conv_post), 0, hop - 1)

    # -- streaming (causal only) ----------------------------------------------------------------

    def initial_state(self, batch_size: int) -> State:
        ups = [up.initial_state(batch_size) for up in self.ups]
        blocks = [block.initial_state(batch_size) for block in self.blocks]
        return [self.conv_pre.initial_state(batch_size), *ups, *blocks, self.conv_post.initial_state(batch_size)]

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """The next steps [B, in_channels, n] → their samples, and the state after them."""
        pre, *stages, post = state
        ups, blocks = stages[: len(self.ups)], stages[len(self.ups) :]
        x, pre = self.conv_pre.step(x, pre)
        for i, (up, block) in enumerate(zip(self.ups, self.blocks, strict=True)):
            x, ups[i] = up.step(F.leaky_relu_(x, SLOPE), ups[i])
            x, blocks[i] = block.step(x, blocks[i])
        x, post = self.conv_post.step(F.leaky_relu_(x, self.last_slope), post)
        return x.tanh_(), [pre, *ups, *blocks, post]


def widest(module: nn.Module) -> ResidualBlock:
    """Of residual blocks side by side, the one that sees farthest."""
    blocks = (part for part in module.modules() if isinstance(part, ResidualBlock))
    return max(blocks, key=lambda block: sum(layer.left for layer in convolutions_of(block)))
