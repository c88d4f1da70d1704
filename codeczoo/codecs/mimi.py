"""Mimi, the streaming speech codec of Moshi.

Paper: "Moshi: a speech-text foundation model for real-time dialogue" (arXiv 2410.00037). Upstream: kyutai-labs/moshi,
and the same model in Hugging Face transformers; the checkpoints of both load.

SEANet and a transformer on each side, 12.5 frames a second, and a split quantiser: the first codebook was trained to
carry meaning, and the others quantise the same latent, not the first one's residual. Every layer is causal, so that
values behind an item's length reach no other value and blocks need no lengths. A clip is filled up with zeros to whole
frames.

Attention sees 250 steps of 40 ms, in a stream and in a whole clip alike. (From 10 s on, upstream's stream forgets up to
a chunk of these steps.)
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from codeczoo.base import BaseCodec, Decoded, Frames, KeyMap, Rule, Variant
from codeczoo.codecs.gguf import mimi as gguf
from codeczoo.nn.attention import Attention
from codeczoo.nn.conv import Conv1d, ConvTranspose1d
from codeczoo.nn.padding import mask_tail
from codeczoo.nn.quantizer import Quantizer
from codeczoo.nn.rotary import Rotary, qkv_to_halves
from codeczoo.nn.rvq import ResidualVQ, mean_codebook_rule
from codeczoo.nn.seanet import SEANetDecoder, SEANetEncoder, seanet_rules, seanet_rules_transformers
from codeczoo.nn.transformer import FeedForward, Transformer, TransformerLayer

State = dict[str, Any]


@dataclass(frozen=True)
class MimiConfig:
    """The network's numbers."""

    sample_rate: int = 24000  # Hz
    filters: int = 64  # width of the first convolution
    strides: Sequence[int] = (4, 5, 6, 8)
    dim: int = 512
    num_layers: int = 8  # of each transformer
    num_heads: int = 8
    hidden_dim: int = 2048
    window: int = 250  # steps before the last downsampling that attention sees
    rotary_base: float = 10000.0
    downsample: int = 2
    num_codebooks: int = 32
    num_semantic: int = 1  # of them
    codebook_size: int = 2048
    codebook_dim: int = 256


class Branch(Quantizer):
    """A residual quantiser between two projections."""

    def __init__(self, dim: int, num_codebooks: int, codebook_size: int, codebook_dim: int) -> None:
        super().__init__()
        self.input_proj = Conv1d(dim, codebook_dim, 1, bias=False)
        self.vq = ResidualVQ(num_codebooks, codebook_size, codebook_dim)
        self.output_proj = Conv1d(codebook_dim, dim, 1, bias=False)

    def encode(self, x: Tensor, num_codebooks: int | None = None) -> Tensor:
        return self.vq.encode(self.input_proj(x), num_codebooks)

    def decode(self, codes: Tensor) -> Tensor:
        return self.output_proj(self.vq.decode(codes))

    def straight_through(self, latent: Tensor, num_codebooks: int | None = None) -> Tensor:
        return self.output_proj(self.vq.straight_through(self.input_proj(latent), num_codebooks))

    def tables(self) -> list[Tensor]:
        return self.vq.tables()


class SplitQuantizer(Quantizer):
    """Semantic and acoustic codebooks beside each other: both quantise the same latent."""

    def __init__(self, config: MimiConfig) -> None:
        super().__init__()
        self.num_semantic = config.num_semantic
        rest = config.num_codebooks - config.num_semantic
        self.first = Branch(config.dim, config.num_semantic, config.codebook_size, config.codebook_dim)
        self.rest = Branch(config.dim, rest, config.codebook_size, config.codebook_dim)

    def encode(self, x: Tensor, num_codebooks: int) -> Tensor:
        """[B, dim, N] → codes [B, K, N]."""
        acoustic = num_codebooks - self.num_semantic
        codes = self.first.encode(x, min(num_codebooks, self.num_semantic))
        return torch.cat([codes, self.rest.encode(x, acoustic)], dim=1) if acoustic > 0 else codes

    def decode(self, codes: Tensor) -> Tensor:
        """[B, K, N] → [B, dim, N]."""
        semantic, acoustic = codes[:, : self.num_semantic], codes[:, self.num_semantic :]
        x = self.first.decode(semantic)
        return x + self.rest.decode(acoustic) if acoustic.shape[1] else x

    def straight_through(self, latent: Tensor, num_codebooks: int | None = None) -> Tensor:
        count = len(self.tables()) if num_codebooks is None else num_codebooks
        x = self.first.straight_through(latent, min(count, self.num_semantic))
        acoustic = count - self.num_semantic
        return x + self.rest.straight_through(latent, acoustic) if acoustic > 0 else x

    def tables(self) -> list[Tensor]:
        return [*self.first.tables(), *self.rest.tables()]


class MimiEncoder(BaseCodec):
    """A codec with a transformer and a convolution behind SEANet, all causal, as in Mimi: how it encodes a stream."""

    encoder: SEANetEncoder
    encoder_transformer: Transformer
    downsample: Conv1d

    def _stream_encode_start(self, batch_size: int) -> State:
        return {
            "encoder": self.encoder.initial_state(batch_size),
            "transformer": self.encoder_transformer.initial_state(batch_size),
            "downsample": self.downsample.initial_state(batch_size),
        }

    def _stream_latents_warmup(self, waveform: Tensor, state: State) -> tuple[Tensor, None, State]:
        latent, state = self._encode_latent_step(waveform, state)
        return latent, None, state

    def _encode_latent_step(
        self, waveform: Tensor, state: State, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Whole hops, or the end of a clip, of which `lengths` [B] say how much there is → what is quantised."""
        x, encoder = self.encoder.step(waveform, state["encoder"], lengths)
        steps_so_far, _ = state["transformer"]
        y, transformer = self.encoder_transformer.step(x.mT, state["transformer"])
        y = y.mT
        # The padding before an item's first step is that step, repeated.
        past = torch.where(steps_so_far.view(-1, 1, 1) == 0, y[..., :1], state["downsample"])
        steps = None if lengths is None else self.encoder.out_length(lengths)
        latent, downsample = self.downsample.step(y, past, steps)
        return latent, {"encoder": encoder, "transformer": transformer, "downsample": downsample}


class Mimi(MimiEncoder):
    """Mimi (Kyutai, 2024): the streaming speech codec of Moshi, one semantic and up to 31 acoustic codebooks, 80 ms
    latency.

    Speech [B, 1, T] at 24 kHz ↔ codes [B, K, N] at 12.5 frames a second, K from 1 to 32 (default 8): 1.1 kbit/s.

        codec = load_codec("mimi")
        audio = codec.decode(codec.encode("talk.wav"))
    """

    Config = MimiConfig
    config: MimiConfig
    hop_length: int

    def __init__(self, config: MimiConfig, variant: Variant) -> None:
        super().__init__(config, variant)
        self.sample_rate = config.sample_rate
        self.hop_length = math.prod(config.strides) * config.downsample
        self.codebook_sizes = (config.codebook_size,) * config.num_codebooks
        self.codebook_choices = tuple(range(1, config.num_codebooks + 1))
        self.causal = True
        self.latency = self.hop_length / config.sample_rate
        self.latent_dim = self.vector_dim = config.dim

        seanet: dict[str, Any] = {
            "last_kernel": 3,
            "conv_shortcut": False,
            "lstm_layers": 0,
            "pad_mode": "zeros",
            "pad_to_full_window": False,
        }
        self.encoder = SEANetEncoder(1, config.dim, config.filters, config.strides, **seanet)
        self.encoder_transformer = _transformer(config)
        stride, dim = config.downsample, config.dim
        self.downsample = Conv1d(dim, dim, 2 * stride, stride, bias=False, padding="causal", pad_mode="replicate")
        self.quantizer = SplitQuantizer(config)
        self.upsample = ConvTranspose1d(dim, dim, 2 * stride, stride, groups=dim, bias=False)
        self.decoder_transformer = _transformer(config)
        self.decoder = SEANetDecoder(1, config.dim, config.filters, config.strides[::-1], **seanet)

    def _latents(self, waveform: Tensor, lengths: Tensor) -> Frames:
        x, _ = self.encoder(F.pad(waveform, (0, -waveform.shape[-1] % self.hop_length)))
        return Frames(self.downsample(self.encoder_transformer(x.mT).mT), -(-lengths // self.hop_length))

    def _synthesize(self, frames: Frames, num_samples: Tensor) -> Decoded:
        x = self.upsample(frames.values)
        return Decoded(self.decoder(self.decoder_transformer(x.mT).mT)[0], frames.lengths * self.hop_length)

    # -- streaming ------------------------------------------------------------------------------

    def _stream_latents_flush(self, rest: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, Tensor]:
        batch, _, samples = rest.shape
        if samples == 0:
            return rest.new_zeros(batch, self.latent_dim, 0), lengths
        last = F.pad(mask_tail(rest, lengths), (0, self.hop_length - samples))
        latent, _ = self._encode_latent_step(last, state)
        return latent, (lengths > 0).long()

    def _stream_decode_start(self, batch_size: int) -> State:
        return {
            "upsample": self.upsample.initial_state(batch_size),
            "transformer": self.decoder_transformer.initial_state(batch_size),
            "decoder": self.decoder.initial_state(batch_size),
        }

    def _stream_synthesize_warmup(self, vectors: Tensor, state: State) -> tuple[Tensor, None, State]:
        x, upsample = self.upsample.step(vectors, state["upsample"])
        y, transformer = self.decoder_transformer.step(x.mT, state["transformer"])
        waveform, decoder = self.decoder.step(y.mT, state["decoder"])
        return waveform, None, {"upsample": upsample, "transformer": transformer, "decoder": decoder}

    def _stream_decode_flush(self, state: State) -> tuple[Tensor, None]:
        return state["upsample"].new_zeros(len(state["upsample"]), 1, 0), None  # nothing is held back


def _transformer(config: MimiConfig) -> Transformer:
    layers = [
        TransformerLayer(
            config.dim,
            Attention(config.dim, config.num_heads),
            FeedForward(config.dim, config.hidden_dim),
            layer_scale=(True, True),
        )
        for _ in range(config.num_layers)
    ]
    rotary = Rotary(config.dim // config.num_heads, config.rotary_base)
    return Transformer(layers, rotary=rotary, causal=True, window=config.window)


# -- key maps ---------------------------------------------------------------------------------------

HEADS = 8
CODEBOOKS = {"first": 1, "rest": 31}  # as published
TRANSFORMER = r"(encoder|decoder)_transformer\.layers\.(\d+)\."  # ours


def _codebooks(branch: str, prefix: str, total: str, usage: str) -> Rule:
    """`prefix`: with "{}" for the number of the codebook. `total`, `usage`: published names of the two tensors."""
    ours = rf"quantizer\.{branch}\.vq\.codebooks"
    return mean_codebook_rule(ours, prefix + total, prefix + usage, CODEBOOKS[branch])


def _authors(what: str, in_proj: str, out_proj: str, total: str, usage: str) -> KeyMap:
    layer = r"\1_transformer.transformer.layers.\2."
    halves = functools.partial(qkv_to_halves, num_heads=HEADS)  # the authors' rotary pairs are neighbours
    return KeyMap(
        f"mimi of moshi{what}",
        (
            *seanet_rules("encoder", "encoder.model"),
            *seanet_rules("decoder", "decoder.model", (2, 5, 8, 11)),
            Rule(TRANSFORMER + r"attention\.in_proj\.weight", f"{layer}self_attn.{in_proj}", halves),
            Rule(TRANSFORMER + r"attention\.out_proj\.weight", f"{layer}self_attn.{out_proj}"),
            Rule(TRANSFORMER + r"feed_forward\.(.+)", rf"{layer}\3"),
            Rule(TRANSFORMER + r"scale(\d)\.scale", rf"{layer}layer_scale_\3.scale"),
            Rule(TRANSFORMER + r"(norm\d\..+)", rf"{layer}\3"),
            Rule(r"downsample\.weight", "downsample.conv.conv.conv.weight"),
            Rule(r"upsample\.weight", "upsample.convtr.convtr.convtr.weight"),
            _codebooks("first", "quantizer.rvq_first.vq.layers.{}._codebook.", total, usage),
            _codebooks("rest", "quantizer.rvq_rest.vq.layers.{}._codebook.", total, usage),
            Rule(r"quantizer\.(first|rest)\.(\w+_proj\.weight)", r"quantizer.rvq_\1.\2"),
        ),
        unused=(r"quantizer\..+\._codebook\.(_initialized|inited)",),
    )


def _transformers(what: str, nested: bool) -> KeyMap:
    """`nested`: as the modules of a recent transformers lie in memory; its files keep the flat names."""
    en, de, either = ("encoder.", "decoder.", r"\1.") if nested else ("", "", "")
    layer, seanet = either + r"\1_transformer.layers.\2.", "_seanet" if nested else ""
    quantizer = "quantizer.{}_residual_vector_quantizer."
    attention = tuple(f"{layer}self_attn.{x}_proj.weight" for x in "qkv")
    first, rest = quantizer.format("semantic"), quantizer.format("acoustic")
    return KeyMap(
        f"mimi of transformers{what}",
        (
            *seanet_rules_transformers("encoder", f"{en}encoder{seanet}.layers"),
            *seanet_rules_transformers("decoder", f"{de}decoder{seanet}.layers"),
            Rule(
                TRANSFORMER + r"attention\.in_proj\.weight",
                attention,
                lambda *qkv: torch.cat(qkv),
                lambda weight: weight.chunk(3),
            ),
            Rule(TRANSFORMER + r"attention\.out_proj\.weight", f"{layer}self_attn.o_proj.weight"),
            Rule(TRANSFORMER + r"feed_forward\.linear(\d)\.weight", rf"{layer}mlp.fc\3.weight"),
            Rule(TRANSFORMER + r"scale1\.scale", f"{layer}self_attn_layer_scale.scale"),
            Rule(TRANSFORMER + r"scale2\.scale", f"{layer}mlp_layer_scale.scale"),
            Rule(TRANSFORMER + r"norm1\.(\w+)", rf"{layer}input_layernorm.\3"),
            Rule(TRANSFORMER + r"norm2\.(\w+)", rf"{layer}post_attention_layernorm.\3"),
            Rule(r"downsample\.weight", f"{en}downsample.conv.weight"),
            Rule(r"upsample\.weight", f"{de}upsample.conv.weight"),
            _codebooks("first", first + "layers.{}.codebook.", "embed_sum", "cluster_usage"),
            _codebooks("rest", rest + "layers.{}.codebook.", "embed_sum", "cluster_usage"),
            Rule(r"quantizer\.first\.(.+)", rf"{first}\1"),
            Rule(r"quantizer\.rest\.(.+)", rf"{rest}\1"),
        ),
        unused=(r"quantizer\..+\.codebook\.initialized",),
    )


Mimi.gguf = gguf.layout(_transformers("", nested=False), CODEBOOKS)
Mimi.key_maps = (
    *(
        _authors(what, *projections, *sums)
        for what, projections in (
            ("", ("in_proj_weight", "out_proj.weight")),
            (", as saved since it has lists of projections", ("in_projs.0.weight", "out_projs.0.weight")),
        )
        for sums in (
            ("embedding_sum", "cluster_usage"),
            ("embed_sum", "cluster_usage"),
            ("embed_avg", "cluster_size"),
            ("embed_sum", "cluster_size"),
        )
    ),
    _transformers("", nested=False),
    _transformers(" 5, in memory", nested=True),
)
