"""SNAC: codebooks at different rates, the coarse ones for what changes slowly.

Paper: "SNAC: Multi-Scale Neural Audio Codec" (arXiv 2410.14411). Upstream: hubertsiuzdak/snac.

DAC with depthwise convolutions in its residual units, attention inside windows of 32 frames in the 32 and 44 kHz
models, and a quantiser whose level k has one code for each `vq_strides[k]` frames: `Codes.strides`, and
`Codes.codebook(k)` for its codes. A clip is filled up with zeros to whole windows, as upstream does (2048 samples at
24 kHz, 12288 at 32 and 44.1), so a short clip has many codes of silence.

The decoder adds noise, scaled by a function of its input. Upstream draws other noise at each call. Here the noise
depends on `noise_seed` and the place in the clip only, so that decoding is repeatable: in a batch, alone and in chunks.
`codec.noise_seed = None` switches the noise off; another number gives other noise.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
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
    dense_or_none,
    join_chunks,
    release_memory_between,
)
from codeczoo.base.exporting import exporting
from codeczoo.codecs.gguf import snac as gguf
from codeczoo.nn.attention import Attention, everything
from codeczoo.nn.conv import Conv1d, ConvTranspose1d
from codeczoo.nn.factorized_vq import FactorizedVQ
from codeczoo.nn.quantizer import Quantizer
from codeczoo.nn.receptive_field import convolutions_of, receptive_span
from codeczoo.nn.rotary import Rotary
from codeczoo.nn.snake import UNIT_LAYERS, Snake, SnakeDown, SnakeUnits

NOISE_BLOCK_SAMPLES = 4096  # drawn from one generator
HEAD_DIM = 64  # of attention

Noise = Callable[[int, int, int], Tensor]  # (block, first step, last step) -> [steps] or [B, 1, steps]


@dataclass(frozen=True)
class SNACConfig:
    """The network's numbers."""

    sample_rate: int  # Hz
    encoder_dim: int
    encoder_rates: Sequence[int]
    decoder_dim: int
    decoder_rates: Sequence[int]
    vq_strides: Sequence[int]
    window: int | None = None  # frames of attention; None = no attention
    codebook_size: int = 4096
    codebook_dim: int = 8
    head_dim: int = HEAD_DIM


class WindowAttention(nn.Module):
    """[B, C, N] → [B, C, N]: x plus attention inside consecutive windows; N is a whole number of them."""

    def __init__(self, channels: int, window: int, head_dim: int) -> None:
        super().__init__()
        self.window, self.rotary = window, Rotary(head_dim)
        self.norm = nn.LayerNorm(channels)
        self.attention = Attention(channels, channels // head_dim, head_dim)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        batch, channels, frames = x.shape
        windows = self.norm(x.mT).reshape(-1, self.window, channels)  # [B * windows, window, C]
        rotation = self.rotary(torch.arange(self.window, device=x.device), x.dtype)
        return x + self.attention(windows, everything(self.window), rotation).view(batch, frames, channels).mT


class DecoderBlock(nn.Module):
    """[B, C, N] → [B, C / 2, N * stride]: upsampling, noise, residual units."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        half = channels // 2
        self.snake = Snake(channels)
        self.up = ConvTranspose1d(channels, half, 2 * stride, stride, trim=(-(-stride // 2), stride // 2))
        self.noise_gain = Conv1d(half, half, 1, bias=False)
        self.units = SnakeUnits(half, groups=half)

    def forward(self, x: Tensor, lengths: Tensor | None, noise: Tensor | None) -> Tensor:
        """`noise` [steps of the output] or [B, 1, steps]; `lengths` count the input's steps."""
        x = self.up(self.snake(x, inplace=True), lengths)
        if noise is not None:
            x = torch.addcmul(x, self.noise_gain(x), noise)
        return self.units(x, None if lengths is None else self.up.out_length(lengths))


class Encoder(nn.Module):
    """Waveform [B, 1, T], T whole windows → latent [B, C, N]."""

    def __init__(self, config: SNACConfig) -> None:
        super().__init__()
        channels = config.encoder_dim
        self.first = Conv1d(1, channels, 7)
        self.blocks = nn.ModuleList()
        for stride in config.encoder_rates:
            self.blocks.append(SnakeDown(channels, stride, groups=channels))
            channels *= 2
        self.attention = WindowAttention(channels, config.window, config.head_dim) if config.window else nn.Identity()
        self.last = Conv1d(channels, channels, 7, groups=channels)

    def forward(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        x = self.first(waveform, lengths)
        for block in self.blocks:
            x = block(x, lengths)
            lengths = None if lengths is None else block.down.out_length(lengths)
        return self.last(self.attention(x), lengths)


class Decoder(nn.Module):
    """Latent [B, C, N], N whole windows → waveform [B, 1, N * hop]."""

    def __init__(self, latent_dim: int, config: SNACConfig) -> None:
        super().__init__()
        channels = config.decoder_dim
        self.first = Conv1d(latent_dim, latent_dim, 7, groups=latent_dim)
        self.widen = Conv1d(latent_dim, channels, 1)
        self.attention = WindowAttention(channels, config.window, config.head_dim) if config.window else nn.Identity()
        self.blocks = nn.ModuleList()
        for stride in config.decoder_rates:
            self.blocks.append(DecoderBlock(channels, stride))
            channels //= 2
        self.snake = Snake(channels)
        self.last = Conv1d(channels, 1, 7)

    def forward(self, latent: Tensor, lengths: Tensor | None = None, noise: Noise | None = None, at: int = 0) -> Tensor:
        """`at`: frame of the clip at which `latent` begins; the noise depends on it."""
        x = self.attention(self.widen(self.first(latent, lengths)))
        for i, block in enumerate(self.blocks):
            stride = int(block.up.stride)
            at, steps = at * stride, x.shape[-1] * stride
            x = block(x, lengths, None if noise is None else noise(i, at, at + steps).to(x))
            lengths = None if lengths is None else block.up.out_length(lengths)
        return self.last(self.snake(x, inplace=True), lengths).tanh_()


class MultiScaleVQ(Quantizer):
    """Residual levels, each on the mean of `stride` frames.

    Codes are [B, K, N], those of a level at the left of its row.
    """

    def __init__(self, latent_dim: int, config: SNACConfig) -> None:
        super().__init__()
        self.strides = tuple(config.vq_strides)
        sizes = (config.codebook_size, config.codebook_dim)
        self.levels = nn.ModuleList(FactorizedVQ(latent_dim, *sizes) for _ in self.strides)

    def encode(self, latent: Tensor, num_codebooks: int | None = None) -> Tensor:
        """[B, C, N], N a multiple of every stride → codes [B, K, N] of the first K levels."""
        rows, frames = [], latent.shape[-1]
        for level, stride in self._first(num_codebooks):
            rows.append(level.encode(F.avg_pool1d(latent, stride)))
            latent = latent - level.decode(rows[-1]).repeat_interleave(stride, dim=-1)
        return torch.stack([F.pad(row, (0, frames - row.shape[-1])) for row in rows], dim=1)

    def decode(self, codes: Tensor) -> Tensor:
        """[B, K, N] of the first K levels, N a multiple of every stride → [B, C, N]."""
        parts = (
            level.decode(row[:, : row.shape[-1] // stride]).repeat_interleave(stride, dim=-1)
            for (level, stride), row in zip(self._first(codes.shape[1]), codes.unbind(1), strict=True)
        )
        return functools.reduce(torch.add, parts)

    def straight_through(self, latent: Tensor, num_codebooks: int | None = None) -> Tensor:
        parts = []
        for level, stride in self._first(num_codebooks):
            parts.append(level.straight_through(F.avg_pool1d(latent, stride)).repeat_interleave(stride, dim=-1))
            latent = latent - parts[-1]
        return functools.reduce(torch.add, parts)

    def tables(self) -> list[Tensor]:
        return [level.codebook for level, _ in self._first(None)]

    def _first(self, count: int | None) -> list[tuple[FactorizedVQ, int]]:
        return list(zip(cast("Sequence[FactorizedVQ]", self.levels[:count]), self.strides[:count], strict=True))


class SNAC(BaseCodec):
    """SNAC (2024): a multi-scale codec for speech, music and sound, whose coarse codebooks have fewer codes a second.

    Audio [B, 1, T] at 24, 32 or 44.1 kHz ↔ codes [B, K, N], K up to 3 or 4, N at 47, 83 or 115 frames a second. Level k
    has one code for each `strides[k]` frames, at the left of its row: 0.98, 1.9 or 2.6 kbit/s.

        codec = load_codec("snac_24khz")
        codes = codec.encode("talk.wav")
        coarse, audio = codes.level(0), codec.decode(codes)

    Attributes:
        noise_seed: of the decoder's noise; None = without noise. Default 0.
    """

    onnx_leaves_out = "the decoder's noise (as with noise_seed = None): ONNX has no generator that draws the same"
    Config = SNACConfig
    config: SNACConfig
    hop_length: int

    def __init__(self, config: SNACConfig, variant: Variant) -> None:
        super().__init__(config, variant)
        self.noise_seed: int | None = 0
        self.sample_rate = config.sample_rate
        self.hop_length = math.prod(config.encoder_rates)
        self.strides = tuple(config.vq_strides)
        self.codebook_sizes = (config.codebook_size,) * len(self.strides)
        self.codebook_choices = tuple(range(1, len(self.strides) + 1))
        self.window = math.lcm(self.strides[0], config.window or 1)  # frames that a clip is filled up to
        latent_dim = config.encoder_dim << len(config.encoder_rates)
        self.latent_dim = self.vector_dim = latent_dim
        self.encoder = Encoder(config)
        self.quantizer = MultiScaleVQ(latent_dim, config)
        self.decoder = Decoder(latent_dim, config)
        first, last = receptive_span(convolutions_of(self.encoder.blocks), 0, 0)
        self._reach = (
            max(-first, last) // self.hop_length + 8
        )  # frames; the 8 are the convolutions of 7 around the blocks
        first, last = receptive_span(convolutions_of(self.decoder.blocks), 0, self.hop_length - 1)
        self._decoder_reach = max(-first, last) + 8

    # -- encode ---------------------------------------------------------------------------------

    def _latents(self, waveform: Tensor, lengths: Tensor) -> Frames:
        unit, frames = self.window * self.hop_length, self._frames(lengths)
        waveform = F.pad(waveform, (0, -waveform.shape[-1] % unit))
        return Frames(self.encoder(waveform, dense_or_none(frames * self.hop_length, waveform.shape[-1])), frames)

    def _latents_long(self, waveform: Tensor, lengths: Tensor, samples: int) -> Iterator[Frames]:
        """One clip, exactly, in chunks of whole windows with the context that they see."""
        total, hop = int(self._frames(lengths)[0]), self.hop_length
        waveform = waveform[..., : int(lengths[0])]
        for first, start, stop, last in release_memory_between(self._chunks(total, samples // hop, self._reach)):
            own = waveform[..., first * hop : last * hop]
            own = F.pad(own, (0, (last - first) * hop - own.shape[-1]))
            latent = self._latents(own, lengths.new_tensor([own.shape[-1]])).values
            yield Frames(latent[..., start - first : stop - first], lengths.new_tensor([stop - start]))

    # -- decode ---------------------------------------------------------------------------------

    def _vectors(self, codes: Tensor, lengths: Tensor, side_info: Mapping[str, Tensor]) -> Frames:
        """Of whole windows: codes of fewer frames are filled up with code 0."""
        codes = F.pad(codes, (0, -codes.shape[-1] % self.window))
        return Frames(self.quantizer.decode(codes), self._whole_windows(lengths))

    def _synthesize(self, frames: Frames, num_samples: Tensor) -> Decoded:
        vectors, lengths = self._filled(frames.values), self._whole_windows(frames.lengths)
        waveform = self.decoder(vectors, dense_or_none(lengths, vectors.shape[-1]), self._noise())
        return Decoded(waveform, lengths * self.hop_length)

    def _decode_long(
        self, codes: Tensor, lengths: Tensor, side_info: Mapping[str, Tensor], num_samples: Tensor, frames: int
    ) -> Decoded:
        """As `_synthesize_long`: each codebook's codes of a chunk lie at another place of their row."""
        codes = F.pad(codes, (0, -codes.shape[-1] % self.window))
        rows = [codes[:, k, : codes.shape[-1] // s] for k, s in enumerate(self.strides[: codes.shape[1]])]

        def source(first: int, last: int) -> Frames:
            own = [row[:, first // s : last // s] for row, s in zip(rows, self.strides, strict=False)]
            packed = torch.stack([F.pad(row, (0, last - first - row.shape[-1])) for row in own], dim=1)
            return Frames(self.quantizer.decode(packed), lengths.new_tensor([last - first]))

        return self._synthesize_long(source, self._whole_windows(lengths), num_samples, frames)

    def _synthesize_long(self, source: FrameSource, lengths: Tensor, num_samples: Tensor, frames: int) -> Decoded:
        own, total = int(lengths[0]), int(self._whole_windows(lengths)[0])

        def chunks() -> Iterator[Tensor]:
            for first, start, stop, last in release_memory_between(self._chunks(total, frames, self._decoder_reach)):
                vectors = self._filled(source(first, min(last, own)).values)
                audio = self.decoder(vectors, None, self._noise(), first)
                yield audio[..., (start - first) * self.hop_length : (stop - first) * self.hop_length]

        samples = total * self.hop_length
        return Decoded(join_chunks(chunks(), samples), lengths.new_tensor([samples]))

    def _filled(self, vectors: Tensor) -> Tensor:
        """[B, C, N] → the same with zeros up to whole windows."""
        return F.pad(vectors, (0, -vectors.shape[-1] % self.window))

    def _noise(self) -> Noise | None:
        return None if self.noise_seed is None or exporting() else functools.partial(seeded_noise, self.noise_seed)

    def _graph_settings(self) -> Hashable:
        return self.noise_seed

    # -- small parts ----------------------------------------------------------------------------

    def _frames(self, samples: Tensor) -> Tensor:
        return self._whole_windows(-(-samples // self.hop_length))

    def _whole_windows(self, frames: Tensor) -> Tensor:
        return -(-frames // self.window) * self.window

    def check_metadata(self, metadata: Mapping[str, Any]) -> None:
        """Compare the `config.json` beside a checkpoint with this variant.

        Raises:
            ValueError: they differ; every difference is listed.
        """
        compare_settings(
            metadata.get("config", {}), {theirs: getattr(self.config, ours) for theirs, ours in SETTINGS.items()}
        )

    def _chunks(self, total: int, frames: int, reach: int) -> Iterator[tuple[int, int, int, int]]:
        """(first, start, stop, last) in frames: chunk `start` to `stop` in its context, in whole windows."""
        # A wrong value at a seam spreads over its whole window of attention before the convolutions carry it on.
        around = (-(-reach // self.window) + bool(self.config.window)) * self.window
        step = max((frames - 2 * around) // self.window, 1) * self.window
        for start in range(0, total, step):
            stop = min(start + step, total)
            yield max(start - around, 0), start, stop, min(stop + around, total)


def seeded_noise(seed: int, block: int, first: int, last: int) -> Tensor:
    """Standard normal noise of decoder block `block`, for steps `first` to `last` of a clip: [steps] float32, CPU."""
    begin = first // NOISE_BLOCK_SAMPLES
    draws = []
    for i in range(begin, -(-last // NOISE_BLOCK_SAMPLES)):
        generator = np.random.Generator(np.random.Philox(key=[seed, (block << 48) + i]))
        draws.append(torch.from_numpy(generator.standard_normal(NOISE_BLOCK_SAMPLES, dtype=np.float32)))
    return torch.cat(draws)[first - begin * NOISE_BLOCK_SAMPLES : last - begin * NOISE_BLOCK_SAMPLES]


# -- checkpoints --------------------------------------------------------------------------------------

# Keys of the config.json beside a checkpoint → our names. The shapes of tensors tell neither windows nor strides.
SETTINGS = {
    "sampling_rate": "sample_rate",
    "attn_window_size": "window",
    **{name: name for name in ("encoder_dim", "encoder_rates", "decoder_dim", "decoder_rates", "vq_strides",
                               "codebook_size", "codebook_dim")},
}  # fmt: skip

NUM_STRIDES = 4  # of every published model


def _key_map(attention: bool) -> KeyMap:
    """Rules for the authors' places in nested sequences; with attention, the layers after it are one place further."""
    names = {"encoder.first": "encoder.block.0", "decoder.first": "decoder.model.0", "decoder.widen": "decoder.model.1"}
    names["encoder.last"] = f"encoder.block.{NUM_STRIDES + 1 + attention}"
    names["decoder.snake"] = f"decoder.model.{NUM_STRIDES + 2 + attention}"
    names["decoder.last"] = f"decoder.model.{NUM_STRIDES + 3 + attention}"
    for i in range(NUM_STRIDES):
        down, up = f"encoder.block.{i + 1}.block", f"decoder.model.{i + 2 + attention}.block"
        names |= {f"encoder.blocks.{i}.snake": f"{down}.3", f"encoder.blocks.{i}.down": f"{down}.4"}
        names |= {f"decoder.blocks.{i}.snake": f"{up}.0", f"decoder.blocks.{i}.up": f"{up}.1"}
        names[f"decoder.blocks.{i}.noise_gain"] = f"{up}.2.linear"
        for j in range(3):
            for n, part in enumerate(UNIT_LAYERS):
                names[f"encoder.blocks.{i}.units.{j}.{part}"] = f"{down}.{j}.block.{n}"
                names[f"decoder.blocks.{i}.units.{j}.{part}"] = f"{up}.{j + 3}.block.{n}"
    places = (("encoder", f"encoder.block.{NUM_STRIDES + 1}"), ("decoder", "decoder.model.2"))
    level = r"quantizer\.levels\.(\d+)\."
    return KeyMap(
        "snac" + (" with attention" if attention else ""),
        (
            *(Rule(rf"{re.escape(ours)}\.(\w+)", rf"{theirs}.\1") for ours, theirs in names.items()),
            *(Rule(rf"{side}\.attention\.norm\.(\w+)", rf"{place}.norm.\1") for side, place in places),
            *(
                Rule(rf"{side}\.attention\.attention\.in_proj\.weight", f"{place}.to_qkv.weight")
                for side, place in places
            ),
            *(
                Rule(rf"{side}\.attention\.attention\.out_proj\.weight", f"{place}.to_out.weight")
                for side, place in places
            ),
            Rule(level + "codebook", r"quantizer.quantizers.\1.codebook.weight"),
            Rule(level + r"(in_proj|out_proj)\.(\w+)", r"quantizer.quantizers.\1.\2.\3"),
        ),
        unused=(r".+\.rel_pos\.inv_freq",),
    )


SNAC.key_maps = (_key_map(attention=False), _key_map(attention=True))
SNAC.gguf = gguf.layout(SNAC.key_maps[0])
