"""Higgs Audio v2's tokenizer: X-Codec at 24 kHz with 25 frames a second and projected codebooks.

Upstream: boson-ai/higgs-audio (its TOKENIZER_BLOG; there is no paper), the same network in Hugging Face transformers,
and again in OmniVoice; the checkpoints of all load.

    encoder: as X-Codec's; HuBERT hears the clip at 16 kHz and gives every second of its frames; a fifth stride
    quantiser: residual over the joint 1024 dimensions; each level searches in 64, by Euclidean distance
    decoder: as X-Codec's, with a fifth stride

Where the two encoders would give different numbers of frames (T mod 960 from 119 to 631), the acoustic one is given 320
zeros on both sides. Transformers gives it 480 and so makes other codes there; at multiples of 960 samples, to which its
feature extractor fills a clip up, both agree. A clip of less than 119 samples is filled with zeros to 119, the least
that make a frame. Long clips go as X-Codec's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codeczoo.base import Rule, matmul_precision
from codeczoo.base.resampling import resample, resampled_length
from codeczoo.codecs.xcodec import MARGIN, SPEECH_RATE, XCodec, XCodecConfig, key_maps
from codeczoo.nn.conv import Length
from codeczoo.nn.padding import mask_tail
from codeczoo.nn.quantizer import Quantizer, passed_through
from codeczoo.nn.rvq import at_least_float32, nearest
from codeczoo.nn.sequential import Linear


@dataclass(frozen=True)
class HiggsAudioConfig(XCodecConfig):
    """The network's numbers."""

    sample_rate: int = 24000  # Hz
    strides: Sequence[int] = (8, 5, 4, 2, 3)
    codebook_dim: int = 64  # in which each level searches
    codebook_choices: Sequence[int] = (2, 4, 6, 8)


class ProjectedLevel(Quantizer):
    """A codebook [size, codebook_dim] between projections from and to `dim`."""

    def __init__(self, dim: int, size: int, codebook_dim: int) -> None:
        super().__init__()
        self.in_proj, self.out_proj = Linear(dim, codebook_dim), Linear(codebook_dim, dim)
        self.codebook = nn.Parameter(torch.empty(size, codebook_dim))

    def encode(self, x: Tensor) -> Tensor:
        """Vectors [n, dim] in float32 or better → the nearest rows [n]; the first on a tie."""
        return nearest(self._projected(x), self.codebook.to(x.dtype))

    def decode(self, codes: Tensor) -> Tensor:
        """Rows [...] → [..., dim], in float32 or better."""
        return self._widened(F.embedding(codes, at_least_float32(self.codebook)))

    def straight_through(self, latent: Tensor, num_codebooks: int | None = None) -> Tensor:
        """[..., dim] → [..., dim]."""
        projected = self._projected(latent)
        with torch.no_grad(), matmul_precision("exact"):
            codes = nearest(projected.flatten(0, -2), self.codebook.to(latent.dtype)).view(latent.shape[:-1])
            rows = F.embedding(codes, at_least_float32(self.codebook))
        return self._widened(passed_through(rows, projected))

    def tables(self) -> list[Tensor]:
        return [self.codebook]

    def _projected(self, x: Tensor) -> Tensor:
        return F.linear(x, self.in_proj.weight.to(x.dtype), self.in_proj.bias.to(x.dtype))

    def _widened(self, rows: Tensor) -> Tensor:
        return F.linear(rows, at_least_float32(self.out_proj.weight), at_least_float32(self.out_proj.bias))


class ProjectedResidualVQ(Quantizer):
    """`num_codebooks` levels, each of which quantises what the ones before it left over, in all `dim` dimensions."""

    def __init__(self, num_codebooks: int, size: int, dim: int, codebook_dim: int) -> None:
        super().__init__()
        levels = nn.ModuleList(ProjectedLevel(dim, size, codebook_dim) for _ in range(num_codebooks))
        self.levels = cast("Sequence[ProjectedLevel]", levels)

    def encode(self, x: Tensor, num_codebooks: int | None = None) -> Tensor:
        """Latents [B, dim, N] → codes [B, K, N] of the first `num_codebooks` levels (None = all)."""
        batch, dim, frames = x.shape
        residual = at_least_float32(x).mT.reshape(-1, dim)
        codes = []
        with matmul_precision("exact"):
            for level in self.levels[:num_codebooks]:
                codes.append(level.encode(residual))
                residual = residual - level.decode(codes[-1])
        return torch.stack(codes).view(-1, batch, frames).transpose(0, 1)

    def decode(self, codes: Tensor) -> Tensor:
        """Codes [B, K, N] of the first K levels → the sum of what they stand for, [B, dim, N]."""
        levels = self.levels[: codes.shape[1]]
        total = levels[0].decode(codes[:, 0])
        for level, code in zip(levels[1:], codes.unbind(1)[1:], strict=True):
            total += level.decode(code)
        return total.to(self.levels[0].codebook.dtype).mT

    def straight_through(self, latent: Tensor, num_codebooks: int | None = None) -> Tensor:
        first, *others = self.levels[:num_codebooks]
        residual = at_least_float32(latent).mT
        vectors = total = first.straight_through(residual)
        for level in others:
            residual = residual - vectors
            vectors = level.straight_through(residual)
            total = total + vectors
        return total.to(first.codebook.dtype).mT

    def tables(self) -> list[Tensor]:
        return [level.codebook for level in self.levels]


class HiggsAudio(XCodec):
    """The tokenizer of Higgs Audio v2 (Boson AI, 2025): X-Codec's scheme with HuBERT, for speech, music and sound.

    Audio [B, 1, T] at 24 kHz ↔ codes [B, K, N] at 25 frames a second, K 2, 4, 6 or 8.

        codec = load_codec("higgs_audio_v2")
        audio = codec.decode(codec.encode("talk.wav"))
    """

    Config = HiggsAudioConfig
    config: HiggsAudioConfig
    shortest = 119
    margin = 320
    semantic_step = 2

    def make_quantizer(self) -> Quantizer:
        config = self.config
        return ProjectedResidualVQ(config.num_codebooks, config.codebook_size, config.dim, config.codebook_dim)

    def speech_samples(self, samples: Length) -> Length:
        return resampled_length(samples, self.sample_rate, SPEECH_RATE)

    def speech_input(self, waveform: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        # Zeros stand behind each item, as the filter wants them; what it rings on there goes.
        own = None if lengths is None else self.speech_samples(lengths)
        speech = mask_tail(resample(waveform, self.sample_rate, SPEECH_RATE), own)
        return F.pad(speech, (MARGIN, MARGIN)), None if own is None else own + 2 * MARGIN


# -- key maps -----------------------------------------------------------------------------------------


def _quantizer(theirs: str, codebook: str) -> list[Rule]:
    level = r"quantizer\.levels\.(\d+)\."
    return [
        Rule(level + "codebook", rf"{theirs}.\1.{codebook}.embed"),
        Rule(level + r"(in|out)_proj\.(\w+)", rf"{theirs}.\1.project_\2.\3"),
    ]


HiggsAudio.key_maps = key_maps(
    "higgs_audio",
    len(HiggsAudioConfig.strides),
    _quantizer("quantizer.vq.layers", "_codebook"),
    _quantizer("quantizer.quantizers", "codebook"),
)
