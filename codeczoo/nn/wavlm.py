"""WavLM (arXiv 2110.13900): HuBERT whose attention knows how far apart frames are.

A learned value for each head and range of distances is added to the scores, times a gate that each layer computes from
the query's frame (the gated relative position bias).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codeczoo.base.exporting import exporting
from codeczoo.base.key_map import Rule
from codeczoo.nn.attention import Attention, AttentionMask
from codeczoo.nn.hubert import Hubert, HubertConfig, fairseq_rules, hubert_rules
from codeczoo.nn.rotary import Rotation
from codeczoo.nn.sequential import Linear

BUCKETS = 320  # half of them for keys after the query
FARTHEST = 800  # frames; greater distances share a bucket
PARTS = (2, 4)  # two values of a gate, each the sum of four
SCORES = 1 << 24  # scores that attention computes at once


@dataclass(frozen=True)
class RelativeMask(AttentionMask):
    """A mask with a position bias, [H, 2 * steps - 1] by the key's place less the query's, from 1 - steps on."""

    bias: Tensor = field(kw_only=True)

    def rows(self, first: int, stop: int) -> Tensor:
        """Of queries `first` to `stop`: [H, stop - first, steps]."""
        steps = (self.bias.shape[-1] + 1) // 2
        if exporting():
            place = torch.arange(steps)
            return self.bias[:, place - place[:, None] + steps - 1]
        return self.bias.unfold(-1, steps, 1)[:, steps - stop : steps - first].flip(1)

    def seen(self, first: int, stop: int) -> Tensor | None:
        """Which keys they see."""
        if self.mask is None or self.mask.shape[-2] == 1:
            return self.mask
        return self.mask[..., first:stop, :]


class GatedAttention(Attention):
    """Attention whose scores are q · k / sqrt(head_dim) + gate(query) · bias(distance)."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__(dim, num_heads, bias=True)
        self.gate = Linear(self.head_dim, math.prod(PARTS))
        self.gate_scale = nn.Parameter(torch.empty(1, num_heads, 1, 1))

    def forward(self, x: Tensor, attention_mask: AttentionMask, rotation: Rotation | None = None) -> Tensor:
        assert isinstance(attention_mask, RelativeMask) and rotation is None
        q, k, v = self.project(x)
        batch, heads, steps, _ = q.shape
        gates = self.gates(x)
        if exporting():  # all at once
            bias, seen = gates * attention_mask.rows(0, steps), attention_mask.mask
            bias = bias if seen is None else bias.masked_fill(~seen, -torch.inf)
            return self.merge(F.scaled_dot_product_attention(q, k, v, bias))
        width = max(SCORES // (batch * heads * steps), 1)
        parts = []
        for first in range(0, steps, width):
            stop = min(first + width, steps)
            bias = gates[:, :, first:stop] * attention_mask.rows(first, stop)  # [B, H, queries, T]
            seen = attention_mask.seen(first, stop)
            if seen is not None:
                bias = bias.masked_fill_(~seen, -torch.inf)
            parts.append(F.scaled_dot_product_attention(q[:, :, first:stop], k, v, bias))
        return self.merge(parts[0] if len(parts) == 1 else torch.cat(parts, dim=2))

    def gates(self, x: Tensor) -> Tensor:
        """[B, T, dim] → [B, H, T, 1]."""
        x = x.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)
        a, b = self.gate(x).unflatten(-1, PARTS).sum(-1).sigmoid().chunk(2, dim=-1)
        return a * (b * self.gate_scale - 1) + 2


class WavLM(Hubert):
    """Waveform [B, 1, T] at 16 kHz → hidden states [B, N, dim]; all else as in `Hubert`."""

    def __init__(self, config: HubertConfig) -> None:
        super().__init__(config)
        self.distances = nn.Parameter(torch.empty(BUCKETS, config.num_heads))
        self.buckets: Tensor
        self.register_buffer("buckets", bucket(torch.arange(-FARTHEST, FARTHEST + 1)), persistent=False)

    def attention(self, config: HubertConfig) -> Attention:
        return GatedAttention(config.dim, config.num_heads)

    def attention_mask(self, steps: int, lengths: Tensor | None) -> AttentionMask:
        return self.relative(super().attention_mask(steps, lengths), steps)

    def relative(self, attention_mask: AttentionMask, steps: int) -> RelativeMask:
        """`attention_mask` and the position bias."""
        distance = torch.arange(1 - steps, steps, device=self.buckets.device).clamp_(-FARTHEST, FARTHEST)
        return RelativeMask(attention_mask.mask, bias=F.embedding(self.buckets[distance + FARTHEST], self.distances).T)


def bucket(distance: Tensor) -> Tensor:
    """The key's place less the query's → the row of the bias; single distances up to 79 frames, then ranges that grow
    with their logarithm, in float32 as upstream takes it."""
    half, exact = BUCKETS // 2, BUCKETS // 4
    far = distance.abs()
    scaled = (far.clamp(min=1).float() / exact).log() / math.log(FARTHEST / exact) * (half - exact)
    return (distance > 0) * half + torch.where(far < exact, far, (exact + scaled.long()).clamp(max=half - 1))


def wavlm_rules(ours: str, theirs: str) -> tuple[Rule, ...]:
    """Rules from a `WavLM` at `ours` to the names of Hugging Face transformers' model at `theirs` ("" = at the top)."""
    to = f"{theirs}.encoder.layers." if theirs else "encoder.layers."
    at = rf"{ours}\.layers\.(\d+)\.attention\."
    return (
        Rule(rf"{ours}\.distances", f"{to}0.attention.rel_attn_embed.weight"),
        Rule(at + r"gate\.(\w+)", rf"{to}\1.attention.gru_rel_pos_linear.\2"),
        Rule(at + "gate_scale", rf"{to}\1.attention.gru_rel_pos_const"),
        *hubert_rules(ours, theirs),
    )


def unilm_rules(ours: str, theirs: str, extractor_norm: str = "group") -> tuple[Rule, ...]:
    """Rules from a `WavLM` at `ours` to the authors' names (those of their repository unilm) of a model at `theirs`."""
    to = f"{theirs}.encoder.layers." if theirs else "encoder.layers."
    at = rf"{ours}\.layers\.(\d+)\.attention\."
    return (
        Rule(rf"{ours}\.distances", f"{to}0.self_attn.relative_attention_bias.weight"),
        Rule(at + r"gate\.(\w+)", rf"{to}\1.self_attn.grep_linear.\2"),
        Rule(at + "gate_scale", rf"{to}\1.self_attn.grep_a"),
        *fairseq_rules(ours, theirs, extractor_norm),
    )
