"""DualCodec: 8 or 12 codebooks at 12.5 or 25 frames a second, the first of speech features, the others of the waveform.

Paper: "DualCodec: A Low-Frame-Rate, Semantically-Enhanced Neural Audio Codec for Speech Generation" (arXiv 2505.13000).
Upstream: jiaqili3/DualCodec and its package dualcodec.

    semantic: w2v-BERT 2.0 (17 layers) at 16 kHz, normalised, averaged over 2 or 4 vectors; ConvNeXt; codebook; ConvNeXt
    acoustic: DAC's encoder at 24 kHz, less what the semantic codebook stands for; DAC's residual quantiser
    decoder: the sum of both, through DAC's decoder

Followed as published:
  - Frames are counted by the features, which need whole windows and drop the remainder of the average. So a clip of T
    samples has one frame less than ceil(T / hop), sometimes two, and its end of up to two frames is not coded.
  - Two frames of the filter bank make one vector. Where the last lacks its second half it is masked for all others,
    but its own output, made of attention to the others, is averaged like theirs.
  - The decoder gives 4 samples less than N * hop.
Not followed: upstream runs under float16 autocast on a GPU, so that its codes depend on the device, and it fails for
clips of less than one frame (2039 or 1079 samples), which are filled up with zeros here.

Features and attention see the whole clip: `encode` takes a minute in one piece, and longer clips in chunks with 5 s of
context, which is not exact. With the golden weights of the 12.5 Hz model, 84% of the semantic codes and 71% of the
others are the same for 40 s in chunks of 20 s as in one piece; with the published weights it has not been measured.
`decode` is exact in chunks, because its convolutions have a finite receptive field.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codeczoo.base import (
    BaseCodec,
    Context,
    Decoded,
    Encoded,
    Frames,
    KeyMap,
    Rule,
    Variant,
    contexts_of,
    dense_or_none,
    resample,
)
from codeczoo.base.exporting import exporting
from codeczoo.base.long_clips import frames_in_chunks
from codeczoo.codecs.dac import DACConfig, Decoder, Encoder, descript_names
from codeczoo.nn.conv import Conv1d
from codeczoo.nn.convnext import CausalConvNeXtBlock
from codeczoo.nn.factorized_vq import FactorizedVQ, ResidualFactorizedVQ
from codeczoo.nn.fbank import BANDS, FRAME, HOP, frame_count, w2v_bert_features
from codeczoo.nn.receptive_field import convolutions_of, receptive_span
from codeczoo.nn.rvq import at_least_float32
from codeczoo.nn.w2v_bert import W2vBert, w2v_bert_rules

FEATURE_RATE = 16000  # Hz, of what w2v-BERT hears
CONTEXT_SECONDS = 5.0  # to each side of a chunk of a long clip, in `encode`


@dataclass(frozen=True)
class DualCodecConfig:
    """The network's numbers."""

    sample_rate: int = 24000  # Hz
    encoder_rates: Sequence[int] = (4, 5, 6, 8, 2)  # strides
    decoder_rates: Sequence[int] = (2, 8, 6, 5, 4)
    encoder_dim: int = 32  # channels after DAC's first convolution; each stride doubles them
    decoder_dim: int = 1536
    pooling: int = 4  # vectors of w2v-BERT a frame
    num_acoustic: int = 7  # codebooks beside the semantic one
    acoustic_size: int = 4096
    semantic_size: int = 16384
    codebook_dim: int = 8  # of either kind
    semantic_layers: int = 17
    semantic_dim: int = 1024  # of w2v-BERT
    semantic_heads: int = 16
    semantic_hidden: int = 4096
    convnext_dim: int = 768
    convnext_hidden: int = 2048
    convnext_layers: int = 4  # of either side

    @property
    def dac(self) -> DACConfig:
        return DACConfig(
            self.sample_rate,
            self.encoder_rates,
            self.decoder_rates,
            self.num_acoustic,
            encoder_dim=self.encoder_dim,
            decoder_dim=self.decoder_dim,
            codebook_size=self.acoustic_size,
            codebook_dim=self.codebook_dim,
        )


class Normalise(nn.Module):
    """[B, N, C] → [B, N, C], by mean and variance of the training data."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.empty(channels))
        self.var = nn.Parameter(torch.empty(channels))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.var.sqrt()


class ConvNeXtStack(nn.Module):
    """[B, C, N] → [B, C, N]: causal ConvNeXt blocks."""

    def __init__(self, config: DualCodecConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            CausalConvNeXtBlock(config.convnext_dim, config.convnext_hidden, layer_scale=False)
            for _ in range(config.convnext_layers)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x.mT
        for block in self.blocks:
            x = block(x)
        return x.mT.contiguous()


class DualCodec(BaseCodec):
    """DualCodec (2025): a speech codec whose first codebook holds w2v-BERT features, and whose others hold what DAC's
    encoder has beyond them.

    Audio [B, 1, T] at 24 kHz ↔ codes [B, K, N] at 12.5 frames a second (K up to 8, 1.2 kbit/s) or 25 (K up to 12,
    3.1 kbit/s); row 0 is semantic, and any number K of the first rows decodes.

        codec = load_codec("dualcodec_12hz_v1")
        codes = codec.encode("speech.wav", num_codebooks=4)
        audio = codec.decode(codes)
    """

    Config = DualCodecConfig
    config: DualCodecConfig
    hop_length: int
    approximate_when_long = ("encode",)
    min_chunk_seconds = 60.0

    def __init__(self, config: DualCodecConfig, variant: Variant) -> None:
        super().__init__(config, variant)
        self.sample_rate = config.sample_rate
        self.hop_length = math.prod(config.encoder_rates)
        self.codebook_sizes = (config.semantic_size,) + (config.acoustic_size,) * config.num_acoustic
        self.codebook_choices = tuple(range(1, len(self.codebook_sizes) + 1))
        dim, latent = config.semantic_dim, config.dac.latent_channels
        self.latent_dim, self.vector_dim = config.convnext_dim + latent, latent

        self.w2v_bert = W2vBert(
            2 * BANDS, dim, config.semantic_layers, config.semantic_heads, config.semantic_hidden, mask_behind=True
        )
        self.normalise = Normalise(dim)
        self.semantic_in = Conv1d(dim, config.convnext_dim, 1)
        self.semantic_encoder = ConvNeXtStack(config)
        self.semantic_quantizer = FactorizedVQ(config.convnext_dim, config.semantic_size, config.codebook_dim)
        self.semantic_decoder = ConvNeXtStack(config)
        self.semantic_out = Conv1d(config.convnext_dim, latent, 1)
        self.encoder = Encoder(config.dac)
        self.quantizer = ResidualFactorizedVQ(latent, config.num_acoustic, config.acoustic_size, config.codebook_dim)
        self.decoder = Decoder(config.dac)

        # The fewest samples that give one frame: 2 * pooling - 1 frames of the filter bank.
        needed = FRAME + (2 * config.pooling - 2) * HOP
        self.min_samples = (needed - 1) * config.sample_rate // FEATURE_RATE + 1
        self.encode_context, _ = contexts_of(CONTEXT_SECONDS, config.sample_rate, self.hop_length)
        convolutions = convolutions_of(self.semantic_decoder, self.decoder)
        first, last = receptive_span(convolutions, 0, self.hop_length - 1)
        self.decode_context = Context(-first, last)

    # -- encode ---------------------------------------------------------------------------------

    def _latents(self, waveform: Tensor, lengths: Tensor) -> Frames:
        """The semantic latent and DAC's, one upon the other: [B, convnext_dim + latent, N]."""
        waveform, lengths = self._at_least_a_frame(waveform, lengths)
        features, vectors = self.encode_semantic(waveform, lengths)
        semantic = self.semantic_latent(features)
        acoustic = self.acoustic_latent(waveform, lengths)[..., : semantic.shape[-1]]
        return Frames(torch.cat([semantic, acoustic], dim=1), vectors // self.config.pooling)

    def _quantize(self, frames: Frames, num_codebooks: int) -> Encoded:
        semantic, acoustic = frames.values.tensor_split((self.config.convnext_dim,), dim=1)
        codes = self.semantic_quantizer.quantize(semantic)
        if num_codebooks > 1:
            rest = acoustic - self.decode_semantic(codes[:, 0])
            codes = torch.cat([codes, self.quantizer.encode(rest, num_codebooks - 1)], dim=1)
        return Encoded(codes, frames.lengths)

    def _encode(self, waveform: Tensor, lengths: Tensor, num_codebooks: int) -> Encoded:
        """Of one codebook, without DAC's encoder."""
        if num_codebooks > 1:
            return super()._encode(waveform, lengths, num_codebooks)
        features, vectors = self.encode_semantic(*self._at_least_a_frame(waveform, lengths))
        codes = self.semantic_quantizer.quantize(self.semantic_latent(features))
        return Encoded(codes, vectors // self.config.pooling)

    def _encode_long(self, waveform: Tensor, lengths: Tensor, num_codebooks: int, samples: int) -> Encoded:
        """Codes of chunks, not of their joined latents: what DAC's codebooks quantise depends on the semantic codes of
        the frames before."""
        assert self.encode_context is not None
        run = lambda x, own: self._encode(x, own, num_codebooks).codes  # noqa: E731
        codes = torch.cat(list(frames_in_chunks(self, waveform, lengths, samples, self.encode_context, run)), dim=-1)
        return Encoded(codes, lengths.new_tensor([codes.shape[-1]]))

    def _quantize_long(self, frames: Frames, num_codebooks: int, at_once: int) -> Encoded:
        return self._quantize(frames, num_codebooks)

    def _at_least_a_frame(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        waveform = F.pad(waveform, (0, max(self.min_samples - waveform.shape[-1], 0)))
        return waveform, lengths.clamp(min=self.min_samples)

    def semantic_latent(self, features: Tensor) -> Tensor:
        """What `encode_semantic` gives [B, dim, N] → what the semantic codebook quantises, [B, convnext_dim, N]."""
        return self.semantic_encoder(self.semantic_in(features))

    def encode_semantic(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """[B, 1, T] → normalised and averaged features of w2v-BERT [B, dim, N], and its vectors [B] before that."""
        features, frames = self.features(waveform, lengths)
        # Of an odd number of frames the last alone makes a vector, which is masked.
        own = frames // 2 if exporting() else dense_or_none(frames // 2, features.shape[1])
        hidden = self.w2v_bert(features, own)
        return F.avg_pool1d(self.normalise(hidden).mT, self.config.pooling), (frames + 1) // 2

    def features(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """[B, 1, T] with zeros behind each item → features of the filter bank [B, ceil(F / 2), 160], and F [B]."""
        audio = resample(at_least_float32(waveform[:, 0]), self.sample_rate, FEATURE_RATE)
        samples = -(-lengths * FEATURE_RATE // self.sample_rate)
        return w2v_bert_features(audio, dense_or_none(samples, audio.shape[-1])), frame_count(samples)

    def acoustic_latent(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        """[B, 1, T] → what DAC's encoder makes of it, [B, latent, ceil(T / hop)]."""
        hop = self.hop_length
        waveform = F.pad(waveform, (0, -waveform.shape[-1] % hop))
        return self.encoder(waveform, dense_or_none(-(-lengths // hop) * hop, waveform.shape[-1]))[0]

    # -- decode ---------------------------------------------------------------------------------

    def _vectors(self, codes: Tensor, lengths: Tensor, side_info: Mapping[str, Tensor]) -> Frames:
        latent = self.decode_semantic(codes[:, 0])
        return Frames(latent if codes.shape[1] == 1 else latent.add_(self.quantizer.decode(codes[:, 1:])), lengths)

    def _straight_through(self, frames: Frames, num_codebooks: int) -> Frames:
        semantic, acoustic = frames.values.tensor_split((self.config.convnext_dim,), dim=1)
        latent = self.semantic_out(self.semantic_decoder(self.semantic_quantizer.straight_through(semantic)))
        if num_codebooks > 1:
            latent = latent + self.quantizer.straight_through(acoustic - latent, num_codebooks - 1)
        return Frames(latent, frames.lengths)

    def _codebooks(self) -> list[Tensor]:
        return [*self.semantic_quantizer.tables(), *self.quantizer.tables()]

    def _synthesize(self, frames: Frames, num_samples: Tensor) -> Decoded:
        vectors, lengths, _ = frames
        waveform, samples = self.decoder(vectors, dense_or_none(lengths, vectors.shape[-1]))
        return Decoded(waveform, torch.full_like(lengths, waveform.shape[-1]) if samples is None else samples)

    def decode_semantic(self, codes: Tensor) -> Tensor:
        """The first row of codes, [B, N] → its part of the latent, [B, latent, N]."""
        return self.semantic_out(self.semantic_decoder(self.semantic_quantizer.decode(codes)))


# -- key maps -----------------------------------------------------------------------------------------


def _rules(strides: int, codec: str, stats: str) -> Iterator[Rule]:
    """The tensors of a codec with `strides` strides, whose keys begin with `codec`, and of the statistics."""
    layers, level = DualCodecConfig.convnext_layers, r"quantizer\.levels\.(\d+)\."
    for ours, theirs in descript_names(strides).items():
        yield Rule(rf"{re.escape(ours)}\.(\w+)", rf"{codec}dac.{theirs}.\1")
    yield Rule(level + "codebook", rf"{codec}dac.quantizer.quantizers.\1.codebook.weight")
    yield Rule(level + r"(\w+_proj)\.(\w+)", rf"{codec}dac.quantizer.quantizers.\1.\2.\3")
    yield Rule(r"semantic_quantizer\.codebook", f"{codec}semantic_vq.quantizers.0.codebook.weight")
    yield Rule(r"semantic_quantizer\.(\w+)\.(\w+)", rf"{codec}semantic_vq.quantizers.0.\1.\2")
    yield Rule(r"semantic_in\.(\w+)", rf"{codec}convnext_encoder.0.\1")
    yield Rule(r"semantic_out\.(\w+)", rf"{codec}convnext_decoder.{layers}.\1")
    for i in range(layers):
        yield Rule(rf"semantic_encoder\.blocks\.{i}\.(.+)", rf"{codec}convnext_encoder.{i + 1}.\1")
        yield Rule(rf"semantic_decoder\.blocks\.{i}\.(.+)", rf"{codec}convnext_decoder.{i}.\1")
    yield Rule(r"normalise\.(mean|var)", rf"{stats}\1")


def _key_map(strides: int, by_file: bool) -> KeyMap:
    """Of three files: the codec's, w2v-BERT's and the statistics of its features. Their keys stand side by side, or
    below the entries "dualcodec", "w2v_bert" and "stats" of a dict."""
    codec, semantic, stats = ("dualcodec.", "w2v_bert", "stats.") if by_file else ("", "", "")
    prefix = re.escape(f"{semantic}." if by_file else "")
    return KeyMap(
        f"dualcodec of {strides} strides" + (", by file" if by_file else ""),
        (*_rules(strides, codec, stats), *w2v_bert_rules("w2v_bert", semantic)),
        unused=(
            rf"{prefix}masked_spec_embed",
            rf"{prefix}encoder\.layers\.(1[7-9]|2\d)\..+",  # layers that nothing reads
        ),
    )


DualCodec.key_maps = tuple(itertools.starmap(_key_map, itertools.product((5, 4), (False, True))))
