"""Rows of a pair at 16 kHz by soxr's resampler, which librosa uses and so the published DNSMOS and Resemblyzer."""

from __future__ import annotations

import importlib.util

import numpy as np
import torch
from torch import Tensor

from codeczoo.metrics.judged import RATE, Rows
from codeczoo.metrics.networks.models import NotInstalledError
from codeczoo.metrics.pair import Pair


class SoxrRows(Rows):
    """As `Rows`, of channels mixed to one; the clips are float32 on the CPU."""

    def __init__(self, pair: Pair, side: str) -> None:
        if pair.sample_rate != RATE and importlib.util.find_spec("soxr") is None:
            raise NotInstalledError("this metric resamples with soxr: pip install 'codeczoo[models]'")
        super().__init__(pair, side, shortest=1, mono=True)
        rate = pair.sample_rate
        self.clips = [_resampled(clip.cpu().float(), rate) for clip in self.clips]

    def _view(self) -> Pair:
        return self.pair


def _resampled(clip: Tensor, rate: int) -> Tensor:
    """[T] → [ceil(T · 16000 / rate)]: as librosa, with a sample filled or cut at the end."""
    if rate == RATE:
        return clip
    import soxr

    wanted = -(-len(clip) * RATE // rate)
    found = soxr.resample(clip.numpy(), rate, RATE, quality="HQ")[:wanted]
    return torch.from_numpy(np.pad(found, (0, wanted - len(found))))
