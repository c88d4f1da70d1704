"""The encoder of w2v-BERT 2.0 (SeamlessM4T, arXiv 2312.05187): a conformer with relative positions.

Differences to `conformer.Conformer`: attention scores get a learned value for each distance (Shaw et al., arXiv
1803.02155), the depthwise convolution looks back only, and a layer norm stands behind it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codeczoo.base.key_map import Rule
from codeczoo.base.ragged import valid_mask
from codeczoo.nn.attention import Attention
from codeczoo.nn.conv import Conv1d
from codeczoo.nn.sequential import Linear
from codeczoo.nn.transformer import FeedForward

DEPTHWISE_KERNEL = 31
MAX_DISTANCE_BACK, MAX_DISTANCE_AHEAD = 64, 8  # larger distances are clamped to these


class RelativeAttention(Attention):
    """Attention whose scores are (q · k + q · e(distance)) / sqrt(head_dim)."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__(dim, num_heads, bias=True)
        self.distances = nn.Parameter(torch.empty(MAX_DISTANCE_BACK + MAX_DISTANCE_AHEAD + 1, self.head_dim))

    def attend(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """[B, T, dim] → [B, T, dim]."""
        q, k, v = self.project(x)
        batch, _, steps, _ = q.shape
        place = torch.arange(steps, device=x.device)
        distance = (place - place[:, None]).clamp_(
            -MAX_DISTANCE_BACK, MAX_DISTANCE_AHEAD
        ) + MAX_DISTANCE_BACK  # [T, T]: key's place less the query's
        bias = (q @ self.distances.T) * self.head_dim**-0.5  # [B, H, T, distances]
        bias = bias.gather(-1, distance.expand(batch, self.num_heads, -1, -1))
        if lengths is not None:
            bias = bias.masked_fill_(~valid_mask(lengths, steps)[:, None, None], -torch.inf)
        return self.merge(F.scaled_dot_product_attention(q, k, v, bias))


class Layer(nn.Module):
    """[B, T, dim] → [B, T, dim]."""

    def __init__(self, dim: int, num_heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1, self.ff1 = nn.LayerNorm(dim), FeedForward(dim, hidden, bias=True, activation=F.silu)
        self.norm2, self.attention = nn.LayerNorm(dim), RelativeAttention(dim, num_heads)
        self.norm3 = nn.LayerNorm(dim)
        self.widen = Linear(dim, 2 * dim, bias=False)
        self.depthwise = Conv1d(dim, dim, DEPTHWISE_KERNEL, groups=dim, bias=False, padding="causal")
        self.depthwise_norm = nn.LayerNorm(dim)
        self.narrow = Linear(dim, dim, bias=False)
        self.norm4, self.ff2 = nn.LayerNorm(dim), FeedForward(dim, hidden, bias=True, activation=F.silu)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor, lengths: Tensor | None, behind: Tensor | None = None) -> Tensor:
        x = torch.add(x, self.ff1(self.norm1(x)), alpha=0.5)
        x = self.attention.attend(self.norm2(x), lengths).add_(x)
        y = self.norm3(x)
        y = F.glu(self.widen(y if behind is None else y.masked_fill_(behind, 0)), dim=-1)
        y = self.depthwise_norm(self.depthwise(y.mT.contiguous()).mT)
        x = self.narrow(F.silu(y)).add_(x)
        return self.norm(torch.add(x, self.ff2(self.norm4(x)), alpha=0.5))


class W2vBert(nn.Module):
    """Features [B, N, 160] → what its first `num_layers` layers make of them, [B, N, dim].

    With `mask_behind`, vectors behind an item's length are set to zero as transformers does under an attention mask.
    So the first of them has an output that depends on the item alone: its own past, and attention to the item.
    """

    def __init__(
        self, features: int, dim: int, num_layers: int, num_heads: int, hidden: int, mask_behind: bool = False
    ) -> None:
        super().__init__()
        self.mask_behind = mask_behind
        self.feature_norm = nn.LayerNorm(features)
        self.project = Linear(features, dim)
        self.layers = nn.ModuleList(Layer(dim, num_heads, hidden) for _ in range(num_layers))

    def forward(self, features: Tensor, lengths: Tensor | None = None) -> Tensor:
        x = self.project(self.feature_norm(features.to(self.project.weight.dtype)))
        behind = None
        if self.mask_behind and lengths is not None:
            behind = ~valid_mask(lengths, x.shape[1])[..., None]
            x = x.masked_fill_(behind, 0)
        for layer in self.layers:
            x = layer(x, lengths, behind)
        return x


def _of_one_step(weight: Tensor) -> Tensor:
    return weight.squeeze(-1)


def _as_conv(weight: Tensor) -> list[Tensor]:
    return [weight[..., None]]


def w2v_bert_rules(ours: str, theirs: str) -> tuple[Rule, ...]:
    """Rules from a `W2vBert` at `ours` to the names of transformers' model at `theirs` ("" = at the top)."""
    prefix = f"{theirs}." if theirs else ""
    at, to = rf"{ours}\.layers\.(\d+)\.", rf"{prefix}encoder.layers.\1."
    attention, conv = to + "self_attn.", to + "conv_module."
    qkv = tuple(f"{attention}linear_{x}" for x in "qkv")
    return (
        Rule(rf"{ours}\.feature_norm\.(\w+)", rf"{prefix}feature_projection.layer_norm.\1"),
        Rule(rf"{ours}\.project\.(\w+)", rf"{prefix}feature_projection.projection.\1"),
        Rule(at + r"ff(\d)\.linear1\.(\w+)", rf"{to}ffn\2.intermediate_dense.\3"),
        Rule(at + r"ff(\d)\.linear2\.(\w+)", rf"{to}ffn\2.output_dense.\3"),
        Rule(at + r"norm1\.(\w+)", rf"{to}ffn1_layer_norm.\2"),
        Rule(at + r"norm2\.(\w+)", rf"{to}self_attn_layer_norm.\2"),
        Rule(at + r"norm3\.(\w+)", rf"{conv}layer_norm.\2"),
        Rule(at + r"norm4\.(\w+)", rf"{to}ffn2_layer_norm.\2"),
        Rule(at + r"norm\.(\w+)", rf"{to}final_layer_norm.\2"),
        Rule(
            at + r"attention\.in_proj\.(\w+)",
            tuple(rf"{x}.\2" for x in qkv),
            lambda *parts: torch.cat(parts),
            lambda whole: whole.chunk(3),
        ),
        Rule(at + r"attention\.out_proj\.(\w+)", rf"{attention}linear_out.\2"),
        Rule(at + r"attention\.distances", attention + "distance_embedding.weight"),
        Rule(at + r"widen\.weight", conv + "pointwise_conv1.weight", _of_one_step, _as_conv),
        Rule(at + r"narrow\.weight", conv + "pointwise_conv2.weight", _of_one_step, _as_conv),
        Rule(at + r"depthwise\.weight", conv + "depthwise_conv.weight"),
        Rule(at + r"depthwise_norm\.(\w+)", rf"{conv}depthwise_layer_norm.\2"),
    )
