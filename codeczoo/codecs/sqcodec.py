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

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codeczoo.base import BaseCodec, Decoded, Encoded, KeyMap, Rule, Variant, dense_or_none, join_chunks
from codeczoo.nn.cache_tiling import TILE_VALUES
from codeczoo.nn.chunked import padded_chunks, run_chunked
from codeczoo.nn.conv import Conv1d
from codeczoo.nn.convnext import DEPTHWISE_KERNEL, ConvNeXtBlock
from codeczoo.nn.fsq import ProjectedFSQ
from codeczoo.nn.group_norm import GroupNorm
from codeczoo.nn.local_attention import LocalTransformer
from codeczoo.nn.padding import zero_tail_
from codeczoo.nn.sequential import Layers
from codeczoo.nn.snake import Snake, SnakeUnits
from codeczoo.nn.upsample import LinearUpsample

EPS = 2.0**-23  # of every norm over channels and of snake


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


class PatchConv(Conv1d):
    """A convolution as wide as its stride: a linear layer of patches."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__(in_channels, out_channels, stride, stride, padding=(0, 0))

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        whole = self.out_length(x.shape[-1]) * self.stride
        patches = x.mT[:, :whole].contiguous().unflatten(1, (-1, self.stride)).flatten(2)  # [B, T', stride * in]
        return F.linear(patches, self.weight.mT.flatten(1), self.bias).mT


class SnakeOfLast(Snake):
    """Snake of [B, T, C], in place."""

    def forward(self, x: Tensor, inplace: bool = True) -> Tensor:
        return super().forward(x.mT, inplace).mT


class Unit(ConvNeXtBlock):
    """[B, C, T] → [B, C, T]: ConvNeXt with snake."""

    reach = DEPTHWISE_KERNEL // 2

    def __init__(self, channels: int) -> None:
        super().__init__(channels, 4 * channels, EPS, SnakeOfLast(4 * channels, EPS), layer_scale=False)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        return super().forward(x.mT, lengths).mT

    def pointwise(self, y: Tensor) -> Tensor:
        """On a CPU tile by tile, so that the widened steps, at the waveform's rate, stay in its cache."""
        widened = self.pwconv1.out_features * y.shape[0] * y.shape[1]
        if y.device.type != "cpu" or widened <= 16 * TILE_VALUES:
            return super().pointwise(y)
        for tile in y.split(max(y.shape[1] * TILE_VALUES * torch.get_num_threads() // widened, 1), dim=1):
            tile.copy_(super().pointwise(tile))
        return y


class Trend(nn.Module):
    """The first channel of [B, C, T] → [B, windows * width, T]: itself, and its envelopes over windows, convolved.

    An envelope is the average of the maximum of |x|. Only the branch of window 1 sees the sign.
    """

    def __init__(self, windows: Sequence[int], width: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.windows = tuple(windows)
        self.convs = nn.ModuleList(Conv1d(1, width, 7, dilation=d) for d in dilations)
        self.reach = max(2 * (w // 2) + 3 * d for w, d in zip(windows, dilations, strict=True))

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        first = x[:, :1].contiguous()
        magnitude = zero_tail_(first.abs(), lengths, max(self.windows) // 2)
        branches = []
        for window, conv in zip(self.windows, self.convs, strict=True):
            y = first if window == 1 else _envelope(magnitude, lengths, window)
            branches.append(conv(y, lengths))
        return torch.cat(branches, dim=1)


def _envelope(magnitude: Tensor, lengths: Tensor | None, window: int) -> Tensor:
    """Of magnitudes, zeros behind each item: no maximum minds them, and averages count them."""
    peaks = F.max_pool1d(magnitude, window, 1, window // 2)
    return F.avg_pool1d(zero_tail_(peaks, lengths, window // 2), window, 1, window // 2)


class TrendBlock(nn.Module):
    """Waveform [B, 1, T] → [B, channels, T]."""

    def __init__(self, channels: int, width: int, windows: Sequence[int] = (1, 5, 11, 21, 45)) -> None:
        super().__init__()
        self.trend = Trend(windows, width, [1] * len(windows))
        self.reach = self.trend.reach
        self.conv1 = PatchConv(len(windows) * width, 4 * len(windows) * width)
        self.conv2 = PatchConv(4 * len(windows) * width, channels)
        self.raw = nn.Parameter(torch.empty(channels))  # conv2's weights of one channel more: the waveform

    def forward(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        y = self.conv2(F.gelu(self.conv1(self.trend(waveform, lengths))))
        return torch.addcmul(y.mT, waveform.mT, self.raw).mT


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
        self.encoder = _encoder(config)
        self.quantizer = ProjectedFSQ(config.dim, config.levels)
        self.decoder = _decoder(config)

    def _groups(self, lengths: Tensor, samples_each: int) -> list[slice]:
        """By the lengths that the clips are filled up to."""
        return super()._groups(self._filled(lengths) if samples_each == 1 else lengths, samples_each)

    def _encode(self, waveform: Tensor, lengths: Tensor, num_codebooks: int) -> Encoded:
        latent = self.encode_latent(waveform, lengths)
        return Encoded(self.quantizer.encode(latent)[:, None], self._filled(lengths) // self.hop_length)

    def encode_latent(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        """[B, 1, T] → latent [B, dim, N]."""
        waveform = self._fill(waveform)
        return self.encoder(waveform, dense_or_none(self._filled(lengths), waveform.shape[-1]))

    def _decode(self, codes: Tensor, lengths: Tensor, side_info: Mapping[str, Tensor], num_samples: Tensor) -> Decoded:
        waveform = self.decoder(self.quantizer.decode(codes[:, 0]), dense_or_none(lengths, codes.shape[-1]))
        return Decoded(waveform, lengths * self.hop_length)

    def _encode_long(self, waveform: Tensor, lengths: Tensor, num_codebooks: int, samples: int) -> Encoded:
        """One clip, exactly: convolutions with the context that they see, attention with the window before."""
        clip, missing = waveform[..., : int(lengths[0])], int((self._filled(lengths) - lengths)[0])
        chunks = padded_chunks(clip, max(samples, self.hop_length), missing)
        codes = torch.cat([self.quantizer.encode(latent) for latent in run_chunked(self.encoder, chunks)], dim=-1)
        return Encoded(codes[:, None], self._filled(lengths) // self.hop_length)

    def _decode_long(
        self, codes: Tensor, lengths: Tensor, side_info: Mapping[str, Tensor], num_samples: Tensor, frames: int
    ) -> Decoded:
        """One clip, exactly: the codes are read once for the statistics of each enhance block, and once for the
        audio."""

        def latents() -> Iterator[Tensor]:
            return (self.quantizer.decode(chunk[:, 0]) for chunk in codes[..., : int(lengths[0])].split(frames, dim=-1))

        layers = list(self.decoder)
        for i, layer in enumerate(layers):
            if isinstance(layer, Enhance):
                layers[i] = layer.of_whole(run_chunked([*layers[:i], layer.trend], latents()))
        waveform = join_chunks(run_chunked(layers, latents()), int(lengths[0]) * self.hop_length)
        return Decoded(waveform, lengths * self.hop_length)

    def _filled(self, samples: Tensor) -> Tensor:
        """Lengths in samples → the lengths that upstream fills them up to: whole windows, at least one."""
        unit = self.hop_length * self.config.window
        return (-(-samples // unit)).clamp(min=1) * unit

    def _fill(self, waveform: Tensor) -> Tensor:
        total = waveform.shape[-1]
        return F.pad(waveform, (0, int(self._filled(torch.tensor(total))) - total))


# -- key maps ---------------------------------------------------------------------------------------------------------


def _fold(weight: Tensor, gamma: Tensor) -> Tensor:
    """Weight of the linear layer after the global response norm, which is x · (1 + gamma) + beta."""
    return (weight.double() * (1 + gamma.double())).to(weight)


def _fold_bias(bias: Tensor, weight: Tensor, beta: Tensor) -> Tensor:
    return (bias.double() + weight.double() @ beta[0].double()).to(bias)


def _unit_rules(ours: str, theirs: str) -> tuple[Rule, ...]:
    at, to = rf"{ours}_(\d)\.", rf"{theirs}.\1.module."
    return (
        Rule(at + r"activation\.alpha", to + "act.alpha", lambda alpha: alpha.mT),
        Rule(at + r"pwconv2\.weight", (to + "pw_conv2.weight", to + "grn.gamma"), _fold),
        Rule(at + r"pwconv2\.bias", (to + "pw_conv2.bias", to + "pw_conv2.weight", to + "grn.beta"), _fold_bias),
        Rule(at + r"(dw|pw)conv(1?)\.(\w+)", rf"{to}\2_conv\3.\4"),
        Rule(at + r"norm\.(\w+)", rf"{to}norm.\2"),
    )


def _transformer_rules(ours: str, theirs: str) -> tuple[Rule, ...]:
    at, to = rf"{ours}\.layers\.(\d)\.", rf"{theirs}.layers.\1."
    return (
        Rule(at + r"norm1\.(\w+)", to + r"0.norm.\2"),
        Rule(at + r"attention\.in_proj\.weight", to + "0.to_qkv.weight"),
        Rule(at + r"attention\.out_proj\.weight", to + "0.to_out.weight"),
        Rule(at + r"norm2\.(\w+)", to + r"1.0.\2"),
        Rule(at + r"feed_forward\.linear1\.weight", to + "1.1.weight"),
        Rule(at + r"feed_forward\.linear2\.weight", to + "1.4.weight"),
        Rule(rf"{ours}\.bias\.(.+)", rf"{theirs}.dynamic_pos_bias.\1"),
    )


def _key_map(strides: int) -> KeyMap:
    """Key map of the models with that number of strides (and one more upsampling): the authors' places depend on it."""
    encoder, decoder = r"encoder\.layers\.", r"decoder\.layers\."
    trend, last = "encoder.blocks.0.", f"decoder.blocks.{3 * strides + 4}.block."
    rules = [
        Rule(encoder + r"trend\.trend\.convs\.(\d)\.(\w+)", trend + r"blocks.\1.1.\2"),
        Rule(encoder + r"trend\.conv1\.(\w+)", trend + r"conv_1.\1"),
        Rule(encoder + r"trend\.conv2\.weight", trend + "conv_2.weight", lambda weight: weight[:, :-1]),
        Rule(encoder + r"trend\.raw", trend + "conv_2.weight", lambda weight: weight[:, -1, 0]),
        Rule(encoder + r"trend\.conv2\.bias", trend + "conv_2.bias"),
        Rule(encoder + r"out\.(\w+)", rf"encoder.blocks.{2 * strides + 2}.\1"),
        Rule(encoder + r"merge\.(\w+)", r"en_encoder.down_trans.down_layer.\1"),
        Rule(decoder + r"conv\.(\w+)", r"decoder.blocks.0.\1"),
        Rule(decoder + r"last\.snake\.alpha", last + "1.alpha"),
        Rule(decoder + r"last\.conv\.(\w+)", last + r"2.\1"),
        *_transformer_rules(encoder + "wide", "en_encoder.down_trans.trans"),
        *_transformer_rules(encoder + "local", "en_encoder.local_trans"),
        *_transformer_rules(decoder + "wide", "en_decoder.up_trans.trans"),
        *_transformer_rules(decoder + "local", "en_decoder.local_trans"),
    ]
    for place, part in enumerate(("snake1", "conv1", "snake2", "conv2")):
        rules.append(Rule(rf"{decoder}last\.units\.(\d)\.{part}\.(\w+)", rf"{last}0.\1.module.block.{place}.\2"))
    for i in range(strides + 1):
        down, up = f"encoder.blocks.{2 * i + 2}", f"decoder.blocks.{3 * i + 3}"
        enhance = f"decoder.blocks.{3 * i + 2}."
        rules += [
            *_unit_rules(rf"{encoder}unit{i}", f"encoder.blocks.{2 * i + 1}"),
            Rule(rf"{encoder}down{i}\.(\w+)", rf"{down}.0.\1"),
            Rule(rf"{encoder}norm{i}\.(\w+)", rf"{down}.1.\1"),
            *_unit_rules(rf"{decoder}unit{i}", f"decoder.blocks.{3 * i + 1}"),
            Rule(rf"{decoder}enhance{i}\.trend\.convs\.(\d)\.(\w+)", enhance + r"blocks.\1.1.\2"),
            Rule(rf"{decoder}enhance{i}\.norm\.(\w+)", enhance + r"merge_layer.0.\1"),
            Rule(rf"{decoder}enhance{i}\.merge\.(\w+)", enhance + r"merge_layer.1.\1"),
            Rule(rf"{decoder}up{i}\.(\w+)", rf"{up}.0.\1"),
            Rule(rf"{decoder}norm{i}\.(\w+)", rf"{up}.2.\1"),
        ]
    return KeyMap(f"sqcodec, {strides} strides", tuple(rules), unused=(r"en_encoder\.cache_token",))


SQCodec.key_maps = (_key_map(3), _key_map(2))
