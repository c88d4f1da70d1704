"""HiFi-Codec of AcademiCodec: group-residual quantisation between two HiFi-GAN-like networks.

Paper: "HiFi-Codec: Group-residual Vector quantization for High Fidelity Audio Codec" (arXiv 2305.02765). Upstream:
yangdongchao/AcademiCodec.

The encoder is HiFi-GAN's generator turned round. Its three residual blocks of a stage are not averaged: a group norm
acts on their running sum after each of them. The norm takes its statistics over the whole clip, so that every code
depends on every sample; in a ragged batch each clip has its own statistics. Two levels of two codebooks each give 4
codes a frame.

As upstream, N = floor(T / hop): samples behind the last whole frame are not coded and come back as zeros. A clip
shorter than a frame is filled up to one, where upstream refuses it.

Loudness. Upstream's notebook, and benchmarks built on it, first scale each clip to a peak of 0.95 and never scale back;
upstream's test script does not scale. No checkpoint says which. The default here is the network alone: codes without
side information. `codec.peak_normalise = True` gives the notebook's codes, and keeps the gain that restores the
loudness as the side information `gain` (32 bits a clip); codes decoded without it stay at the normalised peak.

Long clips are exact in encoder and decoder. For the encoder's norms the statistics of the whole clip are gathered,
stage after stage, before the codes are made: about four times the work of encoding the clip whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codeczoo.base import (
    BaseCodec,
    Context,
    Decoded,
    Frames,
    KeyMap,
    Rule,
    Variant,
    dense_or_none,
    release_memory_between,
)
from codeczoo.nn.conv import Conv1d
from codeczoo.nn.group_norm import GroupNorm
from codeczoo.nn.group_vq import GroupResidualVQ
from codeczoo.nn.hifigan import SLOPE, Generator, MultiReceptiveField, ResidualBlock, widest
from codeczoo.nn.receptive_field import convolutions_of, receptive_span

CHANNELS_PER_GROUP = 16  # channels that share a group norm's statistics
LAST_ENCODER_SLOPE = 0.01  # of the leaky ReLU before the encoder's last convolution; all others have 0.1
NORMALISED_PEAK = 0.95


@dataclass(frozen=True)
class AcademiCodecConfig:
    """The network's numbers."""

    sample_rate: int = 16000  # Hz
    filters: int = 32  # width of the encoder's first convolution; it doubles with each stride
    strides: Sequence[int] = (8, 5, 4, 2)  # of the decoder
    kernel_sizes: Sequence[int] = (16, 11, 8, 4)  # of its transposed convolutions
    block_kernels: Sequence[int] = (3, 7, 11)
    dilations: Sequence[int] = (1, 3, 5)
    num_groups: int = 2
    num_levels: int = 2
    codebook_size: int = 1024


@dataclass
class Moments:
    """Moments of J branches, for group norms: number of steps, mean, and centred second moment of each channel."""

    count: int
    mean: Tensor  # [C, J]
    scatter: Tensor  # [C, J, J], summed over time

    @classmethod
    def of(cls, branches: Sequence[Tensor]) -> Moments:
        """Moments of branches [1, C, T], in float64 on the CPU."""
        x = torch.stack([branch[0] for branch in branches], dim=1)  # [C, J, T]
        mean = x.mean(-1, keepdim=True)
        centred = x - mean
        return cls(x.shape[-1], mean[..., 0].cpu().double(), (centred @ centred.mT).cpu().double())

    def __add__(self, other: Moments) -> Moments:
        """Moments of two chunks together (Chan et al.: no difference of large sums)."""
        count = self.count + other.count
        apart = other.mean - self.mean
        between = apart[:, :, None] * apart[:, None, :] * (self.count * other.count / count)
        return Moments(count, self.mean + apart * (other.count / count), self.scatter + other.scatter + between)


class Stage(nn.Module):
    """[B, C, T] → [B, 2C, T / stride]: a strided conv, then residual blocks side by side. Their running sum is normed
    after each of them; the last sum is divided by the number of blocks."""

    def __init__(
        self, channels: int, stride: int, kernel_size: int, block_kernels: Sequence[int], dilations: Sequence[int]
    ) -> None:
        super().__init__()
        side, width = (kernel_size - stride) // 2, 2 * channels
        self.down = Conv1d(channels, width, kernel_size, stride, padding=(side, side))
        blocks = nn.ModuleList(ResidualBlock(width, size, dilations) for size in block_kernels)
        norms = nn.ModuleList(GroupNorm(width // CHANNELS_PER_GROUP, width, eps=1e-6) for _ in block_kernels)
        self.blocks, self.norms = cast(Sequence[ResidualBlock], blocks), cast(Sequence[GroupNorm], norms)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        x = self.down(F.leaky_relu_(x, SLOPE), lengths)
        lengths = None if lengths is None else self.down.out_length(lengths)
        total = self.norms[0](self.blocks[0](x, lengths), lengths)
        for block, norm in zip(self.blocks[1:], self.norms[1:], strict=True):
            total = norm(block(x, lengths).add_(total), lengths)
        return total.div_(len(self.blocks)), lengths

    # -- long clips: norms with the statistics of the whole clip --------------------------------

    def branches(self, x: Tensor) -> list[Tensor]:
        """Outputs of the residual blocks, before any norm."""
        x = self.down(F.leaky_relu_(x, SLOPE))
        return [block(x) for block in self.blocks]

    def mixture(self, moments: Moments) -> Tensor:
        """All norms of the stage as one affine map, [J + 1, C]: a weight for each branch, and a constant. (With given
        statistics a norm is affine.)"""
        weights = torch.zeros_like(moments.mean)  # [C, J]
        constant = torch.zeros(len(weights), dtype=weights.dtype)
        for j, norm in enumerate(self.norms):
            weights[:, j] = 1
            mean = (weights * moments.mean).sum(1) + constant
            variance = torch.einsum("cj,cjk,ck->c", weights, moments.scatter, weights) / moments.count
            group_mean = _over_groups(mean, norm.groups)
            group_variance = _over_groups(variance + (mean - group_mean).square(), norm.groups)
            scale = norm.weight.cpu().double() * (group_variance + norm.eps).rsqrt()
            weights = weights * scale[:, None]
            constant = (constant - group_mean) * scale + norm.bias.cpu().double()
        mixture = torch.cat([weights.T, constant[None]]) / len(self.norms)
        return mixture.to(self.down.weight)


def _over_groups(x: Tensor, groups: int) -> Tensor:
    """The mean of each group of neighbouring channels, repeated for each of them."""
    return x.view(groups, -1).mean(1).repeat_interleave(len(x) // groups)


class Encoder(nn.Module):
    """Waveform [B, 1, T] → latents [B, dim, floor(T / hop)]."""

    def __init__(self, config: AcademiCodecConfig) -> None:
        super().__init__()
        width = config.filters
        self.conv_pre = Conv1d(1, width, 7)
        stages = nn.ModuleList()
        for stride, size in zip(reversed(config.strides), reversed(config.kernel_sizes), strict=True):
            stages.append(Stage(width, stride, size, config.block_kernels[::-1], config.dilations))
            width *= 2
        self.stages = cast(Sequence[Stage], stages)
        self.conv_post = Conv1d(width, width, 3)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        x = self.conv_pre(x, lengths)
        for stage in self.stages:
            x, lengths = stage(x, lengths)
        return self.finish(x, lengths)

    def finish(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        return self.conv_post(F.leaky_relu_(x, LAST_ENCODER_SLOPE), lengths)

    def first_stages(self, x: Tensor, mixtures: Sequence[Tensor]) -> Tensor:
        """[1, 1, T] through the first `len(mixtures)` stages, whose norms are given as affine maps."""
        x = self.conv_pre(x)
        for stage, mixture in zip(self.stages[: len(mixtures)], mixtures, strict=True):
            branches = stage.branches(x)
            x = mixture[-1][:, None]  # the constant
            for branch, weight in zip(branches, mixture[:-1], strict=True):
                x = branch.mul_(weight[:, None]).add_(x)
        return x

    def receptive_span(self) -> tuple[int, int]:
        """The first and the last sample that frame 0 sees, not counting the norms' statistics."""
        path = [layer for stage in self.stages for layer in (stage.down, widest(stage))]
        return receptive_span(convolutions_of(self.conv_pre, *path, self.conv_post), 0, 0)


class AcademiCodec(BaseCodec):
    """HiFi-Codec (AcademiCodec, 2023): group-residual quantisation, four codes a frame between two HiFi-GAN networks.

    Speech [B, 1, T] at 16 or 24 kHz ↔ codes [B, K, N] at 50 to 100 frames a second, K 2 or 4: level 1 of both groups,
    then level 2. 2 to 4 kbit/s.

        codec = load_codec("academicodec_hifi_16k_320d")
        audio = codec.decode(codec.encode("talk.wav"))

    Attributes:
        peak_normalise: scale each clip to a peak of 0.95 before it is coded, and back afterwards. Default False.
    """

    Config = AcademiCodecConfig
    config: AcademiCodecConfig
    hop_length: int

    def __init__(self, config: AcademiCodecConfig, variant: Variant) -> None:
        super().__init__(config, variant)
        self.peak_normalise = False
        count = config.num_groups * config.num_levels
        self.sample_rate = config.sample_rate
        self.hop_length = math.prod(config.strides)
        self.codebook_sizes = (config.codebook_size,) * count
        self.codebook_choices = tuple(range(config.num_groups, count + 1, config.num_groups))  # whole levels

        dim = config.filters * 2 ** len(config.strides)
        self.latent_dim = self.vector_dim = dim
        self.encoder = Encoder(config)
        self.quantizer = GroupResidualVQ(config.num_groups, config.num_levels, config.codebook_size, dim)
        self.decoder = Generator(dim, dim, config.strides, config.kernel_sizes, self._fused_blocks)
        first, last = self.decoder.receptive_span()
        self.decode_context = Context(-first, last)

    def _fused_blocks(self, channels: int) -> MultiReceptiveField:
        return MultiReceptiveField(channels, self.config.block_kernels, self.config.dilations)

    def _latents(self, waveform: Tensor, lengths: Tensor) -> Frames:
        waveform, side_info = self._normalise(waveform)
        # A clip shorter than a frame is filled up to one with zeros.
        waveform = F.pad(waveform, (0, max(self.hop_length - waveform.shape[-1], 0)))
        lengths = lengths.clamp(min=self.hop_length)
        latent = self.encoder(waveform, dense_or_none(lengths, waveform.shape[-1]))
        return Frames(latent, lengths // self.hop_length, side_info)

    def _synthesize(self, frames: Frames, num_samples: Tensor) -> Decoded:
        vectors, lengths, side_info = frames
        waveform, _ = self.decoder(vectors, dense_or_none(lengths, vectors.shape[-1]))
        if "gain" in side_info:
            waveform = waveform * side_info["gain"].to(waveform).view(-1, 1, 1)
        return Decoded(waveform, lengths * self.hop_length)

    def _normalise(self, waveform: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """[B, 1, T] with each item at a peak of 0.95, and the gain back; silence stays silent."""
        if not self.peak_normalise:
            return waveform, {}
        peak = waveform.abs().amax((1, 2))
        scaled = waveform / torch.where(peak > 0, peak, 1).view(-1, 1, 1) * NORMALISED_PEAK
        return scaled, {"gain": peak / NORMALISED_PEAK}

    # -- long clips -----------------------------------------------------------------------------

    def _latents_long(self, waveform: Tensor, lengths: Tensor, samples: int) -> Iterator[Frames]:
        """One clip, exactly. A stage's norms are known once the moments of its blocks over the whole clip are. So the
        clip is read once for the moments of each stage, and once more for the latents."""
        waveform, side_info = self._normalise(waveform[..., : int(lengths[0])])
        chunks = list(self._chunks(waveform.shape[-1], samples))
        mixtures: list[Tensor] = []
        hop = 1
        for stage in self.encoder.stages:
            hop *= stage.down.stride
            moments = []
            for chunk, own in release_memory_between(chunks):
                branches = stage.branches(self.encoder.first_stages(waveform[..., chunk], mixtures))
                moments.append(Moments.of([branch[..., _steps(own, hop)] for branch in branches]))
            mixtures.append(stage.mixture(reduce(add, moments)))
        for chunk, own in release_memory_between(chunks):
            latent = self.encoder.finish(self.encoder.first_stages(waveform[..., chunk], mixtures))
            latent = latent[..., _steps(own, hop)]
            yield Frames(latent, lengths.new_tensor([latent.shape[-1]]), side_info)

    def _chunks(self, total: int, samples: int) -> Iterator[tuple[slice, slice]]:
        """Chunks of a clip with their context, `samples` in all; and within each the chunk itself, whose outputs see
        nothing beyond the context. No chunk is shorter than its context."""
        hop = self.hop_length
        first, last = self.encoder.receptive_span()
        left, right = -(first // hop) * hop, last // hop * hop
        step = max((samples - left - right) // hop * hop, left + right)
        starts = range(0, total // hop * hop, step)  # what is left over goes with the last chunk: it makes no frame
        for start in starts:
            begin, stop = max(start - left, 0), total if start == starts[-1] else start + step
            yield slice(begin, min(stop + right, total)), slice(start - begin, stop - begin)


def _steps(samples: slice, hop: int) -> slice:
    """A slice of samples that begins with a whole frame, as a slice of frames of `hop` samples."""
    return slice(samples.start // hop, samples.stop // hop)


# -- key map ------------------------------------------------------------------------------------------


def _rules(stages: int = 4, kernels: int = 3) -> Iterator[Rule]:
    """The published names count the blocks of all stages in one list."""
    unit, convs = r"units\.(\d+)\.conv(\d)\.(.+)", r"convs\2.\1.\3"
    for i in range(stages):
        yield Rule(rf"encoder\.stages\.{i}\.down\.(.+)", rf"encoder.ups.{i}.\1")
        for j in range(kernels):
            at = kernels * i + j
            yield Rule(rf"encoder\.stages\.{i}\.blocks\.{j}\.{unit}", rf"encoder.resblocks.{at}.{convs}")
            yield Rule(rf"encoder\.stages\.{i}\.norms\.{j}\.(.+)", rf"encoder.normalize.{at}.\1")
            yield Rule(rf"decoder\.blocks\.{i}\.blocks\.{j}\.{unit}", rf"generator.resblocks.{at}.{convs}")
    yield Rule(r"decoder\.(.+)", r"generator.\1")
    levels = (r"quantizer.quantizer_modules.\1.embedding.weight", r"quantizer.quantizer_modules2.\1.embedding.weight")
    yield Rule(r"quantizer\.groups\.(\d+)\.codebooks", levels, lambda *books: torch.stack(books))


AcademiCodec.key_maps = (KeyMap("academicodec", tuple(_rules())),)
