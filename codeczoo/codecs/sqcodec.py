"""SQCodec: one scalar quantiser, from 44 codes a second to 1333.

Paper: "One Quantizer is Enough: Toward a Lightweight Audio Codec" (arXiv 2504.04949). Upstream: zhai-lw/SQCodec.

    encoder: trend block; for each stride: unit(s), strided conv, norm; units, conv; local transformer
    decoder: local transformer; conv; for each rate: units, enhance block, conv, upsampling, norm; snakes, conv, tanh

The two lowest rates merge 3 or 2 frames into a token, with a wider transformer outside of the merge. Upstream fills a
clip up with zeros to whole windows of the transformer (0.45 to 4.5 s) and codes the zeros too. So do we, because the
enhance blocks normalise over the filled clip: without the codes of the padding it would sound different.

Upstream's global response norm divides one number by its own mean: an affine map, which is folded into the next layer
here. Upstream's settings of 12kbps_24khz say 16 kHz, which is wrong: everything else says 24 kHz.

Long clips are exact in chunks. The encoder's receptive field is finite. The decoder reads the codes several times,
about 2.5 times the work: once for each enhance block, whose mean and variance over the whole clip the next one needs.
Hence `min_chunk_seconds`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codeczoo.base import (
    BaseCodec,
    Decoded,
    Frames,
    FrameSource,
    KeyMap,
    Rule,
    Variant,
    dense_or_none,
    join_chunks,
    values_in_chunks,
)
from codeczoo.nn.chunked import padded_chunks, run_chunked
from codeczoo.nn.conv import Conv1d, Length
from codeczoo.nn.fsq import ProjectedFSQ
from codeczoo.nn.group_norm import GroupNorm
from codeczoo.nn.local_attention import LocalTransformer, local_transformer_rules
from codeczoo.nn.sequential import Layers
from codeczoo.nn.snake import Snake, SnakeUnits
from codeczoo.nn.trend import EPS, PatchConv, Trend, TrendBlock, Unit, trend_rules, unit_rules
from codeczoo.nn.upsample import LinearUpsample


@dataclass(frozen=True)
class SQCodecConfig:
    """The network's numbers."""

    sample_rate: int = 16000  # Hz
    trend_width: int = 4  # channels a branch of the trend block
    strides: Sequence[int] = (6, 5, 3)  # of the encoder's convolutions
    encoder_dims: Sequence[int] = (24, 48, 96, 192)
    encoder_depths: Sequence[int] = (1, 1, 1, 2)  # units a stage
    rates: Sequence[int] = (5, 3, 3, 2)  # of the decoder's upsampling
    decoder_dims: Sequence[int] = (384, 192, 96, 48, 24)
    decoder_depths: Sequence[int] = (3, 2, 2, 1)
    merge: int = 1  # frames a token
    dim: int = 256
    window: int = 400  # tokens
    num_heads: int = 6
    head_dim: int = 64
    wide_layers: int = 2  # of the transformer on frames, where frames are merged
    local_layers: int = 3  # of the transformer on tokens
    levels: Sequence[int] = (7, 7, 7, 7, 7, 7)


# -- blocks: x is [B, C, T] with the channels last in memory, but for the trend and the last block ---------------------


class ChannelNorm(nn.LayerNorm):
    """[B, C, T] → [B, C, T], normalised over the channels of each step."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, EPS)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        return super().forward(x.mT).mT


class Enhance(nn.Module):
    """[B, C, T] → [B, C, T]: x plus x times a gain made of its first channel's trend, normalised over time."""

    def __init__(self, trend: Trend, norm: nn.Module, merge: PatchConv) -> None:
        super().__init__()
        self.trend, self.norm, self.merge = trend, norm, merge
        self.reach = trend.reach

    @classmethod
    def of(cls, channels: int, windows: Sequence[int] = (1, 3, 5, 9)) -> Enhance:
        count = len(windows)
        trend = Trend(windows, 1, [window // 2 + 1 for window in windows])
        return cls(trend, GroupNorm(count, count), PatchConv(count, channels))

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        gain = self.merge(self.norm(self.trend(x, lengths), lengths))
        return gain.add_(1).mul_(x)

    def of_whole(self, trends: Iterable[Tensor]) -> Enhance:
        """The block with mean and variance of a whole clip, given its trend in chunks [1, channels, t]."""
        return Enhance(self.trend, KnownNorm(self.norm, *_mean_and_variance(trends)), self.merge)


class KnownNorm(nn.Module):
    """A norm over time [B, C, T] whose mean and variance [C] are known."""

    def __init__(self, norm: nn.Module, mean: Tensor, variance: Tensor) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps
        self.mean, self.variance = mean, variance

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        return F.batch_norm(x, self.mean, self.variance, self.weight, self.bias, eps=self.eps)


def _mean_and_variance(chunks: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Over time, of a signal in chunks [1, C, t] → [C] each. (Chan, Golub and LeVeque's update, in float64.)"""
    count, mean, squares = 0, torch.zeros(()), torch.zeros(())
    for chunk in chunks:
        values = chunk[0].cpu().double()
        steps = values.shape[-1]
        variance, here = torch.var_mean(values, dim=-1, correction=0)
        apart = here - mean
        squares = squares + variance * steps + apart.square() * (count * steps / (count + steps))
        count += steps
        mean = mean + apart * (steps / count)
    return mean.to(chunk), (squares / count).to(chunk)


class Last(nn.Module):
    """[B, C, T] → waveform [B, 1, T]: residual units of snakes, snake, convolution, tanh."""

    def __init__(self, channels: int, dilations: Sequence[int] = (1, 3, 9)) -> None:
        super().__init__()
        self.units = SnakeUnits(channels, dilations, eps=EPS)
        self.snake = Snake(channels, EPS)
        self.conv = Conv1d(channels, 1, 7)
        self.reach = 3 * sum(dilations) + 3

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        y = self.units(x.contiguous(), lengths)
        return self.conv(self.snake(y, inplace=True), lengths).tanh_()


# -- network ----------------------------------------------------------------------------------------------------------


def _transformers(config: SQCodecConfig) -> tuple[LocalTransformer, LocalTransformer]:
    """On tokens, and on the frames that are merged to tokens."""
    heads = {"num_heads": config.num_heads, "head_dim": config.head_dim}
    local = LocalTransformer(config.dim, config.local_layers, config.window, **heads)
    return local, LocalTransformer(config.dim, config.wide_layers, config.window * config.merge, **heads)


def _encoder(config: SQCodecConfig) -> Layers:
    local, wide = _transformers(config)
    dims = config.encoder_dims
    layers: dict[str, nn.Module] = {"trend": TrendBlock(dims[0], config.trend_width)}
    for i, stride in enumerate(config.strides):
        layers |= {f"unit{i}_{j}": Unit(dims[i]) for j in range(config.encoder_depths[i])}
        layers |= {f"down{i}": PatchConv(dims[i], dims[i + 1], stride), f"norm{i}": ChannelNorm(dims[i + 1])}
    last = len(config.strides)
    layers |= {f"unit{last}_{j}": Unit(dims[last]) for j in range(config.encoder_depths[last])}
    layers["out"] = Conv1d(dims[last], config.dim, 3)
    if config.merge > 1:
        layers |= {"wide": wide, "merge": PatchConv(config.dim, config.dim, config.merge)}
    layers["local"] = local
    return Layers(layers)


def _decoder(config: SQCodecConfig) -> Layers:
    local, wide = _transformers(config)
    dims = config.decoder_dims
    layers: dict[str, nn.Module] = {"local": local}
    if config.merge > 1:
        layers |= {"split": LinearUpsample(config.merge), "wide": wide}
    layers["conv"] = Conv1d(config.dim, dims[0], 3)
    for i, rate in enumerate(config.rates):
        layers |= {f"unit{i}_{j}": Unit(dims[i]) for j in range(config.decoder_depths[i])}
        layers |= {f"enhance{i}": Enhance.of(dims[i]), f"up{i}": PatchConv(dims[i], dims[i + 1])}
        layers |= {f"upsample{i}": LinearUpsample(rate), f"norm{i}": ChannelNorm(dims[i + 1])}
    layers["last"] = Last(dims[len(config.rates)])
    return Layers(layers)


class SQCodec(BaseCodec):
    """SQCodec (2025): a light speech codec with one scalar quantiser, in seven models from 0.75 to 24 kbit/s.

    Speech [B, 1, T] at 16 or 24 kHz ↔ codes [B, 1, N] at 44 to 1333 a second. N is a multiple of the transformer's
    window: codes of the clip and of the zeros behind it.

        codec = load_codec("sqcodec_16k_3kbps")
        audio = codec.decode(codec.encode("talk.wav"))
    """

    onnx_unsupported: ClassVar[Mapping[str, str]] = {
        "decoder": "torch.export (2.13) fixes its number of tokens at the example's, in a layer not found yet"
    }
    Config = SQCodecConfig
    config: SQCodecConfig
    hop_length: int
    min_chunk_seconds = 60.0  # a clip that is decoded whole has its codes read once

    def __init__(self, config: SQCodecConfig, variant: Variant) -> None:
        super().__init__(config, variant)
        self.sample_rate = config.sample_rate
        self.hop_length = math.prod(config.strides) * config.merge
        self.codebook_sizes = (math.prod(config.levels),)
        self.codebook_choices = (1,)
        self.latent_dim = self.vector_dim = config.dim
        self.encoder = _encoder(config)
        self.quantizer = ProjectedFSQ(config.dim, config.levels)
        self.decoder = _decoder(config)

    def _steps_inside(self, lengths: Tensor, samples_each: int) -> Tensor:
        return self._filled(lengths) if samples_each == 1 else lengths

    def _latents(self, waveform: Tensor, lengths: Tensor) -> Frames:
        waveform, lengths = self._fill(waveform), self._filled(lengths)
        return Frames(self.encoder(waveform, dense_or_none(lengths, waveform.shape[-1])), lengths // self.hop_length)

    def _synthesize(self, frames: Frames, num_samples: Tensor) -> Decoded:
        vectors, lengths, _ = frames
        waveform = self.decoder(vectors, dense_or_none(lengths, vectors.shape[-1]))
        return Decoded(waveform, lengths * self.hop_length)

    def _latents_long(self, waveform: Tensor, lengths: Tensor, samples: int) -> Iterator[Frames]:
        """One clip, exactly: convolutions with the context that they see, attention with the window before."""
        clip, missing = waveform[..., : int(lengths[0])], int((self._filled(lengths) - lengths)[0])
        chunks = padded_chunks(clip, max(samples, self.hop_length), missing)
        for latent in run_chunked(self.encoder, chunks):
            yield Frames(latent, lengths.new_tensor([latent.shape[-1]]))

    def _synthesize_long(self, source: FrameSource, lengths: Tensor, num_samples: Tensor, frames: int) -> Decoded:
        """One clip, exactly: the codes are read once for the statistics of each enhance block, and once for the
        audio."""

        def latents() -> Iterator[Tensor]:
            return values_in_chunks(source, int(lengths[0]), frames)

        layers = list(self.decoder)
        for i, layer in enumerate(layers):
            if isinstance(layer, Enhance):
                layers[i] = layer.of_whole(run_chunked([*layers[:i], layer.trend], latents()))
        waveform = join_chunks(run_chunked(layers, latents()), int(lengths[0]) * self.hop_length)
        return Decoded(waveform, lengths * self.hop_length)

    def _filled(self, samples: Length) -> Length:
        """Lengths in samples → the lengths that upstream fills them up to: whole windows, at least one."""
        unit = self.hop_length * self.config.window
        units = -(-samples // unit)
        return (units.clamp(min=1) if isinstance(units, Tensor) else max(units, 1)) * unit

    def _fill(self, waveform: Tensor) -> Tensor:
        total = waveform.shape[-1]
        return F.pad(waveform, (0, self._filled(total) - total))


# -- key maps ---------------------------------------------------------------------------------------------------------


def _key_map(strides: int) -> KeyMap:
    """Key map of the models with that number of strides (and one more upsampling): the authors' places depend on it."""
    encoder, decoder = r"encoder\.layers\.", r"decoder\.layers\."
    last = f"decoder.blocks.{3 * strides + 4}.block."
    rules = [
        *trend_rules(encoder + "trend", "encoder.blocks.0"),
        Rule(encoder + r"out\.(\w+)", rf"encoder.blocks.{2 * strides + 2}.\1"),
        Rule(encoder + r"merge\.(\w+)", r"en_encoder.down_trans.down_layer.\1"),
        Rule(decoder + r"conv\.(\w+)", r"decoder.blocks.0.\1"),
        Rule(decoder + r"last\.snake\.alpha", last + "1.alpha"),
        Rule(decoder + r"last\.conv\.(\w+)", last + r"2.\1"),
        *local_transformer_rules(encoder + "wide", "en_encoder.down_trans.trans"),
        *local_transformer_rules(encoder + "local", "en_encoder.local_trans"),
        *local_transformer_rules(decoder + "wide", "en_decoder.up_trans.trans"),
        *local_transformer_rules(decoder + "local", "en_decoder.local_trans"),
    ]
    for place, part in enumerate(("snake1", "conv1", "snake2", "conv2")):
        rules.append(Rule(rf"{decoder}last\.units\.(\d)\.{part}\.(\w+)", rf"{last}0.\1.module.block.{place}.\2"))
    for i in range(strides + 1):
        down, up = f"encoder.blocks.{2 * i + 2}", f"decoder.blocks.{3 * i + 3}"
        enhance = f"decoder.blocks.{3 * i + 2}."
        rules += [
            *unit_rules(rf"{encoder}unit{i}", f"encoder.blocks.{2 * i + 1}"),
            Rule(rf"{encoder}down{i}\.(\w+)", rf"{down}.0.\1"),
            Rule(rf"{encoder}norm{i}\.(\w+)", rf"{down}.1.\1"),
            *unit_rules(rf"{decoder}unit{i}", f"decoder.blocks.{3 * i + 1}"),
            Rule(rf"{decoder}enhance{i}\.trend\.convs\.(\d)\.(\w+)", enhance + r"blocks.\1.1.\2"),
            Rule(rf"{decoder}enhance{i}\.norm\.(\w+)", enhance + r"merge_layer.0.\1"),
            Rule(rf"{decoder}enhance{i}\.merge\.(\w+)", enhance + r"merge_layer.1.\1"),
            Rule(rf"{decoder}up{i}\.(\w+)", rf"{up}.0.\1"),
            Rule(rf"{decoder}norm{i}\.(\w+)", rf"{up}.2.\1"),
        ]
    return KeyMap(f"sqcodec, {strides} strides", tuple(rules), unused=(r"en_encoder\.cache_token",))


SQCodec.key_maps = (_key_map(3), _key_map(2))
