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

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from codeczoo.base import BaseCodec, Decoded, Frames, KeyMap, Rule, Variant, contexts_of, dense_or_none
from codeczoo.codecs.bigcodec import (
    NUM_STRIDES,
    UNIT_PLACES,
    BigCodecConfig,
    convolutional_encoder,
    encoder_stages,
    module_rules,
)
from codeczoo.codecs.gguf import xcodec2 as gguf
from codeczoo.nn.fbank import BANDS, HOP, w2v_bert_features
from codeczoo.nn.fsq import ProjectedFSQ
from codeczoo.nn.istft import ISTFTHead
from codeczoo.nn.padding import mask_tail
from codeczoo.nn.resnet_transformer import (
    ResNetTransformer,
    resnet_transformer_rules,
    resnet_transformer_rules_of_transformers,
)
from codeczoo.nn.semantic_adapter import SemanticAdapter, adapter_rules, adapter_rules_of_transformers
from codeczoo.nn.sequential import Linear
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
        self.latent_dim = self.vector_dim = 2 * dim
        self.semantic = W2vBert(2 * BANDS, dim, config.semantic_layers, config.semantic_heads, config.semantic_hidden)
        self.adapter = SemanticAdapter(dim)
        self.acoustic = convolutional_encoder(
            BigCodecConfig(encoder_dim=config.encoder_dim, strides=config.strides, latent_dim=dim, lstm_layers=0)
        )
        self.join = Linear(2 * dim, 2 * dim)
        self.quantizer = ProjectedFSQ(2 * dim, config.digits, bounds=2)
        self.part = Linear(2 * dim, dim)
        self.backbone = ResNetTransformer(dim, config.decoder_layers, config.decoder_heads, config.decoder_hidden)
        self.head = ISTFTHead(dim, config.windows_per_hop * self.hop_length, self.hop_length)

    def _latents(self, waveform: Tensor, lengths: Tensor) -> Frames:
        frames = self._frames(lengths)
        longest = waveform.shape[-1] // self.hop_length + 1
        waveform = F.pad(waveform, (0, longest * self.hop_length - waveform.shape[-1]))
        own = dense_or_none(frames, longest)
        samples = None if own is None else own * self.hop_length
        semantic = self.encode_semantic(self.features(waveform, samples), own)
        acoustic = self.acoustic(waveform, samples)
        return Frames(self.join(torch.cat([semantic, acoustic], dim=1).mT).mT, frames)

    def features(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """[B, 1, T] → [B, N, 160], T and `lengths` whole frames."""
        padded = F.pad(mask_tail(waveform[:, 0], lengths), (HOP, HOP))
        return w2v_bert_features(padded, None if lengths is None else lengths + 2 * HOP)

    def encode_semantic(self, features: Tensor, lengths: Tensor | None = None) -> Tensor:
        """[B, N, 160] → [B, dim, N]."""
        return self.adapter(self.semantic(features, lengths).mT.contiguous(), lengths)

    def _frames(self, samples: Tensor) -> Tensor:
        return samples // self.hop_length + 1

    def _synthesize(self, frames: Frames, num_samples: Tensor) -> Decoded:
        vectors, lengths, _ = frames
        own = dense_or_none(lengths, vectors.shape[-1])
        x = self.part(vectors.mT).mT.contiguous()
        return Decoded(self.head(self.backbone(x, own), own)[:, None], lengths * self.hop_length)


# -- key maps -----------------------------------------------------------------------------------------


def acoustic_names() -> dict[str, str]:
    """Our module names → the authors'."""
    names = encoder_stages("acoustic", "CodecEnc.conv_blocks")
    for i in range(2):
        names[f"acoustic.layers.{3 * NUM_STRIDES + 1 + i}"] = f"CodecEnc.conv_final_block.{i}"
    return names


def acoustic_names_of_transformers() -> dict[str, str]:
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
    return KeyMap(
        "xcodec2",
        (
            *w2v_bert_rules("semantic", "semantic_model"),
            *adapter_rules("adapter", "SemanticEncoder_module"),
            *module_rules(acoustic_names()),
            Rule(r"join\.(\w+)", r"fc_prior.\1"),
            Rule(r"quantizer\.(.+)", r"generator.quantizer.\1"),
            Rule(r"part\.(\w+)", r"fc_post_a.\1"),
            *resnet_transformer_rules("backbone", "generator.backbone"),
            Rule(r"head\.(.+)", r"generator.head.\1"),
        ),
        unused=(
            r"semantic_model\.masked_spec_embed",
            r"semantic_model\.encoder\.layers\.(1[6-9]|2\d)\..+",  # layers that nothing reads
            r".+\.(upsample|downsample\.lowpass)\.filter",  # computed here
            r".+\.istft\.window",
        ),
    )


def transformers_key_map(name: str, unused: tuple[str, ...] = ()) -> KeyMap:
    """Key map of the network in Hugging Face transformers, which NeuCodec shares. Its rows of q and k are in another
    order, the same in both, so that q · k is too."""
    decoder = "acoustic_decoder"
    return KeyMap(
        name,
        (
            *w2v_bert_rules("semantic", "semantic_encoder"),
            *adapter_rules_of_transformers("adapter", "semantic_adapter"),
            *module_rules(acoustic_names_of_transformers()),
            Rule(r"join\.(\w+)", r"fc_encoder.\1"),
            Rule(r"part\.(\w+)", rf"{decoder}.fc.\1"),
            *resnet_transformer_rules_of_transformers("backbone", decoder),
            Rule(r"head\.out\.(\w+)", rf"{decoder}.head.linear.\1"),
        ),
        unused=(r"semantic_encoder\.masked_spec_embed", *unused),
    )


XCodec2.key_maps = (_authors(), transformers_key_map("xcodec2 of transformers"))
XCodec2.gguf = gguf.layout(XCodec2.key_maps[0])
