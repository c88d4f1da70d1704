"""Conformer (arXiv 2005.08100): attention and convolution between two half feed-forwards, full attention, no stream.

x + ½ ff1(x), x + attention(x), x + convolution(x), x + ½ ff2(x), norm; each branch normalises its own input
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codeczoo.base.key_map import Rule
from codeczoo.nn.attention import Attention, AttentionMask, everything
from codeczoo.nn.conv import Conv1d
from codeczoo.nn.rotary import Rotary, Rotation
from codeczoo.nn.sequential import Linear
from codeczoo.nn.transformer import FeedForward

BATCH_NORM_EPS = 1e-5


def gelu_tanh(x: Tensor) -> Tensor:
    """GELU by its approximation with tanh."""
    return F.gelu(x, approximate="tanh")


class ConvolutionModule(nn.Module):
    """[B, T, dim] → [B, T, dim]: norm, gated pointwise, depthwise convolution, activation, pointwise.

    The batch norm behind the depthwise convolution is folded into it when a checkpoint is read.
    """

    def __init__(self, dim: int, kernel_size: int, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.widen = Linear(dim, 2 * dim, bias=False)
        self.depthwise = Conv1d(dim, dim, kernel_size, groups=dim)
        self.narrow = Linear(dim, dim, bias=False)
        self.activation = activation

    def forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        y = F.glu(self.widen(self.norm(x)), dim=-1)
        y = self.depthwise(y.mT, lengths)
        return self.narrow(self.activation(y).mT)


class ConformerLayer(nn.Module):
    """[B, T, dim] → [B, T, dim]."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        hidden: int,
        kernel_size: int = 31,
        activation: Callable[[Tensor], Tensor] = gelu_tanh,
    ) -> None:
        super().__init__()
        self.norm1, self.ff1 = nn.LayerNorm(dim), FeedForward(dim, hidden, bias=True, activation=activation)
        self.norm2, self.attention = nn.LayerNorm(dim), Attention(dim, num_heads, bias=True)
        self.conv = ConvolutionModule(dim, kernel_size, activation)
        self.norm3, self.ff2 = nn.LayerNorm(dim), FeedForward(dim, hidden, bias=True, activation=activation)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor, lengths: Tensor | None, attention_mask: AttentionMask, rotation: Rotation) -> Tensor:
        x = torch.add(x, self.ff1(self.norm1(x)), alpha=0.5)
        x = self.attention(self.norm2(x), attention_mask, rotation).add_(x)
        x = self.conv(x, lengths).add_(x)
        return self.norm(torch.add(x, self.ff2(self.norm3(x)), alpha=0.5))


class Conformer(nn.Module):
    """[B, T, dim] → [B, T, dim], each item attending to its own steps."""

    def __init__(self, dim: int, num_layers: int, num_heads: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(ConformerLayer(dim, num_heads, hidden) for _ in range(num_layers))
        self.rotary = Rotary(dim // num_heads)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        attention_mask = everything(x.shape[1], lengths)
        rotation = self.rotary(torch.arange(x.shape[1], device=x.device), x.dtype)
        for layer in self.layers:
            x = layer(x, lengths, attention_mask, rotation)
        return self.norm(x)


def conformer_rules(ours: str, theirs: str) -> tuple[Rule, ...]:
    """Rules from a `Conformer` at `ours` to the names of AUV's at `theirs`."""
    at, to = rf"{ours}\.layers\.(\d+)\.", rf"{theirs}.layers.\1."
    conv = to + "conv_module."
    norm = conv + "conv_norm."
    return (
        Rule(at + r"ff(\d)\.linear1\.(\w+)", rf"{to}ffn\2.up_proj.\3"),
        Rule(at + r"ff(\d)\.linear2\.(\w+)", rf"{to}ffn\2.down_proj.\3"),
        Rule(at + r"norm1\.(\w+)", rf"{to}ffn1_layer_norm.\2"),
        Rule(at + r"norm2\.(\w+)", rf"{to}attn_layer_norm.\2"),
        Rule(at + r"norm3\.(\w+)", rf"{to}ffn2_layer_norm.\2"),
        Rule(at + r"norm\.(\w+)", rf"{to}final_layer_norm.\2"),
        Rule(at + r"attention\.in_proj\.weight", to + "attn.to_qkv.weight"),
        Rule(at + r"attention\.in_proj\.bias", to + "attn.to_qkv.weight", lambda weight: weight.new_zeros(len(weight))),
        Rule(at + r"attention\.out_proj\.(\w+)", rf"{to}attn.to_out.\2"),
        Rule(at + r"conv\.norm\.(\w+)", rf"{conv}layer_norm.\2"),
        Rule(at + r"conv\.widen\.weight", conv + "pointwise_conv1.weight", lambda weight: weight.squeeze(-1)),
        Rule(at + r"conv\.narrow\.weight", conv + "pointwise_conv2.weight", lambda weight: weight.squeeze(-1)),
        Rule(
            at + r"conv\.depthwise\.weight",
            (conv + "depthwise_conv.weight", norm + "weight", norm + "running_var"),
            lambda kernel, gain, variance: (kernel.double() * _scale(gain, variance)[:, None, None]).to(kernel),
        ),
        Rule(
            at + r"conv\.depthwise\.bias",
            (norm + "bias", norm + "running_mean", norm + "weight", norm + "running_var"),
            lambda bias, mean, gain, variance: (bias.double() - mean.double() * _scale(gain, variance)).to(bias),
        ),
        Rule(rf"{ours}\.norm\.(\w+)", rf"{theirs}.layer_norm.\1"),
    )


def _scale(gain: Tensor, variance: Tensor) -> Tensor:
    return gain.double() / (variance.double() + BATCH_NORM_EPS).sqrt()
