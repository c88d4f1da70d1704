"""The decoder's backbone of X-Codec 2 and NeuCodec: a transformer without positions between residual blocks.

Upstream turns queries and keys by an angle that depends on the head instead of the time, so it cancels in every score
and is left out here.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codeczoo.base.key_map import Rule
from codeczoo.nn.attention import Attention
from codeczoo.nn.conv import Conv1d
from codeczoo.nn.resnet1d import EPS, ResNetBlock
from codeczoo.nn.transformer import FeedForward, Transformer, TransformerLayer


class ResNetTransformer(nn.Module):
    """[B, dim, N] → [B, N, dim]."""

    def __init__(self, dim: int, num_layers: int, num_heads: int, hidden: int) -> None:
        super().__init__()
        self.embed = Conv1d(dim, dim, 7)
        self.prior_net = nn.ModuleList(ResNetBlock(dim) for _ in range(2))
        self.transformer = Transformer(
            [
                TransformerLayer(
                    dim,
                    Attention(dim, num_heads),
                    FeedForward(dim, hidden, activation=F.silu),
                    norm=functools.partial(nn.RMSNorm, eps=1e-6),
                )
                for _ in range(num_layers)
            ]
        )
        self.post_net = nn.ModuleList(ResNetBlock(dim) for _ in range(2))
        self.final_layer_norm = nn.LayerNorm(dim, EPS)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        x = self.embed(x, lengths)
        for block in self.prior_net:
            x = block(x, lengths)
        x = self.transformer(x.mT, lengths).mT.contiguous()
        for block in self.post_net:
            x = block(x, lengths)
        return self.final_layer_norm(x.mT)


def resnet_transformer_rules(ours: str, theirs: str) -> tuple[Rule, ...]:
    """Rules from a `ResNetTransformer` at `ours` to the authors' names at `theirs`."""
    at, layer = rf"{ours}\.transformer\.layers\.(\d+)\.", rf"{theirs}.transformers.\1."
    return (
        Rule(at + r"norm1\.weight", f"{layer}att_norm.weight"),
        Rule(at + r"norm2\.weight", f"{layer}ffn_norm.weight"),
        Rule(at + r"attention\.in_proj\.weight", f"{layer}att.c_attn.weight"),
        Rule(at + r"attention\.out_proj\.weight", f"{layer}att.c_proj.weight"),
        Rule(at + r"feed_forward\.linear(\d)\.weight", rf"{layer}mlp.fc\2.weight"),
        Rule(rf"{ours}\.(.+)", rf"{theirs}.\1"),
    )


def resnet_transformer_rules_of_transformers(ours: str, theirs: str) -> tuple[Rule, ...]:
    """The same for Hugging Face transformers. Its rows of q and k stand in another order, the same in both, which their
    products do not notice."""
    at, layer = rf"{ours}\.transformer\.layers\.(\d+)\.", rf"{theirs}.layers.\1."
    qkv = tuple(f"{layer}self_attn.{x}_proj.weight" for x in "qkv")
    return (
        Rule(at + r"norm1\.weight", f"{layer}input_layernorm.weight"),
        Rule(at + r"norm2\.weight", f"{layer}post_attention_layernorm.weight"),
        Rule(at + r"attention\.in_proj\.weight", qkv, lambda *parts: torch.cat(parts)),
        Rule(at + r"attention\.out_proj\.weight", f"{layer}self_attn.o_proj.weight"),
        Rule(at + r"feed_forward\.linear(\d)\.weight", rf"{layer}mlp.fc\2.weight"),
        Rule(rf"{ours}\.final_layer_norm\.(\w+)", rf"{theirs}.norm.\1"),
        Rule(rf"{ours}\.(.+)", rf"{theirs}.\1"),
    )
