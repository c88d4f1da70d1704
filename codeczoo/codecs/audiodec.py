"""AudioDec: a streaming codec whose decoder is a vocoder, trained apart on the quantised latents.

Paper: "AudioDec: An Open-source Streaming High-fidelity Neural Audio Codec" (ICASSP 2023). Upstream:
facebookresearch/AudioDec. The encoder and the quantiser come from one checkpoint (an autoencoder's), the decoder from
another: a vocoder, or the decoder of that autoencoder after more training ("symmetric", a seventh of the
multiplications). The first checkpoint's own decoder was trained without discriminators.

Every layer is causal and has no look-ahead: frame i depends on the samples up to 300 * i, and the decoder guesses the
299 that follow. N = ceil(T / 300). (One model at 48 kHz has frames of 320.)

Upstream starts a clip in three ways, which differ in the first frames only:
  offline     silence before the encoder; before the decoder, a copy of the first frame at each transposed conv. The
              default here, for whole clips and for streams.
  zero state  silence before the decoder's convolutions too, as upstream's streaming class with its buffers cleared.
              `codec.start_from_zeros = True`, for whole clips and for streams that start after it is set.
  primed      the state after silence went through encoder and decoder, as in upstream's demo of files: with
              `start_from_zeros`, feed a stream 28 frames of zeros, and their codes, before the clip.
(Codec-SUPERB's wrapper never clears the decoder's buffers: each clip starts in the tail of the one before it.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_leaves, tree_map

from codeczoo.base import BaseCodec, Decoded, Frames, KeyMap, Rule, Variant
from codeczoo.nn.conv import Conv1d
from codeczoo.nn.hifigan import CausalConvTranspose1d, Generator, MultiGroup, MultiReceptiveField
from codeczoo.nn.padding import mask_tail
from codeczoo.nn.rvq import ResidualVQ
from codeczoo.nn.seanet import ResidualUnit, SEANetStack, elu

State = Any  # a tree of tensors [B, ...]

AUTOENCODER_KERNEL = 7  # steps, of its first and last convolutions and its residual units
RESIDUAL_DILATIONS = (1, 3, 9)  # of the autoencoder's residual units
NUM_STRIDES = 4  # of every published model


@dataclass(frozen=True)
class AudioDecConfig:
    """The network's numbers."""

    sample_rate: int = 24000  # Hz
    filters: int = 32  # width of the autoencoder's first convolution; it doubles with each stride
    strides: Sequence[int] = (3, 4, 5, 5)  # of the encoder
    dim: int = 64
    num_codebooks: int = 8
    codebook_size: int = 1024
    symmetric: bool = False  # the autoencoder's own decoder in place of the vocoder
    activated: bool = False  # the autoencoder has ELUs between its blocks, and tanh at its end
    vocoder_channels: int = 512
    vocoder_kernels: Sequence[int] = (11,)  # of the residual blocks, whose mean is taken
    vocoder_dilations: Sequence[int] = (1, 3, 5)
    vocoder_groups: int = 3  # more than one: a single kernel, on that many copies side by side


def _conv(in_channels: int, out_channels: int, kernel: int, stride: int = 1, *, bias: bool = False) -> Conv1d:
    """Zeros before the first sample as far as the kernel reaches, whatever the stride: ceil(T / stride) steps."""
    return Conv1d(in_channels, out_channels, kernel, stride, bias=bias, padding=(kernel - 1, 0))


def _residual_units(channels: int) -> list[nn.Module]:
    return [
        ResidualUnit(channels, AUTOENCODER_KERNEL, dilation, False, elu, compress=1, padding="causal", bias=False)
        for dilation in RESIDUAL_DILATIONS
    ]


class Encoder(SEANetStack):
    """Waveform [B, 1, T] → latents [B, dim, ceil(T / hop)]. The last layer is upstream's projector."""

    def __init__(self, config: AudioDecConfig) -> None:
        super().__init__()
        width = config.filters
        layers: list[nn.Module] = [_conv(1, width, AUTOENCODER_KERNEL)]
        for stride in config.strides:
            layers += [*_residual_units(width), _conv(width, 2 * width, 2 * stride, stride, bias=True)]
            width *= 2
        if config.activated:
            layers.append(elu(width, inplace=True))
        self.layers = nn.ModuleList([*layers, _conv(width, config.dim, 3)])


class SymmetricDecoder(SEANetStack):
    """Latents [B, dim, N] → waveform [B, 1, N * hop], not bounded but for tanh where `activated`."""

    def __init__(self, config: AudioDecConfig) -> None:
        super().__init__()
        width = config.filters * 2 ** len(config.strides)
        layers: list[nn.Module] = [_conv(config.dim, width, AUTOENCODER_KERNEL)]
        for stride in reversed(config.strides):
            layers += [elu(width, inplace=True)] if config.activated else []
            layers += [CausalConvTranspose1d(width, width // 2, stride), *_residual_units(width // 2)]
            width //= 2
        last = _conv(width, 1, AUTOENCODER_KERNEL)
        self.layers = nn.ModuleList(
            [*layers, elu(width, inplace=True), last, nn.Tanh()] if config.activated else [*layers, last]
        )


def _fused_blocks(channels: int, config: AudioDecConfig) -> MultiGroup | MultiReceptiveField:
    kernels, dilations = config.vocoder_kernels, config.vocoder_dilations
    if config.vocoder_groups == 1:
        return MultiReceptiveField(channels, kernels, dilations, causal=True)
    (kernel,) = kernels
    return MultiGroup(channels, kernel, dilations, config.vocoder_groups)


class Vocoder(Generator):
    """Latents [B, dim, N] → waveform [B, 1, N * hop] within ±1: HiFi-GAN on latents brought to mean 0 and deviation 1,
    as a rule with one residual block of three groups after each stride."""

    def __init__(self, config: AudioDecConfig) -> None:
        strides = tuple(reversed(config.strides))
        super().__init__(
            config.dim,
            config.vocoder_channels,
            strides,
            [2 * stride for stride in strides],
            lambda channels: _fused_blocks(channels, config),
            causal=True,
            last_slope=0.01,
        )
        self.mean = nn.Parameter(torch.empty(config.dim))
        self.scale = nn.Parameter(torch.empty(config.dim))

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        return super().forward(self.normalise(x), lengths)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return super().step(self.normalise(x), state)

    def normalise(self, x: Tensor) -> Tensor:
        return (x - self.mean[:, None]) / self.scale[:, None]


class AudioDec(BaseCodec):
    """AudioDec (2023): a causal streaming codec for speech whose decoder is a vocoder, with 6 to 12 ms of latency.

    Audio [B, 1, T] at 24 or 48 kHz ↔ codes [B, K, N] at 80 frames a second (150 or 160 at 48 kHz), K from 1 to 8 (16 in
    one model): 6.4 to 24 kbit/s.

        codec = load_codec("audiodec_24k")
        codes = codec.stream().encode(microphone)  # [1, 1, n * 300] samples

    Attributes:
        start_from_zeros: silence before the decoder's first frame, in place of copies of that frame. Default False.
    """

    Config = AudioDecConfig
    config: AudioDecConfig
    hop_length: int

    def __init__(self, config: AudioDecConfig, variant: Variant) -> None:
        super().__init__(config, variant)
        self.start_from_zeros = False
        self.sample_rate = config.sample_rate
        self.hop_length = math.prod(config.strides)
        self.codebook_sizes = (config.codebook_size,) * config.num_codebooks
        self.codebook_choices = tuple(range(1, config.num_codebooks + 1))
        self.causal = True
        self.latency = self.hop_length / config.sample_rate
        self.latent_dim = self.vector_dim = config.dim

        self.encoder = Encoder(config)
        self.quantizer = ResidualVQ(config.num_codebooks, config.codebook_size, config.dim)
        self.decoder: Vocoder | SymmetricDecoder = SymmetricDecoder(config) if config.symmetric else Vocoder(config)

    def _latents(self, waveform: Tensor, lengths: Tensor) -> Frames:
        return Frames(self.encoder(waveform)[0], -(-lengths // self.hop_length))

    def _synthesize(self, frames: Frames, num_samples: Tensor) -> Decoded:
        vectors = frames.values
        if self.start_from_zeros:
            waveform, _, _ = self._stream_synthesize_warmup(vectors, self._stream_decode_start(vectors.shape[0]))
        else:
            waveform, _ = self.decoder(vectors)
        return Decoded(waveform, frames.lengths * self.hop_length)

    # -- streaming ------------------------------------------------------------------------------

    def _stream_encode_start(self, batch_size: int) -> State:
        return self.encoder.initial_state(batch_size)

    def _stream_latents_warmup(self, waveform: Tensor, state: State) -> tuple[Tensor, None, State]:
        latent, state = self.encoder.step(waveform, state)
        return latent, None, state

    def _stream_latents_flush(self, rest: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, Tensor]:
        samples = rest.shape[-1]
        last = F.pad(mask_tail(rest, lengths), (0, self.hop_length - samples))
        latent, _ = self.encoder.step(last, state)
        return latent[..., : min(samples, 1)], (lengths > 0).long()

    def _stream_decode_start(self, batch_size: int) -> State:
        state = self.decoder.initial_state(batch_size)
        if self.start_from_zeros:  # each flag `begun` says that the zeros in the state came before the clip
            state = tree_map(lambda t: torch.ones_like(t) if t.dtype == torch.bool else t, state)
        return state

    def _stream_synthesize_warmup(self, vectors: Tensor, state: State) -> tuple[Tensor, None, State]:
        waveform, state = self.decoder.step(vectors, state)
        return waveform, None, state

    def _stream_decode_flush(self, state: State) -> tuple[Tensor, None]:
        batch_size = len(tree_leaves(state)[0])
        return self._anchor.new_zeros(batch_size, 1, 0), None  # nothing is held back


# -- key maps -------------------------------------------------------------------------------------------


def _encoder_rules(file: str, num_codebooks: int, activated: bool) -> Sequence[Rule]:
    """Rules of encoder and quantiser, whose published keys begin with `file`. Code vectors are published as columns."""
    units, rules = len(RESIDUAL_DILATIONS), [Rule(r"encoder\.layers\.0\.(.+)", rf"{file}encoder.conv.conv.\1")]
    for i in range(NUM_STRIDES):
        start, block = 1 + i * (units + 1), f"{file}encoder.conv_blocks.{i}."
        rules += _unit_rules("encoder", start, block)
        rules.append(Rule(rf"encoder\.layers\.{start + units}\.(.+)", rf"{block}conv.conv.\1"))
    last = 1 + NUM_STRIDES * (units + 1) + activated
    rules.append(Rule(rf"encoder\.layers\.{last}\.(.+)", rf"{file}projector.project.conv.\1"))
    names = tuple(f"{file}quantizer.codebook.layers.{k}.embed" for k in range(num_codebooks))
    books = Rule(r"quantizer\.codebooks", names, lambda *books: torch.stack([book.T for book in books]))
    return [*rules, books]


def _decoder_rules(file: str, activated: bool) -> Sequence[Rule]:
    """Rules of the autoencoder's decoder, whose keys begin with `file`."""
    units, rules = len(RESIDUAL_DILATIONS), [Rule(r"decoder\.layers\.0\.(.+)", rf"{file}decoder.conv1.conv.\1")]
    size = 1 + units + activated
    for i in range(NUM_STRIDES):
        up, block = 1 + i * size + activated, f"{file}decoder.conv_blocks.{i}.{'1.' if activated else ''}"
        rules.append(Rule(rf"decoder\.layers\.{up}\.(.+)", rf"{block}conv.deconv.\1"))
        rules += _unit_rules("decoder", up + 1, block)
    return [
        *rules,
        Rule(rf"decoder\.layers\.{1 + NUM_STRIDES * size + activated}\.(.+)", rf"{file}decoder.conv2.conv.\1"),
    ]


def _unit_rules(ours: str, first: int, block: str) -> Sequence[Rule]:
    return [
        Rule(rf"{ours}\.layers\.{first + j}\.block\.{place}\.(.+)", rf"{block}res_units.{j}.{conv}.\1")
        for j in range(len(RESIDUAL_DILATIONS))
        for place, conv in ((1, "conv1.conv"), (3, "conv2"))
    ]


VOCODER = (
    Rule(r"decoder\.conv_pre\.(.+)", r"input_conv.conv.\1"),
    Rule(r"decoder\.ups\.(\d+)\.(.+)", r"upsamples.\1.deconv.\2"),
    Rule(r"decoder\.blocks\.(\d+)\.block\.units\.(\d+)\.conv(\d)\.(.+)", r"blocks.\1.convs\3.\2.conv.\4"),
    Rule(r"decoder\.(blocks\.\d+\.blocks\.\d+)\.units\.(\d+)\.conv(\d)\.(.+)", r"\1.convs\3.\2.conv.\4"),
    Rule(r"decoder\.conv_post\.(.+)", r"output_conv.conv.\1"),
    Rule(r"decoder\.(.+)", r"\1"),  # mean, scale, blocks.*.conv_out
)
UNUSED_KEYS = (  # history, and what only training needs
    r"(.+\.)?pad_buffer",
    r"(.+\.)?quantizer\.codebook\.layers\.\d+\.(cluster_size|embed_avg)",
)


def _symmetric(num_codebooks: int, *, activated: bool = False, steps: tuple[int, int] | None = None) -> KeyMap:
    """The key map of one autoencoder's file; or, with `steps` (training steps, in the names of two files), of the
    encoder of the first file and the decoder of the second."""
    first, last = (rf"checkpoint-{count}steps." for count in steps) if steps else ("", "")
    others = (rf"{first}decoder\..+", rf"{last}(encoder|projector|quantizer)\..+") if steps else ()
    vocoder = ("mean", "scale", r"(input_conv|upsamples|blocks|output_conv)\..+")
    return KeyMap(
        f"audiodec, symmetric, {num_codebooks} codebooks"
        + (", activated" if activated else "")
        + (f", of {steps[0]} and {steps[1]} steps" if steps else ""),
        (*_encoder_rules(first, num_codebooks, activated), *_decoder_rules(last, activated)),
        (*UNUSED_KEYS, *vocoder, *others),
    )


AudioDec.key_maps = (
    KeyMap("audiodec with vocoder", (*_encoder_rules("", 8, False), *VOCODER), (*UNUSED_KEYS, r"decoder\..+")),
    _symmetric(8),
    _symmetric(16),
    _symmetric(8, activated=True),
    _symmetric(8, steps=(500000, 1000000)),
    _symmetric(8, steps=(200000, 700000)),
    _symmetric(16, steps=(500000, 1000000)),
    _symmetric(8, activated=True, steps=(200000, 700000)),
)
