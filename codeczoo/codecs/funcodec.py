"""FunCodec: 32 codebooks at 50 or 25 frames a second, from samples or from spectra.

Paper: "FunCodec: A Fundamental, Reproducible and Integrable Open-source Toolkit for Neural Speech Codec" (arXiv
2309.07405). Upstream: modelscope/FunCodec.

A clip is divided by its RMS before it is coded and multiplied by it after it is decoded. The RMS is side information of
the codes (`codes.side_info["scale"]`, [B, 1]). The integers alone do not carry the loudness: a bare tensor of codes is
decoded with a scale of 1, and a warning says so once.

Time models ("nq32"): EnCodec's SEANet without causality, with a group norm after each convolution. Frequency models
("gr1", "gr8"): log magnitudes and phases of an STFT through 2-D convolutions. They give 2N - 1 STFT hops for N frames,
up to 320 samples fewer than the clip had; those samples are zeros. Clips too short to be mirrored at their ends, which
upstream refuses, are lengthened by zeros (`nn.padding.pad`).

The numbers of the time models are published. Those of the frequency models were found from the parameter and operation
counts of their model cards. So the `config.yaml` beside a checkpoint has the last word: where it differs, the network
is built as the file says, with a warning (formats/funcodec_yaml.py).

Long clips. Every norm sees the whole clip, so no cut is exact. A clip of up to `DEFAULT_WINDOW_SECONDS` goes through
the network whole (`max_chunk_seconds` changes that number, down to `MIN_WINDOW_SECONDS`). A longer one runs in windows
of that length, which overlap by `WINDOW_OVERLAP_SECONDS`; each window has its own norms. The scale is always the whole
clip's.
"""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
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
    pad_stack,
    release_memory_between,
)
from codeczoo.base.exporting import exporting
from codeczoo.codecs.formats.funcodec_yaml import FunCodecConfig, differences, read_config
from codeczoo.nn.overlap_add import copied, join, window_starts
from codeczoo.nn.rvq import ResidualVQ, at_least_float32
from codeczoo.nn.seanet import SEANetDecoder, SEANetEncoder, seanet_rules
from codeczoo.nn.seanet2d import SEANetDecoder2d, SEANetEncoder2d
from codeczoo.nn.stft import istft, stft

log = logging.getLogger(__name__)

DEFAULT_WINDOW_SECONDS = 120.0  # unless max_chunk_seconds is set; clips up to this length are not cut
MIN_WINDOW_SECONDS = 8.0
WINDOW_OVERLAP_SECONDS = 4.0  # of neighbouring windows
WINDOW_FADE_SECONDS = 0.4  # of the overlap, over which one window's audio fades into the next one's
RMS_BLOCK_SAMPLES = 1 << 20  # whose energy is summed at once
SCALE_FLOOR = 1e-8  # added to the RMS, so that silence can be divided by it
MAGNITUDE_FLOOR = 1e-6  # of a spectrum


class SpectralEncoder(SEANetEncoder2d):
    """Waveform [B, 1, T] → latents [B, dim, N], N = ceil((T // stft_hop + 1) / 2).

    The waveform may have a finer dtype than the weights: in bins that are almost empty, rounding decides on the phase.
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
    """FunCodec (Alibaba, 2023): speech codecs of 32 residual codebooks, from samples or from spectra.

    Speech [B, 1, T] at 16 kHz ↔ codes [B, K, N] at 50 or 25 frames a second, K from 1 to 32 (up to 16 kbit/s), and the
    side information `scale` [B, 1], the clip's RMS.

        codec = load_codec("funcodec")
        audio = codec.decode(codec.encode("talk.wav", num_codebooks=8))
    """

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
        self.latent_dim = self.vector_dim = dim
        self.encoder: SEANetEncoder | SpectralEncoder
        self.decoder: SEANetDecoder | SpectralDecoder
        if config.n_fft:
            self.encoder, self.decoder = SpectralEncoder(config, config.n_fft), SpectralDecoder(config, config.n_fft)
        else:
            self.encoder = SEANetEncoder(1, dim, filters, strides, causal=False, norm=True)
            self.decoder = SEANetDecoder(1, dim, filters, strides[::-1], causal=False, norm=True)
        self.quantizer = ResidualVQ(config.num_codebooks, config.codebook_size, dim)

    # -- encode ---------------------------------------------------------------------------------

    def _latents(self, waveform: Tensor, lengths: Tensor) -> Frames:
        level = rms(waveform, lengths)
        scale = level.to(torch.promote_types(self.dtype, torch.float32))
        if exporting() or waveform.shape[-1] // self.hop_length <= self._frames_per_window():
            latent, _ = self.encoder(self._at_level(waveform, level), dense_or_none(lengths, waveform.shape[-1]))
        else:
            items = zip(waveform, level[:, None], lengths.tolist(), strict=True)
            latent, _ = pad_stack([self._encode_in_windows(item[None, :, :n], own)[0] for item, own, n in items])
        steps = lengths // self.config.stft_hop + 1 if self.config.n_fft else lengths
        return Frames(latent, self.encoder.out_length(steps), {"scale": scale})

    def _latents_long(self, waveform: Tensor, lengths: Tensor, samples: int) -> Iterator[Frames]:
        frames = self._latents(waveform, lengths)
        for chunk in frames.values.split(self._frames_per_window(), dim=-1):
            yield Frames(chunk, lengths.new_tensor([chunk.shape[-1]]), frames.side_info)

    def _at_level(self, waveform: Tensor, level: Tensor) -> Tensor:
        """[B, 1, T] of RMS `level` [B, 1] → at an RMS of 1; in float64 for the frequency models."""
        scaled = waveform.to(level.dtype) / level[..., None]
        return scaled if self.config.n_fft else scaled.to(self.dtype)

    def _encode_in_windows(self, waveform: Tensor, level: Tensor) -> Tensor:
        """One clip [1, 1, T] of RMS `level` [1, 1] → latents [1, dim, N].

        All windows have the same length modulo the hop. In a frequency model the number of STFT columns, odd or even,
        decides on which columns the frames lie.
        """
        hop, window = self.hop_length, self._frames_per_window()
        whole, rest = divmod(waveform.shape[-1], hop)
        starts = window_starts(whole, window, self._frames_in(WINDOW_OVERLAP_SECONDS))
        windows = (
            waveform[..., start * hop : (start + window) * hop + rest] for start in release_memory_between(starts)
        )
        latents = (self.encoder(self._at_level(window, level))[0] for window in windows)
        return join(latents, starts)

    # -- decode ---------------------------------------------------------------------------------

    def _synthesize(self, frames: Frames, num_samples: Tensor) -> Decoded:
        vectors, lengths, side_info = frames
        if exporting() or vectors.shape[-1] <= self._frames_per_window():
            waveform, _ = self.decoder(vectors, dense_or_none(lengths, vectors.shape[-1]))
        else:
            items = [
                self._in_windows(functools.partial(copied, row), n)[0]
                for row, n in zip(vectors, lengths.tolist(), strict=True)
            ]
            waveform, _ = pad_stack(items)
        return self._at_scale(waveform, lengths, side_info)

    def _at_scale(self, waveform: Tensor, lengths: Tensor, side_info: Mapping[str, Tensor]) -> Decoded:
        if "scale" in side_info:
            waveform = waveform.mul_(side_info["scale"][..., None].to(waveform.dtype))
        else:
            _say_scale_is_missing(self.name)
        steps = self.decoder.out_length(lengths)
        return Decoded(waveform, (steps - 1) * self.config.stft_hop if self.config.n_fft else steps)

    def _synthesize_long(self, source: FrameSource, lengths: Tensor, num_samples: Tensor, frames: int) -> Decoded:
        waveform = self._in_windows(lambda first, last: source(first, last).values, int(lengths[0]))
        return self._at_scale(waveform, lengths, source(0, 1).side_info)

    def _in_windows(self, source: Callable[[int, int], Tensor], total: int) -> Tensor:
        """The frames [1, dim, total] of one clip → [1, 1, T] of RMS 1; at once if one window holds them."""
        window = self._frames_per_window()
        starts = window_starts(total, window, self._frames_in(WINDOW_OVERLAP_SECONDS))
        windows = (source(start, min(start + window, total)) for start in release_memory_between(starts))
        audio = (self.decoder(window)[0] for window in windows)
        return join(audio, [start * self.hop_length for start in starts], round(WINDOW_FADE_SECONDS * self.sample_rate))

    def _frames_per_window(self) -> int:
        return self._frames_in(max(self.max_chunk_seconds or DEFAULT_WINDOW_SECONDS, MIN_WINDOW_SECONDS))

    def _frames_in(self, seconds: float) -> int:
        return int(seconds * self.sample_rate / self.hop_length)

    # -- weights --------------------------------------------------------------------------------

    def configure(self, metadata: Mapping[str, Any]) -> None:
        """Build the network that the `config.yaml` beside a checkpoint describes, if it is not this one.

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
        """Raises ValueError if the codebooks were never filled: upstream would fill them from the audio it is given."""
        if not bool(tensors.get("quantizer.rq.model.inited", torch.ones(())).all()):
            raise ValueError("its codebooks were never trained (quantizer.rq.model.inited is 0)")


def rms(waveform: Tensor, lengths: Tensor) -> Tensor:
    """[B, 1, T], zeros behind each item's length → RMS plus a floor, [B, 1]; in float64 where the device has it."""
    dtype = waveform.dtype if waveform.device.type == "mps" else torch.float64
    blocks = waveform[:, 0].split(RMS_BLOCK_SAMPLES, dim=-1)
    energy = torch.stack([block.to(dtype).square().sum(-1, keepdim=True) for block in blocks]).sum(0)
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
