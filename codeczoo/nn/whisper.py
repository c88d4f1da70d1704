"""Whisper's encoder (arXiv 2212.04356), and its transformer alone, which codecs put behind it at other rates.

    two convolutions of 3 steps, each with GELU; the second halves the rate
    a table of positions, pre-norm transformer layers, a layer norm

A table of sines is loaded like one that was learned: published files hold it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codeczoo.base.key_map import Rule
from codeczoo.nn.attention import Attention
from codeczoo.nn.conv import Conv1d, Length
from codeczoo.nn.transformer import FeedForward, Transformer, TransformerLayer


class WhisperTransformer(nn.Module):
    """[B, N, dim] → [B, N, dim], for N up to `positions`; a step sees every step of the same item."""

    def __init__(self, dim: int, num_layers: int, num_heads: int, hidden: int, positions: int) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.empty(positions, dim))
        self.transformer = Transformer(
            [
                TransformerLayer(dim, Attention(dim, num_heads, bias=True), FeedForward(dim, hidden, bias=True))
                for _ in range(num_layers)
            ]
        )
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Values behind an item's length must be finite."""
        return self.norm(self.transformer(x + self.positions[: x.shape[1]], lengths))


class WhisperEncoder(nn.Module):
    """Log-mel [B, mels, F] → [B, N, dim] with N = out_length(F), at most `positions`."""

    def __init__(self, mels: int, dim: int, num_layers: int, num_heads: int, hidden: int, positions: int) -> None:
        super().__init__()
        self.conv1 = Conv1d(mels, dim, 3, padding=(1, 1))
        self.conv2 = Conv1d(dim, dim, 3, 2, padding=(1, 1))
        self.body = WhisperTransformer(dim, num_layers, num_heads, hidden, positions)

    def out_length(self, length: Length) -> Length:
        """Steps that `length` mel frames give: int or tensor."""
        return self.conv2.out_length(self.conv1.out_length(length))

    def forward(self, mel: Tensor, lengths: Tensor | None = None) -> Tensor:
        return self.body(self.halve(mel, lengths), None if lengths is None else self.out_length(lengths))

    def halve(self, mel: Tensor, lengths: Tensor | None = None) -> Tensor:
        """The convolutions alone: [B, mels, F] → [B, N, dim]."""
        x = F.gelu(self.conv1(mel, lengths))
        return F.gelu(self.conv2(x, None if lengths is None else self.conv1.out_length(lengths))).mT


def whisper_rules(
    ours: str, theirs: str, positions: str = "embed_positions.weight", feed_forward: str = ""
) -> tuple[Rule, ...]:
    """Rules from a `WhisperEncoder` at `ours` to the names of Hugging Face transformers' at `theirs`.

    `positions` names the table, `feed_forward` is what stands before "fc1". Keys have no bias there.
    """
    return (
        Rule(rf"{ours}\.(conv[12]\.\w+)", rf"{theirs}.\1"),
        *whisper_transformer_rules(rf"{ours}\.body", theirs, positions, feed_forward),
    )


def whisper_transformer_rules(
    ours: str, theirs: str, positions: str = "embed_positions.weight", feed_forward: str = ""
) -> tuple[Rule, ...]:
    """The same for a `WhisperTransformer`."""
    at, to = rf"{ours}\.transformer\.layers\.(\d+)\.", rf"{theirs}.layers.\1."
    attention = f"{to}self_attn."
    weights, biases = ([f"{attention}{x}_proj.{part}" for x in xs] for xs, part in (("qkv", "weight"), ("qv", "bias")))
    return (
        Rule(rf"{ours}\.positions", f"{theirs}.{positions}"),
        Rule(at + r"attention\.in_proj\.weight", tuple(weights), lambda *parts: torch.cat(parts)),
        Rule(at + r"attention\.in_proj\.bias", tuple(biases), lambda q, v: torch.cat([q, torch.zeros_like(q), v])),
        Rule(at + r"attention\.out_proj\.(\w+)", rf"{attention}out_proj.\2"),
        Rule(at + r"norm1\.(\w+)", rf"{to}self_attn_layer_norm.\2"),
        Rule(at + r"norm2\.(\w+)", rf"{to}final_layer_norm.\2"),
        Rule(at + r"feed_forward\.linear(\d)\.(\w+)", rf"{to}{feed_forward}fc\2.\3"),
        Rule(rf"{ours}\.norm\.(\w+)", rf"{theirs}.layer_norm.\1"),
    )
