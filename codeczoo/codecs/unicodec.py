"""UniCodec: one codebook of 16384, of which speech, music and other sound each use a range.

Paper: "UniCodec: Unified Audio Codec with Single Domain-Adaptive Codebook" (ACL 2025, arXiv 2502.20067). Upstream:
Jiang-Yidi/UniCodec. (The package `unicodec` on PyPI is something else.)

EnCodec's SEANet encoder without LSTM, a transformer with a mixture of experts, one codebook that is searched in the
range of the clip's domain, and WavTokenizer's decoder. The domain is `codec.domain`: "speech" (the default, as in
Codec-SUPERB), "music", "audio", or None for the whole codebook. It acts in the search only: a code tells its domain.

Attention sees the whole clip on both sides, and the choice of experts is discrete. Clips up to a minute go through the
network whole; longer ones go in chunks with context, and their codes may differ from those of the whole.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from codeczoo.base import BaseCodec, Context, Encoded, Frames, KeyMap, Rule, Variant, dense_or_none, matmul_precision
from codeczoo.codecs.wavtokenizer import WavTokenizer, WavTokenizerConfig
from codeczoo.nn.attention import Attention
from codeczoo.nn.convnext import vocos_rules
from codeczoo.nn.mixture_of_experts import MixtureOfExperts
from codeczoo.nn.quantizer import passed_through
from codeczoo.nn.rotary import Rotary, qkv_to_halves
from codeczoo.nn.rvq import at_least_float32, nearest
from codeczoo.nn.seanet import SEANetEncoder, seanet_rules
from codeczoo.nn.transformer import Transformer, TransformerLayer

DOMAIN_SIXTEENTHS = {"speech": (0, 4), "music": (4, 8), "audio": (8, 16), None: (0, 16)}  # of the codebook
CONTEXT_SECONDS = 5.0  # to each side of a chunk of a long clip


@dataclass(frozen=True)
class UniCodecConfig(WavTokenizerConfig):
    """The network's numbers."""

    strides: Sequence[int] = (2, 4, 5, 8)
    codebook_size: int = 16384
    encoder_layers: int = 8
    num_heads: int = 8
    expert_dim: int = 2048
    num_experts: int = 3


class UniCodec(WavTokenizer):
    """UniCodec (2025): one codebook of 16384 for speech, music and sound, by a mixture of experts and WavTokenizer's
    decoder.

    Audio [B, 1, T] at 24 kHz ↔ codes [B, 1, N] at 75 a second: 1.05 kbit/s.

        codec = load_codec("unicodec")
        codec.domain = "music"
        audio = codec.decode(codec.encode("song.wav"))

    Attributes:
        domain: the range of the codebook that `encode` searches: "speech" (default), "music", "audio", or None for all.
    """

    Config = UniCodecConfig
    config: UniCodecConfig
    approximate_when_long: tuple[str, ...] = ("encode", "decode")
    min_chunk_seconds = 60.0

    def __init__(self, config: UniCodecConfig, variant: Variant) -> None:
        super().__init__(config, variant)
        self.domain: str | None = "speech"
        context = round(CONTEXT_SECONDS * config.sample_rate)
        self.encode_context = Context(context, context)
        self.encoder = SEANetEncoder(1, config.dim, config.filters, config.strides, causal=False, lstm_layers=0)
        self.transformer = Transformer(
            [
                TransformerLayer(
                    config.dim,
                    Attention(config.dim, config.num_heads),
                    MixtureOfExperts(config.dim, config.expert_dim, config.num_experts),
                    layer_scale=(True, False),
                )
                for _ in range(config.encoder_layers)
            ],
            rotary=Rotary(config.dim // config.num_heads),
        )

    def _latents(self, waveform: Tensor, lengths: Tensor) -> Frames:
        x, steps = self.encoder(waveform, dense_or_none(lengths, waveform.shape[-1]))
        return Frames(self.transformer(x.mT, steps).mT, -(-lengths // self.hop_length))

    _latents_long = BaseCodec._latents_long  # not WavTokenizer's: this encoder has attention in place of the LSTM

    def _quantize(self, frames: Frames, num_codebooks: int) -> Encoded:
        return Encoded(self.search(frames.values), frames.lengths)

    def _straight_through(self, frames: Frames, num_codebooks: int) -> Frames:
        with torch.no_grad():
            vectors = self.quantizer.decode(self.search(frames.values))
        return Frames(passed_through(vectors, frames.values), frames.lengths)

    def search(self, latent: Tensor) -> Tensor:
        """[B, dim, N] → codes [B, 1, N]: the nearest vectors in the domain's range."""
        if self.domain not in DOMAIN_SIXTEENTHS:
            raise ValueError(f"codec.domain is one of {', '.join(map(repr, DOMAIN_SIXTEENTHS))}; it is {self.domain!r}")
        first, last = (self.config.codebook_size * part // 16 for part in DOMAIN_SIXTEENTHS[self.domain])
        book = at_least_float32(self.quantizer.codebooks[0, first:last])
        with matmul_precision("exact"):
            index = nearest(latent.mT.flatten(0, 1).to(book.dtype), book)
        return (index + first).view(latent.shape[0], 1, -1)

    def domains_of(self, codes: Tensor) -> Tensor:
        """The domain of each code: 0 speech, 1 music, 2 other sound. Any shape → the same shape."""
        return (codes * 4 // self.config.codebook_size).clamp(max=2)


# -- key map ------------------------------------------------------------------------------------------

ENCODEC = "feature_extractor.encodec."
LAYER = r"transformer\.layers\.(\d+)\."
THEIRS = ENCODEC + r"encoder.transformer_enocoder.transformer.layers.\1."  # sic
HALVES = functools.partial(qkv_to_halves, num_heads=8)


def _projected(embedding: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """SimVQ's codebook: frozen vectors, and a learned projection of them all."""
    return F.linear(embedding.double(), weight.double(), bias.double()).to(embedding)[None]


UniCodec.key_maps = (
    KeyMap(
        "unicodec",
        (
            *seanet_rules("encoder", ENCODEC + "encoder.model"),
            Rule(LAYER + r"attention\.in_proj\.weight", THEIRS + "self_attn.in_proj_weight", HALVES),
            Rule(LAYER + r"attention\.out_proj\.weight", THEIRS + "self_attn.out_proj.weight"),
            Rule(LAYER + r"feed_forward\.shared\.(.+)", THEIRS + r"FFNMOE.shared_experts.\2"),
            Rule(LAYER + r"feed_forward\.(.+)", THEIRS + r"FFNMOE.\2"),
            Rule(LAYER + r"scale1\.scale", THEIRS + "layer_scale_1.scale"),
            Rule(LAYER + r"(norm\d\..+)", THEIRS + r"\2"),
            Rule(
                r"quantizer\.codebooks",
                tuple(f"{ENCODEC}quantizer.vq.embedding{name}" for name in (".weight", "_proj.weight", "_proj.bias")),
                _projected,
            ),
            *vocos_rules("backbone", "backbone"),
        ),
        unused=(
            r"feature_extractor\.encodec\.decoder\..+",  # a whole EnCodec decoder
            r"feature_extractor\.encodec\.encoder\.mask_emb",
            r".+\.layers\.\d+\.(linear[12]\.weight|layer_scale_2\.scale)",  # replaced by the experts
            r"head\.istft\.window",
            r"(multiperioddisc|multiresddisc|dac|dacdiscriminator|melspec_loss)\..+",  # of training
        ),
    ),
)
