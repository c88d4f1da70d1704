"""NeuCodec and DistillNeuCodec: X-Codec 2 that takes 16 kHz and gives 24 kHz, 50 codes of 65536 a second.

Paper: "Finite Scalar Quantization Enables Redundant and Transmission-Robust Neural Audio Compression at Low Bit-rates"
(arXiv 2509.09550). Upstream: neuphonic/neucodec and its package neucodec.

    NeuCodec's encoder: w2v-BERT 2.0 (16 layers) and an adapter; BigCodec's encoder; both joined by a linear layer
    DistillNeuCodec's: DistilHuBERT (2 layers) and an adapter; SQCodec's encoder; both joined by a linear layer
    quantiser: eight digits of four values
    decoder: residual blocks, a transformer without positions, residual blocks; inverse STFT at 24 kHz

Followed as published: a clip is filled up with 1 to 320 zeros, a whole frame where it is whole already. NeuCodec's
features then lack a frame, because they are taken without the zeros that X-Codec 2 puts around the clip, so its last
acoustic frame is dropped: floor(T / 320) codes; DistillNeuCodec has floor(T / 320) + 1. The quantiser bounds twice.
Not followed: features and norms of a batch are each item's own, and a clip shorter than a frame is filled up to one
where NeuCodec's package fails.

The speech models' own files belong to the checkpoint. The file of neuphonic/neucodec holds the decoder's convolutions
twice, plain and as weight norm: the package uses the plain ones, and so do we. Hugging Face transformers' conversion
took the others.

Features, attention and group norms see the whole clip: long clips go whole up to a minute, beyond that in windows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codeczoo.base import BaseCodec, Decoded, Frames, KeyMap, Rule, Variant, contexts_of, dense_or_none
from codeczoo.codecs.bigcodec import BigCodecConfig, convolutional_encoder, module_rules
from codeczoo.codecs.xcodec2 import acoustic_names, transformers_key_map
from codeczoo.nn.conv import Conv1d, Length
from codeczoo.nn.fbank import BANDS, HOP, w2v_bert_features
from codeczoo.nn.fsq import ProjectedFSQ
from codeczoo.nn.hubert import Hubert, HubertConfig, hubert_rules
from codeczoo.nn.istft import ISTFTHead
from codeczoo.nn.local_attention import LocalTransformer, local_transformer_rules
from codeczoo.nn.padding import mask_tail
from codeczoo.nn.resnet_transformer import ResNetTransformer, resnet_transformer_rules
from codeczoo.nn.semantic_adapter import SemanticAdapter, adapter_rules
from codeczoo.nn.sequential import Layers, Linear
from codeczoo.nn.trend import PatchConv, TrendBlock, Unit, trend_rules, unit_rules
from codeczoo.nn.w2v_bert import W2vBert, w2v_bert_rules

CONTEXT_SECONDS = 5.0  # to each side of a chunk of a long clip


@dataclass(frozen=True)
class NeuCodecConfig:
    """The network's numbers, those of NeuCodec. The fields from `extractor_dim` on are DistillNeuCodec's alone."""

    sample_rate: int = 16000  # Hz, of the encoder
    output_sample_rate: int = 24000  # Hz, of the decoder
    strides: Sequence[int] = (2, 2, 4, 4, 5)  # of the acoustic encoder's convolutions
    encoder_dim: int = 48  # its channels at first; each stride doubles them
    dim: int = 1024  # of the semantic and of the acoustic latent
    adapter_dim: int = 1024
    semantic_layers: int = 16
    semantic_heads: int = 16
    semantic_hidden: int = 4096
    latent_dim: int = 2048  # that is quantised
    digits: Sequence[int] = (4,) * 8
    decoder_dim: int = 1024
    decoder_layers: int = 12
    decoder_heads: int = 16
    decoder_hidden: int = 4096
    windows_per_hop: int = 4  # n_fft = that many hops
    extractor_dim: int = 512  # of DistilHuBERT's convolutions
    depths: Sequence[int] = (1, 1, 1, 2)  # units a stage of the acoustic encoder
    trend_width: int = 4  # channels a branch of its trend block
    merge: int = 5  # steps of the wide transformer a frame
    window: int = 300  # frames
    local_dim: int = 512  # of the acoustic encoder's transformers
    local_heads: int = 6
    local_head_dim: int = 128
    distance_hidden: int = 256  # of their network of the distances
    wide_layers: int = 2
    local_layers: int = 3


class _Upsampling(BaseCodec):
    """What the two networks share: quantiser, decoder and facts. The encoders give `_encoder_output` and `_frames`."""

    Config = NeuCodecConfig
    config: NeuCodecConfig
    hop_length: int
    approximate_when_long = ("encode", "decode")
    min_chunk_seconds = 60.0

    def __init__(self, config: NeuCodecConfig, variant: Variant, hop_length: int) -> None:
        super().__init__(config, variant)
        self.sample_rate, self.hop_length = config.sample_rate, hop_length
        self.codebook_sizes = (math.prod(config.digits),)
        self.codebook_choices = (1,)
        self.encode_context, self.decode_context = contexts_of(CONTEXT_SECONDS, config.sample_rate, hop_length)
        self.latent_dim = self.vector_dim = config.latent_dim
        self.join = Linear(2 * config.dim, config.latent_dim)
        self.quantizer = ProjectedFSQ(config.latent_dim, config.digits, bounds=2)
        dim, hop = config.decoder_dim, hop_length * config.output_sample_rate // config.sample_rate
        self.part = Linear(config.latent_dim, dim)
        self.backbone = ResNetTransformer(dim, config.decoder_layers, config.decoder_heads, config.decoder_hidden)
        self.head = ISTFTHead(dim, config.windows_per_hop * hop, hop)

    @property
    def output_sample_rate(self) -> int:
        return self.config.output_sample_rate

    def _latents(self, waveform: Tensor, lengths: Tensor) -> Frames:
        return Frames(self._encoder_output(waveform, lengths), self._frames(lengths))

    def _encoder_output(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        """[B, 1, T] → what is quantised, [B, latent_dim, N]."""
        raise NotImplementedError

    def _frames(self, samples: Length) -> Length:
        raise NotImplementedError

    def _filled(self, waveform: Tensor, lengths: Tensor, more: int) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """The waveform with zeros up to `more` frames beyond the codes', and the lengths in frames and in samples."""
        own = self._frames(lengths)
        longest = self._frames(waveform.shape[-1])
        waveform = F.pad(waveform, (0, (longest + more) * self.hop_length - waveform.shape[-1]))
        frames = dense_or_none(own, longest)
        return waveform, frames, None if frames is None else (frames + more) * self.hop_length

    def _synthesize(self, frames: Frames, num_samples: Tensor) -> Decoded:
        vectors, lengths, _ = frames
        own = dense_or_none(lengths, vectors.shape[-1])
        x = self.part(vectors.mT).mT.contiguous()
        return Decoded(self.head(self.backbone(x, own), own)[:, None], lengths * self.head.hop_length)


class NeuCodec(_Upsampling):
    """NeuCodec (Neuphonic, 2025): one finite scalar codebook of 65536 for speech; it takes 16 kHz and gives 24 kHz.

    Speech [B, 1, T] at 16 kHz ↔ codes [B, 1, N] at 50 a second, N = floor(T / 320) and 1 at least: 0.8 kbit/s. Decoded
    audio is [B, 1, 1.5 T] at 24 kHz, with zeros behind N * 480 samples.

        codec = load_codec("neucodec")
        audio = codec.decode(codec.encode("talk.wav"))  # at 24 kHz
    """

    def __init__(self, config: NeuCodecConfig, variant: Variant) -> None:
        super().__init__(config, variant, math.prod(config.strides))
        dim = config.dim
        self.semantic = W2vBert(2 * BANDS, dim, config.semantic_layers, config.semantic_heads, config.semantic_hidden)
        self.adapter = SemanticAdapter(dim, config.adapter_dim)
        self.acoustic = convolutional_encoder(
            BigCodecConfig(encoder_dim=config.encoder_dim, strides=config.strides, latent_dim=dim, lstm_layers=0)
        )

    def _encoder_output(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        waveform, frames, samples = self._filled(waveform, lengths, 1)
        semantic = self.encode_semantic(self.features(waveform, samples), frames)
        acoustic = self.acoustic(waveform, samples)[..., :-1]
        return self.join(torch.cat([semantic, acoustic], dim=1).mT).mT

    def features(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """[B, 1, (N + 1) * 320] → [B, N, 160]."""
        return w2v_bert_features(waveform[:, 0], lengths)

    def encode_semantic(self, features: Tensor, lengths: Tensor | None = None) -> Tensor:
        """[B, N, 160] → [B, dim, N]."""
        return self.adapter(self.semantic(features, lengths).mT.contiguous(), lengths)

    def _frames(self, samples: Length) -> Length:
        frames = samples // self.hop_length
        return frames.clamp(min=1) if isinstance(frames, Tensor) else max(frames, 1)


class DistillNeuCodec(_Upsampling):
    """DistillNeuCodec (Neuphonic, 2025): NeuCodec's decoder with a small distilled encoder.

    Speech [B, 1, T] at 16 kHz ↔ codes [B, 1, N] at 50 a second, N = floor(T / 320) + 1: 0.8 kbit/s. Decoded audio is
    [B, 1, 1.5 T] at 24 kHz.

        codec = load_codec("distill_neucodec")
        audio = codec.decode(codec.encode("talk.wav"))  # at 24 kHz
    """

    def __init__(self, config: NeuCodecConfig, variant: Variant) -> None:
        super().__init__(config, variant, math.prod(config.strides) * config.merge)
        dim = config.dim
        self.semantic = Hubert(
            HubertConfig(
                config.semantic_layers,
                dim,
                config.semantic_heads,
                config.semantic_hidden,
                config.extractor_dim,
                projection_norm=False,
            )
        )
        self.adapter = SemanticAdapter(dim, config.adapter_dim)
        self.acoustic = _trend_encoder(config)
        self.widen = Linear(config.local_dim, dim)

    def _encoder_output(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        waveform, frames, samples = self._filled(waveform, lengths, 0)
        acoustic = self.widen(self.acoustic(waveform, samples).mT).mT
        semantic = self.encode_semantic(waveform, samples, frames)
        return self.join(torch.cat([semantic, acoustic], dim=1).mT).mT

    def encode_semantic(self, waveform: Tensor, samples: Tensor | None = None, frames: Tensor | None = None) -> Tensor:
        """[B, 1, N * 320] → [B, dim, N]; each item's length in samples and in frames."""
        padded = F.pad(mask_tail(waveform, samples), (HOP, HOP))
        states = self.semantic(padded, None if samples is None else samples + 2 * HOP)
        return self.adapter(states.mT.contiguous(), frames)

    def _frames(self, samples: Length) -> Length:
        return samples // self.hop_length + 1


def _trend_encoder(config: NeuCodecConfig) -> Layers:
    """SQCodec's without norms: waveform [B, 1, N * 320] → [B, local_dim, N]."""
    channels, dim, window = config.encoder_dim, config.local_dim, config.window
    sizes = {"num_heads": config.local_heads, "head_dim": config.local_head_dim, "bias_hidden": config.distance_hidden}
    layers: dict[str, nn.Module] = {"trend": TrendBlock(channels, config.trend_width)}
    for i, depth in enumerate(config.depths):
        layers |= {f"unit{i}_{j}": Unit(channels, norm=False) for j in range(depth)}
        if i < len(config.strides):
            layers[f"down{i}"] = PatchConv(channels, 2 * channels, config.strides[i])
            channels *= 2
    layers["out"] = Conv1d(channels, dim, 3)
    layers["wide"] = LocalTransformer(dim, config.wide_layers, window * config.merge, **sizes)
    layers["merge"] = PatchConv(dim, dim, config.merge)
    layers["local"] = LocalTransformer(dim, config.local_layers, window, **sizes)
    return Layers(layers)


# -- key maps -----------------------------------------------------------------------------------------

# Of both networks: what is computed here, belongs to training, or stands there twice.
UNUSED = (
    r"masked_spec_embed",
    r".+\.istft\.window",
    r"(SemanticDecoder|fc_post_s)\..+",
    r"generator\.backbone\.(embed|(prior|post)_net\.\d\.conv\d)\.weight_[gv]",
)


def _shared_rules() -> tuple[Rule, ...]:
    return (
        *adapter_rules("adapter", "SemanticEncoder_module"),
        Rule(r"join\.(\w+)", r"fc_prior.\1"),
        Rule(r"quantizer\.(.+)", r"generator.quantizer.\1"),
        Rule(r"part\.(\w+)", r"fc_post_a.\1"),
        *resnet_transformer_rules("backbone", "generator.backbone"),
        Rule(r"head\.(.+)", r"generator.head.\1"),
    )


NeuCodec.key_maps = (
    KeyMap(
        "neucodec",
        (*w2v_bert_rules("semantic", ""), *module_rules(acoustic_names()), *_shared_rules()),
        unused=(
            *UNUSED,
            r"encoder\.layers\.(1[6-9]|2\d)\..+",  # of w2v-BERT's 24, which nothing reads
            r".+\.(upsample|downsample\.lowpass)\.filter",  # computed here
        ),
    ),
    # Its repository has both forms: a folder of it is read as transformers reads it.
    transformers_key_map(
        "neucodec of transformers", (r"(CodecEnc|Semantic\w+|generator|fc_prior|fc_post_[as])\..+", *UNUSED)
    ),
)


def _distilled() -> KeyMap:
    ours, theirs, after = r"acoustic\.layers\.", "codec_encoder.encoder.blocks", "codec_encoder.en_encoder"
    rules = [
        *hubert_rules("semantic", ""),
        *trend_rules(ours + "trend", f"{theirs}.0"),
        Rule(ours + r"out\.(\w+)", rf"{theirs}.8.\1"),
        *local_transformer_rules(ours + "wide", f"{after}.down_trans.trans"),
        Rule(ours + r"merge\.(\w+)", rf"{after}.down_trans.down_layer.\1"),
        *local_transformer_rules(ours + "local", f"{after}.local_trans"),
        Rule(r"widen\.(\w+)", r"fc_sq_prior.\1"),
    ]
    for i in range(4):
        rules += unit_rules(rf"{ours}unit{i}", f"{theirs}.{2 * i + 1}")
        rules.append(Rule(rf"{ours}down{i}\.(\w+)", rf"{theirs}.{2 * i + 2}.0.\1"))
    return KeyMap(
        "distill-neucodec", (*rules, *_shared_rules()), unused=(*UNUSED, r"codec_encoder\.en_encoder\.cache_token")
    )


DistillNeuCodec.key_maps = (_distilled(),)
