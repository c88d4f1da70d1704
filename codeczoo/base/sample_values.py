"""The values of samples: finite, and of full scale 1."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from codeczoo.base.warn_once import warn_once

CHECK_BLOCK_SAMPLES = 1 << 18  # samples that are looked at together: they fit a processor's cache
LOUD = 8.0  # times full scale; no recording and no sum of a few goes there
# The range of 32-bit integers. Above it no samples are audio, and a network's arithmetic may overflow.
MAX_PEAK = 2.0**31


def peak_of(waveform: Tensor) -> float:
    """The largest magnitude of [..., T]: NaN where a sample is NaN, infinite where one is; 0 of no samples."""
    peak = 0.0
    for block in waveform.detach().split(CHECK_BLOCK_SAMPLES, dim=-1) if waveform.numel() else ():
        low, high = block.aminmax()
        here = max(-float(low), float(high))
        if math.isnan(here) or math.isnan(float(low)):
            return math.nan
        peak = max(peak, here)
    return peak


def check_peak(peak: float, waveform: Tensor, where: str = "") -> None:
    """Judge `waveform`, of which `peak_of` gave `peak`. `where`: "clip 3: ", or nothing.

    Raises:
        ValueError: NaN, infinite or impossibly large samples.
    """
    if not math.isfinite(peak):
        # In blocks, because the mask of an hour has as many values as the hour.
        blocks = waveform.split(CHECK_BLOCK_SAMPLES, dim=-1)
        count = sum(int((~torch.isfinite(block)).sum()) for block in blocks)
        raise ValueError(f"{where}{count} of {waveform.numel()} samples are NaN or infinite")
    if peak > MAX_PEAK:
        raise ValueError(f"{where}a sample of {peak:.4g} is no audio: full scale is 1, of 32-bit integers {MAX_PEAK:g}")
    if peak > LOUD:
        warn_once(
            "full scale",
            f"{where}samples reach {peak:.4g}, and full scale is 1: they look like integers cast to floating point. "
            "Divide them by their full scale, for 16 bits: samples / 32768",
        )
