"""Signals for tests, and how far one lags behind another."""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor

from codeczoo.base import audio_io
from codeczoo.base.resampling import resample
from codeczoo.data import embedded_clips


def chirp(samples: int, sample_rate: int, seed: int = 0) -> Tensor:
    """[1, T]: a tone rising from 200 to 3000 Hz within each second, with a little noise."""
    t = torch.arange(samples, dtype=torch.float64) / sample_rate % 1
    noise = torch.from_numpy(np.random.default_rng(seed).standard_normal(samples))
    return (0.3 * torch.sin(2 * torch.pi * (200 * t + 1400 * t * t)) + 0.02 * noise).float()[None]


@functools.lru_cache
def speech(sample_rate: int, seconds: float) -> Tensor:
    """[1, T]: the embedded speech clips, one after another."""
    spoken = [audio_io.read(path) for path in embedded_clips() if path.name.startswith("speech")]
    joined = torch.cat([resample(clip, rate, sample_rate) for clip, rate in spoken], dim=-1)
    return joined[:, : int(seconds * sample_rate)]


def lag(reference: Tensor, estimate: Tensor) -> int:
    """Samples by which `estimate` [T] comes after `reference` [T], where their cross-correlation is highest."""
    size = 1 << (len(reference) + len(estimate)).bit_length()
    spectrum = torch.fft.rfft(estimate.double(), size) * torch.fft.rfft(reference.double(), size).conj()
    best = int(torch.fft.irfft(spectrum, size).argmax())
    return best if best < size // 2 else best - size


def si_sdr(reference: Tensor, estimate: Tensor) -> float:
    """In dB, of two [T]."""
    reference, estimate = reference.double(), estimate.double()
    target = reference * (reference @ estimate) / (reference @ reference)
    return float(10 * torch.log10((target @ target) / ((estimate - target) @ (estimate - target))))
