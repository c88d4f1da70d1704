"""The Perceiver's resampler: learned queries that attend to a sequence of any length (arXiv 2103.03206, 2204.14198).

As in lucidrains' naturalspeech2-pytorch: no norms before attention and feed-forward, queries that attend to themselves
beside the sequence, gated feed-forward, an RMS norm at the end. All clips of a batch have the same length.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codeczoo.base.key_map import Rule
from codeczoo.nn.sequential import Linear


class PerceiverLayer(nn.Module):
    """Queries [B, M, dim] and a sequence [B, T, dim] → [B, M, dim]."""

    def __init__(self, dim: int, num_heads: int, head_dim: int) -> None:
        super().__init__()
        inner, hidden = num_heads * head_dim, dim * 8 // 3
        self.num_heads = num_heads
        self.to_q, self.to_kv = Linear(dim, inner, bias=False), Linear(dim, 2 * inner, bias=False)
        self.to_out = Linear(inner, dim, bias=False)
        self.widen, self.narrow = Linear(dim, 2 * hidden), Linear(hidden, dim)

    def forward(self, x: Tensor, sequence: Tensor) -> Tensor:
        projected = self.to_q(x), *self.to_kv(torch.cat([x, sequence], dim=1)).chunk(2, dim=-1)
        q, k, v = (part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in projected)
        x = self.to_out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)).add_(x)
        value, gate = self.widen(x).chunk(2, dim=-1)
        return self.narrow(F.gelu(gate).mul_(value)).add_(x)


class PerceiverResampler(nn.Module):
    """Sequence [B, T, in_dim] → [B, M, dim]."""

    def __init__(
        self, in_dim: int, dim: int, num_queries: int, num_layers: int = 2, num_heads: int = 8, head_dim: int = 64
    ) -> None:
        super().__init__()
        self.project = Linear(in_dim, dim)
        self.queries = nn.Parameter(torch.empty(num_queries, dim))
        self.layers = nn.ModuleList(PerceiverLayer(dim, num_heads, head_dim) for _ in range(num_layers))
        self.gamma = nn.Parameter(torch.empty(dim))

    def forward(self, sequence: Tensor) -> Tensor:
        sequence = self.project(sequence)
        x = self.queries.expand(sequence.shape[0], -1, -1)
        for layer in self.layers:
            x = layer(x, sequence)
        return F.normalize(x, dim=-1) * (math.sqrt(x.shape[-1]) * self.gamma)


def perceiver_rules(ours: str, theirs: str) -> tuple[Rule, ...]:
    """Rules from a `PerceiverResampler` at `ours` to naturalspeech2-pytorch's names at `theirs`."""
    layer, to = rf"{ours}\.layers\.(\d+)\.", rf"{theirs}.layers.\1."
    return (
        Rule(rf"{ours}\.project\.(\w+)", rf"{theirs}.proj_context.\1"),
        Rule(rf"{ours}\.queries", f"{theirs}.latents"),
        Rule(layer + r"(to_\w+)\.weight", to + r"0.\2.weight"),
        Rule(layer + r"widen\.(\w+)", to + r"1.0.\2"),
        Rule(layer + r"narrow\.(\w+)", to + r"1.2.\2"),
        Rule(rf"{ours}\.gamma", f"{theirs}.norm.gamma"),
    )
