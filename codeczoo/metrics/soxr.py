"""Clips at 16 kHz by soxr's resampler, which librosa uses and so the published DNSMOS and Resemblyzer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

RATE = 16000  # Hz


def resampled_by_soxr(clips: Sequence[Tensor], rate: int) -> list[Tensor]:
    """Clips [T] → float32 [ceil(T · 16000 / rate)] on the CPU: as librosa, with a sample filled or cut at the end."""
    return [_resampled(clip.cpu().float(), rate) for clip in clips]


def _resampled(clip: Tensor, rate: int) -> Tensor:
    if rate == RATE:
        return clip
    import soxr

    wanted = -(-len(clip) * RATE // rate)
    found = soxr.resample(clip.numpy(), rate, RATE, quality="HQ")[:wanted]
    return torch.from_numpy(np.pad(found, (0, wanted - len(found))))
