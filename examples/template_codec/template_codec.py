"""TITLE OF THE CODEC, in one line: a family to copy (docs/adding_a_codec.md).

Paper: "TITLE" (arXiv NUMBER). Upstream: OWNER/REPOSITORY.

    encoder: conv; for each stride: ELU, strided conv; ELU, conv
    decoder: conv; for each stride: ELU, transposed conv; ELU, conv, tanh

Then what a reader of the paper would not expect: what upstream does with the end of a clip, and where we differ.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from codeczoo.base import BaseCodec, Context, Decoded, Frames, KeyMap, Rule, Variant, dense_or_none
from codeczoo.nn.conv import Conv1d, ConvTranspose1d
from codeczoo.nn.receptive_field import convolutions_of, receptive_span
from codeczoo.nn.rvq import ResidualVQ, codebook_rule


@dataclass(frozen=True)
class TemplateConfig:
    """The network's numbers."""

    sample_rate: int = 16000  # Hz
    filters: int = 32  # width of the first convolution; each stride doubles it
    strides: Sequence[int] = (4, 5, 8)  # of the encoder
    dim: int = 64
    num_codebooks: int = 4
    codebook_size: int = 256


class Encoder(nn.Module):
    """Waveform [B, 1, T], T whole frames → latent [B, dim, T / hop]."""

    def __init__(self, config: TemplateConfig) -> None:
        super().__init__()
        width = config.filters
        self.first = Conv1d(1, width, 7)
        self.downs = nn.ModuleList()
        for stride in config.strides:
            padding = (-(-stride // 2),) * 2
            self.downs.append(Conv1d(width, 2 * width, 2 * stride, stride, padding=padding))
            width *= 2
        self.last = Conv1d(width, config.dim, 3)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        x = self.first(x, lengths)
        for down in self.downs:
            x = down(F.elu(x), lengths)
            lengths = None if lengths is None else down.out_length(lengths)
        return self.last(F.elu(x), lengths)


class Decoder(nn.Module):
    """Latent [B, dim, N] → waveform [B, 1, N * hop]."""

    def __init__(self, config: TemplateConfig) -> None:
        super().__init__()
        width = config.filters << len(config.strides)
        self.first = Conv1d(config.dim, width, 7)
        self.ups = nn.ModuleList()
        for stride in reversed(config.strides):
            trim = (-(-stride // 2), stride // 2)
            self.ups.append(ConvTranspose1d(width, width // 2, 2 * stride, stride, trim=trim))
            width //= 2
        self.last = Conv1d(width, 1, 7)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        x = self.first(x, lengths)
        for up in self.ups:
            x = up(F.elu(x), lengths)
            lengths = None if lengths is None else up.out_length(lengths)
        return self.last(F.elu(x), lengths).tanh()


class TemplateCodec(BaseCodec):
    """WHAT IT IS, in one sentence with its paper's name: a convolutional speech codec to copy.

    Audio [B, 1, T] at 16 kHz ↔ codes [B, K, N], K from 1 to 4, at 100 frames a second: 3.2 kbit/s.

        codec = load_codec("template_16k", weights="random")
        audio = codec.decode(codec.encode("talk.wav"))
    """

    Config = TemplateConfig
    config: TemplateConfig
    hop_length: int

    def __init__(self, config: TemplateConfig, variant: Variant) -> None:
        super().__init__(config, variant)
        self.sample_rate = config.sample_rate
        self.hop_length = math.prod(config.strides)
        self.codebook_sizes = (config.codebook_size,) * config.num_codebooks
        self.codebook_choices = tuple(range(1, config.num_codebooks + 1))
        self.latent_dim = self.vector_dim = config.dim
        self.encoder = Encoder(config)
        self.quantizer = ResidualVQ(config.num_codebooks, config.codebook_size, config.dim)
        self.decoder = Decoder(config)
        first, last = receptive_span(convolutions_of(self.encoder), 0, 0)
        self.encode_context = Context(-first, max(last - self.hop_length + 1, 0))  # samples beside a frame's own
        first, last = receptive_span(convolutions_of(self.decoder), 0, self.hop_length - 1)
        self.decode_context = Context(-first, last)  # frames beside the one in whose place the samples stand

    def _latents(self, waveform: Tensor, lengths: Tensor) -> Frames:
        frames = -(-lengths // self.hop_length)
        waveform = F.pad(waveform, (0, -waveform.shape[-1] % self.hop_length))
        return Frames(self.encoder(waveform, dense_or_none(frames * self.hop_length, waveform.shape[-1])), frames)

    def _synthesize(self, frames: Frames, num_samples: Tensor) -> Decoded:
        vectors, lengths, _ = frames
        waveform = self.decoder(vectors, dense_or_none(lengths, vectors.shape[-1]))
        return Decoded(waveform, lengths * self.hop_length)


# -- key map: our names → the published ones ----------------------------------------------------------

TemplateCodec.key_maps = (
    KeyMap(
        "template",
        (
            Rule(r"(encoder|decoder)\.first\.(\w+)", r"\1.conv_in.\2"),
            Rule(r"(encoder|decoder)\.last\.(\w+)", r"\1.conv_out.\2"),
            Rule(r"(encoder|decoder)\.(?:downs|ups)\.(\d+)\.(\w+)", r"\1.blocks.\2.\3"),
            codebook_rule(r"quantizer\.codebooks", "quantizer.{}.embed", 4),
        ),
        unused=(r"quantizer\.\d+\.cluster_size", r"discriminator\..+"),  # of training
    ),
)
