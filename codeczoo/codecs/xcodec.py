"""X-Codec: the latent of a DAC joined with what a speech model hears; eight codebooks at 50 frames a second.

Paper: "Codec Does Matter: Exploring the Semantic Shortcoming of Codec for Audio Language Model" (arXiv 2408.17175).
Upstream: zhenye234/xcodec, and the same network in Hugging Face transformers; the checkpoints of both load.

    encoder: HuBERT or WavLM, the mean of its 13 hidden states, and residual convolutions; DAC's encoder; both joined by
        a linear layer
    quantiser: residual, by Euclidean distance, in the joint 1024 dimensions
    decoder: a linear layer, DAC's decoder without its last tanh

The speech model gives floor((T + 240) / 320) frames of T samples. Where the acoustic encoder would give another number
(T mod 320 from 80 to 311), it is given 160 zeros on both sides, so that its alignment moves by 10 ms with the length of
the clip. Upstream does so, and so do we, item by item. A clip of less than 80 samples is filled with zeros to 80, the
least that make a frame; upstream cannot code it. The audio is not normalised first.

The speech model's group norm and attention see the whole clip: long clips go whole up to a minute, beyond that they are
encoded in windows with 5 s of context to each side. Decoding is convolutions alone and exact in passes.
"""

from __future__ import annotations

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
    Frames,
    KeyMap,
    Rule,
    Variant,
    dense_or_none,
    release_memory_between,
)
from codeczoo.base.exporting import exporting
from codeczoo.codecs.dac import DACConfig, Encoder, descript_names, transformers_names
from codeczoo.nn.cache_tiling import run_tiled
from codeczoo.nn.conv import Conv1d, Length
from codeczoo.nn.hubert import Hubert, HubertConfig
from codeczoo.nn.quantizer import Quantizer
from codeczoo.nn.receptive_field import convolutions_of, out_length, receptive_span
from codeczoo.nn.rvq import ResidualVQ, codebook_rule
from codeczoo.nn.sequential import Layers, Linear
from codeczoo.nn.snake import SnakeConv, SnakeUp
from codeczoo.nn.wavlm import WavLM, wavlm_rules

SPEECH_RATE = 16000  # Hz, of the speech model
MARGIN = 160  # zeros on both sides of its input
BLOCKS = 2  # of the semantic encoder
CONTEXT_SECONDS = 5.0  # to each side of a window of a long clip


@dataclass(frozen=True)
class XCodecConfig:
    """The network's numbers."""

    sample_rate: int = 16000  # Hz
    strides: Sequence[int] = (8, 5, 4, 2)  # of the encoder and of the decoder, in this order
    encoder_dim: int = 64
    decoder_dim: int = 1024
    acoustic_dim: int = 256
    num_codebooks: int = 8
    codebook_size: int = 1024
    codebook_choices: Sequence[int] = (1, 2, 3, 4, 8)
    semantic: str = "hubert"  # or "wavlm"
    semantic_layers: int = 12
    semantic_dim: int = 768
    semantic_heads: int = 12
    semantic_hidden: int = 3072
    semantic_extractor: int = 512

    @property
    def dim(self) -> int:
        """Of both latents together."""
        return self.acoustic_dim + self.semantic_dim


class ResidualUnit(nn.Module):
    """[B, C, N] → [B, C, N]."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = Conv1d(dim, dim, 3, bias=False), Conv1d(dim, dim, 1, bias=False)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        y = F.elu(self.conv1(F.elu(x), lengths), inplace=True)
        return self.conv2(y).add_(x)


def semantic_encoder(dim: int) -> Layers:
    """[B, C, N] → [B, C, N]."""
    layers: list[nn.Module] = [Conv1d(dim, dim, 3, bias=False)]
    for _ in range(BLOCKS):
        layers += [ResidualUnit(dim), ResidualUnit(dim), Conv1d(dim, dim, 3)]
    return Layers(layers)


class Decoder(nn.Module):
    """Latent [B, acoustic_dim, N] → waveform [B, 1, N * hop]."""

    def __init__(self, config: XCodecConfig) -> None:
        super().__init__()
        channels = config.decoder_dim
        self.first = Conv1d(config.acoustic_dim, channels, 7)
        self.blocks = nn.ModuleList()
        for stride in config.strides:
            trim = (-(-stride // 2), stride // 2)  # of odd strides, too, N * stride come out
            self.blocks.append(SnakeUp(channels, 2 * stride, stride, trim))
            channels //= 2
        self.last = SnakeConv(channels, 1, 7)

    def forward(self, latent: Tensor, lengths: Tensor | None = None) -> Tensor:
        x = self.first(latent, lengths)
        for block in self.blocks[:-1]:
            x, lengths = run_tiled([block], x, lengths)
        return run_tiled([self.blocks[-1], self.last], x, lengths)[0]


class XCodec(BaseCodec):
    """X-Codec (AAAI 2025): a DAC whose codes also carry the features of a speech model (HuBERT or WavLM).

    Audio [B, 1, T] at 16 kHz ↔ codes [B, K, N] at 50 frames a second, K 1, 2, 3, 4 or 8.

        codec = load_codec("xcodec_hubert_librispeech")
        audio = codec.decode(codec.encode("talk.wav"))
    """

    Config = XCodecConfig
    config: XCodecConfig
    hop_length: int
    approximate_when_long = ("encode",)
    min_chunk_seconds = 60.0
    shortest = 80  # samples that make a frame
    margin = 160  # zeros on both sides of the acoustic encoder's input, where it gets any
    semantic_step = 1  # the speech model's frames for each of ours, of which the first is taken

    def __init__(self, config: XCodecConfig, variant: Variant) -> None:
        super().__init__(config, variant)
        self.sample_rate = config.sample_rate
        self.hop_length = math.prod(config.strides)
        self.codebook_sizes = (config.codebook_size,) * config.num_codebooks
        self.codebook_choices = tuple(config.codebook_choices)
        self.semantic_model = {"hubert": Hubert, "wavlm": WavLM}[config.semantic](
            HubertConfig(
                config.semantic_layers,
                config.semantic_dim,
                config.semantic_heads,
                config.semantic_hidden,
                config.semantic_extractor,
            )
        )
        self.semantic_encoder = semantic_encoder(config.semantic_dim)
        self.encoder = Encoder(
            DACConfig(
                config.sample_rate,
                encoder_rates=config.strides,
                decoder_rates=(),
                num_codebooks=0,
                encoder_dim=config.encoder_dim,
                latent_dim=config.acoustic_dim,
            )
        )
        self.latent_dim = self.vector_dim = config.dim
        self.join = Linear(config.dim, config.dim)
        self.quantizer = self.make_quantizer()
        self.part = Linear(config.dim, config.acoustic_dim)
        self.decoder = Decoder(config)
        first, last = receptive_span(convolutions_of(self.decoder), 0, self.hop_length - 1)
        self.decode_context = Context(-first, last)

    def make_quantizer(self) -> Quantizer:
        return ResidualVQ(self.config.num_codebooks, self.config.codebook_size, self.config.dim)

    # -- encode ---------------------------------------------------------------------------------

    def _latents(self, waveform: Tensor, lengths: Tensor) -> Frames:
        waveform = F.pad(waveform, (0, max(self.shortest - waveform.shape[-1], 0)))
        lengths = lengths.clamp(min=self.shortest)
        own, frames = dense_or_none(lengths, waveform.shape[-1]), self.frames(lengths)
        speech, speech_lengths = self.speech_input(waveform, own)
        semantic = self.semantic_features(speech, speech_lengths)
        acoustic, acoustic_lengths = self.acoustic_input(waveform, own)
        return Frames(self.latent(semantic, acoustic, None if own is None else frames, acoustic_lengths), frames)

    def frames(self, samples: Length) -> Length:
        """Frames of `length` samples: int or tensor."""
        speech = self.speech_samples(samples) + 2 * MARGIN
        return -(-self.semantic_model.out_length(speech) // self.semantic_step)

    def speech_samples(self, samples: Length) -> Length:
        """At the speech model's rate."""
        return samples

    def speech_input(self, waveform: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """What the speech model is given, and the lengths of it."""
        return F.pad(waveform, (MARGIN, MARGIN)), None if lengths is None else lengths + 2 * MARGIN

    def acoustic_input(self, waveform: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """What the acoustic encoder is given: zeros on both sides of those items that would have other frames."""
        both, margin = 2 * self.margin, self.margin
        if exporting():  # one frame is the most that they differ by
            lacking = self.frames(waveform.shape[-1]) - out_length(convolutions_of(self.encoder), waveform.shape[-1])
            return F.pad(waveform, (margin * lacking, margin * lacking)), None
        if lengths is None:
            return F.pad(waveform, (margin, margin)) if self.moved(waveform.shape[-1]) else waveform, None
        moved = self.moved(lengths)
        padded, plain = F.pad(waveform, (margin, margin)), F.pad(waveform, (0, both))
        return torch.where(moved[:, None, None], padded, plain), lengths + moved * both

    def moved(self, samples: Length) -> Length:
        """Whether the acoustic encoder would give another number of frames: bool or tensor."""
        return out_length(convolutions_of(self.encoder), samples) != self.frames(samples)

    def semantic_features(self, speech: Tensor, lengths: Tensor | None = None) -> Tensor:
        """What `speech_input` gave → the mean of all hidden states, [B, semantic_dim, N]."""
        states = self.semantic_model.states(speech, lengths)
        total, count = next(states).clone(), 1
        for state in states:
            total, count = total.add_(state), count + 1
        return total[:, :: self.semantic_step].div_(count).mT.contiguous()

    def latent(
        self, semantic: Tensor, acoustic: Tensor, frames: Tensor | None = None, samples: Tensor | None = None
    ) -> Tensor:
        """Features [B, semantic_dim, N] of `frames` and acoustic input [B, 1, T] of `samples` → [B, dim, N]."""
        semantic = self.semantic_encoder(semantic, frames)
        latent, _ = self.encoder(acoustic, samples)
        return self.join(torch.cat([latent[..., : semantic.shape[-1]], semantic], dim=1).mT).mT

    def _latents_long(self, waveform: Tensor, lengths: Tensor, samples: int) -> Iterator[Frames]:
        """One clip in windows, the acoustic encoder aligned in each as in the whole. Only the speech model, which sees
        no more than a window, makes other features."""
        waveform, hop = waveform[..., : int(lengths[0])], self.hop_length
        total, moved = self.frames(waveform.shape[-1]), self.moved(waveform.shape[-1])
        (speech, _), (acoustic, _) = self.speech_input(waveform, None), self.acoustic_input(waveform, None)
        speech_hop = hop * SPEECH_RATE // self.sample_rate
        context = round(CONTEXT_SECONDS * self.sample_rate / hop)
        step = max(samples // hop - 2 * context, context)
        for start in release_memory_between(range(0, total, step)):
            first, last = max(start - context, 0), min(start + step + context, total)
            heard, given = (
                x[..., first * each : None if last == total else last * each + more]
                for x, each, more in ((speech, speech_hop, 2 * MARGIN), (acoustic, hop, 2 * self.margin * moved))
            )
            latent = self.latent(self.semantic_features(heard), given)
            latent = latent[..., start - first :][..., :step]
            yield Frames(latent, lengths.new_tensor([latent.shape[-1]]))

    # -- decode ---------------------------------------------------------------------------------

    def _synthesize(self, frames: Frames, num_samples: Tensor) -> Decoded:
        lengths, latent = frames.lengths, self.part(frames.values.mT).mT.contiguous()
        return Decoded(self.decoder(latent, dense_or_none(lengths, latent.shape[-1])), lengths * self.hop_length)


# -- key maps -----------------------------------------------------------------------------------------

TRAINING = (r"decoder_semantic\..+", r"fc_post1\.\w+", r"fc1\.\w+", r"semantic_model\.masked_spec_embed",
            r"quantizer\..+codebook\.(inited|cluster_size|embed_avg)")  # fmt: skip


def semantic_modules(inner: str) -> dict[str, str]:
    """Our module names → the published ones; `inner`: what the authors call a convolution inside its padding."""
    ours, theirs = "semantic_encoder.layers", "encoder_semantic"
    names = {f"{ours}.0": f"{theirs}.conv{inner}"}
    for i in range(BLOCKS):
        block = f"{theirs}.conv_blocks.{i}"
        for j in range(2):
            names[f"{ours}.{3 * i + 1 + j}.conv1"] = f"{block}.res_units.{j}.conv1{inner}"
            names[f"{ours}.{3 * i + 1 + j}.conv2"] = f"{block}.res_units.{j}.conv2"
        names[f"{ours}.{3 * i + 3}"] = f"{block}.conv{inner}"
    return names


def key_maps(family: str, stages: int, authors: Sequence[Rule], transformers: Sequence[Rule]) -> tuple[KeyMap, KeyMap]:
    """Both namings, with the rules of the quantiser in each."""

    def key_map(name: str, modules: Mapping[str, str], quantizer: Sequence[Rule]) -> KeyMap:
        return KeyMap(
            name,
            (
                *quantizer,
                *(Rule(rf"{re.escape(ours)}\.(\w+)", rf"{theirs}.\1") for ours, theirs in modules.items()),
                *wavlm_rules("semantic_model", "semantic_model"),
            ),
            unused=TRAINING,
        )

    linears = {"join": "fc_prior", "part": "fc_post2"}, {"join": "fc", "part": "fc2"}
    return (
        key_map(
            family,
            {**descript_names(stages, decoder="decoder_2.model"), **semantic_modules(".conv"), **linears[0]},
            authors,
        ),
        key_map(
            f"{family} of transformers",
            {
                **transformers_names(stages, "acoustic_encoder", "acoustic_decoder"),
                **semantic_modules(""),
                **linears[1],
            },
            transformers,
        ),
    )


def codebooks(theirs: str) -> Rule:
    """The tables, one published tensor a level; `theirs` has {} for its number."""
    return codebook_rule(r"quantizer\.codebooks", theirs, XCodecConfig.num_codebooks)


AUTHORS, TRANSFORMERS = "quantizer.vq.layers.{}._codebook.embed", "quantizer.quantizers.{}.codebook.embed"
XCodec.key_maps = key_maps("xcodec", len(XCodecConfig.strides), [codebooks(AUTHORS)], [codebooks(TRANSFORMERS)])
