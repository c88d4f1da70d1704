"""X-Codec 2: one codebook of 65536 at 50 frames a second, which holds what is said and how it sounds.

Paper: "Llasa: Scaling Train-Time and Inference-Time Compute for Llama-based Speech Synthesis" (arXiv 2502.04128).
Upstream: the hub repository HKUSTAudio/xcodec2 and its package xcodec2.

    encoder: w2v-BERT 2.0 (16 of its layers) and an adapter; BigCodec's encoder; both joined by a linear layer
    quantiser: eight digits of four values
    decoder: residual blocks, a transformer without positions, residual blocks; inverse STFT

As published: a clip of whole frames gets another frame of zeros; the quantiser bounds twice; the adapter's skip carries
the rectified value. Not as published: features are normalised for each item of a batch, and the stored second parameter
of the activations is used (upstream loses it under newer versions of transformers). The decoder's rotary positions turn
with the head, not with time, so that they cancel; they are left out.

Features, attention and group norms see the whole clip. Clips up to a minute go through the network whole, longer ones
in chunks with context, which is not exact.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codeczoo.base import BaseCodec, Decoded, Encoded, KeyMap, Rule, Variant, contexts_of, dense_or_none
from codeczoo.codecs.bigcodec import (
    NUM_STRIDES,
    UNIT_PLACES,
    BigCodecConfig,
    convolutional_encoder,
    encoder_stages,
    module_rules,
)
from codeczoo.nn.attention import Attention
from codeczoo.nn.conv import Conv1d
from codeczoo.nn.fbank import BANDS, HOP, w2v_bert_features
from codeczoo.nn.fsq import ProjectedFSQ
from codeczoo.nn.istft import ISTFTHead
from codeczoo.nn.padding import mask_tail
from codeczoo.nn.resnet1d import EPS, ResNetBlock
from codeczoo.nn.sequential import Linear
from codeczoo.nn.transformer import FeedForward, Transformer, TransformerLayer
from codeczoo.nn.w2v_bert import W2vBert, w2v_bert_rules

CONTEXT_SECONDS = 5.0  # to each side of a chunk of a long clip


@dataclass(frozen=True)
class XCodec2Config:
    """The network's numbers."""

    sample_rate: int = 16000  # Hz
    strides: Sequence[int] = (2, 2, 4, 4, 5)
    encoder_dim: int = 48
    dim: int = 1024  # of either latent, and of the decoder
    digits: Sequence[int] = (4,) * 8
    semantic_layers: int = 16
    semantic_heads: int = 16
    semantic_hidden: int = 4096
    decoder_layers: int = 12
    decoder_heads: int = 16
    decoder_hidden: int = 4096
    windows_per_hop: int = 4  # n_fft = that many hops


class SemanticAdapter(nn.Module):
    """[B, dim, N] → [B, dim, N]."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.first = Conv1d(dim, dim, 3, bias=False)
        self.conv1, self.conv2 = Conv1d(dim, dim, 3), Conv1d(dim, dim, 3)
        self.last = Conv1d(dim, dim, 3, bias=False)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        x = self.first(x, lengths).relu_()
        y = self.conv2(self.conv1(x, lengths).relu_(), lengths)
        return self.last(y.add_(x), lengths)


class Backbone(nn.Module):
    """[B, dim, N] → [B, N, dim]."""

    def __init__(self, config: XCodec2Config) -> None:
        super().__init__()
        dim = config.dim
        self.embed = Conv1d(dim, dim, 7)
        self.prior_net = nn.ModuleList(ResNetBlock(dim) for _ in range(2))
        self.transformer = Transformer(
            [
                TransformerLayer(
                    dim,
                    Attention(dim, config.decoder_heads),
                    FeedForward(dim, config.decoder_hidden, activation=F.silu),
                    norm=functools.partial(nn.RMSNorm, eps=1e-6),
                )
                for _ in range(config.decoder_layers)
            ]
        )
        self.post_net = nn.ModuleList(ResNetBlock(dim) for _ in range(2))
        self.final_layer_norm = nn.LayerNorm(dim, EPS)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        x = self.embed(x, lengths)
        for block in self.prior_net:
            x = block(x, lengths)
        x = self.transformer(x.mT, lengths).mT.contiguous()
        for block in self.post_net:
            x = block(x, lengths)
        return self.final_layer_norm(x.mT)


class XCodec2(BaseCodec):
    """X-Codec 2 (2025): one codebook of 65536 for speech, from w2v-BERT 2.0 and a convolutional encoder; Llasa's
    tokenizer.

    Speech [B, 1, T] at 16 kHz ↔ codes [B, 1, N] at 50 a second: 0.8 kbit/s.

        codec = load_codec("xcodec2")
        audio = codec.decode(codec.encode("talk.wav"))
    """

    Config = XCodec2Config
    config: XCodec2Config
    hop_length: int
    approximate_when_long = ("encode", "decode")
    min_chunk_seconds = 60.0

    def __init__(self, config: XCodec2Config, variant: Variant) -> None:
        super().__init__(config, variant)
        self.sample_rate = config.sample_rate
        self.hop_length = math.prod(config.strides)
        self.codebook_sizes = (math.prod(config.digits),)
        self.codebook_choices = (1,)
        self.encode_context, self.decode_context = contexts_of(CONTEXT_SECONDS, config.sample_rate, self.hop_length)
        dim = config.dim
        self.semantic = W2vBert(2 * BANDS, dim, config.semantic_layers, config.semantic_heads, config.semantic_hidden)
        self.adapter = SemanticAdapter(dim)
        self.acoustic = convolutional_encoder(
            BigCodecConfig(encoder_dim=config.encoder_dim, strides=config.strides, latent_dim=dim, lstm_layers=0)
        )
        self.join = Linear(2 * dim, 2 * dim)
        self.quantizer = ProjectedFSQ(2 * dim, config.digits, bounds=2)
        self.part = Linear(2 * dim, dim)
        self.backbone = Backbone(config)
        self.head = ISTFTHead(dim, config.windows_per_hop * self.hop_length, self.hop_length)

    def _encode(self, waveform: Tensor, lengths: Tensor, num_codebooks: int) -> Encoded:
        return Encoded(self.quantizer.encode(self.encode_latent(waveform, lengths))[:, None], self._frames(lengths))

    def encode_latent(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        """[B, 1, T] → latent [B, 2 * dim, N]."""
        frames = self._frames(lengths)
        longest = waveform.shape[-1] // self.hop_length + 1
        waveform = F.pad(waveform, (0, longest * self.hop_length - waveform.shape[-1]))
        own = dense_or_none(frames, longest)
        samples = None if own is None else own * self.hop_length
        semantic = self.encode_semantic(self.features(waveform, samples), own)
        acoustic = self.acoustic(waveform, samples)
        return self.join(torch.cat([semantic, acoustic], dim=1).mT).mT

    def features(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """[B, 1, T] → [B, N, 160], T and `lengths` whole frames."""
        padded = F.pad(mask_tail(waveform[:, 0], lengths), (HOP, HOP))
        return w2v_bert_features(padded, None if lengths is None else lengths + 2 * HOP)

    def encode_semantic(self, features: Tensor, lengths: Tensor | None = None) -> Tensor:
        """[B, N, 160] → [B, dim, N]."""
        return self.adapter(self.semantic(features, lengths).mT.contiguous(), lengths)

    def _frames(self, samples: Tensor) -> Tensor:
        return samples // self.hop_length + 1

    def _decode(self, codes: Tensor, lengths: Tensor, side_info: Mapping[str, Tensor], num_samples: Tensor) -> Decoded:
        own = dense_or_none(lengths, codes.shape[-1])
        x = self.part(self.quantizer.decode(codes[:, 0]).mT).mT.contiguous()
        return Decoded(self.head(self.backbone(x, own), own)[:, None], lengths * self.hop_length)


# -- key maps -----------------------------------------------------------------------------------------

LAYER = r"backbone\.transformer\.layers\.(\d+)\."


def _acoustic() -> dict[str, str]:
    """Our module names → the authors'."""
    names = encoder_stages("acoustic", "CodecEnc.conv_blocks")
    for i in range(2):
        names[f"acoustic.layers.{3 * NUM_STRIDES + 1 + i}"] = f"CodecEnc.conv_final_block.{i}"
    return names


def _acoustic_transformers() -> dict[str, str]:
    """Our module names → those of Hugging Face transformers, which are DAC's."""
    theirs = "acoustic_encoder"
    names = {"acoustic.layers.0": f"{theirs}.conv1"}
    for i in range(NUM_STRIDES):
        block, first = f"{theirs}.block.{i}", 3 * i + 1
        names |= {f"acoustic.layers.{first + 1}": f"{block}.snake1", f"acoustic.layers.{first + 2}": f"{block}.conv1"}
        for j in range(3):
            for part in UNIT_PLACES:
                names[f"acoustic.layers.{first}.{j}.{part}"] = f"{block}.res_unit{j + 1}.{part.replace('act', 'snake')}"
    last = 3 * NUM_STRIDES + 1
    return {**names, f"acoustic.layers.{last}": f"{theirs}.snake1", f"acoustic.layers.{last + 1}": f"{theirs}.conv2"}


def _authors() -> KeyMap:
    adapter, backbone = "SemanticEncoder_module.", "generator.backbone."
    layer = backbone + r"transformers.\1."
    return KeyMap(
        "xcodec2",
        (
            *w2v_bert_rules("semantic", "semantic_model"),
            Rule(r"adapter\.first\.weight", f"{adapter}initial_conv.weight"),
            Rule(r"adapter\.conv1\.(\w+)", rf"{adapter}residual_blocks.1.\1"),
            Rule(r"adapter\.conv2\.(\w+)", rf"{adapter}residual_blocks.3.\1"),
            Rule(r"adapter\.last\.weight", f"{adapter}final_conv.weight"),
            *module_rules(_acoustic()),
            Rule(r"join\.(\w+)", r"fc_prior.\1"),
            Rule(r"quantizer\.(.+)", r"generator.quantizer.\1"),
            Rule(r"part\.(\w+)", r"fc_post_a.\1"),
            Rule(LAYER + r"norm1\.weight", f"{layer}att_norm.weight"),
            Rule(LAYER + r"norm2\.weight", f"{layer}ffn_norm.weight"),
            Rule(LAYER + r"attention\.in_proj\.weight", f"{layer}att.c_attn.weight"),
            Rule(LAYER + r"attention\.out_proj\.weight", f"{layer}att.c_proj.weight"),
            Rule(LAYER + r"feed_forward\.linear(\d)\.weight", rf"{layer}mlp.fc\2.weight"),
            Rule(r"backbone\.(.+)", rf"{backbone}\1"),
            Rule(r"head\.(.+)", r"generator.head.\1"),
        ),
        unused=(
            r"semantic_model\.masked_spec_embed",
            r"semantic_model\.encoder\.layers\.(1[6-9]|2\d)\..+",  # layers that nothing reads
            r".+\.(upsample|downsample\.lowpass)\.filter",  # computed here
            r".+\.istft\.window",
        ),
    )


def _transformers() -> KeyMap:
    """Key map of transformers. Its rows of q and k are in another order, the same in both, so that q · k is too."""
    decoder = "acoustic_decoder."
    layer = decoder + r"layers.\1."
    qkv = tuple(f"{layer}self_attn.{x}_proj.weight" for x in "qkv")
    return KeyMap(
        "xcodec2 of transformers",
        (
            *w2v_bert_rules("semantic", "semantic_encoder"),
            Rule(r"adapter\.first\.weight", "semantic_adapter.conv1.weight"),
            Rule(r"adapter\.conv1\.(\w+)", r"semantic_adapter.conv2.\1"),
            Rule(r"adapter\.conv2\.(\w+)", r"semantic_adapter.conv3.\1"),
            Rule(r"adapter\.last\.weight", "semantic_adapter.conv4.weight"),
            *module_rules(_acoustic_transformers()),
            Rule(r"join\.(\w+)", r"fc_encoder.\1"),
            Rule(r"part\.(\w+)", rf"{decoder}fc.\1"),
            Rule(LAYER + r"norm1\.weight", f"{layer}input_layernorm.weight"),
            Rule(LAYER + r"norm2\.weight", f"{layer}post_attention_layernorm.weight"),
            Rule(LAYER + r"attention\.in_proj\.weight", qkv, lambda *parts: torch.cat(parts)),
            Rule(LAYER + r"attention\.out_proj\.weight", f"{layer}self_attn.o_proj.weight"),
            Rule(LAYER + r"feed_forward\.linear(\d)\.weight", rf"{layer}mlp.fc\2.weight"),
            Rule(r"backbone\.final_layer_norm\.(\w+)", rf"{decoder}norm.\1"),
            Rule(r"backbone\.(.+)", rf"{decoder}\1"),
            Rule(r"head\.out\.(\w+)", rf"{decoder}head.linear.\1"),
        ),
        unused=(r"semantic_encoder\.masked_spec_embed",),
    )


XCodec2.key_maps = (_authors(), _transformers())
