"""A codec whose decoder gives another rate than its encoder takes: lengths, chunks and rates follow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from codeczoo.base import BaseCodec, Context, Decoded, Encoded, Variant


@dataclass(frozen=True)
class Levels:
    """The network's numbers."""

    entries: int = 64


class Upsampler(BaseCodec):
    """4 samples at 16 kHz are a code, a code is 6 samples at 24 kHz."""

    Config = Levels
    output_sample_rate = 24000
    encode_context = decode_context = Context(0, 0)

    def __init__(self) -> None:
        super().__init__(Levels(), Variant("upsampler", "upsampler", "Upsampler"))
        self.sample_rate, self.hop_length = 16000, 4
        self.codebook_sizes, self.codebook_choices = (self.config.entries,), (1,)

    def _encode(self, waveform: Tensor, lengths: Tensor, num_codebooks: int) -> Encoded:
        filled = torch.nn.functional.pad(waveform, (0, -waveform.shape[-1] % 4))
        means = filled.unflatten(-1, (-1, 4)).mean(-1)
        return Encoded(((means + 1) * self.config.entries / 2).long().clamp(0, 63), -(-lengths // 4))

    def _decode(self, codes: Tensor, lengths: Tensor, side_info: Mapping[str, Tensor], num_samples: Tensor) -> Decoded:
        return Decoded((codes / 32 - 1).repeat_interleave(6, dim=-1), lengths * 6)


def test_audio_is_at_the_output_rate_and_as_long_as_the_clip() -> None:
    codec = Upsampler()
    clips = [torch.rand(1, n) for n in (7, 4, 1001)]
    codes = codec.encode(clips, 16000)
    assert (codes.sample_rate, codes.num_samples.tolist(), codes.lengths.tolist()) == (16000, [7, 4, 1001], [2, 1, 251])
    audio = codec.decode(codes)
    assert (audio.sample_rate, audio.lengths.tolist()) == (24000, [11, 6, 1502])
    assert (codec.info.sample_rate, codec.info.output_sample_rate, codec.output_hop_length) == (16000, 24000, 6)
    bare = codec.decode(codes.codes[2:])
    assert bare.lengths.tolist() == [1506]
    back = codec.reconstruct(clips, 16000)
    assert (back.sample_rate, back.lengths.tolist()) == (16000, [7, 4, 1001])


def test_chunks_equal_the_whole() -> None:
    codec = Upsampler()
    codes = codec.encode(torch.rand(1, 5003), 16000)
    whole = codec.decode(codes)
    codec.max_chunk_seconds = 0.05
    assert torch.equal(codec.decode(codes).waveform, whole.waveform)
