"""FunCodec: 32 codebooks at 50 or 25 frames a second, from samples or from spectra.

Paper: "FunCodec: A Fundamental, Reproducible and Integrable Open-source Toolkit for Neural Speech Codec" (arXiv
2309.07405). Upstream: modelscope/FunCodec.

A clip is divided by its RMS, which is a side value of the codes (`codes.side["scale"]`, [B, 1]) and is multiplied on
again at the end. The integers alone do not carry the loudness: a bare tensor of codes is decoded with a scale of 1, and
a warning says so once.

Time models ("nq32"): EnCodec's SEANet without causality, with a group norm after each convolution. Frequency models
("gr1", "gr8"): log magnitudes and phases of an STFT through 2-D convolutions. These give 2N - 1 STFT hops for N frames,
up to 320 samples fewer than the clip had; those samples are zeros. Clips too short to be mirrored at their ends, which
upstream refuses, are lengthened by zeros (`nn.padding.pad`).

How sure the numbers are: those of the time models are published; those of the frequency models were found from the
parameter and operation counts of their model cards. A checkpoint of another shape is refused by name of its tensors.

Long clips. Every norm sees the whole clip, so windows cannot be exact. Up to `WHOLE_SECONDS` (or what
`max_seconds_per_pass` says, but no less than `LEAST_SECONDS`) a clip is one pass; beyond that it runs in windows of that
length, `OVERLAP_SECONDS` of which each shares with the next, with statistics of their own. The scale is always that of
the whole clip.
"""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from codeczoo.base.codec import BaseCodec, Decoded, Encoded, dense_or_none
from codeczoo.base.keymap import KeyMap, Rule
from codeczoo.base.ragged import pad_stack
from codeczoo.base.variant import Variant
from codeczoo.nn.conv import Length
from codeczoo.nn.rvq import ResidualVQ, at_least_float32
from codeczoo.nn.seanet import SEANetDecoder, SEANetEncoder, seanet_rules
from codeczoo.nn.seanet2d import SEANetDecoder2d, SEANetEncoder2d
from codeczoo.nn.stft import istft, stft
from codeczoo.nn.windows import join, window_starts

log = logging.getLogger(__name__)

WHOLE_SECONDS = 120.0  # the longest clip in one pass unless max_seconds_per_pass says otherwise
LEAST_SECONDS = 8.0  # no window is shorter
OVERLAP_SECONDS = 4.0  # of neighbouring windows
FADE_SECONDS = 0.4  # of those, over which one window's audio gives way to the next one's
SCALE_FLOOR = 1e-8  # added to the RMS, so that silence can be divided by it
MAGNITUDE_FLOOR = 1e-6  # of a spectrum


@dataclass(frozen=True)
class FunCodecConfig:
    """The network's numbers. With `n_fft` it is a frequency model."""

    sample_rate: int = 16000  # Hz
    filters: int = 32  # width of the first convolution
    strides: Sequence[int] = (2, 4, 5, 8)  # of the encoder, over time
    dim: int = 128
    num_codebooks: int = 32
    codebook_size: int = 1024
    n_fft: int | None = None  # points of the STFT
    stft_hop: int = 160  # samples
    frequency_strides: Sequence[int] = (4, 4, 4, 4)  # of the encoder
    residual_units: int = 1  # a stage
    group_ratio: int | None = None  # see `nn.seanet2d`
    transposed_group_ratio: int | None = None


class SpectralEncoder(SEANetEncoder2d):
    """Waveform [B, 1, T] → latents [B, dim, N], N = ceil((T // stft_hop + 1) / 2)."""

    def __init__(self, config: FunCodecConfig, n_fft: int) -> None:
        strides = list(zip(config.frequency_strides, config.strides, strict=True))
        super().__init__(
            3,
            config.dim,
            config.filters,
            strides,
            residual_units=config.residual_units,
            group_ratio=config.group_ratio,
        )
        self.n_fft, self.stft_hop = n_fft, config.stft_hop

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        spectrum = stft(at_least_float32(x[:, 0]), self.n_fft, self.stft_hop, lengths)
        magnitude = spectrum.abs().clamp_(min=MAGNITUDE_FLOOR)
        features = torch.stack([magnitude.log(), spectrum.real / magnitude, spectrum.imag / magnitude], dim=1)
        return super().forward(features.to(x.dtype), None if lengths is None else lengths // self.stft_hop + 1)

    def out_length(self, length: Length) -> Length:
        """Frames that `length` columns of the STFT give."""
        return super().out_length(length)


class SpectralDecoder(SEANetDecoder2d):
    """Latents [B, dim, N] → waveform [B, 1, (2 N - 1) * stft_hop]."""

    def __init__(self, config: FunCodecConfig, n_fft: int) -> None:
        strides = list(zip(config.frequency_strides, config.strides, strict=True))[::-1]
        super().__init__(
            3,
            config.dim,
            config.filters,
            strides,
            residual_units=config.residual_units,
            group_ratio=config.group_ratio,
            transposed_group_ratio=config.transposed_group_ratio,
        )
        self.n_fft, self.stft_hop = n_fft, config.stft_hop

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        y, columns = super().forward(x, lengths)
        magnitude, real, imag = at_least_float32(y).unbind(1)
        magnitude = F.softplus(magnitude)
        # (real, imag) is the phase, not brought to length 1.
        spectrum = torch.complex(real * magnitude, imag * magnitude)
        waveform = istft(spectrum, self.n_fft, self.stft_hop, columns).to(x.dtype)[:, None]
        return waveform, None if columns is None else (columns - 1) * self.stft_hop


class FunCodec(BaseCodec):
    """Codes [B, K, N] at 50 or 25 frames a second, K from 1 to 32, and a scale [B, 1] beside them."""

    Config = FunCodecConfig
    config: FunCodecConfig
    hop_length: int
    inexact_passes = ("encode", "decode")

    def __init__(self, config: FunCodecConfig, variant: Variant) -> None:
        super().__init__(config, variant)
        self.sample_rate = config.sample_rate
        self.hop_length = math.prod(config.strides) * (config.stft_hop if config.n_fft else 1)
        self.codebook_sizes = (config.codebook_size,) * config.num_codebooks
        self.codebook_choices = tuple(range(1, config.num_codebooks + 1))

        dim, filters, strides = config.dim, config.filters, tuple(config.strides)
        self.encoder: SEANetEncoder | SpectralEncoder
        self.decoder: SEANetDecoder | SpectralDecoder
        if config.n_fft:
            self.encoder, self.decoder = SpectralEncoder(config, config.n_fft), SpectralDecoder(config, config.n_fft)
        else:
            self.encoder = SEANetEncoder(1, dim, filters, strides, causal=False, norm=True)
            self.decoder = SEANetDecoder(1, dim, filters, strides[::-1], causal=False, norm=True)
        self.quantizer = ResidualVQ(config.num_codebooks, config.codebook_size, dim)
