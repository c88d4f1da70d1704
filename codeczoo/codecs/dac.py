"""DAC, the Descript Audio Codec.

Paper: "High-Fidelity Audio Compression with Improved RVQGAN" (arXiv 2306.06546). Upstream:
descriptinc/descript-audio-codec, and the same model in Hugging Face transformers; the checkpoints of both load.

    encoder: conv; for each stride: residual units of dilation 1, 3, 9, snake, strided conv; snake, conv
    decoder: conv; for each stride: snake, transposed conv, residual units of dilation 1, 3, 9; snake, conv, tanh

Convolutions only, each with zeros on both sides: about 0.1 s of context to each side. So DAC does not stream, but a
long clip in chunks with that context equals the whole. The quantiser searches in 8 dimensions, by cosine. A clip is
filled up with zeros to whole frames. The strides of 5 in the 24 and 16 kHz models make the decoder end 8 samples short
of its last frame; here those samples are zeros.

`encode` and `decode` are the plain network. Upstream's file mode is `compress` and `decompress`, in three steps. The
item is brought to -16 LUFS; its channels become items; and a clip longer than a window of 1 s goes through the network
window by window *without any padding*, where each window starts as many samples after the one before as the decoder
gives back. The decoder's outputs are joined as they are. So these codes are not those of `encode`, there are more of
them a second, and they cannot be cut or joined elsewhere; the longer the window, the fewer are wasted. Benchmarks that
call upstream's `compress` (Codec-SUPERB does) see these codes.

Where upstream's file mode fails we do not follow. A decoder output that ends up to 8 samples short is filled with zeros
(upstream cannot read such a file). An item of several channels has one gain on the way in and one on the way out, so
that its channels keep their balance (upstream scales down a clipping channel alone, and brings each channel back to the
loudness of the whole item). For mono, codes and audio are upstream's.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codeczoo.base import (
    Audio,
    AudioLike,
    BaseCodec,
    Context,
    Decoded,
    Frames,
    KeyMap,
    Rule,
    Variant,
    collate,
    compare_settings,
    dense_or_none,
    read_clips,
    resample,
)
from codeczoo.codecs.formats.dac import DACFile
from codeczoo.codecs.gguf import dac as gguf
from codeczoo.nn.cache_tiling import run_tiled
from codeczoo.nn.conv import Conv1d, ConvTranspose1d
from codeczoo.nn.factorized_vq import ResidualFactorizedVQ
from codeczoo.nn.loudness import loudness
from codeczoo.nn.receptive_field import Layer, convolutions_of, out_length, receptive_span, without_padding
from codeczoo.nn.snake import UNIT_LAYERS, SnakeConv, SnakeDown, SnakeUp


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
            trim = -(-stride // 2)  # a step less comes out where the stride is odd
            self.blocks.append(SnakeUp(channels, 2 * stride, stride, (trim, trim)))
            channels //= 2
        self.last = SnakeConv(channels, 1, 7)

    def forward(self, latent: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        x = self.first(latent, lengths)
        for block in self.blocks[:-1]:
            x, lengths = run_tiled([block], x, lengths)
        x, lengths = run_tiled([self.blocks[-1], self.last], x, lengths)
        return x.tanh_(), lengths


class DAC(BaseCodec):
    """DAC, the Descript Audio Codec (2023): convolutions with snake and a residual quantiser, for music, speech and
    sound.

    Audio [B, 1, T] at 16, 24 or 44.1 kHz ↔ codes [B, K, N] at 50, 75 or 86 frames a second, any number K of the first
    codebooks: up to 6, 24 and 7.75 (or 15.5) kbit/s.

        codec = load_codec("dac_44k")
        audio = codec.decode(codec.encode("song.wav", num_codebooks=4))

    `compress` and `decompress` are upstream's file mode, with other codes (see the module).
    """

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
        self.latent_dim = self.vector_dim = config.latent_channels
        first, last = receptive_span(convolutions_of(self.encoder), 0, 0)
        self.encode_context = Context(-first, max(last - self.hop_length + 1, 0))
        self.latency = (last + 1) / self.sample_rate
        first, last = receptive_span(convolutions_of(self.decoder), 0, self.hop_length - 1)
        self.decode_context = Context(-first, last)

    def _latents(self, waveform: Tensor, lengths: Tensor) -> Frames:
        frames = -(-lengths // self.hop_length)
        waveform = F.pad(waveform, (0, -waveform.shape[-1] % self.hop_length))
        latent, _ = self.encoder(waveform, dense_or_none(frames * self.hop_length, waveform.shape[-1]))
        return Frames(latent, frames)

    def _synthesize(self, frames: Frames, num_samples: Tensor) -> Decoded:
        vectors, lengths, _ = frames
        waveform, samples = self.decoder(vectors, dense_or_none(lengths, vectors.shape[-1]))
        return Decoded(waveform, torch.full_like(lengths, waveform.shape[-1]) if samples is None else samples)

    # -- upstream's file mode -------------------------------------------------------------------

    @torch.no_grad()
    def compress(
        self,
        audio: AudioLike,
        sample_rate: int | None = None,
        win_duration: float | None = 1.0,
        normalize_db: float | None = -16.0,
        num_codebooks: int | None = None,
    ) -> DACFile:
        """Audio as the published package compresses it into a `.dac` file.

        Args:
            audio, sample_rate: as `encode` takes them; the clips of one file must agree in rate, channels and length.
                Each channel is coded by itself.
            win_duration: seconds of a window. Longer clips are coded in windows, shorter ones as `encode` does; None =
                all clips as `encode` does.
            normalize_db: loudness in LUFS that clips are brought to first; None = they keep theirs.
            num_codebooks: None = the codec's default.

        Raises:
            TypeError, ValueError: audio that cannot be taken, clips that differ, a window too short for one frame.
        """
        with self._arithmetic(encoding=True):
            return self._compress(audio, sample_rate, win_duration, normalize_db, num_codebooks)

    @torch.no_grad()
    def decompress(self, file: DACFile | str | Path) -> Audio:
        """The audio of a `.dac` file, or of what `compress` gave, at its own rate, length, channel count and loudness.

        Raises:
            FileNotFoundError: no such file.
            ValueError: not a `.dac` file, or one that this codec cannot have made.
        """
        with self._arithmetic(encoding=False):
            return self._decompress(file if isinstance(file, DACFile) else DACFile.load(file))

    def _compress(
        self,
        audio: AudioLike,
        sample_rate: int | None,
        win_duration: float | None,
        normalize_db: float | None,
        num_codebooks: int | None,
    ) -> DACFile:
        count = self.choose_codebooks(num_codebooks)
        original = collate(read_clips(audio, sample_rate))
        length = original.waveform.shape[-1]
        if bool((original.lengths != length).any()):
            raise ValueError(
                f"a .dac file holds clips of one length; these have {original.lengths.tolist()} samples: "
                "compress them one by one"
            )
        waveform = original.waveform.to(self.device, self.dtype)
        waveform = _at_rate(waveform, original.sample_rate, self.sample_rate)
        input_db = loudness(waveform, self.sample_rate)
        if normalize_db is not None:
            waveform = waveform * _gain(normalize_db - input_db, waveform)
        waveform = waveform / waveform.abs().amax((1, 2), keepdim=True).clamp(min=1)
        rows = waveform.flatten(0, 1)[:, None]  # [B * C, 1, T]
        window = math.inf if win_duration is None else win_duration * self.sample_rate
        whole = rows.shape[-1] <= window
        if whole:
            codes = self.encode(rows, self.sample_rate, count).codes
            window_frames = codes.shape[-1]
        else:
            codes, window_frames = self._encode_windows(rows, int(window), count)
        return DACFile(
            codes=codes,
            chunk_length=window_frames,
            original_length=length,
            input_db=input_db.float(),
            channels=original.channels,
            sample_rate=original.sample_rate,
            padding=whole,
        )

    def _encode_windows(self, rows: Tensor, samples: int, num_codebooks: int) -> tuple[Tensor, int]:
        """[B, 1, T] in windows of `samples` → codes [B, K, windows * frames], and the frames of a window."""
        encoder, decoder = without_padding(self.encoder), without_padding(self.decoder)
        samples = -(-max(samples, 1) // self.hop_length) * self.hop_length
        frames = out_length(convolutions_of(encoder), samples)
        step = out_length(convolutions_of(decoder), frames)
        if step < 1:
            layers, hop = convolutions_of(encoder, decoder), self.hop_length
            enough = next(n for n in itertools.count(samples, hop) if out_length(layers, n) > 0)
            raise ValueError(
                f"a window of {samples} samples is too short: without padding {self.name} makes nothing of less than "
                f"{enough} ({enough / self.sample_rate:.2f} s); win_duration=None codes a clip of any length whole"
            )
        delay = _delay(encoder, decoder)
        count = -(-rows.shape[-1] // step)
        behind = max((count - 1) * step + samples - rows.shape[-1] - delay, 0)
        windows = F.pad(rows, (delay, behind)).unfold(-1, samples, step)[:, :, :count]  # a view: [B, 1, W, samples]
        codes = []
        for batch in self._window_batches(windows, samples):
            latent, _ = encoder(batch.transpose(1, 2).flatten(0, 1))
            codes.append(_side_by_side(self.quantizer.encode(latent, num_codebooks), len(rows)))
        return torch.cat(codes, dim=-1), frames

    def _decompress(self, file: DACFile) -> Audio:
        codes = self._check_codes(self.codes_from_tensor(file.codes)).codes.to(self.device)
        if file.padding:
            coded_together = codes.split(file.chunk_length, dim=-1)
            waveform = torch.cat([self.decode(part).waveform for part in coded_together], dim=-1)
        else:
            waveform = self._decode_windows(codes, file.chunk_length)
        waveform = waveform.view(-1, file.channels, waveform.shape[-1])
        change = file.input_db.double() - loudness(waveform, self.sample_rate)
        waveform = _at_rate(waveform * _gain(change, waveform), self.sample_rate, file.sample_rate)
        missing = max(file.original_length - waveform.shape[-1], 0)
        waveform = F.pad(waveform, (0, missing))[..., : file.original_length]
        return Audio(waveform, torch.full((len(waveform),), file.original_length), file.sample_rate)

    def _decode_windows(self, codes: Tensor, frames: int) -> Tensor:
        """[B, K, windows * frames] → [B, 1, T]."""
        decoder = without_padding(self.decoder)
        if out_length(convolutions_of(decoder), frames) < 1:
            raise ValueError(f"windows of {frames} frames are too short for {self.name}: nothing comes out of them")
        if codes.shape[-1] % frames:
            raise ValueError(f"{codes.shape[-1]} frames are not whole windows of {frames}")
        windows = codes.unflatten(-1, (-1, frames))  # [B, K, W, frames]
        audio = []
        for batch in self._window_batches(windows, frames * self.hop_length):
            waveform, _ = decoder(self.quantizer.decode(batch.transpose(1, 2).flatten(0, 1)))
            audio.append(_side_by_side(waveform, len(codes)))
        return torch.cat(audio, dim=-1)

    def _window_batches(self, windows: Tensor, samples: int) -> tuple[Tensor, ...]:
        """Windows [B, _, W, _] of `samples` each, in batches that may go through the network together."""
        seconds = len(windows) * samples / self.sample_rate
        return windows.split(max(int(self._chunk_seconds() / seconds), 1), dim=2)

    # -- checkpoints ----------------------------------------------------------------------------

    def check_metadata(self, metadata: Mapping[str, Any]) -> None:
        """Compare what the authors' checkpoint says of its model with this variant.

        Raises:
            ValueError: they differ; every difference is listed.
        """
        published = dict(metadata.get("metadata", {}).get("kwargs", {}))
        if not published:
            return  # the checkpoints of transformers say nothing of the network
        if "encoder_dim" in published and "encoder_rates" in published:
            published.setdefault("latent_dim", published["encoder_dim"] << len(published["encoder_rates"]))
        here = {name: getattr(self.config, name) for name in SAME_NAMED_SETTINGS}
        here |= {"n_codebooks": self.config.num_codebooks, "latent_dim": self.config.latent_channels}
        compare_settings(published, here)


def _delay(encoder: nn.Module, decoder: nn.Module) -> int:
    """Zeros before the first window: half of the steps by which the network without padding shortens a signal."""
    layers = convolutions_of(encoder, decoder)
    given = needed = out_length(layers, 0)
    for layer in reversed(layers):
        needed = _needed_steps(layer, needed)
    return (needed - given) // 2


def _needed_steps(layer: Layer, length: int) -> int:
    """The fewest input steps from which a layer without padding makes `length` output steps."""
    if isinstance(layer, ConvTranspose1d):
        return -((layer.kernel_size - length) // layer.stride) + 1
    return (length - 1) * layer.stride + layer.span


def _side_by_side(windows: Tensor, batch: int) -> Tensor:
    """[B * W, C, T] → [B, C, W * T]."""
    return windows.unflatten(0, (batch, -1)).transpose(1, 2).flatten(2)


def _at_rate(waveform: Tensor, rate: int, wanted: int) -> Tensor:
    """Resampled with julius' filter, to the number of samples that julius gives."""
    samples = max(waveform.shape[-1] * wanted // rate, 1)
    return resample(waveform, rate, wanted, filter="julius")[..., :samples]


def _gain(decibels: Tensor, like: Tensor) -> Tensor:
    """[B] in dB → factors [B, 1, 1]."""
    return (10 ** (decibels / 20)).to(like)[:, None, None]


# -- key maps -----------------------------------------------------------------------------------------

# Arguments that a checkpoint's metadata name as our config does.
SAME_NAMED_SETTINGS = (
    "sample_rate", "encoder_dim", "encoder_rates", "decoder_dim", "decoder_rates", "codebook_size", "codebook_dim",
)  # fmt: skip

NUM_STRIDES = 4  # of every published model


def descript_names(
    stages: int = NUM_STRIDES, encoder: str = "encoder.block", decoder: str = "decoder.model"
) -> dict[str, str]:
    """Our module names → the authors': places in nested sequences, of which `encoder` and `decoder` are the names."""
    names: dict[str, str] = {}
    for side, sequence in (("encoder", encoder), ("decoder", decoder)):
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
                    names |= {f"{ours}.{layer}": f"{theirs}.block.{k}" for k, layer in enumerate(UNIT_LAYERS)}
                else:
                    names[ours] = theirs
    return names


def transformers_names(stages: int = NUM_STRIDES, encoder: str = "encoder", decoder: str = "decoder") -> dict[str, str]:
    """Our module names → those of Hugging Face transformers, where the two are `encoder` and `decoder`."""
    names: dict[str, str] = {}
    for side, published, resampling, theirs_resampling in (
        ("encoder", encoder, "down", "conv1"),
        ("decoder", decoder, "up", "conv_t1"),
    ):
        names[f"{side}.first"] = f"{published}.conv1"
        names[f"{side}.last.snake"] = f"{published}.snake1"
        names[f"{side}.last.conv"] = f"{published}.conv2"
        for i in range(stages):
            ours, theirs = f"{side}.blocks.{i}", f"{published}.block.{i}"
            names |= {f"{ours}.snake": f"{theirs}.snake1", f"{ours}.{resampling}": f"{theirs}.{theirs_resampling}"}
            for j in range(3):
                names |= {f"{ours}.units.{j}.{layer}": f"{theirs}.res_unit{j + 1}.{layer}" for layer in UNIT_LAYERS}
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


DAC.key_maps = (_key_map("descript", descript_names()), _key_map("transformers", transformers_names()))
DAC.gguf = gguf.layout(DAC.key_maps[1])
