"""The mel scale of Slaney's Auditory Toolbox, which librosa, Whisper and DAC's losses have made the usual one."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # kept for callers who record gradients
def mel_bands(
    sample_rate: int, window: int, mels: int, dtype: torch.dtype, device: torch.device
) -> tuple[tuple[slice, Tensor], ...]:
    """The mel filters in groups of neighbours, each with the bins that it sees: most of the matrix is zeros."""
    filters = mel_filters(sample_rate, window, mels)
    bands = []
    for group in filters.chunk(max(window // 256, 1), -1):
        bins = group.any(-1).nonzero()
        part = slice(int(bins.min()), int(bins.max()) + 1) if len(bins) else slice(0, 1)
        bands.append((part, group[part].to(device, dtype)))
    return tuple(bands)


def mel_filters(sample_rate: int, window: int, mels: int, low: float = 0.0) -> Tensor:
    """[window / 2 + 1, mels] float64: triangles of equal area, even on Slaney's scale from `low` Hz (1000 at most) to
    half the rate.

    Slaney's mel is linear (200/3 Hz each) to 1 kHz and logarithmic above (6.4 times the frequency in 27 mels).
    Source: M. Slaney, "Auditory Toolbox", 1998; the same as `librosa.filters.mel`.
    """
    linear, knee, step = 200 / 3, 15.0, math.log(6.4) / 27
    top = sample_rate / 2
    top_mel = top / linear if top < 1000 else knee + math.log(top / 1000) / step
    points = torch.linspace(low / linear, top_mel, mels + 2, dtype=torch.float64)
    edges = torch.where(points < knee, points * linear, 1000 * torch.exp((points - knee) * step))
    last = window // 2 * sample_rate / window  # of an odd window below half the rate
    bins = torch.linspace(0, last, window // 2 + 1, dtype=torch.float64)
    rising = (bins[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins[:, None]) / (edges[2:] - edges[1:-1])
    triangles = torch.minimum(rising, falling).clamp(min=0)
    return triangles * (2 / (edges[2:] - edges[:-2]))
