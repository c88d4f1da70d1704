"""Codecs without weights whose codes are known beforehand, to probe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from codeczoo.base import BaseCodec, Context, Decoded, Encoded, Variant

HOP = 160
LONG = 7 * 16000  # samples

KNOWN = """
[family]
class = "Known"
code_licence = "MIT"

[variants.known]
description = "Levels, the same again, and a count of frames"
network = { sample_rate = 16000 }
"""
SINFUL = KNOWN.replace("Known", "Sinful").replace("known", "sinful")
UNEVEN = KNOWN.replace("Known", "Uneven").replace("known", "uneven")
SINS = ("none", "batch size", "place in the batch", "padding", "threads", "autocast", "length")


@dataclass(frozen=True)
class KnownConfig:
    sample_rate: int
    hop_length: int = HOP


class _Frames(BaseCodec):
    """Codebooks of 256 entries, a frame each 10 ms."""

    Config = KnownConfig
    count = 1

    def __init__(self, config: KnownConfig, variant: Variant) -> None:
        super().__init__(config, variant)
        self.sample_rate, self.hop_length = config.sample_rate, config.hop_length
        self.codebook_sizes, self.codebook_choices = (256,) * self.count, (self.count,)
        self.encode_context = self.decode_context = Context(0, 0)

    def frames(self, waveform: Tensor) -> Tensor:
        """[B, 1, T] → [B, N, hop]."""
        return F.pad(waveform[:, 0], (0, -waveform.shape[-1] % HOP)).unflatten(-1, (-1, HOP))

    def _encode(self, waveform: Tensor, lengths: Tensor, num_codebooks: int) -> Encoded:
        codes = torch.stack(self.levels(self.frames(waveform), lengths, waveform.shape[-1]), dim=1)
        return Encoded(codes.long(), -(-lengths // HOP))

    def levels(self, frames: Tensor, lengths: Tensor, longest: int) -> list[Tensor]:
        """[B, N] a codebook."""
        raise NotImplementedError

    def _decode(self, codes: Tensor, lengths: Tensor, side_info: Any, num_samples: Tensor) -> Decoded:
        level = (codes[:, :1].float() - 128) / 128
        return Decoded(level.repeat_interleave(HOP, dim=-1), lengths * HOP)


class Known(_Frames):
    """The first codebook: the level of each frame's first sample, 0 to 255. The second one: 255 minus that. The third
    one: the frame's number, from 0 to 3 in turn."""

    count = 3

    def levels(self, frames: Tensor, lengths: Tensor, longest: int) -> list[Tensor]:
        level = (frames[..., 0] * 128 + 128).round().clamp(0, 255)
        turn = torch.arange(frames.shape[1]).expand(level.shape) % 4
        return [level, 255 - level, turn]


class Uneven(_Frames):
    """Two codebooks, of which the first has a code for each second frame; and no decoder."""

    count = 2
    strides = (2, 1)
    supports_decode = False

    def levels(self, frames: Tensor, lengths: Tensor, longest: int) -> list[Tensor]:
        turn = torch.arange(frames.shape[1]).expand(len(frames), -1)
        slow = F.pad(turn[:, ::2] // 2 % 4, (0, turn.shape[1] // 2), value=-1)
        return [slow, turn % 8]


class Sinful(_Frames):
    """A codebook for each of SINS, whose code tells what a codec must not know."""

    count = len(SINS)

    def levels(self, frames: Tensor, lengths: Tensor, longest: int) -> list[Tensor]:
        size, count, _ = frames.shape
        values = [
            torch.zeros(size),
            torch.full((size,), size),
            torch.arange(size),
            lengths < longest,
            torch.full((size,), torch.get_num_threads()),
            torch.full((size,), int(torch.is_autocast_enabled("cpu"))),
            torch.full((size,), int(longest >= LONG)),
        ]
        return [value.long()[:, None].expand(size, count) for value in values]
