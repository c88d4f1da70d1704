"""Vocos without attention (arXiv 2306.00814), and its causal form whose head gives samples, WaveNeXt (ASRU 2023)."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from codeczoo.nn.conv import Conv1d
from codeczoo.nn.convnext import DEPTHWISE_KERNEL, CausalConvNeXtBlock, ConvNeXtBlock
from codeczoo.nn.istft import ISTFTHead
from codeczoo.nn.resnet1d import EPS
from codeczoo.nn.sequential import Linear


class Vocos(nn.Module):
    """[B, in_channels, N] → [B, N * hop_length].

    Args:
        n_fft: of the inverse STFT.
    """

    def __init__(
        self, in_channels: int, dim: int, hidden_dim: int, num_layers: int, hop_length: int, n_fft: int
    ) -> None:
        super().__init__()
        self.embed = Conv1d(in_channels, dim, DEPTHWISE_KERNEL)
        self.norm = nn.LayerNorm(dim, EPS)
        self.convnext = nn.ModuleList(ConvNeXtBlock(dim, hidden_dim) for _ in range(num_layers))
        self.final_layer_norm = nn.LayerNorm(dim, EPS)
        self.head = ISTFTHead(dim, n_fft, hop_length)

    @property
    def reach(self) -> int:
        """Frames to each side that a frame's samples are made of."""
        overlap = -(-self.head.n_fft // self.head.hop_length)
        return DEPTHWISE_KERNEL // 2 * (1 + len(self.convnext)) + overlap

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        x = self.norm(self.embed(x, lengths).mT)
        for block in self.convnext:
            x = block(x, lengths)
        return self.head(self.final_layer_norm(x), lengths)


class WaveNeXt(nn.Module):
    """[B, in_channels, N] → [B, N * hop_length] within [-1, 1]; causal, so `lengths` do not matter."""

    def __init__(self, in_channels: int, dim: int, hidden_dim: int, num_layers: int, hop_length: int) -> None:
        super().__init__()
        self.embed = Conv1d(in_channels, dim, DEPTHWISE_KERNEL, padding="causal")
        self.norm = nn.LayerNorm(dim, EPS)
        self.convnext = nn.ModuleList(CausalConvNeXtBlock(dim, hidden_dim) for _ in range(num_layers))
        self.final_layer_norm = nn.LayerNorm(dim, EPS)
        self.head = Linear(dim, hop_length)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        x = self.norm(self.embed(x).mT)
        for block in self.convnext:
            x = block(x)
        return self._samples(x)

    def initial_state(self, batch_size: int) -> list[Tensor]:
        """State of a clip's start."""
        blocks = cast("list[CausalConvNeXtBlock]", list(self.convnext))
        return [self.embed.initial_state(batch_size), *(block.initial_state(batch_size) for block in blocks)]

    def step(self, x: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """The next N frames, and the state after them."""
        y, first = self.embed.step(x, state[0])
        x, after = self.norm(y.mT), [first]
        for block, past in zip(self.convnext, state[1:], strict=True):
            x, past = block.step(x, past)
            after.append(past)
        return self._samples(x), after

    def _samples(self, x: Tensor) -> Tensor:
        return self.head(self.final_layer_norm(x)).flatten(1).clamp_(-1, 1)
