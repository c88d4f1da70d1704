"""BigCodec: one codebook of 8192 at 80 frames a second, and a large network on either side of it.

Paper: "BigCodec: Pushing the Limits of Low-Bitrate Neural Speech Codec" (arXiv 2409.05377). Upstream:
Aria-K-Alethia/BigCodec.

    encoder: conv; for each stride: residual units of dilation 1, 3, 9, activation, conv; LSTM; activation, conv
    decoder: conv; LSTM; for each stride: activation, transposed conv, residual units; activation, conv, tanh

Every activation is anti-aliased SnakeBeta. The LSTMs run forward only, but convolutions and filters look both ways, so
BigCodec does not stream; a long clip in chunks equals the whole. A clip is filled up with zeros to whole frames.
(Upstream's script adds a frame of zeros to a clip of whole frames; Codec-SUPERB and we do not.)
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

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
from codeczoo.nn.alias_free import AliasFreeSnake, AliasFreeUnits
from codeczoo.nn.chunked import padded_chunks, run_chunked
from codeczoo.nn.conv import Conv1d, ConvTranspose1d
from codeczoo.nn.factorized_vq import FactorizedVQ
from codeczoo.nn.lstm import LSTM
from codeczoo.nn.sequential import Layers


@dataclass(frozen=True)
class BigCodecConfig:
    """The network's numbers."""

    sample_rate: int = 16000  # Hz
    encoder_dim: int = 48  # channels after the first convolution; each stride doubles them
    decoder_dim: int = 1536  # channels before the first stride; each halves them
    strides: Sequence[int] = (2, 2, 2, 5, 5)  # of the encoder
    latent_dim: int = 1024
    codebook_size: int = 8192
    codebook_dim: int = 8
    lstm_layers: int = 2


def convolutional_encoder(config: BigCodecConfig) -> Layers:
    """Waveform [B, 1, T], T whole frames → [B, latent_dim, N]. X-Codec 2 has the same encoder without LSTM."""
    channels = config.encoder_dim
    layers: list[nn.Module] = [Conv1d(1, channels, 7)]
    for stride in config.strides:
        padding = (-(-stride // 2),) * 2
        layers += [AliasFreeUnits(channels), AliasFreeSnake(channels)]
        layers.append(Conv1d(channels, 2 * channels, 2 * stride, stride, padding=padding))
        channels *= 2
    if config.lstm_layers:
        layers.append(LSTM(channels, config.lstm_layers))
    return Layers([*layers, AliasFreeSnake(channels), Conv1d(channels, config.latent_dim, 3)])


def _decoder(config: BigCodecConfig) -> Layers:
    channels = config.decoder_dim
    layers: list[nn.Module] = [Conv1d(config.latent_dim, channels, 7), LSTM(channels, config.lstm_layers)]
    for stride in reversed(config.strides):
        trim = (-(-stride // 2), stride // 2)
        layers.append(AliasFreeSnake(channels))
        layers.append(ConvTranspose1d(channels, channels // 2, 2 * stride, stride, trim=trim))
        channels //= 2
        layers.append(AliasFreeUnits(channels))
    return Layers([*layers, AliasFreeSnake(channels), Conv1d(channels, 1, 7)])


class BigCodec(BaseCodec):
    """BigCodec (2024): a speech codec of one codebook of 8192 between large convolutional networks with LSTMs.

    Speech [B, 1, T] at 16 kHz ↔ codes [B, 1, N] at 80 a second: 1.04 kbit/s.

        codec = load_codec("bigcodec")
        audio = codec.decode(codec.encode("talk.wav"))
    """

    Config = BigCodecConfig
    config: BigCodecConfig
    hop_length: int

    def __init__(self, config: BigCodecConfig, variant: Variant) -> None:
        super().__init__(config, variant)
        self.sample_rate = config.sample_rate
        self.hop_length = math.prod(config.strides)
        self.codebook_sizes = (config.codebook_size,)
        self.codebook_choices = (1,)
        self.latent_dim = self.vector_dim = config.latent_dim
        self.encoder = convolutional_encoder(config)
        self.quantizer = FactorizedVQ(config.latent_dim, config.codebook_size, config.codebook_dim)
        self.decoder = _decoder(config)

    def _latents(self, waveform: Tensor, lengths: Tensor) -> Frames:
        frames = -(-lengths // self.hop_length)
        waveform = F.pad(waveform, (0, -waveform.shape[-1] % self.hop_length))
        return Frames(self.encoder(waveform, dense_or_none(frames * self.hop_length, waveform.shape[-1])), frames)

    def _synthesize(self, frames: Frames, num_samples: Tensor) -> Decoded:
        vectors, lengths, _ = frames
        waveform = self.decoder(vectors, dense_or_none(lengths, vectors.shape[-1])).tanh_()
        return Decoded(waveform, lengths * self.hop_length)

    def _latents_long(self, waveform: Tensor, lengths: Tensor, samples: int) -> Iterator[Frames]:
        """One clip, exactly: convolutions with the context that they see, and the LSTM from its last state."""
        clip, missing = waveform[..., : int(lengths[0])], -int(lengths[0]) % self.hop_length
        chunks = padded_chunks(clip, max(samples, self.hop_length), missing)
        for latent in run_chunked(self.encoder.layers, chunks):
            yield Frames(latent, lengths.new_tensor([latent.shape[-1]]))

    def _synthesize_long(self, source: FrameSource, lengths: Tensor, num_samples: Tensor, frames: int) -> Decoded:
        chunks = run_chunked(self.decoder.layers, values_in_chunks(source, int(lengths[0]), frames))
        audio = (chunk.tanh_() for chunk in chunks)
        return Decoded(join_chunks(audio, int(lengths[0]) * self.hop_length), lengths * self.hop_length)


# -- key map ------------------------------------------------------------------------------------------

NUM_STRIDES = 5  # of the published model
# The layers of a residual unit, and the authors' place of each.
UNIT_PLACES = {"act1": 0, "conv1": 1, "act2": 2, "conv2": 3}


def encoder_stages(ours: str, theirs: str) -> dict[str, str]:
    """Our module names → the authors' places in nested sequences, for the encoder's stages and first convolution."""
    names = {f"{ours}.layers.0": f"{theirs}.0"}
    for i in range(NUM_STRIDES):
        down, first = f"{theirs}.{i + 1}.block", 3 * i + 1
        names |= {f"{ours}.layers.{first + 1}": f"{down}.3", f"{ours}.layers.{first + 2}": f"{down}.4"}
        for j in range(3):
            for part, place in UNIT_PLACES.items():
                names[f"{ours}.layers.{first}.{j}.{part}"] = f"{down}.{j}.block.{place}"
    return names


def _modules() -> dict[str, str]:
    """All of our module names → the authors'."""
    names = encoder_stages("encoder", "CodecEnc.block")
    for i in range(3):  # LSTM, activation, convolution
        names[f"encoder.layers.{3 * NUM_STRIDES + 1 + i}"] = f"CodecEnc.block.{NUM_STRIDES + 1 + i}"
    for i in range(2):
        names[f"decoder.layers.{i}"] = f"generator.model.{i}"
        names[f"decoder.layers.{3 * NUM_STRIDES + 2 + i}"] = f"generator.model.{NUM_STRIDES + 2 + i}"
    for i in range(NUM_STRIDES):
        up, first = f"generator.model.{i + 2}.block", 3 * i + 2
        names |= {f"decoder.layers.{first}": f"{up}.0", f"decoder.layers.{first + 1}": f"{up}.1"}
        for j in range(3):
            for part, place in UNIT_PLACES.items():
                names[f"decoder.layers.{first + 2}.{j}.{part}"] = f"{up}.{j + 2}.block.{place}"
    return names


def module_rules(names: Mapping[str, str]) -> tuple[Rule, ...]:
    """Rules for modules of these names: convolutions, LSTMs and anti-aliased activations."""
    return tuple(
        rule
        for ours, theirs in names.items()
        for rule in (
            Rule(
                rf"{re.escape(ours)}\.snake\.(alpha|beta)",
                rf"{theirs}.act.\1",
                _per_channel,
                lambda alpha: [alpha.flatten()],
            ),
            Rule(rf"{re.escape(ours)}\.(lstm\.\w+|weight|bias)", rf"{theirs}.\1"),
        )
    )


def _as_conv(weight: Tensor) -> Tensor:
    return weight[..., None]


def _per_channel(parameter: Tensor) -> Tensor:
    return parameter[None, :, None]


BigCodec.key_maps = (
    KeyMap(
        "bigcodec",
        (
            Rule(r"quantizer\.codebook", "generator.quantizer.layers.0._codebook.weight"),
            Rule(r"quantizer\.(\w+_proj)\.weight", r"generator.quantizer.layers.0.\1.weight", _as_conv),
            Rule(r"quantizer\.(\w+_proj)\.bias", r"generator.quantizer.layers.0.\1.bias"),
            *module_rules(_modules()),
        ),
        unused=(r".+\.(upsample|downsample\.lowpass)\.filter",),  # computed here
    ),
)
