"""SpeechTokenizer: eight codebooks at 50 frames a second, the first of them distilled from HuBERT.

Paper: "SpeechTokenizer: Unified Speech Tokenizer for Speech Language Models" (arXiv 2308.16692). Upstream:
ZhangXInFD/SpeechTokenizer; a second checkpoint with snake activations came with AnyGPT.

EnCodec's SEANet, wider, without causality, and with an LSTM over the whole clip in both directions in the encoder: the
first code depends on the last sample, so there is no stream. Codebook 0 carries content and codebooks 1 to 7 the rest;
decoding some of them alone is a use of its own (`decode_levels`).

Long clips. The decoder is exact in passes: its LSTM runs forward only. The encoder cannot be exact, and takes windows
with `LSTM_CONTEXT` seconds of surroundings on either side, far more than what its LSTM was seen to remember.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from codeczoo.base.catalogue import Variant
from codeczoo.base.codec import BaseCodec
from codeczoo.base.key_map import KeyMap, compare_settings
from codeczoo.base.network import Context, Decoded, Encoded
from codeczoo.base.ragged import dense_or_none, join_chunks
from codeczoo.nn.chunked import run_chunked
from codeczoo.nn.rvq import ResidualVQ, codebook_rule
from codeczoo.nn.seanet import SEANetDecoder, SEANetEncoder, elu, seanet_rules
from codeczoo.nn.snake import Snake

# What the published settings say besides, alike in all models.
FIXED = {"lstm_layers": 2, "bidirectional": True, "residual_kernel_size": 3, "n_residual_layers": 1}
LSTM_CONTEXT = 4.0  # seconds to each side of a window of a long clip


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
    """Codes [B, K, N] at 50 frames a second, K from 1 to 8."""

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
        context = round(LSTM_CONTEXT * config.sample_rate)
        self.encode_context = Context(context, context)

        act = {"elu": elu, "snake": _snake}[config.activation]
        dim, filters, strides = config.dim, config.filters, tuple(config.strides)
        self.encoder = SEANetEncoder(1, dim, filters, strides, causal=False, bidirectional=True, activation=act)
        self.quantizer = ResidualVQ(config.num_codebooks, config.codebook_size, dim)
        self.decoder = SEANetDecoder(1, dim, filters, strides[::-1], causal=False, activation=act)

    def _encode(self, waveform: Tensor, lengths: Tensor, num_codebooks: int) -> Encoded:
        latent = self.encode_latent(waveform, dense_or_none(lengths, waveform.shape[-1]))
        return Encoded(self.quantizer.encode(latent, num_codebooks), -(-lengths // self.hop_length))

    def encode_latent(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """[B, 1, T] → what is quantised, [B, dim, ceil(T / hop)]."""
        return self.encoder(waveform, lengths)[0]

    def _decode(self, codes: Tensor, lengths: Tensor, side_info: Mapping[str, Tensor], num_samples: Tensor) -> Decoded:
        return self._decode_vectors(self.quantizer.decode(codes), lengths)

    def _decode_vectors(self, vectors: Tensor, lengths: Tensor) -> Decoded:
        waveform, _ = self.decoder(vectors, dense_or_none(lengths, vectors.shape[-1]))
        return Decoded(waveform, lengths * self.hop_length)

    def _decode_long(
        self, codes: Tensor, lengths: Tensor, side_info: Mapping[str, Tensor], num_samples: Tensor, frames: int
    ) -> Decoded:
        """One clip, exactly: convolutions with the context that they see, and the LSTM from where it stopped."""
        pieces = (self.quantizer.decode(piece) for piece in codes[..., : int(lengths[0])].split(frames, dim=-1))
        waveform = join_chunks(run_chunked(self.decoder.layers, pieces), int(lengths[0]) * self.hop_length)
        return Decoded(waveform, lengths * self.hop_length)

    @torch.no_grad()
    def decode_levels(self, codes: Tensor, first: int) -> Tensor:
        """Audio of some codebooks alone: codes [B, K, N] of the codebooks `first` to `first` + K - 1 → [B, 1, N * hop].

        Codebook 0 alone is content without a voice; codebooks 1 to 7 alone are what is left.
        """
        last = first + codes.shape[1]
        if not 0 <= first < last <= len(self.codebook_sizes):
            raise ValueError(
                f"{self.name} has codebooks 0 to {len(self.codebook_sizes) - 1}; {first} to {last - 1} given"
            )
        codes = self._check_codes(codes).codes.to(self.device)
        vectors = self.quantizer.decode(codes, first)
        return self._decode_vectors(vectors, torch.full((len(codes),), codes.shape[-1], device=self.device)).waveform

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
            "strides": config.strides[::-1],  # there in the decoder's order
            "dimension": config.dim,
            "codebook_size": config.codebook_size,
            "n_q": config.num_codebooks,
            "activation": config.activation,
            **FIXED,
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
