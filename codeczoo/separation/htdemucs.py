"""HTDemucs: hybrid transformer Demucs (Rouard et al. 2022, arXiv 2211.08553).

Upstream: https://github.com/adefossez/demucs (was facebookresearch/demucs), PyPI `demucs`.

Two U-Nets, over spectrogram and waveform, meet in a transformer between encoder and decoder. Its layers attend by turns
to their own branch and to the other. Norms run over all tokens of a segment, so every output depends on the whole
segment: the network takes segments of the length that it was trained with, 7.8 s, and nothing streams.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codeczoo.base.key_map import Rule
from codeczoo.base.variant import Variant
from codeczoo.nn.attention import Attention
from codeczoo.nn.conv import Conv1d
from codeczoo.nn.transformer import FeedForward, LayerScale
from codeczoo.separation.hybrid import (
    DecoderLayer,
    Embedding,
    EncoderLayer,
    into_stems,
    key_map,
    rules_of,
    spectrum_of,
    standardised,
)
from codeczoo.separation.separator import Separator

MAX_PERIOD = 10000.0  # of the positions' sines


@dataclass(frozen=True)
class HTDemucsConfig:
    """Numbers of a network.

    Attributes:
        models: networks with these numbers; where there are several, each gives the stem of its place.
        segment_samples: what a network takes.
        bottom_channels: of the transformer; 0 = those of the deepest layers.
    """

    sources: tuple[str, ...]
    segment_samples: int
    bottom_channels: int
    models: int = 1
    sample_rate: int = 44100
    channels: int = 48
    growth: int = 2
    depth: int = 4
    compress: int = 8
    n_fft: int = 4096
    num_layers: int = 5
    num_heads: int = 8


# -- the transformer --------------------------------------------------------------------------------------------------


class CrossAttention(Attention):
    """Queries [B, T, dim], keys and values of another sequence [B, S, dim] → [B, T, dim]."""

    def across(self, x: Tensor, other: Tensor) -> Tensor:
        width = self.num_heads * self.head_dim
        (wq, wkv), (bq, bkv) = (p.split([width, 2 * width]) for p in (self.in_proj.weight, self.in_proj.bias))
        q = F.linear(x, wq, bq).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        k, v = F.linear(other, wkv, bkv).unflatten(-1, (2, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        return self.merge(F.scaled_dot_product_attention(q, k, v))


class TokenNorm(nn.Module):
    """[B, T, dim] → [B, T, dim]: mean and variance over all tokens and channels of an item."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(dim))
        self.bias = nn.Parameter(torch.empty(dim))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.bias, F.layer_norm(x, x.shape[1:]), self.weight)


class Layer(nn.Module):
    """Attention within a branch, or across to the other, and feed-forward: [B, T, dim] → [B, T, dim]."""

    def __init__(self, dim: int, heads: int, *, cross: bool) -> None:
        super().__init__()
        self.cross = cross
        self.norm1, self.norm2 = LayerNorm(dim), LayerNorm(dim)
        self.attention = CrossAttention(dim, heads, bias=True)
        if cross:
            self.norm3 = LayerNorm(dim)
        self.feed_forward = FeedForward(dim, 4 * dim, bias=True)
        self.scale1, self.scale2 = LayerScale(dim), LayerScale(dim)
        self.norm_out = TokenNorm(dim)

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        if self.cross:
            x = self.scale1(x, self.attention.across(self.norm1(x), self.norm2(other)))
            x = self.scale2(x, self.feed_forward(self.norm3(x)))
        else:
            own = self.norm1(x)
            x = self.scale1(x, self.attention.across(own, own))
            x = self.scale2(x, self.feed_forward(self.norm2(x)))
        return self.norm_out(x)


class LayerNorm(nn.LayerNorm):
    """`nn.LayerNorm` that draws no initial values."""

    def reset_parameters(self) -> None:
        pass


class CrossTransformer(nn.Module):
    """Both branches, [B, C, F, T] and [B, C, S] → the same shapes."""

    def __init__(self, dim: int, layers: int, heads: int) -> None:
        super().__init__()
        self.norm_in, self.norm_in_t = LayerNorm(dim), LayerNorm(dim)
        self.layers = nn.ModuleList(Layer(dim, heads, cross=i % 2 == 1) for i in range(layers))
        self.layers_t = nn.ModuleList(Layer(dim, heads, cross=i % 2 == 1) for i in range(layers))

    def forward(self, spectrum: Tensor, waveform: Tensor) -> tuple[Tensor, Tensor]:
        _, dim, bins, frames = spectrum.shape
        x = spectrum.permute(0, 3, 2, 1).flatten(1, 2)  # frame by frame, in each bin by bin
        x = self.norm_in(x) + grid_positions(bins, frames, dim).to(x)
        t = waveform.mT
        t = self.norm_in_t(t) + step_positions(t.shape[1], dim).to(t)
        for layer, layer_t in zip(self.layers, self.layers_t, strict=True):
            x, t = layer(x, t), layer_t(t, x)  # each looks at what the other was before the layer
        return x.unflatten(1, (frames, bins)).permute(0, 3, 2, 1), t.mT


def step_positions(steps: int, dim: int) -> Tensor:
    """[steps, dim]: cosines in the first half, sines in the second, periods up to MAX_PERIOD itself."""
    exponent = torch.arange(dim // 2, dtype=torch.float64) / (dim // 2 - 1)
    phase = torch.arange(steps, dtype=torch.float64)[:, None] / MAX_PERIOD**exponent
    return torch.cat([phase.cos(), phase.sin()], dim=-1)


def grid_positions(bins: int, frames: int, dim: int) -> Tensor:
    """[frames * bins, dim]: the frame in the first half, the bin in the second; sine and cosine by turns."""
    rate = torch.exp(torch.arange(0, dim // 2, 2, dtype=torch.float64) * (-math.log(MAX_PERIOD) / (dim // 2)))

    def turns(count: int) -> Tensor:  # [count, dim / 2]
        phase = torch.arange(count, dtype=torch.float64)[:, None] * rate
        return torch.stack([phase.sin(), phase.cos()], dim=-1).flatten(1)

    of_frames, of_bins = turns(frames)[:, None].expand(-1, bins, -1), turns(bins).expand(frames, -1, -1)
    return torch.cat([of_frames, of_bins], dim=-1).flatten(0, 1)


# -- the network ------------------------------------------------------------------------------------------------------


class HTDemucsNetwork(nn.Module):
    """A mix [B, 2, T] of at most `segment_samples` → its stems [B, S, 2, T]."""

    def __init__(self, config: HTDemucsConfig) -> None:
        super().__init__()
        self.config, stems = config, len(config.sources)
        widths = [config.channels * config.growth**i for i in range(config.depth)]
        pairs = list(zip([4, *widths], widths, strict=False))
        pairs_t = list(zip([2, *widths], widths, strict=False))
        out, out_t = [4 * stems, *widths], [2 * stems, *widths]
        self.encoder = nn.ModuleList(EncoderLayer(i, o, config.compress, frequency=True) for i, o in pairs)
        self.tencoder = nn.ModuleList(EncoderLayer(i, o, config.compress, frequency=False) for i, o in pairs_t)
        self.freq_emb = Embedding(config.n_fft // 8, config.channels)
        deepest = widths[-1]
        dim = config.bottom_channels or deepest
        if config.bottom_channels:
            self.channel_upsampler, self.channel_upsampler_t = Conv1d(deepest, dim, 1), Conv1d(deepest, dim, 1)
            self.channel_downsampler, self.channel_downsampler_t = Conv1d(dim, deepest, 1), Conv1d(dim, deepest, 1)
        self.crosstransformer = CrossTransformer(dim, config.num_layers, config.num_heads)
        order = range(config.depth - 1, -1, -1)
        self.decoder = nn.ModuleList(
            DecoderLayer(widths[i], out[i], config.compress, frequency=True, last=i == 0) for i in order
        )
        self.tdecoder = nn.ModuleList(
            DecoderLayer(widths[i], out_t[i], config.compress, frequency=False, last=i == 0) for i in order
        )

    def forward(self, mix: Tensor) -> Tensor:
        samples = mix.shape[-1]
        mix = F.pad(mix, (0, self.config.segment_samples - samples))
        z = spectrum_of(mix, self.config.n_fft)
        x, mean, std = standardised(torch.view_as_real(z).movedim(-1, 2).flatten(1, 2))
        t, mean_t, std_t = standardised(mix)
        frames, dtype = x.shape[-1], self.freq_emb.weight.dtype
        x, t = x.to(dtype), t.to(dtype)
        skips, skips_t, steps = [], [], []
        for i, (layer, layer_t) in enumerate(zip(self.encoder, self.tencoder, strict=True)):
            steps.append(t.shape[-1])
            x, t = layer(x), layer_t(t)
            if i == 0:
                x = self.freq_emb(x)
            skips.append(x)
            skips_t.append(t)
        x, t = self.transform(x, t)
        for layer, layer_t in zip(self.decoder, self.tdecoder, strict=True):
            x, _ = layer(x, skips.pop(), frames)
            t, _ = layer_t(t, skips_t.pop(), steps.pop())
        x, t = torch.addcmul(mean, x, std), torch.addcmul(mean_t, t, std_t)
        return into_stems(x, t, len(self.config.sources), self.config.n_fft, samples)

    def transform(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """The transformer, at its own number of channels."""
        if not self.config.bottom_channels:
            return self.crosstransformer(x, t)
        bins = x.shape[2]
        x, t = self.channel_upsampler(x.flatten(2)).unflatten(2, (bins, -1)), self.channel_upsampler_t(t)
        x, t = self.crosstransformer(x, t)
        return self.channel_downsampler(x.flatten(2)).unflatten(2, (bins, -1)), self.channel_downsampler_t(t)


# -- published names --------------------------------------------------------------------------------------------------

RULES = (
    Rule(r"(.*)layers(_t)?\.([024])\.attention\.in_proj\.(.*)", r"\1layers\2.\3.self_attn.in_proj_\4"),
    Rule(r"(.*)layers(_t)?\.([024])\.attention\.out_proj\.(.*)", r"\1layers\2.\3.self_attn.out_proj.\4"),
    Rule(r"(.*)layers(_t)?\.([13])\.attention\.in_proj\.(.*)", r"\1layers\2.\3.cross_attn.in_proj_\4"),
    Rule(r"(.*)layers(_t)?\.([13])\.attention\.out_proj\.(.*)", r"\1layers\2.\3.cross_attn.out_proj.\4"),
    Rule(r"(.*)\.feed_forward\.(.*)", r"\1.\2"),
    Rule(r"(.*)\.scale([12])\.scale", r"\1.gamma_\2.scale"),
    *rules_of(),
)
FINE_TUNED = ("f7e0c4bc", "d12395a8", "92cfc3b6", "04573f0d")  # files of htdemucs_ft, in the order of its stems
FINE_TUNED_TH = ("f7e0c4bc-ba3fe64a", "d12395a8-e57c48e6", "92cfc3b6-ef3bcb9c", "04573f0d-f3cf25b2")


# -- the separator ----------------------------------------------------------------------------------------------------


class HTDemucs(Separator):
    """Music into drums, bass, other and vocals (`htdemucs_6s`: guitar and piano too), at 44.1 kHz in stereo.

        separator = load_separator("htdemucs")
        stems = separator.separate("song.wav")      # {"drums": Audio [1, 2, T], …}

    Segments of 7.8 s; a shorter one is filled with what lies beside it in the clip, or zeros.
    """

    Config: ClassVar[Any] = HTDemucsConfig
    key_maps = (
        key_map("demucs", RULES),
        key_map("demucs, several files", RULES, FINE_TUNED),
        key_map("demucs, several .th files", RULES, FINE_TUNED_TH),
    )
    whole_segments = True

    def __init__(self, config: HTDemucsConfig, variant: Variant) -> None:
        super().__init__(config, variant, [HTDemucsNetwork(config) for _ in range(config.models)])

    def published_settings(self) -> Mapping[str, Any]:
        return {
            **super().published_settings(),
            "bottom_channels": self.config.bottom_channels,
            "t_layers": self.config.num_layers,
            "t_heads": self.config.num_heads,
            "segment": str(Fraction(self.config.segment_samples, self.sample_rate)),
        }
