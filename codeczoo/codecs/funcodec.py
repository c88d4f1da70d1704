"""FunCodec: 32 codebooks at 50 or 25 frames a second, from samples or from spectra.

Paper: "FunCodec: A Fundamental, Reproducible and Integrable Open-source Toolkit for Neural Speech Codec" (arXiv
2309.07405). Upstream: modelscope/FunCodec.

A clip is divided by its RMS, a side value of the codes (`codes.side_info["scale"]`, [B, 1]), which is multiplied on
again at the end. The integers alone do not carry the loudness: a bare tensor of codes is decoded with a scale of 1, and
a warning says so once.

Time models ("nq32"): EnCodec's SEANet without causality, with a group norm after each convolution. Frequency models
("gr1", "gr8"): log magnitudes and phases of an STFT through 2-D convolutions. These give 2N - 1 STFT hops for N frames,
up to 320 samples fewer than the clip had; those samples are zeros. Clips too short to be mirrored at their ends, which
upstream refuses, are lengthened by zeros (`nn.padding.pad`).

How sure the numbers are: those of the time models are published; those of the frequency models were found from the
parameter and operation counts of their model cards. So the `config.yaml` beside a checkpoint has the last word: where
it differs the network is built as it says, and a warning tells (`funcodec_config`).

Long clips. Every norm sees the whole clip, so passes cannot be exact. Up to `WHOLE_SECONDS` (or what
`max_chunk_seconds` says, but no less than `LEAST_SECONDS`) a clip is one pass; beyond that it runs in windows of
that length, which overlap by `OVERLAP_SECONDS` and have norms of their own. The scale is always the whole clip's.
"""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from codeczoo.base.catalogue import Variant
from codeczoo.base.codec import BaseCodec
from codeczoo.base.key_map import KeyMap, Rule
from codeczoo.base.memory import release_memory_between
from codeczoo.base.network import Decoded, Encoded
from codeczoo.base.ragged import dense_or_none, pad_stack
from codeczoo.codecs.formats.funcodec_yaml import FunCodecConfig, differences, read_config
from codeczoo.nn.overlap_add import join, window_starts
from codeczoo.nn.rvq import ResidualVQ, at_least_float32
from codeczoo.nn.seanet import SEANetDecoder, SEANetEncoder, seanet_rules
from codeczoo.nn.seanet2d import SEANetDecoder2d, SEANetEncoder2d
from codeczoo.nn.stft import istft, stft

log = logging.getLogger(__name__)

WHOLE_SECONDS = 120.0  # the longest clip in one pass unless max_chunk_seconds says otherwise
LEAST_SECONDS = 8.0  # no window is shorter
OVERLAP_SECONDS = 4.0  # of neighbouring windows
FADE_SECONDS = 0.4  # of those, over which one window's audio gives way to the next one's
PIECE = 1 << 20  # samples whose energy is summed in one go
SCALE_FLOOR = 1e-8  # added to the RMS, so that silence can be divided by it
MAGNITUDE_FLOOR = 1e-6  # of a spectrum


class SpectralEncoder(SEANetEncoder2d):
    """Waveform [B, 1, T] → latents [B, dim, N], N = ceil((T // stft_hop + 1) / 2).

    The waveform may be of a finer type than the weights: in bins that are almost empty, rounding decides on the phase.
    """

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
        spectrum = stft(x[:, 0], self.n_fft, self.stft_hop, lengths)
        magnitude = spectrum.abs().clamp_(min=MAGNITUDE_FLOOR)
        features = torch.stack([magnitude.log(), spectrum.real / magnitude, spectrum.imag / magnitude], dim=1)
        columns = None if lengths is None else lengths // self.stft_hop + 1
        return super().forward(features.to(next(self.parameters()).dtype), columns)


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
    approximate_when_long = ("encode", "decode")
    settings_files = ("config.yaml",)

    def __init__(self, config: FunCodecConfig, variant: Variant) -> None:
        super().__init__(config, variant)
        self._build(config)

    def _build(self, config: FunCodecConfig) -> None:
        self.config = config
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

    # -- encode ---------------------------------------------------------------------------------

    def _encode(self, waveform: Tensor, lengths: Tensor, num_codebooks: int) -> Encoded:
        level = rms(waveform, lengths)
        scale = level.to(torch.promote_types(self.dtype, torch.float32))
        window = self._frames_per_window()
        if waveform.shape[-1] // self.hop_length <= window:
            latent, _ = self.encoder(self._at_level(waveform, level), dense_or_none(lengths, waveform.shape[-1]))
        else:
            items = zip(waveform, level[:, None], lengths.tolist(), strict=True)
            latent, _ = pad_stack([self._encode_in_windows(item[None, :, :n], own)[0] for item, own, n in items])
        codes = [self.quantizer.encode(part, num_codebooks) for part in latent.split(window, dim=-1)]
        steps = lengths // self.config.stft_hop + 1 if self.config.n_fft else lengths
        return Encoded(torch.cat(codes, dim=-1), self.encoder.out_length(steps), {"scale": scale})

    def _encode_long(self, waveform: Tensor, lengths: Tensor, num_codebooks: int, samples: int) -> Encoded:
        return self._encode(waveform, lengths, num_codebooks)

    def _at_level(self, waveform: Tensor, level: Tensor) -> Tensor:
        """[B, 1, T] of RMS `level` [B, 1] → at an RMS of 1. What looks at spectra looks at them in float64."""
        scaled = waveform.to(level.dtype) / level[..., None]
        return scaled if self.config.n_fft else scaled.to(self.dtype)

    def _encode_in_windows(self, waveform: Tensor, level: Tensor) -> Tensor:
        """One clip [1, 1, T] of RMS `level` [1, 1] → latents [1, dim, N].

        All windows end on the same part of a hop, because in a frequency model the number of STFT columns, odd or even,
        decides on which of them the frames lie.
        """
        hop, window = self.hop_length, self._frames_per_window()
        whole, rest = divmod(waveform.shape[-1], hop)
        starts = window_starts(whole, window, self._frames_in(OVERLAP_SECONDS))
        windows = (
            waveform[..., start * hop : (start + window) * hop + rest] for start in release_memory_between(starts)
        )
        pieces = (self.encoder(self._at_level(part, level))[0] for part in windows)
        return join(pieces, starts)

    # -- decode ---------------------------------------------------------------------------------

    def _decode(self, codes: Tensor, lengths: Tensor, side_info: Mapping[str, Tensor], num_samples: Tensor) -> Decoded:
        if codes.shape[-1] <= self._frames_per_window():
            waveform, _ = self.decoder(self.quantizer.decode(codes), dense_or_none(lengths, codes.shape[-1]))
        else:
            items = zip(codes, lengths.tolist(), strict=True)
            waveform, _ = pad_stack([self._decode_in_windows(item[None, :, :n])[0] for item, n in items])
        if "scale" in side_info:
            waveform.mul_(side_info["scale"][..., None].to(waveform.dtype))
        else:
            _say_scale_is_missing(self.name)
        steps = self.decoder.out_length(lengths)
        return Decoded(waveform, (steps - 1) * self.config.stft_hop if self.config.n_fft else steps)

    def _decode_long(
        self, codes: Tensor, lengths: Tensor, side_info: Mapping[str, Tensor], num_samples: Tensor, frames: int
    ) -> Decoded:
        return self._decode(codes, lengths, side_info, num_samples)

    def _decode_in_windows(self, codes: Tensor) -> Tensor:
        """One clip [1, K, N] → [1, 1, T] of RMS 1."""
        window = self._frames_per_window()
        starts = window_starts(codes.shape[-1], window, self._frames_in(OVERLAP_SECONDS))
        windows = (codes[..., start : start + window] for start in release_memory_between(starts))
        pieces = (self.decoder(self.quantizer.decode(part))[0] for part in windows)
        return join(pieces, [start * self.hop_length for start in starts], round(FADE_SECONDS * self.sample_rate))

    def _frames_per_window(self) -> int:
        return self._frames_in(max(self.max_chunk_seconds or WHOLE_SECONDS, LEAST_SECONDS))

    def _frames_in(self, seconds: float) -> int:
        return int(seconds * self.sample_rate / self.hop_length)

    # -- weights --------------------------------------------------------------------------------

    def configure(self, metadata: Mapping[str, Any]) -> None:
        """The network that the `config.yaml` beside a checkpoint describes. Those of the frequency models were never
        seen by us.

        Raises:
            ValueError: a network that FunCodec's published models are not.
        """
        if "config" not in metadata:
            return
        published = read_config(metadata["config"])
        differ = differences(published, self.config)
        if differ:
            log.warning("%s is built as its config.yaml says: %s", self.name, "; ".join(differ))
            device, dtype = self.device, self.dtype
            self._build(published)
            self.to(device, dtype)

    def check_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Raises ValueError if the codebooks were never filled: upstream would then fill them from what it is given."""
        if not bool(tensors.get("quantizer.rq.model.inited", torch.ones(())).all()):
            raise ValueError("its codebooks were never trained (quantizer.rq.model.inited is 0)")


def rms(waveform: Tensor, lengths: Tensor) -> Tensor:
    """[B, 1, T], zeros behind each item's length → [B, 1], and a floor; in float64 where the device has it."""
    dtype = waveform.dtype if waveform.device.type == "mps" else torch.float64
    parts = waveform[:, 0].split(PIECE, dim=-1)
    energy = torch.stack([part.to(dtype).square().sum(-1, keepdim=True) for part in parts]).sum(0)
    return (energy / lengths[:, None]).sqrt() + SCALE_FLOOR


@functools.cache
def _say_scale_is_missing(name: str) -> None:
    log.warning("%s: these codes come without a scale, so they are decoded at a loudness of RMS 1 (scale 1)", name)


# -- key map ------------------------------------------------------------------------------------------


def _key_map(name: str, transposed: Sequence[int]) -> KeyMap:
    """`transposed`: the indices of the decoder's transposed convs."""
    return KeyMap(
        name,
        (
            *seanet_rules("encoder", "encoder.model"),
            *seanet_rules("decoder", "decoder.model", transposed),
            Rule(r"quantizer\.codebooks", "quantizer.rq.model.embed"),
        ),
        unused=(
            r"quantizer\.rq\.model\.(inited|cluster_size|embed_avg)",
            r"(enc|dec)_trans_func\.window",  # the STFT's
            r"(discriminator|mel_spec_transforms)\..+",  # of training
        ),
    )


FunCodec.key_maps = (
    _key_map("funcodec, four stages", (3, 6, 9, 12)),
    _key_map("funcodec, five stages", (3, 6, 9, 12, 15)),
    _key_map("funcodec, three residual units a stage", (3, 8, 13, 18)),
)
