"""A codec of somebody else's package: a linear map of each frame to a few numbers, of which the signs are sent."""

from dataclasses import dataclass

import torch
from torch import nn

from codeczoo.base import BaseCodec, Context, Decoded, Encoded


@dataclass(frozen=True)
class OutsideConfig:
    sample_rate: int
    hop_length: int = 160
    bits: int = 8


class Outside(BaseCodec):
    """Codes [B, 1, N] at 100 frames a second."""

    Config = OutsideConfig

    def __init__(self, config, variant):
        super().__init__(config, variant)
        self.sample_rate, self.hop_length = config.sample_rate, config.hop_length
        self.codebook_sizes, self.codebook_choices = (2**config.bits,), (1,)
        self.encode_context = self.decode_context = Context(0, 0)
        self.encoder = nn.Linear(config.hop_length, config.bits)
        self.decoder = nn.Linear(config.bits, config.hop_length)
        self.register_buffer("powers", 2 ** torch.arange(config.bits), persistent=False)

    def _encode(self, waveform, lengths, num_codebooks):
        waveform = nn.functional.pad(waveform[:, 0], (0, -waveform.shape[-1] % self.hop_length))
        frames = waveform.unflatten(-1, (-1, self.hop_length))  # [B, N, hop]
        codes = ((self.encoder(frames) > 0) * self.powers).sum(-1)
        return Encoded(codes[:, None], -(-lengths // self.hop_length))

    def _decode(self, codes, lengths, side_info, num_samples):
        signs = 2.0 * (codes[:, 0, :, None] // self.powers % 2) - 1  # [B, N, bits]
        waveform = self.decoder(signs.to(self.dtype)).flatten(1)
        return Decoded(waveform[:, None], lengths * self.hop_length)
