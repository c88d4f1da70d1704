"""AUV and LLM-Codec: one codebook of 20480 for speech, voices, music and sound, between two conformers.

Papers: "AUV: Teaching Audio Universal Vector Quantization with Single Nested Codebook" (arXiv 2509.21968) and
"LLM-Codec: Neural Audio Codec Meets Language Model Objectives" (arXiv 2604.17852), which is the same network with
other weights. Upstream: SWivid/AUV and voidful/llm-codec.

    encoder: STFT; log magnitude and phase of each bin; linear; conformer of 8 layers
    decoder: conformer of 12 layers; linear; log magnitude and phase; inverse STFT

The codebook is nested: in training each kind of sound used certain rows (`ROWS_BY_WAV_TYPE`). Upstream's public encoder
searches all rows, and so does this one, unless `codec.wav_type` names the kind.

Attention sees the whole clip, so AUV does not stream. N = floor(T / 320): samples behind the last whole frame are lost,
as upstream, and come back as zeros. A clip shorter than a frame is filled up to one, where upstream refuses it.

Phase is a delicate feature: it jumps by 2π on the negative real axis and is rounding noise where there is no energy. So
a frame here and there has another code in float32 than in float64, upstream too.

Clips up to `min_chunk_seconds` go through the network whole. Longer ones go in chunks with `CONTEXT_SECONDS` to each
side, which is not exact: attention would see more.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from codeczoo.base import BaseCodec, Decoded, Encoded, Frames, KeyMap, Rule, Variant, contexts_of, dense_or_none
from codeczoo.base.exporting import exporting
from codeczoo.nn import dft
from codeczoo.nn.conformer import Conformer, conformer_rules
from codeczoo.nn.factorized_vq import FactorizedVQ
from codeczoo.nn.istft import ISTFTHead
from codeczoo.nn.padding import pad
from codeczoo.nn.sequential import Linear

ROWS_BY_WAV_TYPE = {  # of the codebook of 20480: first row and the row after the last, by upstream's wav_type
    "speech": (0, 8192),
    "vocal": (0, 12288),
    "music": (0, 20480),
    "audio": (0, 20480),
    "other": (12288, 20480),
}
CONTEXT_SECONDS = 5.0  # to each side of a chunk of a long clip


@dataclass(frozen=True)
class AUVConfig:
    """The network's numbers."""

    sample_rate: int = 16000  # Hz
    hop_length: int = 320
    n_fft: int = 1280
    dim: int = 512
    num_heads: int = 8
    hidden_dim: int = 2048
    encoder_layers: int = 8
    decoder_layers: int = 12
    codebook_size: int = 20480
    codebook_dim: int = 8


class STFTHead(nn.Module):
    """Waveform [B, T] → [B, N, dim]: log magnitudes and phases of N = T // hop_length frames, and a linear layer."""

    def __init__(self, dim: int, n_fft: int, hop_length: int) -> None:
        super().__init__()
        self.n_fft, self.hop_length = n_fft, hop_length
        self.inp = Linear(n_fft + 2, dim)

    def forward(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        side = (self.n_fft - self.hop_length) // 2
        padded = pad(waveform[:, None], lengths, side, side, "reflect")[:, 0]
        window = torch.hann_window(self.n_fft, dtype=padded.dtype, device=padded.device)
        if exporting():
            frames = dft.framed(padded, self.n_fft, self.hop_length)
            real, imag = (part.mT for part in dft.spectra(frames * window, self.n_fft))
            level, phase = (real.square() + imag.square()).sqrt(), dft.phase(real, imag)
            return self.inp(torch.cat([(level + 1e-5).log(), phase], dim=1).mT)
        spectrum = torch.stft(padded, self.n_fft, self.hop_length, window=window, center=False, return_complex=True)
        # A real signal has real first and last bins. CUDA may leave -0 there, whose phase differs from that of 0.
        spectrum.imag[:, 0] = spectrum.imag[:, -1] = 0
        features = torch.cat([(spectrum.abs() + 1e-5).log(), spectrum.angle()], dim=1)  # [B, n_fft + 2, N]
        return self.inp(features.mT)


class AUV(BaseCodec):
    """AUV and LLM-Codec (2025, 2026): one codebook of 20480 for speech, voices, music and sound, between two
    conformers.

    Audio [B, 1, T] at 16 kHz ↔ codes [B, 1, N] at 50 a second: 716 bit/s.

        codec = load_codec("auv")
        audio = codec.decode(codec.encode("song.wav"))

    Attributes:
        wav_type: the kind of sound that `encode` expects ("speech", "vocal", "music", "audio", "other"), or None.
    """

    _wav_type: str | None = None

    Config = AUVConfig
    config: AUVConfig
    hop_length: int
    approximate_when_long = ("encode", "decode")
    min_chunk_seconds = 80.0  # what upstream's table of positions covers

    def __init__(self, config: AUVConfig, variant: Variant) -> None:
        super().__init__(config, variant)
        self.sample_rate, self.hop_length = config.sample_rate, config.hop_length
        self.codebook_sizes = (config.codebook_size,)
        self.codebook_choices = (1,)
        self.encode_context, self.decode_context = contexts_of(CONTEXT_SECONDS, config.sample_rate, config.hop_length)
        dim, sizes = config.dim, (config.num_heads, config.hidden_dim)
        self.latent_dim = self.vector_dim = dim
        self.stft_head = STFTHead(dim, config.n_fft, config.hop_length)
        self.encoder = Conformer(dim, config.encoder_layers, *sizes)
        self.quantizer = FactorizedVQ(dim, config.codebook_size, config.codebook_dim)
        self.decoder = Conformer(dim, config.decoder_layers, *sizes)
        self.istft_head = ISTFTHead(dim, config.n_fft, config.hop_length)

    @property
    def wav_type(self) -> str | None:
        """The kind of sound whose rows of the codebook `encode` searches, a key of `ROWS_BY_WAV_TYPE`; None = all."""
        return self._wav_type

    @wav_type.setter
    def wav_type(self, kind: str | None) -> None:
        if kind is not None and kind not in ROWS_BY_WAV_TYPE:
            raise ValueError(
                f"{self.name} has the wav_types {', '.join(ROWS_BY_WAV_TYPE)}, and None for all; it was given {kind!r}"
            )
        self._wav_type = kind

    def _latents(self, waveform: Tensor, lengths: Tensor) -> Frames:
        short = max(self.hop_length - waveform.shape[-1], 0)
        waveform = nn.functional.pad(waveform[:, 0], (0, short))
        lengths = lengths.clamp(min=self.hop_length)
        x = self.stft_head(waveform, dense_or_none(lengths, waveform.shape[-1]))
        frames = lengths // self.hop_length
        return Frames(self.encoder(x, dense_or_none(frames, x.shape[1])).mT, frames)

    def _quantize(self, frames: Frames, num_codebooks: int) -> Encoded:
        return Encoded(self.quantizer.encode(frames.values, *self._rows())[:, None], frames.lengths)

    def _straight_through(self, frames: Frames, num_codebooks: int) -> Frames:
        first, end = self._rows()
        return Frames(self.quantizer.straight_through(frames.values, first=first, end=end), frames.lengths)

    def _rows(self) -> tuple[int, int | None]:
        """The rows of the codebook that are searched."""
        return (0, None) if self.wav_type is None else ROWS_BY_WAV_TYPE[self.wav_type]

    def _synthesize(self, frames: Frames, num_samples: Tensor) -> Decoded:
        vectors, lengths, _ = frames
        own = dense_or_none(lengths, vectors.shape[-1])
        x = self.decoder(vectors.mT, own)
        return Decoded(self.istft_head(x, own)[:, None], lengths * self.hop_length)


# -- key map ------------------------------------------------------------------------------------------

VQ = "tokenizer.vq.quantizers.0."

AUV.key_maps = (
    KeyMap(
        "auv",
        (
            *conformer_rules("encoder", "tokenizer.conformer"),
            *conformer_rules("decoder", "token2wav.conformer"),
            Rule(r"stft_head\.inp\.(\w+)", r"tokenizer.stft_head.inp.\1"),
            Rule(r"istft_head\.out\.(\w+)", r"token2wav.istft_head.out.\1"),
            Rule(r"quantizer\.codebook", VQ + "_codebook.weight"),
            Rule(r"quantizer\.(\w+_proj)\.(\w+)", rf"{VQ}\1.\2"),
        ),
        unused=(r".+\.(stft|istft)\.window", r".+\.num_batches_tracked"),
    ),
)
