"""ConvNeXt (arXiv 2201.03545) over time, and the backbone that Vocos (arXiv 2306.00814) makes of it.

The blocks keep the channels last, [B, T, C]: that is what linear layers and layer norms want, and a depthwise
convolution does not mind.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codeczoo.base.key_map import Rule
from codeczoo.nn.conv import Conv1d
from codeczoo.nn.group_norm import GroupNorm
from codeczoo.nn.padding import zero_tail_
from codeczoo.nn.resnet1d import EPS, GROUPS, AttentionBlock, ResNetBlock
from codeczoo.nn.sequential import Linear

DEPTHWISE_KERNEL = 7


class ConvNeXtBlock(nn.Module):
    """[B, T, C] → [B, T, C]: x plus a depthwise convolution and two linear layers, scaled by `gamma` if it has one."""

    def __init__(
        self,
        dim: int,
        hidden_dim: int,
        eps: float = EPS,
        activation: Callable[[Tensor], Tensor] = F.gelu,
        layer_scale: bool = True,
    ) -> None:
        super().__init__()
        self.dwconv = Conv1d(dim, dim, DEPTHWISE_KERNEL, groups=dim)
        self.norm: nn.Module = nn.LayerNorm(dim, eps)
        self.pwconv1 = Linear(dim, hidden_dim)
        self.activation = activation
        self.pwconv2 = Linear(hidden_dim, dim)
        self.gamma = nn.Parameter(torch.empty(dim)) if layer_scale else None

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        y = self.pointwise(self.dwconv.depthwise_last(zero_tail_(x.mT, lengths, DEPTHWISE_KERNEL // 2)).mT)
        return self._plus(x, y)

    def _plus(self, x: Tensor, y: Tensor) -> Tensor:
        return y.add_(x) if self.gamma is None else torch.addcmul(x, self.gamma, y)

    def pointwise(self, y: Tensor) -> Tensor:
        """[B, T, C] → [B, T, C]: all that acts on each step alone. May overwrite y."""
        return self.pwconv2(self.activation(self.pwconv1(self.norm(y))))


class CausalConvNeXtBlock(ConvNeXtBlock):
    """[B, T, C] → [B, T, C]; a step sees itself and the six before it, and `step` takes a clip chunk by chunk."""

    def __init__(self, dim: int, hidden_dim: int, eps: float = EPS, layer_scale: bool = True) -> None:
        super().__init__(dim, hidden_dim, eps, layer_scale=layer_scale)
        self.dwconv = Conv1d(dim, dim, DEPTHWISE_KERNEL, groups=dim, padding="causal")

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        return self._plus(x, self.pointwise(self.dwconv(x.mT).mT))

    def initial_state(self, batch_size: int) -> Tensor:
        """State of a clip's start: the last inputs, [B, C, 6]."""
        return self.dwconv.initial_state(batch_size)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """The next T steps, and the state after them."""
        y, state = self.dwconv.step(x.mT, state)
        return self._plus(x, self.pointwise(y.mT)), state


class ConditionedLayerNorm(nn.Module):
    """[B, T, C] → [B, T, C]: a layer norm with a scale and a shift that are linear in a condition [B, D]."""

    def __init__(self, dim: int, condition_dim: int, eps: float = EPS) -> None:
        super().__init__()
        self.eps = eps
        self.scale, self.shift = Linear(condition_dim, dim), Linear(condition_dim, dim)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        normed = F.layer_norm(x, x.shape[-1:], eps=self.eps)
        return torch.addcmul(self.shift(condition)[:, None], normed, self.scale(condition)[:, None])


class ConditionedBlock(nn.Module):
    """A ConvNeXt block [B, T, C] → [B, T, C] whose norm a condition [B, D] of the whole clip sets."""

    def __init__(self, dim: int, hidden_dim: int, condition_dim: int) -> None:
        super().__init__()
        self.dwconv = Conv1d(dim, dim, DEPTHWISE_KERNEL, groups=dim)
        self.norm = ConditionedLayerNorm(dim, condition_dim)
        self.pwconv1, self.pwconv2 = Linear(dim, hidden_dim), Linear(hidden_dim, dim)
        self.gamma = nn.Parameter(torch.empty(dim))

    def forward(self, x: Tensor, lengths: Tensor | None, condition: Tensor) -> Tensor:
        y = self.dwconv.depthwise_last(zero_tail_(x.mT, lengths, DEPTHWISE_KERNEL // 2)).mT
        y = self.pwconv2(F.gelu(self.pwconv1(self.norm(y, condition))))
        return torch.addcmul(x, self.gamma, y)


class VocosBackbone(nn.Module):
    """Latents [B, in_channels, T] → features [B, T, dim] at the same rate.

    Between the first convolution and the ConvNeXt blocks stand residual blocks and an attention over the whole clip
    (WavTokenizer's addition), unless `attention` is False. Adaptive layer norms are plain ones here: see `vocos_rules`.
    """

    def __init__(self, in_channels: int, dim: int, hidden_dim: int, num_layers: int, *, attention: bool = True) -> None:
        super().__init__()
        self.embed = Conv1d(in_channels, dim, DEPTHWISE_KERNEL)
        self.pos_net = nn.ModuleList()
        if attention:
            self.pos_net.extend([ResNetBlock(dim), ResNetBlock(dim), AttentionBlock(dim)])
            self.pos_net.extend([ResNetBlock(dim), ResNetBlock(dim), GroupNorm(GROUPS, dim, EPS)])
        self.norm = nn.LayerNorm(dim, EPS)
        self.convnext = nn.ModuleList(ConvNeXtBlock(dim, hidden_dim) for _ in range(num_layers))
        self.final_layer_norm = nn.LayerNorm(dim, EPS)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        x = self.embed(x, lengths)
        for layer in self.pos_net:
            x = layer(x, lengths)
        x = self.norm(x.mT)  # [B, T, dim]
        for block in self.convnext:
            x = block(x, lengths)
        return self.final_layer_norm(x)

    @property
    def reach(self) -> int:
        """Steps to each side that an output sees through convolutions; norms and attention see the whole clip."""
        blocks = sum(isinstance(layer, ResNetBlock) for layer in self.pos_net)
        return (1 + len(self.convnext)) * (DEPTHWISE_KERNEL // 2) + 2 * blocks


BANDWIDTHS = 4  # rows of an adaptive layer norm's tables


def vocos_rules(ours: str, published: str) -> tuple[Rule, ...]:
    """From the parameters of a `VocosBackbone` at `ours` to the names that WavTokenizer's code gives them.

    Its adaptive layer norms hold a row of scales and shifts for each of four bandwidths, and inference uses row 0.
    """
    row = lambda table: table[0]  # noqa: E731
    rows = lambda own: [own.expand(BANDWIDTHS, -1)]  # noqa: E731
    attention = rf"{ours}\.pos_net\.(\d+)\.attention\."
    theirs = rf"{published}.pos_net.\1."
    return (
        Rule(rf"{ours}\.((?:convnext\.\d+\.)?norm)\.weight", rf"{published}.\1.scale.weight", row, rows),
        Rule(rf"{ours}\.((?:convnext\.\d+\.)?norm)\.bias", rf"{published}.\1.shift.weight", row, rows),
        Rule(
            rf"{attention}in_proj\.weight",
            tuple(f"{theirs}{x}.weight" for x in "qkv"),
            lambda *qkv: torch.cat(qkv).squeeze(-1),  # convolutions of one step
            lambda weight: weight[..., None].chunk(3),
        ),
        Rule(
            rf"{attention}in_proj\.bias",
            tuple(f"{theirs}{x}.bias" for x in "qkv"),
            lambda *qkv: torch.cat(qkv),
            lambda bias: bias.chunk(3),
        ),
        Rule(
            rf"{attention}out_proj\.weight",
            f"{theirs}proj_out.weight",
            lambda weight: weight.squeeze(-1),
            lambda weight: [weight[..., None]],
        ),
        Rule(rf"{attention}out_proj\.bias", f"{theirs}proj_out.bias"),
        Rule(rf"{ours}\.(.+)", rf"{published}.\1"),
    )
