"""FocalCodec and FocalCodec-Stream: speech in one binary codebook, 12.5 to 50 tokens a second.

Papers: "FocalCodec: Low-Bitrate Speech Coding via Focal Modulation Networks" (arXiv 2502.04465) and "FocalCodec-Stream:
Streaming Low-Bitrate Speech Coding via Causal Distillation" (arXiv 2509.16195). Upstream: lucadellalib/focalcodec, two
releases with different names of the same tensors.

    encoder: the first six layers of WavLM large; compressor: focal modulation (arXiv 2203.11926) at falling widths
    quantiser: the signs of 11 to 16 values are the bits of the token, the first value is the highest
    decompressor: the compressor mirrored; decoder: Vocos (ConvNeXt and inverse STFT)

The streaming networks take 16 kHz and give 24 kHz; a group of four frames (80 ms) sees all of itself and nothing later.
Their last focal context is a convolution over 512 frames instead of the mean over the clip, a refiner mixes the frames
of a group, and the decoder's head gives samples (WaveNeXt). All convolutions up to the decoder's repeat their first
input before a clip's start; the decoder's have zeros there.

Followed as published: without groups, a map that is shorter than a kernel is filled up with zeros to it. Not followed:
every clip of a ragged batch has its own mean and its own ends (upstream's means and convolutions see the padding).

Attention and means see the whole clip in the other networks. Long clips are encoded whole up to a minute, beyond that
in windows with 5 s of context. Tokens (bits) that differ from those of the whole, 60 s at 50 Hz, golden weights, which
are noise (not measured with the published ones): in windows of 20, 30, 40 s, 40, 32, 25 % (3.9, 2.9, 2.2 %). Decoding
is exact at any length.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from codeczoo.base import (
    BaseCodec,
    Decoded,
    Frames,
    FrameSource,
    KeyMap,
    Rule,
    Variant,
    compare_settings,
    contexts_of,
    dense_or_none,
    join_chunks,
    release_memory_between,
)
from codeczoo.nn.causal_wavlm import CausalWavLM
from codeczoo.nn.conv import Conv1d, Length
from codeczoo.nn.focal import CompressorLayer, DecompressorLayer, FocalStack, Refiner
from codeczoo.nn.frame_groups import FrameGroups
from codeczoo.nn.hubert import FeatureExtractor, HubertConfig
from codeczoo.nn.padding import zero_tail_
from codeczoo.nn.sequential import Linear
from codeczoo.nn.sign_quantizer import SignQuantizer
from codeczoo.nn.wavenext import Vocos, WaveNeXt
from codeczoo.nn.wavlm import WavLM

State = dict[str, Any]

FRAME_RATE = 50  # Hz, of WavLM and of the decoder
FOCAL_LEVELS = 2  # convolutions of growing kernels; the global context is one more
CONTEXT_SECONDS = 5.0  # to each side of a window of a long clip


@dataclass(frozen=True)
class FocalCodecConfig:
    """The network's numbers, those of FocalCodec at 50 Hz."""

    sample_rate: int = 16000  # Hz
    output_sample_rate: int = 16000
    bits: int = 13  # of a token
    semantic_layers: int = 6
    semantic_dim: int = 1024
    semantic_heads: int = 16
    semantic_hidden: int = 4096
    extractor_dim: int = 512  # of WavLM's convolutions
    widths: Sequence[int] = (1024, 512, 256)  # of the compressor; the decompressor has them mirrored
    strides: Sequence[int] = (1, 1, 1)  # likewise
    focal_window: int = 7  # the kernel of the first level
    focal_factor: int = 2  # by which a level's kernel is longer than that of the level before
    decoder_dim: int = 512
    decoder_hidden: int = 1536
    decoder_layers: int = 8
    n_fft: int = 1024  # where the decoder ends in an inverse STFT
    # Streaming
    group: int = 0  # frames that see each other; 0 = not causal
    attention_window: int = 512  # frames
    context_window: int = 512  # frames of the global context


class FilledExtractor(FeatureExtractor):
    """`FeatureExtractor` that fills a map shorter than a kernel up with zeros, so that every clip has a frame."""

    def out_length(self, length: Length) -> Length:
        for conv in cast("list[Conv1d]", list(self.convs)):
            least = length.clamp(min=conv.span) if isinstance(length, Tensor) else max(length, conv.span)
            length = conv.out_length(least)
        return length

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = zero_tail_(x, lengths, conv.span)
            short = conv.span - x.shape[-1]
            x = conv(F.pad(x, (0, short)) if short > 0 else x)  # padding by nothing would copy the map
            lengths = None if lengths is None else conv.out_length(lengths.clamp(min=conv.span))
            x = F.gelu(norm(x.mT).mT)
        return x


class FocalCodec(BaseCodec):
    """FocalCodec, a speech codec of one binary codebook on WavLM's features (2025), and FocalCodec-Stream, its causal
    form.

    Waveform [B, 1, T] at 16 kHz ↔ codes [B, 1, N] at 12.5, 25 or 50 a second, of 11 to 16 bits each. The causal
    variants decode to 24 kHz and stream: chunks of whole 80 ms (four frames) give all of their codes at once, other
    chunks give theirs 80 ms later.

        codec = load_codec("focalcodec_50hz")
        codes = codec.encode("speech.wav")
        audio = codec.decode(codes)
    """

    onnx_unsupported: ClassVar[Mapping[str, str]] = {
        "encoder": "torch.export (2.13) had not recorded it after 20 minutes, even of a small network; which layer "
        "holds it up was not found"
    }
    Config = FocalCodecConfig
    config: FocalCodecConfig
    hop_length: int

    def __init__(self, config: FocalCodecConfig, variant: Variant) -> None:
        super().__init__(config, variant)
        self.sample_rate = config.sample_rate
        self.hop_length = config.sample_rate // FRAME_RATE * math.prod(config.strides)
        self.codebook_sizes, self.codebook_choices = (2**config.bits,), (1,)
        self.causal = config.group > 0
        if self.causal:
            self.latency = config.group / FRAME_RATE
        else:
            self.approximate_when_long, self.min_chunk_seconds = ("encode",), 60.0
            self.encode_context, _ = contexts_of(CONTEXT_SECONDS, config.sample_rate, self.hop_length)
        self.latent_dim = self.vector_dim = config.bits
        self.encoder = _wavlm(config)
        kernels = [config.focal_window + level * config.focal_factor for level in range(FOCAL_LEVELS)]
        focal = (kernels + [config.context_window] * self.causal, self.causal)
        dims = (config.semantic_dim, *config.widths)
        steps = list(zip(dims, dims[1:], config.strides, strict=False))
        self.compressor = FocalStack(CompressorLayer(a, b, stride, *focal) for a, b, stride in steps)
        self.compressor_proj = Linear(dims[-1], config.bits)
        self.quantizer = SignQuantizer(config.bits)
        self.decompressor_proj = Linear(config.bits, dims[-1])
        self.decompressor = FocalStack(DecompressorLayer(b, a, stride, *focal) for a, b, stride in reversed(steps))
        self.refiner = Refiner(dims[0], config.group) if self.causal else None
        decoder = (dims[0], config.decoder_dim, config.decoder_hidden, config.decoder_layers)
        hop = config.output_sample_rate // FRAME_RATE
        self.decoder = WaveNeXt(*decoder, hop) if self.causal else Vocos(*decoder, hop, config.n_fft)
        self.encode_groups = FrameGroups(config.group, self.hop_length, 1)
        self.decode_groups = FrameGroups(config.group, 1, self._samples_per_code)

    @property
    def output_sample_rate(self) -> int:
        return self.config.output_sample_rate

    # -- encode ---------------------------------------------------------------------------------

    def _latents(self, waveform: Tensor, lengths: Tensor) -> Frames:
        """[B, bits, N], before upstream's normalisation, which keeps the signs."""
        own, frames = dense_or_none(lengths, waveform.shape[-1]), self.encoder.out_length(lengths)
        latent = self.compress(self.encoder(waveform, own), None if own is None else frames)
        for layer in self.compressor:
            frames = layer.out_length(frames)
        return Frames(latent, frames)

    def compress(self, features: Tensor, lengths: Tensor | None = None) -> Tensor:
        """WavLM's last state [B, N', semantic_dim] → [B, bits, N]."""
        return self.compressor_proj(self.compressor(features.mT, lengths).mT).mT

    # -- decode ---------------------------------------------------------------------------------

    def _synthesize(self, frames: Frames, num_samples: Tensor) -> Decoded:
        vectors, lengths, _ = frames
        own = dense_or_none(lengths, vectors.shape[-1])
        x = self.decompress(vectors, own)
        waveform = self.decoder(x, None if own is None else own * self._frames_per_code)
        return Decoded(waveform[:, None], lengths * self._samples_per_code)

    def decompress(self, quantized: Tensor, lengths: Tensor | None = None) -> Tensor:
        """[B, bits, N] → features [B, semantic_dim, N'] at 50 Hz."""
        x = self.decompressor(self.decompressor_proj(quantized.mT).mT, lengths)
        return x if self.refiner is None else self.refiner(x, lengths)

    def _synthesize_long(self, source: FrameSource, lengths: Tensor, num_samples: Tensor, frames: int) -> Decoded:
        """Without groups: features of the whole clip, whose means need all of it, and samples from them in chunks."""
        if self.causal:
            return super()._synthesize_long(source, lengths, num_samples, frames)
        x = self.decompress(source(0, int(lengths[0])).values)
        reach, hop = self.decoder.reach, self._samples_per_code // self._frames_per_code

        def pieces() -> Iterator[Tensor]:
            step = frames * self._frames_per_code
            for start in release_memory_between(range(0, x.shape[-1], step)):
                first, stop = max(start - reach, 0), min(start + step, x.shape[-1])
                waveform = self.decoder(x[..., first : stop + reach].clone())
                yield waveform[:, (start - first) * hop : (stop - first) * hop]

        return Decoded(join_chunks(pieces(), x.shape[-1] * hop)[:, None], lengths * self._samples_per_code)

    @property
    def _samples_per_code(self) -> int:
        assert self.output_hop_length is not None
        return self.output_hop_length

    @property
    def _frames_per_code(self) -> int:
        return self._samples_per_code * FRAME_RATE // self.output_sample_rate

    # -- streaming ------------------------------------------------------------------------------

    def _stream_encode_start(self, batch_size: int) -> State:
        wavlm = cast("CausalWavLM", self.encoder)
        network = {"encoder": wavlm.initial_state(batch_size), "compressor": self.compressor.initial_state(batch_size)}
        x = self.compressor_proj.weight.new_zeros(batch_size, 1, 0)
        return self.encode_groups.initial_state(network, x, x.expand(-1, self.latent_dim, -1))

    def _stream_latents_warmup(self, waveform: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        return self.encode_groups.step(waveform, state, self._encode_groups)

    def _stream_encode_is_warm(self, state: State) -> bool:
        return self.encode_groups.is_running(state)

    def _stream_latents_flush(self, rest: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, Tensor]:
        return self.encode_groups.flush(rest, lengths, state, self._encode_groups)

    def _encode_groups(self, waveform: Tensor, state: State, own: Tensor | None) -> tuple[Tensor, State]:
        before = state["encoder"]["frames"]
        x, encoder = cast("CausalWavLM", self.encoder).step(waveform, state["encoder"], own)
        y, compressor = self.compressor.step(x.mT, state["compressor"], before)
        return self.compressor_proj(y.mT).mT, {"encoder": encoder, "compressor": compressor}

    def _stream_decode_start(self, batch_size: int) -> State:
        waveform = self.decompressor_proj.weight.new_zeros(batch_size, 1, 0)
        network = {
            "frames": torch.zeros(batch_size, dtype=torch.int64, device=waveform.device),
            "decompressor": self.decompressor.initial_state(batch_size),
            "decoder": self.decoder.initial_state(batch_size),
        }
        return self.decode_groups.initial_state(network, waveform.expand(-1, self.vector_dim, -1), waveform)

    def _stream_synthesize_warmup(self, vectors: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        return self.decode_groups.step(vectors, state, self._decode_groups)

    def _stream_decode_is_warm(self, state: State) -> bool:
        return self.decode_groups.is_running(state)

    def _stream_decode_flush(self, state: State) -> tuple[Tensor, Tensor]:
        nothing = state["held"][..., :0]
        return self.decode_groups.flush(nothing, torch.zeros_like(state["frames"]), state, self._decode_groups)

    def _decode_groups(self, vectors: Tensor, state: State, own: Tensor | None) -> tuple[Tensor, State]:
        assert self.refiner is not None
        x = self.decompressor_proj(vectors.mT).mT
        x, decompressor = self.decompressor.step(x, state["decompressor"], state["frames"])
        waveform, decoder = self.decoder.step(self.refiner(x, own), state["decoder"])
        frames = state["frames"] + vectors.shape[-1]
        return waveform[:, None], {"frames": frames, "decompressor": decompressor, "decoder": decoder}

    # -- weights --------------------------------------------------------------------------------

    def check_metadata(self, metadata: Mapping[str, Any]) -> None:
        """Compare the `config.json` beside a checkpoint with this variant, also for
        what leaves no trace in tensors.

        Raises:
            ValueError: they differ; every difference is listed.
        """
        there: dict[str, Any] = {}
        for part, settings in metadata.get("config", {}).items():
            if isinstance(settings, Mapping):
                there |= {f"{part}.{name}": value for name, value in settings.items()}
        compare_settings(there, _settings(self.config))


def _wavlm(config: FocalCodecConfig) -> WavLM:
    numbers = HubertConfig(
        config.semantic_layers,
        config.semantic_dim,
        config.semantic_heads,
        config.semantic_hidden,
        config.extractor_dim,
        extractor_norm="layer",
        pre_norm=True,
        encoder_norm=False,
        causal=config.group > 0,
    )
    if config.group:
        return CausalWavLM(numbers, config.attention_window, config.group)
    wavlm = WavLM(numbers)
    wavlm.extractor = FilledExtractor(numbers)
    return wavlm


def _settings(config: FocalCodecConfig) -> dict[str, Any]:
    """Upstream's names of our numbers."""
    focal = {"focal_window": config.focal_window, "focal_level": FOCAL_LEVELS, "focal_factor": config.focal_factor}
    focal |= dict.fromkeys(("use_post_norm", "use_layerscale", "normalize_modulator"), False)
    encoder: dict[str, Any] = {"num_layers": config.semantic_layers, "dim": config.semantic_dim}
    encoder |= {"num_heads": config.semantic_heads, "ffn_dim": config.semantic_hidden}
    compressor = {**focal, "hidden_dims": config.widths, "downscale_factors": config.strides}
    decompressor = {**focal, "hidden_dims": config.widths[::-1], "upscale_factors": config.strides[::-1]}
    decoder: dict[str, Any] = {"num_layers": config.decoder_layers, "dim": config.decoder_dim}
    decoder |= {"ffn_dim": config.decoder_hidden, "hop_length": config.output_sample_rate // FRAME_RATE}
    for part in (encoder, compressor, decompressor, decoder):
        part["causal"] = config.group > 0
    if config.group:
        encoder |= {"window_size": config.attention_window, "lookahead_size": config.group - 1}
        compressor["window_size"] = config.context_window
        decompressor |= {"window_size": config.context_window, "lookahead_size": config.group - 1}
    else:
        decoder["n_fft"] = config.n_fft
    parts = {"encoder": encoder, "compressor": compressor, "decompressor": decompressor, "decoder": decoder}
    parts["quantizer"] = {"codebook_size": 2**config.bits}
    return {f"{part}_config.{name}": value for part, numbers in parts.items() for name, value in numbers.items()}


# -- key maps -----------------------------------------------------------------------------------------


def _key_map(release: str, qkv: tuple[str, ...], down: str, block: str, up_block: str, up: str) -> KeyMap:
    """`qkv`: the projections of attention; the others: the parts of the compressor's and the decompressor's layers."""
    wavlm, layer = "encoder.encoder.", r"encoder\.layers\.(\d+)\."
    to = rf"{wavlm}layers.\1."
    rules = [
        Rule(r"encoder\.extractor\.convs\.(\d+)\.(\w+)", r"encoder.feature_extractor.layers.\1.conv.\2"),
        Rule(r"encoder\.extractor\.norms\.(\d+)\.(\w+)", r"encoder.feature_extractor.layers.\1.norm.\2"),
        Rule(r"encoder\.projection_norm\.(\w+)", r"encoder.norm.\1"),
        Rule(r"encoder\.project\.(\w+)", r"encoder.feature_proj.\1"),
        Rule(r"encoder\.position\.(\w+)", rf"{wavlm}positional_embedding.conv.\1"),
        Rule(r"encoder\.distances", f"{wavlm}relative_embedding.weight"),
        Rule(layer + r"norm1\.(\w+)", rf"{to}attention_norm.\2"),
        Rule(layer + r"norm2\.(\w+)", rf"{to}feed_forward_norm.\2"),
        Rule(layer + r"attention\.in_proj\.(\w+)", tuple(rf"{to}attention.{x}.\2" for x in qkv), _join),
        Rule(layer + r"attention\.gate\.(\w+)", rf"{to}attention.gru_rel_pos_linear.\2"),
        Rule(layer + "attention.gate_scale", rf"{to}attention.gru_rel_pos_const"),
        Rule(layer + r"attention\.out_proj\.(\w+)", rf"{to}attention.out_proj.\2"),
        *_feed_forward(layer, to),
        Rule(r"compressor_proj\.(\w+)", r"compressor.out_proj.\1"),
        Rule(r"decompressor_proj\.(\w+)", r"decompressor.in_proj.\1"),
    ]
    for side, inner, scale, ours in (("compressor", block, down, "down"), ("decompressor", up_block, up, "up")):
        at, there = rf"{side}\.layers\.(\d+)\.", rf"{side}.layers.\1."
        focal, focal_there = rf"{at}block\.", f"{there}{inner}."
        rules += [
            Rule(rf"{at}{ours}\.(\w+)", rf"{there}{scale}.{ours}scale.\2"),
            Rule(rf"{at}snake\.alpha", f"{there}{scale}.activation.alpha", lambda alpha: alpha[None]),
            Rule(rf"{focal}norm1\.(\w+)", rf"{focal_there}modulation_norm.\2"),
            Rule(rf"{focal}norm2\.(\w+)", rf"{focal_there}feed_forward_norm.\2"),
            Rule(rf"{focal}modulation\.convs\.(\d+)\.(\w+)", rf"{focal_there}modulation.layers.\2.0.\3"),
            Rule(
                rf"{focal}modulation\.context_proj\.weight",
                f"{focal_there}modulation.context_proj.weight",
                lambda weight: weight.squeeze(-1),  # a convolution of one step
            ),
            Rule(rf"{focal}modulation\.(.+)", rf"{focal_there}modulation.\2"),
            *_feed_forward(focal, focal_there),
        ]
    backbone = "decoder.backbone."
    rules += [
        *_feed_forward(r"refiner\.", "decompressor.refiner.", flat=True),
        Rule(r"decoder\.embed\.(\w+)", rf"{backbone}embedding.\1"),
        Rule(r"decoder\.norm\.(\w+)", rf"{backbone}input_norm.\1"),
        Rule(r"decoder\.convnext\.(.+)", rf"{backbone}layers.\1"),
        Rule(r"decoder\.final_layer_norm\.(\w+)", rf"{backbone}output_norm.\1"),
        Rule(r"decoder\.head\.(?:out\.)?(\w+)", r"decoder.head.proj.\1"),
    ]
    return KeyMap(f"focalcodec {release}", tuple(rules), unused=(r"encoder\.encoder\.norm\.\w+", r"quantizer\.mask"))


def _feed_forward(ours: str, theirs: str, flat: bool = False) -> tuple[Rule, ...]:
    last = rf"\{ours.count('(') + 1}"
    inner = theirs if flat else f"{theirs}feed_forward."
    return tuple(
        Rule(rf"{ours}feed_forward\.linear{i}\.(\w+)", f"{inner}{name}.{last}")
        for i, name in ((1, "in_proj"), (2, "out_proj"))
    )


def _join(*parts: Tensor) -> Tensor:
    return torch.cat(parts)


FocalCodec.key_maps = (
    _key_map("0.0.1", ("q_proj", "k_proj", "v_proj"), "0", "1", "0", "1"),
    _key_map("0.0.2", ("qkv_proj",), "downscale", "focal_block", "focal_block", "upscale"),
)
