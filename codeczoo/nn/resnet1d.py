"""Residual blocks over time with group norm, as Vocos-like decoders have them before their backbone.

They come from the image decoders of latent diffusion (arXiv 2112.10752), with one axis in place of two.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from codeczoo.nn.attention import Attention, everything
from codeczoo.nn.conv import Conv1d
from codeczoo.nn.group_norm import GroupNorm

GROUPS, EPS = 32, 1e-6


class ResNetBlock(nn.Module):
    """[B, C, T] → [B, C, T]: x plus two rounds of group norm, swish and a convolution of 3 steps."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = GroupNorm(GROUPS, channels, EPS)
        self.conv1 = Conv1d(channels, channels, 3)
        self.norm2 = GroupNorm(GROUPS, channels, EPS)
        self.conv2 = Conv1d(channels, channels, 3)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        y = self.conv1(F.silu(self.norm1(x, lengths), inplace=True), lengths)
        return self.conv2(F.silu(self.norm2(y, lengths), inplace=True), lengths).add_(x)


class AttentionBlock(nn.Module):
    """[B, C, T] → [B, C, T]: x plus group norm and attention of one head over the whole clip, without positions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = GroupNorm(GROUPS, channels, EPS)
        self.attention = Attention(channels, 1, bias=True)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        y = self.norm(x, lengths).mT  # finite behind each item too, as attention wants it
        return x + self.attention(y, everything(x.shape[-1], lengths)).mT
