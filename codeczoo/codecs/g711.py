"""G.711, the telephone's code since 1972: one byte a sample on a logarithmic scale, at 8 kHz.

Source: ITU-T Recommendation G.711 (11/1988), tables 1 and 2, https://www.itu.int/rec/T-REC-G.711. Codes are the octets
as transmitted: μ-law with all bits inverted, A-law with every other bit inverted, so that silence is 255 and 213. Full
scale 1 is 32768 on the 16-bit scale; the largest levels are 32124 and 32256. Each code depends on one sample, so that a
stream needs no state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from codeczoo.base import BaseCodec, Decoded, Encoded, Variant

FULL_SCALE = 32768  # 1.0 on the 16-bit scale
SIGN = 128  # bit of an octet; set = positive


@dataclass(frozen=True)
class G711Config:
    """Which of the two laws."""

    law: Literal["mu", "a"]


def magnitudes(law: str) -> tuple[list[int], list[int]]:
    """The 128 magnitudes of a law in ascending order, on the 16-bit scale: (smallest sample of each, its decoded
    level).

    Eight segments of 16 steps. A step of A-law is as wide in segment 0 as in segment 1; the steps of μ-law double
    from segment to segment, and its first is cut in half at zero.
    """
    begins, levels = [], []
    for segment in range(8):
        for step in range(16):
            if law == "mu":  # table 2: 14 bits, bias 33
                begins.append(4 * max(((16 + step) << segment + 1) - 33, 0))
                levels.append(4 * (((2 * step + 33) << segment) - 33))
            elif segment == 0:  # table 1: 13 bits
                begins.append(8 * 2 * step)
                levels.append(8 * (2 * step + 1))
            else:
                begins.append(8 * ((16 + step) << segment))
                levels.append(8 * ((2 * step + 33) << segment - 1))
    return begins, levels


class G711(BaseCodec):
    """G.711 (ITU-T, 1972): the telephone's μ-law or A-law, one byte a sample.

    Speech [B, 1, T] at 8 kHz ↔ codes [B, 1, T], 0 to 255: 64 kbit/s. It has no weights.

        codec = load_codec("g711_ulaw")
        audio = codec.decode(codec.encode("call.wav"))
    """

    Config = G711Config
    onnx_unsupported: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("encoder", "decoder"), "it is a table of 256 levels, and no network"
    )
    latents_unsupported_reason = "its codes are the samples themselves, each rounded on a logarithmic scale"

    sample_rate = 8000
    channels = (1,)
    hop_length = 1
    codebook_sizes = (256,)
    codebook_choices = (1,)
    causal = True
    latency = 0.0

    def __init__(self, config: G711Config, variant: Variant) -> None:
        super().__init__(config, variant)
        begins, levels = magnitudes(config.law)
        # μ-law inverts all bits and A-law every other one; in both a set sign bit, once inverted, means positive.
        self.inverted = 0x7F if config.law == "mu" else 0x55
        octets = torch.arange(256)
        magnitude = torch.tensor(levels, dtype=torch.int32)[(octets ^ self.inverted) & 127]
        # Integers, because a change of the codec's floating-point dtype must not round them.
        self.register_buffer("begins", torch.tensor(begins[1:], dtype=torch.int32), persistent=False)
        self.register_buffer("levels", torch.where(octets >= SIGN, magnitude, -magnitude), persistent=False)
        self.begins: Tensor
        self.levels: Tensor

    def _encode(self, waveform: Tensor, lengths: Tensor, num_codebooks: int) -> Encoded:
        return Encoded(self._quantise(waveform), lengths)

    def _decode(self, codes: Tensor, lengths: Tensor, side_info: Mapping[str, Tensor], num_samples: Tensor) -> Decoded:
        return Decoded(self._expand(codes), lengths)

    def _quantise(self, waveform: Tensor) -> Tensor:
        """[B, 1, T] → codes [B, 1, T]."""
        samples = waveform.to(torch.promote_types(waveform.dtype, torch.float32)) * FULL_SCALE
        begins = self.begins.to(samples.dtype)
        # A sample on the border of two steps belongs to the upper one when positive and to the lower one when
        # negative, as in the ITU's own software (G.191), which takes the ones' complement.
        up = torch.bucketize(samples, begins, right=True)
        down = torch.bucketize(-samples, begins)
        return torch.where(samples < 0, down, up + SIGN) ^ self.inverted

    def _expand(self, codes: Tensor) -> Tensor:
        """Codes [B, 1, N] → waveform [B, 1, N]."""
        return self.levels[codes].to(self.dtype) / FULL_SCALE

    # -- streaming: the state is empty, [B, 0] --------------------------------------------------

    def _stream_encode_start(self, batch_size: int) -> Tensor:
        return torch.zeros(batch_size, 0, device=self.device)

    def _stream_encode_warmup(self, waveform: Tensor, state: Tensor, num_codebooks: int) -> tuple[Tensor, None, Tensor]:
        return self._quantise(waveform), None, state

    def _stream_encode_flush(
        self, rest: Tensor, lengths: Tensor, state: Tensor, num_codebooks: int
    ) -> tuple[Tensor, None]:
        return self._quantise(rest), None

    def _stream_decode_start(self, batch_size: int) -> Tensor:
        return torch.zeros(batch_size, 0, device=self.device)

    def _stream_decode_warmup(self, codes: Tensor, state: Tensor) -> tuple[Tensor, None, Tensor]:
        return self._expand(codes), None, state

    def _stream_decode_flush(self, state: Tensor) -> tuple[Tensor, None]:
        return torch.zeros(len(state), 1, 0, device=self.device, dtype=self.dtype), None
