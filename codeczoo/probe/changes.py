"""Small changes of audio that nobody hears, or hardly."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from codeczoo.base.audio import Audio, clean
from codeczoo.probe.sample import clip_number


def shifted(audio: Audio, samples: int = 1) -> Audio:
    """Each clip without its first samples."""
    return Audio(audio.waveform[..., samples:], audio.lengths - samples, audio.sample_rate)


def amplified(audio: Audio, decibels: float) -> Audio:
    """Each clip louder by so many decibels. Nothing is clipped."""
    return Audio(audio.waveform * 10 ** (decibels / 20), audio.lengths, audio.sample_rate)


def noisy(audio: Audio, ids: Sequence[str], snr: float) -> Audio:
    """Each clip with white noise, so that its power is `snr` dB above the noise's. The noise follows from the clip's
    id. A silent clip stays as it is."""
    waveform = audio.waveform.clone()
    for row, id, length in zip(waveform, ids, audio.lengths.tolist(), strict=True):
        generator = torch.Generator().manual_seed(clip_number(id) >> 1)
        noise = torch.randn(len(row), length, generator=generator, dtype=torch.float64)
        power, noise_power = row[:, :length].cpu().double().square().mean(), noise.square().mean()
        row[:, :length] += (noise * (power / noise_power / 10 ** (snr / 10)).sqrt()).to(row.device, row.dtype)
    return clean(waveform, audio.lengths, audio.sample_rate)
