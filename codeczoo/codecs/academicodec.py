"""HiFi-Codec of AcademiCodec: group-residual quantisation between two HiFi-GAN-like networks.

Paper: "HiFi-Codec: Group-residual Vector quantization for High Fidelity Audio Codec" (arXiv 2305.02765). Upstream:
yangdongchao/AcademiCodec.

The encoder is HiFi-GAN's generator turned round, and its three residual blocks of a stage are not averaged: a group
norm acts on their running sum after each. It takes its statistics over the whole clip, so that every code depends on
every sample: in a ragged batch each clip has its own statistics. Two levels of two codebooks each give 4 codes a frame.

As upstream, frames are counted down: samples behind the last whole frame are not coded and come back as zeros. A clip
shorter than a frame is filled up to one, which upstream refuses.

Loudness. Upstream's notebook and the benchmarks built on it scale each clip to a peak of 0.95 first and never scale
back; its test script does not scale. Neither is stored in a checkpoint, so the default here is the network as it is:
codes and nothing beside them. `codec.peak_normalise = True` gives the notebook's codes, and keeps the gain that takes
the audio back to its loudness as the side value `gain` (32 bits a clip); a decode of the bare integers leaves it out.

Long clips are exact, decoder and encoder. For the encoder's norms, the statistics of the whole clip are gathered stage
after stage before the codes are made, so it costs about four times what the clip would in one pass.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codeczoo.base.catalogue import Variant
from codeczoo.base.codec import BaseCodec
from codeczoo.base.key_map import KeyMap, Rule
from codeczoo.base.memory import release_memory_between
from codeczoo.base.network import Context, Decoded, Encoded
from codeczoo.base.ragged import dense_or_none
from codeczoo.nn.conv import Conv1d
from codeczoo.nn.group_norm import GroupNorm
from codeczoo.nn.group_vq import GroupResidualVQ
from codeczoo.nn.hifigan import SLOPE, Generator, MultiReceptiveField, ResidualBlock, widest
from codeczoo.nn.receptive_field import convolutions_of, receptive_span

GROUP_WIDTH = 16  # channels that share a group norm's statistics
LAST_SLOPE = 0.01  # of the leaky ReLU before the encoder's last convolution; all others have 0.1
PEAK = 0.95


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
    """What group norms must know of J branches: count, mean and centred second moment of each channel, so far."""

    count: int
    mean: Tensor  # [C, J]
    scatter: Tensor  # [C, J, J], summed over time

    @classmethod
    def of(cls, branches: Sequence[Tensor]) -> Moments:
        """Of branches [1, C, T]; float64 on the CPU."""
        x = torch.stack([branch[0] for branch in branches], dim=1)  # [C, J, T]
        mean = x.mean(-1, keepdim=True)
        centred = x - mean
        return cls(x.shape[-1], mean[..., 0].cpu().double(), (centred @ centred.mT).cpu().double())

    def __add__(self, other: Moments) -> Moments:
        """Of both stretches of time together (Chan et al.: no difference of large sums)."""
        count = self.count + other.count
        apart = other.mean - self.mean
        between = apart[:, :, None] * apart[:, None, :] * (self.count * other.count / count)
        return Moments(count, self.mean + apart * (other.count / count), self.scatter + other.scatter + between)


class Stage(nn.Module):
    """[B, C, T] → [B, 2C, T / stride]: a strided conv, then residual blocks side by side, whose running sum is
    normed after each of them; a third of the last sum."""

    def __init__(
        self, channels: int, stride: int, kernel_size: int, block_kernels: Sequence[int], dilations: Sequence[int]
    ) -> None:
        super().__init__()
        side, width = (kernel_size - stride) // 2, 2 * channels
        self.down = Conv1d(channels, width, kernel_size, stride, padding=(side, side))
        blocks = nn.ModuleList(ResidualBlock(width, size, dilations) for size in block_kernels)
        norms = nn.ModuleList(GroupNorm(width // GROUP_WIDTH, width, eps=1e-6) for _ in block_kernels)
        self.blocks, self.norms = cast(Sequence[ResidualBlock], blocks), cast(Sequence[GroupNorm], norms)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        x = self.down(F.leaky_relu_(x, SLOPE), lengths)
        lengths = None if lengths is None else self.down.out_length(lengths)
        total = self.norms[0](self.blocks[0](x, lengths), lengths)
        for block, norm in zip(self.blocks[1:], self.norms[1:], strict=True):
            total = norm(block(x, lengths).add_(total), lengths)
        return total.div_(len(self.blocks)), lengths

    # -- with statistics of more than is there --------------------------------------------------

    def branches(self, x: Tensor) -> list[Tensor]:
        """What the blocks give, before any norm."""
        x = self.down(F.leaky_relu_(x, SLOPE))
        return [block(x) for block in self.blocks]

    def mixture(self, moments: Moments) -> Tensor:
        """The norms with given statistics are affine: the weight of each branch and a constant, [J + 1, C]."""
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
    """The mean of each group of neighbours, in the place of each of them."""
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
        return self.conv_post(F.leaky_relu_(x, LAST_SLOPE), lengths)

    def begin(self, x: Tensor, mixtures: Sequence[Tensor]) -> Tensor:
        """[1, 1, T] through the first stages, whose norms are given as mixtures."""
        x = self.conv_pre(x)
        for stage, mixture in zip(self.stages[: len(mixtures)], mixtures, strict=True):
            branches = stage.branches(x)
            x = mixture[-1][:, None]  # the constant
            for branch, weight in zip(branches, mixture[:-1], strict=True):
                x = branch.mul_(weight[:, None]).add_(x)
        return x

    def receptive_span(self) -> tuple[int, int]:
        """The first and the last sample that frame 0 sees but for the norms' statistics."""
        path = [layer for stage in self.stages for layer in (stage.down, widest(stage))]
        return receptive_span(convolutions_of(self.conv_pre, *path, self.conv_post), 0, 0)


class AcademiCodec(BaseCodec):
    """Codes [B, 4, N]: level 1 of the two groups, then level 2.

    Attributes:
        peak_normalise: scale each clip to a peak of 0.95 before it is coded, and back after (see above).
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
        self.encoder = Encoder(config)
        self.quantizer = GroupResidualVQ(config.num_groups, config.num_levels, config.codebook_size, dim)
        self.decoder = Generator(dim, dim, config.strides, config.kernel_sizes, self._fused_blocks)
        first, last = self.decoder.receptive_span()
        self.decode_context = Context(-first, last)

    def _fused_blocks(self, channels: int) -> MultiReceptiveField:
        return MultiReceptiveField(channels, self.config.block_kernels, self.config.dilations)

    def _encode(self, waveform: Tensor, lengths: Tensor, num_codebooks: int) -> Encoded:
        waveform, side_info = self._normalise(waveform)
        # A clip shorter than a frame becomes one; what stands behind it is zeros.
        waveform = F.pad(waveform, (0, max(self.hop_length - waveform.shape[-1], 0)))
        lengths = lengths.clamp(min=self.hop_length)
        latent = self.encode_latent(waveform, dense_or_none(lengths, waveform.shape[-1]))
        return Encoded(self.quantizer.encode(latent, num_codebooks), lengths // self.hop_length, side_info)

    def encode_latent(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """[B, 1, T], at least a frame of each → what is quantised, [B, dim, floor(T / hop)]."""
        return self.encoder(waveform, lengths)

    def _decode(self, codes: Tensor, lengths: Tensor, side_info: Mapping[str, Tensor], num_samples: Tensor) -> Decoded:
        waveform, _ = self.decoder(self.quantizer.decode(codes), dense_or_none(lengths, codes.shape[-1]))
        if "gain" in side_info:
            waveform = waveform.mul_(side_info["gain"].to(waveform).view(-1, 1, 1))
        return Decoded(waveform, lengths * self.hop_length)

    def _normalise(self, waveform: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """[B, 1, T] at a peak of 0.95 each, and what takes it back; silence stays."""
        if not self.peak_normalise:
            return waveform, {}
        peak = waveform.abs().amax((1, 2))
        scaled = waveform / torch.where(peak > 0, peak, 1).view(-1, 1, 1) * PEAK
        return scaled, {"gain": peak / PEAK}

    # -- long clips -----------------------------------------------------------------------------

    def _encode_long(self, waveform: Tensor, lengths: Tensor, num_codebooks: int, samples: int) -> Encoded:
        """One clip, exactly. What a stage's norms make of its blocks is known once the blocks' moments over the whole
        clip are; the clip passes once for each stage's moments, and once more for the codes."""
        waveform, side_info = self._normalise(waveform[..., : int(lengths[0])])
        windows = list(self._windows(waveform.shape[-1], samples))
        mixtures: list[Tensor] = []
        hop = 1
        for stage in self.encoder.stages:
            hop *= stage.down.stride
            moments = []
            for window, own in release_memory_between(windows):
                branches = stage.branches(self.encoder.begin(waveform[..., window], mixtures))
                moments.append(Moments.of([branch[..., _steps(own, hop)] for branch in branches]))
            mixtures.append(stage.mixture(reduce(add, moments)))
        codes = []
        for window, own in release_memory_between(windows):
            latent = self.encoder.finish(self.encoder.begin(waveform[..., window], mixtures))
            codes.append(self.quantizer.encode(latent[..., _steps(own, hop)], num_codebooks))
        return Encoded(torch.cat(codes, dim=-1), lengths // hop, side_info)

    def _windows(self, total: int, samples: int) -> Iterator[tuple[slice, slice]]:
        """Windows of `samples` over a clip, and the part of each that sees no seam: one part follows the other. No part
        is shorter than what stands around it."""
        hop = self.hop_length
        first, last = self.encoder.receptive_span()
        left, right = -(first // hop) * hop, last // hop * hop
        step = max((samples - left - right) // hop * hop, left + right)
        for start in range(0, total, step):
            begin, stop = max(start - left, 0), min(start + step, total)
            yield slice(begin, min(stop + right, total)), slice(start - begin, stop - begin)


def _steps(samples: slice, hop: int) -> slice:
    """The whole steps of `hop` samples in a stretch that begins with one."""
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
