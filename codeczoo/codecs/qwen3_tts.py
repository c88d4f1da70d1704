"""Qwen3-TTS-Tokenizer-12Hz, the codec of Qwen3-TTS.

Paper: "Qwen3-TTS Technical Report" (arXiv 2601.15621). Upstream: QwenLM/Qwen3-TTS (PyPI `qwen-tts`).

The encoder is Mimi's (arXiv 2410.00037) with 16 of its 32 codebooks; the decoder is new: a transformer at 12.5 frames a
second, two ConvNeXt blocks that double the rate, and DAC's generator with SnakeBeta. Each side has its own codebooks in
the file. Both sides are causal.

Differences from `codecs/mimi.py`: the clip is not filled up with zeros to whole frames. Each strided convolution
completes its own last window (the last of them by repeating its last step), so the last frame of a clip whose length
is no multiple of 1920 samples differs from that of the same clip followed by zeros. Upstream encodes a ragged batch
padded with zeros, and gets that other last frame; here each clip is encoded as if alone.

The encoder's attention window of 10 s holds in whole clips too. (transformers 4.57.3, which upstream asks for, keeps it
under flash attention and drops it under PyTorch's own.) `decode` decodes a clip in one piece, where upstream cuts it
after each 300 frames; `decode_in_chunks` gives upstream's audio.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from codeczoo.base import Decoded, Frames, KeyMap, Rule, Variant, dense_or_none
from codeczoo.codecs.gguf import qwen3_tts as gguf
from codeczoo.codecs.mimi import MimiEncoder
from codeczoo.nn.attention import Attention
from codeczoo.nn.conv import Conv1d, ConvTranspose1d
from codeczoo.nn.convnext import CausalConvNeXtBlock
from codeczoo.nn.mixture_of_experts import SwiGLU
from codeczoo.nn.quantizer import Quantizer, passed_through
from codeczoo.nn.rotary import Rotary
from codeczoo.nn.rvq import ResidualVQ, mean_codebook_rule
from codeczoo.nn.seanet import ResidualUnit, SEANetEncoder, SEANetStack, seanet_rules_transformers
from codeczoo.nn.sequential import Linear
from codeczoo.nn.snake import SnakeBeta
from codeczoo.nn.transformer import FeedForward, Transformer, TransformerLayer

State = dict[str, Any]

DILATIONS = (1, 3, 9)  # of the generator's residual units


@dataclass(frozen=True)
class Qwen3TTSConfig:
    """The network's numbers."""

    sample_rate: int = 24000  # Hz
    dim: int = 512  # of the latents on both sides, and of both transformers
    num_codebooks: int = 16
    num_semantic: int = 1  # of them
    codebook_size: int = 2048
    codebook_dim: int = 256
    rotary_base: float = 10000.0
    # Encoder
    filters: int = 64  # width of the first convolution
    strides: Sequence[int] = (4, 5, 6, 8)
    downsample: int = 2
    encoder_layers: int = 8  # of its transformer
    encoder_heads: int = 8
    encoder_hidden: int = 2048
    encoder_window: int = 250  # steps of 40 ms that attention sees
    # Decoder
    latent_dim: int = 1024
    decoder_layers: int = 8
    decoder_heads: int = 16
    decoder_head_dim: int = 64
    decoder_hidden: int = 1024
    decoder_window: int = 72  # frames that attention sees
    upsample: Sequence[int] = (2, 2)
    decoder_filters: int = 1536  # width of the generator's first convolution; halves with each stride
    decoder_strides: Sequence[int] = (8, 5, 4, 3)


class Branch(nn.Module):
    """A residual quantiser, and the projection into its space (encoder) or out of it (decoder)."""

    def __init__(self, in_dim: int, out_dim: int, num_codebooks: int, codebook_size: int, codebook_dim: int) -> None:
        super().__init__()
        self.proj = Conv1d(in_dim, out_dim, 1, bias=False)
        self.vq = ResidualVQ(num_codebooks, codebook_size, codebook_dim)


class SplitQuantizer(Quantizer):
    """Semantic and acoustic codebooks beside each other: both quantise the same latent. One side's half of it."""

    def __init__(self, config: Qwen3TTSConfig, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.num_semantic = config.num_semantic
        book = (config.codebook_size, config.codebook_dim)
        self.first = Branch(in_dim, out_dim, config.num_semantic, *book)
        self.rest = Branch(in_dim, out_dim, config.num_codebooks - config.num_semantic, *book)

    def encode(self, x: Tensor, num_codebooks: int | None = None) -> Tensor:
        """[B, dim, N] → codes [B, K, N], always all of them."""
        return torch.cat([branch.vq.encode(branch.proj(x)) for branch in (self.first, self.rest)], dim=1)

    def decode(self, codes: Tensor) -> Tensor:
        """[B, K, N] of all codebooks → [B, dim, N]."""
        count = len(self.tables())
        if codes.shape[1] != count:
            raise ValueError(f"Qwen3-TTS decodes {count} codebooks; these codes have {codes.shape[1]}")
        semantic, acoustic = codes[:, : self.num_semantic], codes[:, self.num_semantic :]
        return self.first.proj(self.first.vq.decode(semantic)) + self.rest.proj(self.rest.vq.decode(acoustic))

    def tables(self) -> list[Tensor]:
        return [*self.first.vq.tables(), *self.rest.vq.tables()]


def _transformer(
    config: Qwen3TTSConfig,
    parts: Sequence[tuple[Attention, nn.Module]],
    window: int,
    norm: Callable[[int], nn.Module],
) -> Transformer:
    """`parts`: attention and feed-forward of each layer."""
    layers = [TransformerLayer(config.dim, *pair, norm=norm, layer_scale=(True, True)) for pair in parts]
    rotary = Rotary(parts[0][0].head_dim, config.rotary_base)
    return Transformer(layers, rotary=rotary, causal=True, window=window)


class Upsample(nn.Module):
    """[B, C, T] → [B, C, factor * T]."""

    def __init__(self, dim: int, factor: int) -> None:
        super().__init__()
        self.conv = ConvTranspose1d(dim, dim, factor, factor)  # outputs of one step do not reach those of another
        self.block = CausalConvNeXtBlock(dim, 4 * dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(self.conv(x).mT).mT

    def initial_state(self, batch_size: int) -> Tensor:
        return self.block.initial_state(batch_size)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        y, state = self.block.step(self.conv(x).mT, state)
        return y.mT, state


def _snake(channels: int, inplace: bool = True) -> nn.Module:
    return SnakeBeta(channels)


class Generator(SEANetStack):
    """[B, latent_dim, T] → waveform [B, 1, T * hop]: DAC's decoder, causal, with SnakeBeta."""

    time_tiled = True

    def __init__(self, latent_dim: int, filters: int, strides: Sequence[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = [Conv1d(latent_dim, filters, 7, padding="causal")]
        width = filters
        for stride in strides:
            layers += [_snake(width), ConvTranspose1d(width, width // 2, 2 * stride, stride)]
            width //= 2
            layers += [
                ResidualUnit(width, 7, dilation, False, _snake, compress=1, padding="causal") for dilation in DILATIONS
            ]
        layers += [_snake(width), Conv1d(width, 1, 7, padding="causal")]
        self.layers = nn.ModuleList(layers)


class Decoder(nn.Module):
    """What the codes stand for [B, dim, N] → waveform [B, 1, N * hop] within -1 and 1."""

    def __init__(self, config: Qwen3TTSConfig) -> None:
        super().__init__()
        dim, latent_dim = config.dim, config.latent_dim
        norm = functools.partial(nn.RMSNorm, eps=1e-5)
        parts = [
            (Attention(dim, config.decoder_heads, config.decoder_head_dim), SwiGLU(dim, config.decoder_hidden))
            for _ in range(config.decoder_layers)
        ]
        self.pre_conv = Conv1d(dim, latent_dim, 3, padding="causal")
        self.narrow = Linear(latent_dim, dim)
        self.transformer = _transformer(config, parts, config.decoder_window, norm)
        self.norm = norm(dim)
        self.widen = Linear(dim, latent_dim)
        self.upsample = nn.ModuleList(Upsample(latent_dim, factor) for factor in config.upsample)
        self.generator = Generator(latent_dim, config.decoder_filters, config.decoder_strides)

    def forward(self, x: Tensor) -> Tensor:
        return self.synthesise(self.attend(x))

    def attend(self, x: Tensor) -> Tensor:
        """[B, dim, N] → [B, latent_dim, N]: all that looks further back than a few frames."""
        return self._widen(self.transformer(self._narrow(self.pre_conv(x))))

    def synthesise(self, x: Tensor) -> Tensor:
        """[B, latent_dim, N] → [B, 1, N * hop]."""
        for layer in self.upsample:
            x = layer(x)
        return self.generator(x)[0].clamp_(-1, 1)

    def initial_state(self, batch_size: int) -> State:
        return {
            "pre_conv": self.pre_conv.initial_state(batch_size),
            "transformer": self.transformer.initial_state(batch_size),
            "upsample": [layer.initial_state(batch_size) for layer in self.upsample],
            "generator": self.generator.initial_state(batch_size),
        }

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """The next n frames, and the state after them."""
        x, pre_conv = self.pre_conv.step(x, state["pre_conv"])
        x, transformer = self.transformer.step(self._narrow(x), state["transformer"])
        x, upsample = self._widen(x), []
        for layer, past in zip(self.upsample, state["upsample"], strict=True):
            x, past = layer.step(x, past)
            upsample.append(past)
        x, generator = self.generator.step(x, state["generator"])
        after = {"pre_conv": pre_conv, "transformer": transformer, "upsample": upsample, "generator": generator}
        return x.clamp_(-1, 1), after

    def _narrow(self, x: Tensor) -> Tensor:
        return self.narrow(x.mT)

    def _widen(self, x: Tensor) -> Tensor:
        return self.widen(self.norm(x)).mT


class Qwen3TTS(MimiEncoder):
    """The tokenizer of Qwen3-TTS (Alibaba, 2026): a streaming speech codec with one semantic and 15 acoustic codebooks.

    Speech [B, 1, T] at 24 kHz ↔ codes [B, 16, N] at 12.5 frames a second, N = ceil(T / 1920): 2.2 kbit/s. A clip
    decodes with all 16 codebooks only.

        codec = load_codec("qwen3_tts_tokenizer_12hz")
        audio = codec.decode(codec.encode("talk.wav"))
    """

    Config = Qwen3TTSConfig
    config: Qwen3TTSConfig
    hop_length: int

    def __init__(self, config: Qwen3TTSConfig, variant: Variant) -> None:
        super().__init__(config, variant)
        self.sample_rate = config.sample_rate
        self.hop_length = math.prod(config.strides) * config.downsample
        self.codebook_sizes = (config.codebook_size,) * config.num_codebooks
        self.codebook_choices = (config.num_codebooks,)
        self.causal = True
        self.latency = self.hop_length / config.sample_rate
        self.latent_dim = self.vector_dim = config.dim

        dim = config.dim
        self.encoder = SEANetEncoder(
            1, dim, config.filters, config.strides, last_kernel=3, conv_shortcut=False, lstm_layers=0, pad_mode="zeros"
        )
        parts = [
            (Attention(dim, config.encoder_heads), FeedForward(dim, config.encoder_hidden))
            for _ in range(config.encoder_layers)
        ]
        self.encoder_transformer = _transformer(config, parts, config.encoder_window, nn.LayerNorm)
        kernel, stride = 2 * config.downsample, config.downsample
        ends: dict[str, Any] = {"padding": "causal", "pad_mode": "replicate", "pad_to_full_window": True}
        self.downsample = Conv1d(dim, dim, kernel, stride, bias=False, **ends)
        self.encoder_quantizer = SplitQuantizer(config, dim, config.codebook_dim)
        self.decoder_quantizer = SplitQuantizer(config, config.codebook_dim, dim)
        self.decoder = Decoder(config)

    def _quantizers(self) -> tuple[SplitQuantizer, SplitQuantizer]:
        return self.encoder_quantizer, self.decoder_quantizer

    def _latents(self, waveform: Tensor, lengths: Tensor) -> Frames:
        x, steps = self.encoder(waveform, dense_or_none(lengths, waveform.shape[-1]))
        latent = self.downsample(self.encoder_transformer(x.mT).mT, steps)
        return Frames(latent, -(-lengths // self.hop_length))

    def _straight_through(self, frames: Frames, num_codebooks: int) -> Frames:
        """The choice is the encoder's, the rows are the decoder's."""
        with torch.no_grad():
            codes = self.encoder_quantizer.encode(frames.values)
        parts, start = [], 0
        for name in ("first", "rest"):
            ours, theirs = getattr(self.encoder_quantizer, name), getattr(self.decoder_quantizer, name)
            own = codes[:, start : start + len(theirs.vq.codebooks)]
            with torch.no_grad():
                rows = theirs.vq.decode(own)
            parts.append(theirs.proj(passed_through(rows, ours.proj(frames.values))))
            start += own.shape[1]
        return Frames(parts[0] + parts[1], frames.lengths)

    def _synthesize(self, frames: Frames, num_samples: Tensor) -> Decoded:
        return Decoded(self.decoder(frames.values), frames.lengths * self.hop_length)

    def decode_in_chunks(self, codes: Tensor, chunk: int = 300, context: int = 25) -> Tensor:
        """Upstream's `decode`: codes [B, K, N] → [B, 1, N * hop], each `chunk` frames by themselves after the `context`
        frames before them. Up to `chunk` frames this is what `decode` gives; after them the audio differs, because
        attention reaches back further than the context.
        """
        pieces = []
        for start in range(0, codes.shape[-1], chunk):
            first = max(start - context, 0)
            waveform = self.decode(codes[..., first : start + chunk]).waveform
            pieces.append(waveform[..., (start - first) * self.hop_length :])
        return torch.cat(pieces, dim=-1)

    # -- streaming ------------------------------------------------------------------------------

    def _stream_latents_flush(self, rest: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, Tensor]:
        if rest.shape[-1] == 0:
            return rest.new_zeros(len(rest), self.latent_dim, 0), lengths
        latent, _ = self._encode_latent_step(rest, state, lengths)
        return latent, (lengths > 0).long()

    def _stream_decode_start(self, batch_size: int) -> State:
        return self.decoder.initial_state(batch_size)

    def _stream_synthesize_warmup(self, vectors: Tensor, state: State) -> tuple[Tensor, None, State]:
        waveform, state = self.decoder.step(vectors, state)
        return waveform, None, state

    def _stream_decode_flush(self, state: State) -> tuple[Tensor, None]:
        pre_conv = state["pre_conv"]
        return pre_conv.new_zeros(len(pre_conv), 1, 0), None  # nothing is held back


# -- key maps ---------------------------------------------------------------------------------------

CODEBOOKS = {"first": 1, "rest": 15}  # that are used; the encoder's file has 31 of the rest

ENCODER = {
    "first": "encoder.quantizer.semantic_residual_vector_quantizer",
    "rest": "encoder.quantizer.acoustic_residual_vector_quantizer",
}
DECODER = {"first": "decoder.quantizer.rvq_first", "rest": "decoder.quantizer.rvq_rest"}
MLP, GATED = {"linear1": "fc1", "linear2": "fc2"}, {"w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"}


def _column(values: Tensor) -> Tensor:
    return values.view(1, -1, 1)


def _transformer_rules(ours: str, published: str, feed_forward: Mapping[str, str]) -> tuple[Rule, ...]:
    at, to = rf"{ours}\.layers\.(\d+)\.", rf"{published}.layers.\1."
    qkv = tuple(f"{to}self_attn.{x}_proj.weight" for x in "qkv")
    return (
        Rule(at + r"attention\.in_proj\.weight", qkv, lambda *parts: torch.cat(parts), lambda weight: weight.chunk(3)),
        Rule(at + r"attention\.out_proj\.weight", f"{to}self_attn.o_proj.weight"),
        *(Rule(rf"{at}feed_forward\.{name}\.weight", f"{to}mlp.{x}.weight") for name, x in feed_forward.items()),
        Rule(at + r"scale1\.scale", f"{to}self_attn_layer_scale.scale"),
        Rule(at + r"scale2\.scale", f"{to}mlp_layer_scale.scale"),
        Rule(at + r"norm1\.(\w+)", rf"{to}input_layernorm.\2"),
        Rule(at + r"norm2\.(\w+)", rf"{to}post_attention_layernorm.\2"),
    )


def _quantizer_rules(side: str, published: Mapping[str, str], book: str, total: str, proj: str) -> tuple[Rule, ...]:
    """`published`: where each branch of that side lies; `book`: a codebook below it, "{}" its number."""
    rules = []
    for branch, count in CODEBOOKS.items():
        ours, to = rf"{side}_quantizer\.{branch}\.", published[branch]
        names = (f"{to}.{book}.{total}", f"{to}.{book}.cluster_usage")
        rules.append(mean_codebook_rule(rf"{ours}vq\.codebooks", *names, count))
        rules.append(Rule(rf"{ours}proj\.weight", f"{to}.{proj}.weight"))
    return tuple(rules)


def _generator_rules(stages: int) -> tuple[Rule, ...]:
    """Our layers lie in one list; upstream's in blocks of an activation, a transposed convolution and three units."""
    at, to, each = r"decoder\.generator\.layers\.", "decoder.decoder.", 2 + len(DILATIONS)

    def conv(ours: str, published: str) -> Rule:
        return Rule(rf"{at}{ours}\.(weight|bias)", rf"{to}{published}.conv.\1")

    def snake(ours: str, published: str) -> Rule:
        return Rule(rf"{at}{ours}\.(alpha|beta)", rf"{to}{published}.\1", _column, lambda values: [values.flatten()])

    rules = [conv("0", "0")]
    for stage in range(stages):
        layer, block = 1 + stage * each, f"{stage + 1}.block."
        rules += [snake(f"{layer}", f"{block}0"), conv(f"{layer + 1}", f"{block}1")]
        for unit in range(2, each):
            ours, published = rf"{layer + unit}\.block\.", f"{block}{unit}."
            rules += [snake(f"{ours}0", f"{published}act1"), conv(f"{ours}1", f"{published}conv1")]
            rules += [snake(f"{ours}2", f"{published}act2"), conv(f"{ours}3", f"{published}conv2")]
    end = 1 + stages * each
    return (*rules, snake(f"{end}", f"{stages + 1}"), conv(f"{end + 1}", f"{stages + 2}"))


Qwen3TTS.key_maps = (
    KeyMap(
        "qwen3_tts",
        (
            *seanet_rules_transformers("encoder", "encoder.encoder.layers"),
            *_transformer_rules("encoder_transformer", "encoder.encoder_transformer", MLP),
            Rule(r"downsample\.weight", "encoder.downsample.conv.weight"),
            *_quantizer_rules("encoder", ENCODER, "layers.{}.codebook", "embed_sum", "input_proj"),
            *_quantizer_rules("decoder", DECODER, "vq.layers.{}._codebook", "embedding_sum", "output_proj"),
            Rule(r"decoder\.pre_conv\.(\w+)", r"decoder.pre_conv.conv.\1"),
            *_transformer_rules(r"decoder\.transformer", "decoder.pre_transformer", GATED),
            Rule(r"decoder\.narrow\.(\w+)", r"decoder.pre_transformer.input_proj.\1"),
            Rule(r"decoder\.norm\.(\w+)", r"decoder.pre_transformer.norm.\1"),
            Rule(r"decoder\.widen\.(\w+)", r"decoder.pre_transformer.output_proj.\1"),
            Rule(r"decoder\.upsample\.(\d+)\.conv\.(\w+)", r"decoder.upsample.\1.0.conv.\2"),
            Rule(r"decoder\.upsample\.(\d+)\.block\.dwconv\.(\w+)", r"decoder.upsample.\1.1.dwconv.conv.\2"),
            Rule(r"decoder\.upsample\.(\d+)\.block\.(.+)", r"decoder.upsample.\1.1.\2"),
            *_generator_rules(4),
        ),
        unused=(
            r"encoder\.quantizer\..+\.codebook\.initialized",
            r"encoder\.quantizer\.acoustic_.+\.layers\.(1[5-9]|2\d|30)\.codebook\.(embed_sum|cluster_usage)",
            r"encoder\.quantizer\.\w+\.output_proj\.weight",
            r"decoder\.quantizer\.\w+\.input_proj\.weight",
        ),
    ),
)
Qwen3TTS.gguf = gguf.layout(Qwen3TTS.key_maps[0], CODEBOOKS)
