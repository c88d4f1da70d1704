"""Loudness in LUFS: ITU-R BS.1770-4, gated, over whole items.

The K-weighting is a shelf that lifts treble by 4 dB and a high-pass at 38 Hz, made for each sample rate by the formulas
of the Audio EQ Cookbook, as pyloudnorm and audiotools make it. As in audiotools, an incomplete
last block counts, filled with zeros.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

CHANNEL_GAINS = (1.0, 1.0, 1.0, 1.41, 1.41)  # left, right, centre, and the two surrounds
OFFSET = -0.691  # dB; it makes a full-scale sine of 997 Hz come out at its level
ABSOLUTE_GATE = -70.0  # LUFS; softer blocks do not count, and no result is lower
RELATIVE_GATE = -10.0  # LU below the mean of the blocks that remain
MIN_SECONDS = 0.5  # seconds; shorter items are measured with zeros behind them
CHUNK_SAMPLES = 1 << 20  # samples filtered together: bounds memory


def loudness(waveform: Tensor, sample_rate: int) -> Tensor:
    """[B, C, T] → the integrated loudness of each item, [B] float64 in LUFS, at least -70 (silence). On the CPU.

    Raises:
        ValueError: more than the five channels that the standard knows.
    """
    channels, samples = waveform.shape[1:]
    if channels > len(CHANNEL_GAINS):
        raise ValueError(f"loudness is defined for up to {len(CHANNEL_GAINS)} channels; there are {channels}")
    powers = _block_powers(waveform.cpu().double(), sample_rate, max(samples, math.ceil(MIN_SECONDS * sample_rate)))
    powers = torch.einsum("c,bcn->bn", powers.new_tensor(CHANNEL_GAINS[:channels]), powers)
    levels = _decibels(powers)
    loud = levels > ABSOLUTE_GATE
    gate = _decibels(_mean(powers, loud)) + RELATIVE_GATE
    return _decibels(_mean(powers, loud & (levels > gate[:, None]))).clamp(min=ABSOLUTE_GATE)


def _block_powers(waveform: Tensor, sample_rate: int, samples: int) -> Tensor:
    """[B, C, T] → the mean square of each K-weighted block of 400 ms, one every 100 ms: [B, C, N]."""
    size, step = sample_rate * 2 // 5, sample_rate // 10
    count = -(-max(samples - size, 0) // step) + 1
    weighted = _k_weighted(F.pad(waveform, (0, samples - waveform.shape[-1])), sample_rate)
    weighted = F.pad(weighted, (0, (count - 1) * step + size - samples))
    return weighted.square_().unfold(-1, size, step).sum(-1) / (0.4 * sample_rate)


def _mean(powers: Tensor, kept: Tensor) -> Tensor:
    """[B, N] → [B]; 0 where nothing is kept."""
    return (powers * kept).sum(-1) / kept.sum(-1).clamp(min=1)


def _decibels(power: Tensor) -> Tensor:
    return OFFSET + 10 * torch.log10(power)


def _k_weighted(x: Tensor, sample_rate: int) -> Tensor:
    """Both filters, applied in the frequency domain.

    The high-pass decays to 1e-20 within 0.25 s, so each chunk is filtered with the 0.25 s before it.
    """
    memory = sample_rate // 4
    chunks = []
    for start in range(0, x.shape[-1], CHUNK_SAMPLES):
        stop = min(start + CHUNK_SAMPLES, x.shape[-1])
        chunk = F.pad(x[..., max(start - memory, 0) : stop], (max(memory - start, 0), 0))
        frequencies = torch.fft.rfftfreq(chunk.shape[-1], dtype=x.dtype)
        spectrum = torch.fft.rfft(chunk) * _response(frequencies, sample_rate)
        chunks.append(torch.fft.irfft(spectrum, chunk.shape[-1])[..., memory:])
    return torch.cat(chunks, dim=-1)


def _response(frequencies: Tensor, sample_rate: int) -> Tensor:
    """Of shelf and high-pass together, at frequencies in cycles a sample."""
    z = torch.exp(-2j * math.pi * frequencies)
    total = torch.ones_like(z)
    for b, a in (_high_shelf(1500.0, sample_rate), _high_pass(38.0, sample_rate)):
        total = total * (b[0] + b[1] * z + b[2] * z * z) / (a[0] + a[1] * z + a[2] * z * z)
    return total


Biquad = tuple[tuple[float, float, float], tuple[float, float, float]]


def _high_shelf(frequency: float, sample_rate: int) -> Biquad:
    """4 dB at Q = 1/√2: coefficients of z⁰, z⁻¹, z⁻² above and below the line."""
    gain = 10 ** (4.0 / 40)
    cosine = math.cos(2 * math.pi * frequency / sample_rate)
    width = 2 * math.sqrt(gain) * math.sin(2 * math.pi * frequency / sample_rate) / math.sqrt(2)
    plus, minus = gain + 1, gain - 1
    above = (plus + minus * cosine + width, -2 * (minus + plus * cosine), plus + minus * cosine - width)
    below = (plus - minus * cosine + width, 2 * (minus - plus * cosine), plus - minus * cosine - width)
    return (gain * above[0], gain * above[1], gain * above[2]), below


def _high_pass(frequency: float, sample_rate: int) -> Biquad:
    """Q = 1/2."""
    cosine = math.cos(2 * math.pi * frequency / sample_rate)
    width = math.sin(2 * math.pi * frequency / sample_rate)
    return ((1 + cosine) / 2, -(1 + cosine), (1 + cosine) / 2), (1 + width, -2 * cosine, 1 - width)
