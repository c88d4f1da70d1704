"""Zoo: codeczoo's own small causal codec, whose weights lie in the package (docs/zoo_16k.md).

Not published elsewhere; `scripts/train_zoo_codec.py` trained it. Its parts are those of other codecs of the zoo:

    encoder: bank of filters every 5 ms, compressed; ConvNeXt; 4 steps to a frame of 20 ms; ConvNeXt; linear
    quantiser: residual vectors (SoundStream, arXiv 2107.03312)
    decoder: linear; ConvNeXt; a frame to 4 steps; ConvNeXt; linear, expanded; bank of filters, overlap-added

The banks begin as a short-time Fourier transform and its inverse, and are trained like the rest. What the first one
gives is compressed by asinh, and the last one's input expanded by sinh: a network of layer norms then works on levels
much as an ear does, in decibels, and keeps signs, thus phases. Logarithms of the magnitudes go in beside them.

Every layer looks back only, so that values behind an item's length reach no other value, and blocks need no lengths. A
clip is filled up with zeros to whole frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codeczoo.base import BaseCodec, Decoded, Frames, KeyMap, Variant
from codeczoo.nn.conv import Conv1d, ConvTranspose1d
from codeczoo.nn.convnext import CausalConvNeXtBlock
from codeczoo.nn.padding import mask_tail
from codeczoo.nn.rvq import ResidualVQ
from codeczoo.nn.sequential import Linear

OUTPUT_GAIN = 1 / 64  # keeps the decoder's filters near 1, which training wants
POWER_FLOOR = 1e-2  # added to the power of a band before its logarithm is taken


@dataclass(frozen=True)
class ZooConfig:
    """The network's numbers."""

    sample_rate: int = 16000  # Hz
    fine_hop: int = 80  # samples a step of the filter banks
    steps_per_frame: int = 4
    bands: int = 128  # complex filters of each bank
    encoder_window: int = 320  # samples
    decoder_window: int = 160
    fine_dim: int = 128  # channels at the rate of the filter banks
    fine_hidden: int = 384
    dim: int = 256  # at the rate of frames
    hidden: int = 384
    encoder_blocks: tuple[int, int] = (2, 2)  # ConvNeXt blocks in order: steps, then frames
    decoder_blocks: tuple[int, int] = (2, 4)  # frames, then steps
    latent_dim: int = 48
    num_codebooks: int = 12
    codebook_size: int = 1024


class Stage(nn.Module):
    """ConvNeXt blocks one after the other, and a layer norm: [B, T, dim] → [B, T, dim]."""

    def __init__(self, count: int, dim: int, hidden: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(CausalConvNeXtBlock(dim, hidden) for _ in range(count))
        self.norm = nn.LayerNorm(dim)

    def initial_state(self, batch_size: int) -> list[Tensor]:
        return [block.initial_state(batch_size) for block in self.blocks]

    def step(self, x: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        after = []
        for block, past in zip(self.blocks, state, strict=True):
            x, past = block.step(x, past)
            after.append(past)
        return self.norm(x), after


class Encoder(nn.Module):
    """Whole frames of waveform [B, 1, T] → latents [B, latent_dim, T / hop]."""

    def __init__(self, config: ZooConfig) -> None:
        super().__init__()
        fine, dim = config.fine_dim, config.dim
        window, hop, each = config.encoder_window, config.fine_hop, config.steps_per_frame
        self.filters = Conv1d(1, 2 * config.bands, window, hop, bias=False, padding="causal")
        self.input_proj = Linear(3 * config.bands, fine)
        self.input_norm = nn.LayerNorm(fine)
        self.fine = Stage(config.encoder_blocks[0], fine, config.fine_hidden)
        self.down = Conv1d(fine, dim, each, each, padding="causal")
        self.coarse = Stage(config.encoder_blocks[1], dim, config.hidden)
        self.output_proj = Linear(dim, config.latent_dim)

    def initial_state(self, batch_size: int) -> list[Any]:
        return [part.initial_state(batch_size) for part in (self.filters, self.fine, self.coarse)]

    def step(self, x: Tensor, state: list[Any]) -> tuple[Tensor, list[Any]]:
        """The next whole frames → their latents, and the state after them."""
        y, filters = self.filters.step(x, state[0])
        x = self.input_norm(self.input_proj(_compressed(y).mT))
        x, fine = self.fine.step(x, state[1])
        x = self.down.convolve(x.mT).mT  # a frame's own steps: nothing to keep
        x, coarse = self.coarse.step(x, state[2])
        return self.output_proj(x).mT, [filters, fine, coarse]

    def forward(self, x: Tensor) -> Tensor:
        return self.step(x, self.initial_state(x.shape[0]))[0]


class Decoder(nn.Module):
    """Latents [B, latent_dim, N] → waveform [B, 1, N * hop]."""

    def __init__(self, config: ZooConfig) -> None:
        super().__init__()
        fine, dim, each = config.fine_dim, config.dim, config.steps_per_frame
        self.input_proj = Linear(config.latent_dim, dim)
        self.input_norm = nn.LayerNorm(dim)
        self.coarse = Stage(config.decoder_blocks[0], dim, config.hidden)
        self.up = ConvTranspose1d(dim, fine, each, each)
        self.fine = Stage(config.decoder_blocks[1], fine, config.fine_hidden)
        self.output_proj = Linear(fine, 2 * config.bands)
        self.filters = ConvTranspose1d(2 * config.bands, 1, config.decoder_window, config.fine_hop, bias=False)

    def initial_state(self, batch_size: int) -> list[Any]:
        return [part.initial_state(batch_size) for part in (self.coarse, self.fine, self.filters)]

    def step(self, x: Tensor, state: list[Any]) -> tuple[Tensor, list[Any]]:
        """The next latents → their samples, and the state after them."""
        x, coarse = self.coarse.step(self.input_norm(self.input_proj(x.mT)), state[0])
        x, fine = self.fine.step(self.up.convolve(x.mT).mT, state[1])
        y, filters = self.filters.step(self.output_proj(x).sinh().mT, state[2])
        return y * OUTPUT_GAIN, [coarse, fine, filters]

    def forward(self, x: Tensor) -> Tensor:
        return self.step(x, self.initial_state(x.shape[0]))[0]


def _compressed(y: Tensor) -> Tensor:
    """Real and imaginary parts of bands [B, 2F, T] → what the network sees of them, [B, 3F, T]."""
    real, imaginary = y.chunk(2, dim=1)
    level = (real.square() + imaginary.square() + POWER_FLOOR).log() / 2
    return torch.cat([y.asinh(), level], dim=1)


class Zoo(BaseCodec):
    """Zoo (codeczoo, 2026): a small causal codec of codeczoo's own, for speech first, its weights in the package.

    Audio [B, 1, T] at 16 kHz ↔ codes [B, K, N] at 50 frames a second, K from 1 to 12: 0.5 to 6 kbit/s.

        codec = load_codec("zoo_16k")
        audio = codec.decode(codec.encode("talk.wav"))
    """

    Config = ZooConfig
    config: ZooConfig
    hop_length: int

    def __init__(self, config: ZooConfig, variant: Variant) -> None:
        super().__init__(config, variant)
        self.sample_rate = config.sample_rate
        self.hop_length = config.fine_hop * config.steps_per_frame
        self.codebook_sizes = (config.codebook_size,) * config.num_codebooks
        self.codebook_choices = tuple(range(1, config.num_codebooks + 1))
        self.causal = True
        self.latency = self.hop_length / config.sample_rate
        self.latent_dim = self.vector_dim = config.latent_dim
        self.encoder = Encoder(config)
        self.quantizer = ResidualVQ(config.num_codebooks, config.codebook_size, config.latent_dim)
        self.decoder = Decoder(config)

    def _latents(self, waveform: Tensor, lengths: Tensor) -> Frames:
        x = self.encoder(F.pad(waveform, (0, -waveform.shape[-1] % self.hop_length)))
        return Frames(x, -(-lengths // self.hop_length))

    def _synthesize(self, frames: Frames, num_samples: Tensor) -> Decoded:
        return Decoded(self.decoder(frames.values), frames.lengths * self.hop_length)

    # -- streaming ------------------------------------------------------------------------------

    def _stream_encode_start(self, batch_size: int) -> list[Any]:
        return self.encoder.initial_state(batch_size)

    def _stream_latents_warmup(self, waveform: Tensor, state: list[Any]) -> tuple[Tensor, None, list[Any]]:
        latent, state = self.encoder.step(waveform, state)
        return latent, None, state

    def _stream_latents_flush(self, rest: Tensor, lengths: Tensor, state: list[Any]) -> tuple[Tensor, Tensor]:
        batch, _, samples = rest.shape
        if samples == 0:
            return rest.new_zeros(batch, self.latent_dim, 0), lengths
        last = F.pad(mask_tail(rest, lengths), (0, self.hop_length - samples))
        return self.encoder.step(last, state)[0], (lengths > 0).long()

    def _stream_decode_start(self, batch_size: int) -> list[Any]:
        return self.decoder.initial_state(batch_size)

    def _stream_synthesize_warmup(self, vectors: Tensor, state: list[Any]) -> tuple[Tensor, None, list[Any]]:
        waveform, state = self.decoder.step(vectors, state)
        return waveform, None, state

    def _stream_decode_flush(self, state: list[Any]) -> tuple[Tensor, None]:
        return state[-1].new_zeros(len(state[-1]), 1, 0), None  # nothing is held back


Zoo.key_maps = (KeyMap("zoo_16k"),)  # the file has our names
