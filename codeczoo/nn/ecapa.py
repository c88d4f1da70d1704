"""ECAPA-TDNN (arXiv 2005.07143), a speaker encoder, as far as its frames go: without the pooling over time.

Convolutions over mel bands; three blocks of a dilated Res2 convolution, whose channels are split in eight, and a
squeeze-excitation over the whole clip; the outputs of all three joined by a last convolution. Batch norms follow their
ReLUs, and use the statistics of training. All clips of a batch have the same length.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codeczoo.base.key_map import Rule
from codeczoo.nn.conv import Conv1d
from codeczoo.nn.sequential import Linear

SPLITS = 8  # of a Res2 convolution
DILATIONS = (2, 3, 4)  # one a block


class BatchNorm(nn.Module):
    """[B, C, T] → [B, C, T], with the mean and variance that training has gathered."""

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight, self.bias = nn.Parameter(torch.empty(channels)), nn.Parameter(torch.empty(channels))
        self.running_mean: Tensor
        self.running_var: Tensor
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


class ConvReLUNorm(nn.Module):
    """[B, C, T] → [B, C', T]."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__()
        self.conv, self.bn = Conv1d(in_channels, out_channels, kernel_size), BatchNorm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x).relu_())


class Res2Conv(nn.Module):
    """[B, C, T] → [B, C, T] in eight splits of the channels: each but the last, plus what the one before it became, is
    convolved; the last stays as it is."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        width = channels // SPLITS
        self.convs = nn.ModuleList(Conv1d(width, width, 3, dilation=dilation) for _ in range(SPLITS - 1))
        self.bns = nn.ModuleList(BatchNorm(width) for _ in range(SPLITS - 1))

    def forward(self, x: Tensor) -> Tensor:
        *splits, last = x.chunk(SPLITS, dim=1)
        out: list[Tensor] = []
        for split, conv, bn in zip(splits, self.convs, self.bns, strict=True):
            out.append(bn(conv(split + out[-1] if out else split).relu_()))
        return torch.cat([*out, last], dim=1)


class SqueezeExcitation(nn.Module):
    """[B, C, T] → [B, C, T]: each channel times a factor between 0 and 1, which follows from all channels' means."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.linear1, self.linear2 = Linear(channels, hidden), Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.linear2(self.linear1(x.mean(-1)).relu_()).sigmoid_()[..., None]


class Block(nn.Module):
    """[B, C, T] → [B, C, T]."""

    def __init__(self, channels: int, dilation: int, hidden: int) -> None:
        super().__init__()
        self.first, self.res2 = ConvReLUNorm(channels, channels, 1), Res2Conv(channels, dilation)
        self.last, self.excite = ConvReLUNorm(channels, channels, 1), SqueezeExcitation(channels, hidden)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.excite(self.last(self.res2(self.first(x))))


class ECAPA(nn.Module):
    """Mel bands [B, mels, T] → [B, 3 * channels, T]."""

    def __init__(self, mels: int, channels: int, hidden: int = 128) -> None:
        super().__init__()
        self.first = ConvReLUNorm(mels, channels, 5)
        self.blocks = nn.ModuleList(Block(channels, dilation, hidden) for dilation in DILATIONS)
        joined = len(DILATIONS) * channels
        self.join = Conv1d(joined, joined, 1)

    def forward(self, mel: Tensor) -> Tensor:
        x, states = self.first(mel), []
        for block in self.blocks:
            x = block(x)
            states.append(x)
        return self.join(torch.cat(states, dim=1)).relu_()


def ecapa_rules(ours: str, theirs: str) -> tuple[Rule, ...]:
    """Rules from an `ECAPA` at `ours` to the names of wespeaker and its heirs at `theirs`."""
    blocks = (
        Rule(rf"{ours}\.blocks\.{i}\.{part}\.(.+)", rf"{theirs}.layer{i + 2}.se_res2block.{place}.\1")
        for i in range(len(DILATIONS))
        for place, part in enumerate(("first", "res2", "last", "excite"))
    )
    return (
        Rule(rf"{ours}\.first\.(.+)", rf"{theirs}.layer1.\1"),
        *blocks,
        Rule(rf"{ours}\.join\.(.+)", rf"{theirs}.conv.\1"),
    )
