"""DAC, the Descript Audio Codec.

Paper: "High-Fidelity Audio Compression with Improved RVQGAN" (arXiv 2306.06546). Upstream:
descriptinc/descript-audio-codec, and the same model in Hugging Face transformers; the checkpoints of both load.

    encoder: conv; for each stride: residual units of dilation 1, 3, 9, snake, strided conv; snake, conv
    decoder: conv; for each stride: snake, transposed conv, residual units of dilation 1, 3, 9; snake, conv, tanh

Convolutions all the way, each with zeros on both sides: about 0.1 s of context to each side, so no streaming, but
windows of a long clip that equal the whole. The quantiser searches in 8 dimensions, by cosine. A clip is filled up with
zeros to whole frames; the strides of 5 in the 24 and 16 kHz models make the decoder end 8 samples short of its last
frame, which are zeros here.

`encode` and `decode` are the plain network. Upstream's file mode (loudness, windows without padding, `.dac`) is
`compress` and `decompress`, in dac_file.py: its codes are not those of `encode`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codeczoo.base.audio import Audio
from codeczoo.base.catalogue import Variant
from codeczoo.base.codec import BaseCodec
from codeczoo.base.device import matmul_precision
from codeczoo.base.key_map import KeyMap, Rule, compare_settings
from codeczoo.base.network import Context, Decoded, Encoded
from codeczoo.base.ragged import dense_or_none
from codeczoo.codecs.formats import dac as dac_file
from codeczoo.codecs.formats.dac import DACFile
from codeczoo.nn.cache_tiling import run_tiled
from codeczoo.nn.conv import Conv1d, ConvTranspose1d
from codeczoo.nn.factorized_vq import ResidualFactorizedVQ
from codeczoo.nn.receptive_field import convolutions_of, receptive_span
from codeczoo.nn.snake import Snake, SnakeDown, SnakeUnits


@dataclass(frozen=True)
class DACConfig:
    """The network's numbers."""

    sample_rate: int  # Hz
    encoder_rates: Sequence[int]  # strides
    decoder_rates: Sequence[int]
    num_codebooks: int
    encoder_dim: int = 64  # channels after the first convolution; each stride doubles them
    decoder_dim: int = 1536  # channels before the first stride; each halves them
    latent_dim: int | None = None  # None = what the encoder's doubling leads to
    codebook_size: int = 1024
    codebook_dim: int = 8

    @property
    def latent_channels(self) -> int:
        return self.latent_dim or self.encoder_dim << len(self.encoder_rates)


class SnakeConv(nn.Module):
    """[B, C, T] → [B, C', T]: how both networks end."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__()
        self.snake = Snake(in_channels)
        self.conv = Conv1d(in_channels, out_channels, kernel_size)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        return self.conv(self.snake(x), lengths)


class DecoderBlock(nn.Module):
    """[B, C, N] → [B, C / 2, N * stride], one step less where the stride is odd."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.snake = Snake(channels)
        trim = -(-stride // 2)
        self.up = ConvTranspose1d(channels, channels // 2, 2 * stride, stride, trim=(trim, trim))
        self.units = SnakeUnits(channels // 2)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        x = self.up(self.snake(x), lengths)
        return self.units(x, None if lengths is None else self.up.out_length(lengths))


class Encoder(nn.Module):
    """Waveform [B, 1, T], T whole frames → latent [B, latent, N] and its lengths."""

    def __init__(self, config: DACConfig) -> None:
        super().__init__()
        channels = config.encoder_dim
        self.first = Conv1d(1, channels, 7)
        self.blocks = nn.ModuleList()
        for stride in config.encoder_rates:
            self.blocks.append(SnakeDown(channels, stride))
            channels *= 2
        self.last = SnakeConv(channels, config.latent_channels, 3)

    def forward(self, waveform: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        x, lengths = run_tiled([self.first, self.blocks[0]], waveform, lengths)
        for block in self.blocks[1:]:
            x, lengths = run_tiled([block], x, lengths)
        return self.last(x, lengths), lengths


class Decoder(nn.Module):
    """Latent [B, latent, N] → waveform [B, 1, T] and its lengths."""

    def __init__(self, config: DACConfig) -> None:
        super().__init__()
        channels = config.decoder_dim
        self.first = Conv1d(config.latent_channels, channels, 7)
        self.blocks = nn.ModuleList()
        for stride in config.decoder_rates:
            self.blocks.append(DecoderBlock(channels, stride))
            channels //= 2
        self.last = SnakeConv(channels, 1, 7)

    def forward(self, latent: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        x = self.first(latent, lengths)
        for block in self.blocks[:-1]:
            x, lengths = run_tiled([block], x, lengths)
        x, lengths = run_tiled([self.blocks[-1], self.last], x, lengths)
        return x.tanh_(), lengths


class DAC(BaseCodec):
    """Codes [B, K, N], any number of the first codebooks."""

    Config = DACConfig
    config: DACConfig
    hop_length: int

    def __init__(self, config: DACConfig, variant: Variant) -> None:
        super().__init__(config, variant)
        self.sample_rate = config.sample_rate
        self.hop_length = math.prod(config.encoder_rates)
        self.codebook_sizes = (config.codebook_size,) * config.num_codebooks
        self.codebook_choices = tuple(range(1, config.num_codebooks + 1))
        self.encoder = Encoder(config)
        self.quantizer = ResidualFactorizedVQ(
            config.latent_channels, config.num_codebooks, config.codebook_size, config.codebook_dim
        )
        self.decoder = Decoder(config)
        first, last = receptive_span(convolutions_of(self.encoder), 0, 0)
        self.encode_context = Context(-first, max(last - self.hop_length + 1, 0))
        self.latency = (last + 1) / self.sample_rate
        first, last = receptive_span(convolutions_of(self.decoder), 0, self.hop_length - 1)
        self.decode_context = Context(-first, last)

    def _encode(self, waveform: Tensor, lengths: Tensor, num_codebooks: int) -> Encoded:
        frames = -(-lengths // self.hop_length)
        waveform = F.pad(waveform, (0, -waveform.shape[-1] % self.hop_length))
        latent, _ = self.encoder(waveform, dense_or_none(frames * self.hop_length, waveform.shape[-1]))
        return Encoded(self.quantizer.encode(latent, num_codebooks), frames)

    def _decode(self, codes: Tensor, lengths: Tensor, side_info: Mapping[str, Tensor], num_samples: Tensor) -> Decoded:
        waveform, samples = self.decoder(self.quantizer.decode(codes), dense_or_none(lengths, codes.shape[-1]))
        return Decoded(waveform, torch.full_like(lengths, waveform.shape[-1]) if samples is None else samples)

    # -- upstream's file mode -------------------------------------------------------------------

    @torch.no_grad()
    def compress(
        self,
        audio: Any,
        sample_rate: int | None = None,
        win_duration: float | None = 1.0,
        normalize_db: float | None = -16.0,
        num_codebooks: int | None = None,
    ) -> DACFile:
        """Audio as the published package compresses it into a `.dac` file; see `dac_file`.

        Args:
            audio, sample_rate: as `encode` takes them; the clips of one file must agree in rate, channels and length.
                Each channel is coded by itself.
            win_duration: seconds; longer clips are coded in windows of that length, shorter ones as `encode` does.
                None = never in windows.
            normalize_db: loudness in LUFS that clips are brought to first; None = as they are.
            num_codebooks: None = the codec's default.

        Raises:
            TypeError, ValueError: audio that cannot be taken, clips that differ, a window too short for one frame.
        """
        with matmul_precision(self.precision):
            return dac_file.compress(self, audio, sample_rate, win_duration, normalize_db, num_codebooks)

    @torch.no_grad()
    def decompress(self, file: DACFile | str | Path) -> Audio:
        """The audio of a `.dac` file, or of what `compress` gave, at its own rate, length, channel count and loudness.

        Raises:
            FileNotFoundError: no such file.
            ValueError: not a `.dac` file, or one that this codec cannot have made.
        """
        with matmul_precision(self.precision):
            return dac_file.decompress(self, file if isinstance(file, DACFile) else DACFile.load(file))

    # -- checkpoints ----------------------------------------------------------------------------

    def check_metadata(self, metadata: Mapping[str, Any]) -> None:
        """Compare what the authors' checkpoint says of its model with this variant.

        Raises:
            ValueError: they differ; every difference is listed.
        """
        published = dict(metadata.get("metadata", {}).get("kwargs", {}))
        if not published:
            return  # the transformers form says nothing
        if "encoder_dim" in published and "encoder_rates" in published:
            published.setdefault("latent_dim", published["encoder_dim"] << len(published["encoder_rates"]))
        here = {name: getattr(self.config, name) for name in SAME_IN_KWARGS}
        here |= {"n_codebooks": self.config.num_codebooks, "latent_dim": self.config.latent_channels}
        compare_settings(published, here)


# Arguments that a checkpoint's metadata name as our config does.
SAME_IN_KWARGS = (
    "sample_rate", "encoder_dim", "encoder_rates", "decoder_dim", "decoder_rates", "codebook_size", "codebook_dim",
)  # fmt: skip

STAGES = 4  # strides of every published model
UNIT = ("snake1", "conv1", "snake2", "conv2")


def descript_names(stages: int = STAGES) -> dict[str, str]:
    """Our module names → the authors': places in nested sequences."""
    names: dict[str, str] = {}
    for side, sequence in (("encoder", "encoder.block"), ("decoder", "decoder.model")):
        names[f"{side}.first"] = f"{sequence}.0"
        names[f"{side}.last.snake"] = f"{sequence}.{stages + 1}"
        names[f"{side}.last.conv"] = f"{sequence}.{stages + 2}"
        parts = ("units.0", "units.1", "units.2", "snake", "down")
        if side == "decoder":
            parts = ("snake", "up", "units.0", "units.1", "units.2")
        for i in range(stages):
            for j, part in enumerate(parts):
                ours, theirs = f"{side}.blocks.{i}.{part}", f"{sequence}.{i + 1}.block.{j}"
                if part.startswith("units"):
                    names |= {f"{ours}.{layer}": f"{theirs}.block.{k}" for k, layer in enumerate(UNIT)}
                else:
                    names[ours] = theirs
    return names


def _transformers() -> dict[str, str]:
    """Our module names → those of Hugging Face transformers."""
    names: dict[str, str] = {}
    for side, resample, theirs_resample in (("encoder", "down", "conv1"), ("decoder", "up", "conv_t1")):
        names[f"{side}.first"] = f"{side}.conv1"
        names[f"{side}.last.snake"] = f"{side}.snake1"
        names[f"{side}.last.conv"] = f"{side}.conv2"
        for i in range(STAGES):
            ours, theirs = f"{side}.blocks.{i}", f"{side}.block.{i}"
            names |= {f"{ours}.snake": f"{theirs}.snake1", f"{ours}.{resample}": f"{theirs}.{theirs_resample}"}
            for j in range(3):
                names |= {f"{ours}.units.{j}.{layer}": f"{theirs}.res_unit{j + 1}.{layer}" for layer in UNIT}
    return names


def _key_map(name: str, modules: Mapping[str, str]) -> KeyMap:
    level = r"quantizer\.levels\.(\d+)\."
    return KeyMap(
        name,
        (
            *(Rule(rf"{re.escape(ours)}\.(\w+)", rf"{theirs}.\1") for ours, theirs in modules.items()),
            Rule(level + "codebook", r"quantizer.quantizers.\1.codebook.weight"),
            Rule(level + r"(in_proj|out_proj)\.(\w+)", r"quantizer.quantizers.\1.\2.\3"),
        ),
    )


DAC.key_maps = (_key_map("descript", descript_names()), _key_map("transformers", _transformers()))
