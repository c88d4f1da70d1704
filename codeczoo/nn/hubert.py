"""The network of wav2vec 2.0 (arXiv 2006.11477) and HuBERT (arXiv 2106.07447), which speech codecs take features from.

    extractor: seven convolutions without padding, 16 kHz → 50 frames a second less the edges
    projection; a convolution over 128 frames that stands for positions; transformer layers

Its published sizes differ by a few switches, all in `HubertConfig`. WavLM, whose attention differs, is in `wavlm.py`.
Group norm counts each item's own time alone, and attention sees each item's own frames alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codeczoo.base.key_map import Rule
from codeczoo.nn.attention import Attention, AttentionMask, everything
from codeczoo.nn.conv import Conv1d, Length
from codeczoo.nn.group_norm import GroupNorm
from codeczoo.nn.sequential import Linear
from codeczoo.nn.transformer import FeedForward


@dataclass(frozen=True)
class HubertConfig:
    """The network's numbers; as they stand, those of HuBERT base, wav2vec 2.0 base, and WavLM base and base+."""

    num_layers: int = 12  # that are used
    dim: int = 768
    num_heads: int = 12
    hidden: int = 3072
    extractor_dim: int = 512
    kernels: Sequence[int] = (10, 3, 3, 3, 3, 2, 2)
    strides: Sequence[int] = (5, 2, 2, 2, 2, 2, 2)
    extractor_norm: str = "group"  # after the first convolution, over time; "layer": after each, over channels
    conv_bias: bool = False
    projection_norm: bool = True  # a layer norm before the projection
    pre_norm: bool = False  # layer norms before attention and feed-forward ("stable layer norm"), else after
    encoder_norm: bool = True  # the one before the first layer, or with `pre_norm` after the last
    position_kernel: int = 128
    position_groups: int = 16
    causal: bool = False  # convolutions look back only, from a start where their first input is repeated


class FeatureExtractor(nn.Module):
    """Waveform [B, 1, T] → [B, extractor_dim, N] with N = out_length(T)."""

    def __init__(self, config: HubertConfig) -> None:
        super().__init__()
        self.norm_kind, dim = config.extractor_norm, config.extractor_dim
        self.convs = nn.ModuleList()
        for kernel, stride in zip(config.kernels, config.strides, strict=True):
            inputs, left = dim if self.convs else 1, kernel - 1 if config.causal else 0
            mode = "replicate" if config.causal else "zeros"
            self.convs.append(
                Conv1d(inputs, dim, kernel, stride, bias=config.conv_bias, padding=(left, 0), pad_mode=mode)
            )
        norms = {"group": [GroupNorm(dim, dim)], "layer": [nn.LayerNorm(dim) for _ in self.convs]}
        self.norms = nn.ModuleList(norms[self.norm_kind])

    def out_length(self, length: Length) -> Length:
        """Frames of `length` samples: int or tensor, at least 0."""
        for conv in self.convs:
            length = conv.out_length(length)
        return length.clamp(min=0) if isinstance(length, Tensor) else max(length, 0)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        for i, conv in enumerate(self.convs):
            x = conv(x, lengths)
            lengths = None if lengths is None else conv.out_length(lengths)
            if self.norm_kind == "layer":
                x = self.norms[i](x.mT).mT
            elif i == 0:
                x = self.norms[0](x, lengths)
            x = F.gelu(x)
        return x


class Layer(nn.Module):
    """[B, N, dim] → [B, N, dim]; with norms before or after attention and feed-forward. Its input stays as it is."""

    def __init__(self, config: HubertConfig, attention: Attention) -> None:
        super().__init__()
        self.pre_norm = config.pre_norm
        self.norm1, self.attention = nn.LayerNorm(config.dim), attention
        self.norm2, self.feed_forward = nn.LayerNorm(config.dim), FeedForward(config.dim, config.hidden, bias=True)

    def forward(self, x: Tensor, attention_mask: AttentionMask) -> Tensor:
        if self.pre_norm:
            x = self.attention(self.norm1(x), attention_mask).add_(x)
            return self.feed_forward(self.norm2(x)).add_(x)
        x = self.norm1(self.attention(x, attention_mask).add_(x))
        return self.norm2(self.feed_forward(x).add_(x))


class Hubert(nn.Module):
    """Waveform [B, 1, T] at 16 kHz → hidden states [B, N, dim].

    Values of the waveform behind an item's length must be finite; those of a state behind its frames are unspecified,
    and NaN where an item has no frame at all.
    """

    def __init__(self, config: HubertConfig) -> None:
        super().__init__()
        dim, kernel = config.dim, config.position_kernel
        self.pre_norm = config.pre_norm
        self.extractor = FeatureExtractor(config)
        self.projection_norm = nn.LayerNorm(config.extractor_dim) if config.projection_norm else None
        self.project = Linear(config.extractor_dim, dim)
        padding = (kernel - 1, 0) if config.causal else (kernel // 2, kernel - 1 - kernel // 2)
        mode = "replicate" if config.causal else "zeros"
        self.position = Conv1d(dim, dim, kernel, groups=config.position_groups, padding=padding, pad_mode=mode)
        self.norm = nn.LayerNorm(dim) if config.encoder_norm else None
        self.layers = nn.ModuleList(Layer(config, self.attention(config)) for _ in range(config.num_layers))

    def attention(self, config: HubertConfig) -> Attention:
        """Of one layer."""
        return Attention(config.dim, config.num_heads, bias=True)

    def attention_mask(self, steps: int, lengths: Tensor | None) -> AttentionMask:
        """What all layers' attention sees."""
        return everything(steps, lengths)

    def out_length(self, length: Length) -> Length:
        """Frames of `length` samples: int or tensor."""
        return self.extractor.out_length(length)

    def forward(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """The last state."""
        x = waveform
        for state in self.states(waveform, lengths):
            x = state
        return x

    def states(self, waveform: Tensor, lengths: Tensor | None = None) -> Iterator[Tensor]:
        """State 0, which the first layer is given, then what each layer gives: num_layers + 1 in all, each computed
        when it is asked for. (The hidden states of Hugging Face transformers, in their order.)"""
        features = self.extractor(waveform, lengths)
        yield from self.states_of(features, None if lengths is None else self.out_length(lengths))

    def states_of(self, features: Tensor, frames: Tensor | None = None) -> Iterator[Tensor]:
        """`states` from what the extractor gave, [B, extractor_dim, N]."""
        x = features.mT
        x = self.project(x if self.projection_norm is None else self.projection_norm(x))
        position = self.position(x.mT.contiguous(), frames)
        x = x + F.gelu(position).mT
        if self.norm is not None and not self.pre_norm:
            x = self.norm(x)
        yield x
        attention_mask = self.attention_mask(x.shape[1], frames)
        for i, layer in enumerate(self.layers, 1):
            x = layer(x, attention_mask)
            last = i == len(self.layers)
            yield self.norm(x) if last and self.pre_norm and self.norm is not None else x


def hubert_rules(ours: str, theirs: str) -> tuple[Rule, ...]:
    """Rules from a `Hubert` at `ours` to the names of Hugging Face transformers' at `theirs` ("" = at the top)."""
    layer = ("attention", "layer_norm", "feed_forward.intermediate_dense", "feed_forward.output_dense")
    names = ("conv", "layer_norm", "feature_projection.layer_norm", "feature_projection.projection")
    return _rules(ours, theirs, *names, "pos_conv_embed.conv", *layer)


def fairseq_rules(ours: str, theirs: str, extractor_norm: str = "group") -> tuple[Rule, ...]:
    """Rules from a `Hubert` at `ours` to fairseq's names of a model at `theirs` ("" = at the top)."""
    norm = {"group": "2", "layer": "2.1"}[extractor_norm]  # a layer norm stands between two transpositions
    layer = ("self_attn", "self_attn_layer_norm", "fc1", "fc2")
    return _rules(ours, theirs, "0", norm, "layer_norm", "post_extract_proj", "pos_conv.0", *layer)


def _rules(
    ours: str, theirs: str, conv: str, conv_norm: str, projection_norm: str, project: str, position: str,
    attention: str, norm1: str, linear1: str, linear2: str,
) -> tuple[Rule, ...]:  # fmt: skip
    prefix = f"{theirs}." if theirs else ""
    convs, encoder = f"{prefix}feature_extractor.conv_layers.", f"{prefix}encoder."
    at, to = rf"{ours}\.layers\.(\d+)\.", rf"{encoder}layers.\1."
    qkv = tuple(rf"{to}{attention}.{x}_proj.\2" for x in "qkv")
    return (
        Rule(rf"{ours}\.extractor\.convs\.(\d+)\.(\w+)", rf"{convs}\1.{conv}.\2"),
        Rule(rf"{ours}\.extractor\.norms\.(\d+)\.(\w+)", rf"{convs}\1.{conv_norm}.\2"),
        Rule(rf"{ours}\.projection_norm\.(\w+)", rf"{prefix}{projection_norm}.\1"),
        Rule(rf"{ours}\.project\.(\w+)", rf"{prefix}{project}.\1"),
        Rule(rf"{ours}\.position\.(\w+)", rf"{encoder}{position}.\1"),
        Rule(rf"{ours}\.norm\.(\w+)", rf"{encoder}layer_norm.\1"),
        Rule(at + r"attention\.in_proj\.(\w+)", qkv, lambda *parts: torch.cat(parts)),
        Rule(at + r"attention\.out_proj\.(\w+)", rf"{to}{attention}.out_proj.\2"),
        Rule(at + r"norm1\.(\w+)", rf"{to}{norm1}.\2"),
        Rule(at + r"norm2\.(\w+)", rf"{to}final_layer_norm.\2"),
        Rule(at + r"feed_forward\.linear1\.(\w+)", rf"{to}{linear1}.\2"),
        Rule(at + r"feed_forward\.linear2\.(\w+)", rf"{to}{linear2}.\2"),
    )
