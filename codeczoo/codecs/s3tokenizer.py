"""S3Tokenizer: CosyVoice's semantic speech tokenizer. It encodes only.

Papers: CosyVoice (arXiv 2407.05407), FunAudioLLM (arXiv 2407.04051), CosyVoice 2 (arXiv 2412.10117). Upstream: the ONNX
files of the CosyVoice models, and xingchensong/S3Tokenizer in PyTorch; the weights of both load.

Whisper's log-mel spectrogram and encoder, and one codebook: 4096 vectors compared by direction (v1), or 8 digits of 3
values (v2, v3). v2 and v3 also have rotary positions and a depthwise convolution over the values of attention. Turning
tokens into sound takes CosyVoice's flow model, a vocoder and a voice to imitate: that is synthesis, not decoding.

Attention sees at most 30 s. A longer clip is cut into windows of 30 s every 26 s; in each overlap of 4 s, the first
window gives the tokens of the first 2 s and the second window those of the last 2 s. That is the published definition,
with one exception: upstream opens another window after one that has reached the end of the clip already, and so may
lose up to 2 s of tokens. This one does not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codeczoo.base import BaseCodec, Frames, KeyMap, Rule, Variant, dense_or_none, pad_stack, release_memory_between
from codeczoo.base.exporting import exporting
from codeczoo.codecs.gguf import s3tokenizer as gguf
from codeczoo.nn.attention import Attention, AttentionMask, everything
from codeczoo.nn.conv import Conv1d
from codeczoo.nn.log_mel import HOP, whisper_log_mel
from codeczoo.nn.quantizer import SingleQuantizer
from codeczoo.nn.rotary import Rotary, Rotation
from codeczoo.nn.rvq import ResidualVQ
from codeczoo.nn.sequential import Linear
from codeczoo.nn.transformer import FeedForward

WINDOW_FRAMES = 3000  # mel frames of a window of a long clip
WINDOW_STEP = 2600  # mel frames from the start of a window to the next one's
MEMORY_KERNEL = 31  # steps of the convolution over the values of attention


@dataclass(frozen=True)
class S3TokenizerConfig:
    """The network's numbers."""

    strides: Sequence[int]  # of the two convolutions
    num_layers: int
    version: int  # 1: table of positions and codebook of vectors; 2: rotary positions, memory, digits
    sample_rate: int = 16000  # Hz
    mels: int = 128
    dim: int = 1280
    num_heads: int = 20
    hidden_dim: int = 5120
    codebook_size: int = 4096  # of version 1
    positions: int = 1500  # rows of the table of version 1
    num_digits: int = 8  # of version 2, each of 3 values


class MemoryAttention(Attention):
    """Attention, plus a depthwise convolution over the values (FSMN, arXiv 1512.08301)."""

    def __init__(self, dim: int, num_heads: int, memory: bool) -> None:
        super().__init__(dim, num_heads, bias=True)
        self.memory = Conv1d(dim, dim, MEMORY_KERNEL, groups=dim, bias=False) if memory else None

    def attend(self, x: Tensor, lengths: Tensor | None, mask: AttentionMask, rotation: Rotation | None) -> Tensor:
        q, k, v = self.project(x, rotation)
        out = self.merge(mask(q, k, v))
        if self.memory is None:
            return out
        values = v.transpose(1, 2).flatten(2).contiguous()  # [B, T, dim]
        return out.add_(self.memory(values.mT, lengths).mT).add_(values)


class Block(nn.Module):
    """[B, T, dim] → [B, T, dim]."""

    def __init__(self, config: S3TokenizerConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.dim)
        self.attention = MemoryAttention(config.dim, config.num_heads, memory=config.version > 1)
        self.norm2 = nn.LayerNorm(config.dim)
        self.feed_forward = FeedForward(config.dim, config.hidden_dim, bias=True)

    def forward(self, x: Tensor, lengths: Tensor | None, mask: AttentionMask, rotation: Rotation | None) -> Tensor:
        x = self.attention.attend(self.norm1(x), lengths, mask, rotation).add_(x)
        return self.feed_forward(self.norm2(x)).add_(x)


class Encoder(nn.Module):
    """Log-mel [B, mels, F] → [B, N, dim] and lengths."""

    def __init__(self, config: S3TokenizerConfig) -> None:
        super().__init__()
        first, second = config.strides
        self.conv1 = Conv1d(config.mels, config.dim, 3, first, padding=(1, 1))
        self.conv2 = Conv1d(config.dim, config.dim, 3, second, padding=(1, 1))
        table = config.version == 1
        self.positions = nn.Parameter(torch.empty(config.positions, config.dim)) if table else None
        self.rotary = None if table else Rotary(config.dim // config.num_heads)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.num_layers))

    def forward(self, mel: Tensor, lengths: Tensor | None = None) -> Tensor:
        x = F.gelu(self.conv1(mel, lengths))
        lengths = None if lengths is None else self.conv1.out_length(lengths)
        x = F.gelu(self.conv2(x, lengths)).mT
        lengths = None if lengths is None else self.conv2.out_length(lengths)
        steps = x.shape[1]
        if self.positions is not None:
            x = x + self.positions[:steps]
        rotation = self.rotary(torch.arange(steps, device=x.device), x.dtype) if self.rotary else None
        mask = everything(steps, lengths)
        for layer in self.layers:
            x = layer(x, lengths, mask, rotation)
        return x

    def tokens(self, frames: Tensor) -> Tensor:
        """The number of tokens of `frames` mel frames."""
        return self.conv2.out_length(self.conv1.out_length(frames))


class DirectionVQ(SingleQuantizer):
    """Quantiser of version 1: the vector that is nearest to the latent at length 1."""

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.vq = ResidualVQ(1, size, dim)

    def encode(self, latent: Tensor) -> Tensor:
        """[B, dim, N] → [B, N]."""
        return self.vq.encode(F.normalize(latent.mT, dim=-1, eps=1e-12).mT)[:, 0]

    def tables(self) -> list[Tensor]:
        return self.vq.tables()


class Ternary(SingleQuantizer):
    """Quantiser of version 2: numbers rounded to -1, 0 or 1 are the digits of the code in base 3, the lowest first."""

    def __init__(self, dim: int, num_digits: int) -> None:
        super().__init__()
        self.project_down = Linear(dim, num_digits)

    def encode(self, latent: Tensor) -> Tensor:
        """[B, dim, N] → [B, N]."""
        digits = (self.project_down(latent.mT).tanh() * 0.9990000128746033).round().long() + 1
        return (digits * self._places(digits.shape[-1])).sum(-1)

    def tables(self) -> list[Tensor]:
        weight = self.project_down.weight
        codes = torch.arange(3 ** len(weight), device=weight.device)[:, None]
        return [(codes // self._places(len(weight)) % 3 - 1).to(weight.dtype)]

    def _places(self, digits: int) -> Tensor:
        return 3 ** torch.arange(digits, device=self.project_down.weight.device)


class S3Tokenizer(BaseCodec):
    """S3Tokenizer (CosyVoice, 2024): a tokenizer of what is said, for speech synthesis and recognition. It only
    encodes.

    Speech [B, 1, T] at 16 kHz → codes [B, 1, N] at 25 or 50 a second: 300 to 600 bit/s.

        codec = load_codec("s3tokenizer_v2_25hz")
        tokens = codec.encode("talk.wav").codes
    """

    Config = S3TokenizerConfig
    config: S3TokenizerConfig
    hop_length: int
    min_chunk_seconds = 64.0  # two windows: its time is that of products, which are faster with more rows
    supports_decode = False
    decode_unsupported_reason = (
        "it is a tokenizer of content alone; CosyVoice turns its tokens into speech with a flow model, a vocoder and a "
        "voice to imitate"
    )
    readers: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, config: S3TokenizerConfig, variant: Variant) -> None:
        super().__init__(config, variant)
        self.sample_rate = config.sample_rate
        self.hop_length = HOP * config.strides[0] * config.strides[1]
        self.codebook_choices = (1,)
        self.latent_dim = config.dim
        self.encoder = Encoder(config)
        self.quantizer: DirectionVQ | Ternary
        if config.version == 1:
            self.codebook_sizes = (config.codebook_size,)
            self.quantizer = DirectionVQ(config.codebook_size, config.dim)
        else:
            self.codebook_sizes = (3**config.num_digits,)
            self.quantizer = Ternary(config.dim, config.num_digits)

    def _latents(self, waveform: Tensor, lengths: Tensor) -> Frames:
        frames = (lengths // HOP).clamp(min=1)
        mel = whisper_log_mel(waveform[:, 0], dense_or_none(lengths, waveform.shape[-1]), self.config.mels)
        if exporting() or mel.shape[-1] <= WINDOW_FRAMES:
            x = self.encoder(mel, dense_or_none(frames, mel.shape[-1]))
            return Frames(x.mT, self.encoder.tokens(frames))
        items = [self._in_windows(item[:, :n]) for item, n in zip(mel, frames.tolist(), strict=True)]
        values, counts = pad_stack([torch.cat(list(item), dim=-1) for item in items])
        return Frames(values, counts)

    def _latents_long(self, waveform: Tensor, lengths: Tensor, samples: int) -> Iterator[Frames]:
        mel = whisper_log_mel(waveform[:, 0, : int(lengths[0])], None, self.config.mels)
        for latent in self._in_windows(mel[0, :, : max(int(lengths[0]) // HOP, 1)]):  # cut as published
            yield Frames(latent[None], lengths.new_tensor([latent.shape[-1]]))

    def _in_windows(self, mel: Tensor) -> Iterator[Tensor]:
        """One clip's mel [mels, F] → latents [dim, n], in windows that overlap by 4 s."""
        total = mel.shape[-1]
        starts = [0]
        while starts[-1] + WINDOW_FRAMES < total:
            starts.append(starts[-1] + WINDOW_STEP)
        dropped = int(
            (WINDOW_FRAMES - WINDOW_STEP) // 2 * HOP // self.hop_length
        )  # tokens at a side that has a neighbour
        together = max(int(self._chunk_seconds() * self.sample_rate / HOP / WINDOW_FRAMES), 1)
        for first in release_memory_between(range(0, len(starts), together)):
            group = starts[first : first + together]
            lengths = torch.tensor([min(WINDOW_FRAMES, total - start) for start in group], device=mel.device)
            windows = [F.pad(mel[:, s : s + WINDOW_FRAMES], (0, max(s + WINDOW_FRAMES - total, 0))) for s in group]
            batch = torch.stack(windows)[..., : int(lengths.max())]
            latents = self.encoder(batch, dense_or_none(lengths, batch.shape[-1])).mT
            for start, row, n in zip(group, latents, self.encoder.tokens(lengths).tolist(), strict=True):
                yield row[:, dropped if start else 0 : n - dropped if start != starts[-1] else n]


# -- key maps, and the published ONNX form ------------------------------------------------------------

LAYER = r"encoder\.layers\.(\d+)\."


def _qkv_bias(query: Tensor, value: Tensor) -> Tensor:
    return torch.cat([query, torch.zeros_like(query), value])  # keys have no bias


def _without_key(bias: Tensor) -> tuple[Tensor, Tensor]:
    query, key, value = bias.chunk(3)
    if bool(key.any()):
        raise ValueError("s3tokenizer: these weights have a bias of keys, and published files have none")
    return query, value


def _key_map(name: str, prefix: str = "", unused: Sequence[str] = ()) -> KeyMap:
    theirs = prefix + r"encoder.blocks.\1."
    qkv = tuple(f"{theirs}attn.{x}.weight" for x in ("query", "key", "value"))
    biases = tuple(f"{theirs}attn.{x}.bias" for x in ("query", "value"))
    return KeyMap(
        name,
        (
            Rule(r"encoder\.positions", prefix + "encoder.positional_embedding"),
            Rule(
                LAYER + r"attention\.in_proj\.weight",
                qkv,
                lambda *parts: torch.cat(parts),
                lambda weight: weight.chunk(3),
            ),
            Rule(LAYER + r"attention\.in_proj\.bias", biases, _qkv_bias, _without_key),
            Rule(LAYER + r"attention\.out_proj\.(\w+)", rf"{theirs}attn.out.\2"),
            Rule(LAYER + r"attention\.memory\.weight", f"{theirs}attn.fsmn_block.weight"),
            Rule(LAYER + r"norm1\.(\w+)", rf"{theirs}attn_ln.\2"),
            Rule(LAYER + r"norm2\.(\w+)", rf"{theirs}mlp_ln.\2"),
            Rule(LAYER + r"feed_forward\.linear1\.(\w+)", rf"{theirs}mlp.0.\2"),
            Rule(LAYER + r"feed_forward\.linear2\.(\w+)", rf"{theirs}mlp.2.\2"),
            Rule(r"quantizer\.vq\.codebooks", prefix + "quantizer._codebook.embed", lambda embed: embed[None]),
            Rule(r"quantizer\.project_down\.(\w+)", prefix + r"quantizer._codebook.project_down.\1"),
            Rule(r"(.+)", prefix + r"\1"),
        ),
        tuple(unused),
    )


_PACKAGE = _key_map("s3tokenizer")
S3Tokenizer.gguf = gguf.layout(_PACKAGE)
S3Tokenizer.key_maps = (
    _PACKAGE,
    # In a file of Chatterbox (s3gen.safetensors), beside the models that make sound from the tokens.
    _key_map("s3tokenizer in chatterbox", "tokenizer.", (r"tokenizer\.(_mel_filters|window)", r"(?!tokenizer\.).+")),
)


def _read_onnx(path: Path) -> Mapping[str, Tensor]:
    from codeczoo.codecs.formats.s3tokenizer_onnx import read_onnx

    return read_onnx(path)


S3Tokenizer.readers = {".onnx": _read_onnx}
