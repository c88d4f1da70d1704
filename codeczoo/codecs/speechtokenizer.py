"""SpeechTokenizer: eight codebooks at 50 frames a second, the first of them distilled from HuBERT.

Paper: "SpeechTokenizer: Unified Speech Tokenizer for Speech Language Models" (arXiv 2308.16692). Upstream:
ZhangXInFD/SpeechTokenizer; a second checkpoint with snake activations came with AnyGPT.

EnCodec's SEANet, wider, not causal, and with an LSTM over the whole clip in both directions in the encoder: the first
code depends on the last sample, so that it does not stream. Codebook 0 carries content, codebooks 1 to 7 the rest;
`decode_levels` decodes some of them alone.

Long clips. The decoder is exact in chunks: its LSTM runs forward only. The encoder is not: it takes chunks with
`LSTM_CONTEXT_SECONDS` of context on each side, far more than its LSTM was seen to remember.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from codeczoo.base import (
    BaseCodec,
    Context,
    Decoded,
    Frames,
    FrameSource,
    KeyMap,
    Variant,
    compare_settings,
    dense_or_none,
    join_chunks,
    values_in_chunks,
)
from codeczoo.nn.chunked import run_chunked
from codeczoo.nn.rvq import ResidualVQ, codebook_rule
from codeczoo.nn.seanet import SEANetDecoder, SEANetEncoder, elu, seanet_rules
from codeczoo.nn.snake import Snake

# Settings that all published models share.
COMMON_SETTINGS = {"lstm_layers": 2, "bidirectional": True, "residual_kernel_size": 3, "n_residual_layers": 1}
LSTM_CONTEXT_SECONDS = 4.0  # to each side of a chunk of a long clip


@dataclass(frozen=True)
class SpeechTokenizerConfig:
    """The network's numbers."""

    sample_rate: int = 16000  # Hz
    filters: int = 64  # width of the first convolution
    strides: Sequence[int] = (2, 4, 5, 8)  # of the encoder
    dim: int = 1024
    num_codebooks: int = 8
    codebook_size: int = 1024
    activation: str = "elu"  # or "snake"


def _snake(channels: int, inplace: bool) -> nn.Module:
    return Snake(channels)


class SpeechTokenizer(BaseCodec):
    """SpeechTokenizer (2023): a speech codec whose first codebook was distilled from HuBERT, so that it tells what is
    said.

    Speech [B, 1, T] at 16 kHz ↔ codes [B, K, N] at 50 frames a second, K from 1 to 8: up to 4 kbit/s.

        codec = load_codec("speechtokenizer")
        codes = codec.encode("talk.wav")
        content = codec.decode_levels(codes.codes[:, :1], first=0)  # without the voice
    """

    Config = SpeechTokenizerConfig
    config: SpeechTokenizerConfig
    hop_length: int
    approximate_when_long = ("encode",)
    min_chunk_seconds = 60.0

    def __init__(self, config: SpeechTokenizerConfig, variant: Variant) -> None:
        super().__init__(config, variant)
        self.sample_rate = config.sample_rate
        self.hop_length = math.prod(config.strides)
        self.codebook_sizes = (config.codebook_size,) * config.num_codebooks
        self.codebook_choices = tuple(range(1, config.num_codebooks + 1))
        context = round(LSTM_CONTEXT_SECONDS * config.sample_rate)
        self.encode_context = Context(context, context)

        self.latent_dim = self.vector_dim = config.dim
        act = {"elu": elu, "snake": _snake}[config.activation]
        dim, filters, strides = config.dim, config.filters, tuple(config.strides)
        self.encoder = SEANetEncoder(1, dim, filters, strides, causal=False, bidirectional=True, activation=act)
        self.quantizer = ResidualVQ(config.num_codebooks, config.codebook_size, dim)
        self.decoder = SEANetDecoder(1, dim, filters, strides[::-1], causal=False, activation=act)

    def _latents(self, waveform: Tensor, lengths: Tensor) -> Frames:
        latent, _ = self.encoder(waveform, dense_or_none(lengths, waveform.shape[-1]))
        return Frames(latent, -(-lengths // self.hop_length))

    def _synthesize(self, frames: Frames, num_samples: Tensor) -> Decoded:
        vectors, lengths, _ = frames
        waveform, _ = self.decoder(vectors, dense_or_none(lengths, vectors.shape[-1]))
        return Decoded(waveform, lengths * self.hop_length)

    def _synthesize_long(self, source: FrameSource, lengths: Tensor, num_samples: Tensor, frames: int) -> Decoded:
        """One clip, exactly: convolutions with the context that they see, and the LSTM from its last state."""
        total = int(lengths[0])
        chunks = run_chunked(self.decoder.layers, values_in_chunks(source, total, frames))
        waveform = join_chunks(chunks, total * self.hop_length)
        return Decoded(waveform, lengths * self.hop_length)

    @torch.no_grad()
    def decode_levels(self, codes: Tensor, first: int) -> Tensor:
        """Audio of some codebooks alone: codes [B, K, N] of the codebooks `first` to `first` + K - 1 → [B, 1, N * hop].

        Codebook 0 alone is content without a voice; codebooks 1 to 7 alone are the rest.
        """
        last = first + codes.shape[1]
        if not 0 <= first < last <= len(self.codebook_sizes):
            raise ValueError(
                f"{self.name} has codebooks 0 to {len(self.codebook_sizes) - 1}; {first} to {last - 1} given"
            )
        codes = self._check_codes(codes).codes.to(self.device)
        full = torch.full((len(codes),), codes.shape[-1], device=self.device)
        return self._synthesize(Frames(self.quantizer.decode(codes, first), full), -torch.ones_like(full)).waveform

    def check_metadata(self, metadata: Mapping[str, Any]) -> None:
        """Compare the `config.json` beside a checkpoint with this variant.

        Raises:
            ValueError: they differ; every difference is listed.
        """
        config, published = self.config, dict(metadata.get("config", {}))
        if isinstance(published.get("activation"), str):
            published["activation"] = published["activation"].lower()
        here = {
            "sample_rate": config.sample_rate,
            "n_filters": config.filters,
            "strides": config.strides[::-1],  # published in the decoder's order
            "dimension": config.dim,
            "codebook_size": config.codebook_size,
            "n_q": config.num_codebooks,
            "activation": config.activation,
            **COMMON_SETTINGS,
        }
        compare_settings(published, here)


# -- key map ------------------------------------------------------------------------------------------

SpeechTokenizer.key_maps = (
    KeyMap(
        "speechtokenizer",
        (
            *seanet_rules("encoder", "encoder.model"),
            *seanet_rules("decoder", "decoder.model", (3, 6, 9, 12)),
            codebook_rule(r"quantizer\.codebooks", "quantizer.vq.layers.{}._codebook.embed", 8),
        ),
        unused=(
            r"quantizer\..+\.(embed_avg|cluster_size|inited)",
            r"transform\.(weight|bias)",  # the projection to its teacher
        ),
    ),
)
