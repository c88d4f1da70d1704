"""Overlapping windows of equal length over a long signal, and their cross-faded sum.

For networks that see the whole clip (a norm over time, attention), where no finite context makes chunks exact.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor


def window_starts(total: int, window: int, overlap: int) -> list[int]:
    """Where windows of `window` steps start that cover `total` steps evenly; neighbours share at least `overlap`."""
    if total <= window:
        return [0]
    count = math.ceil((total - overlap) / (window - overlap))
    return [i * (total - window) // (count - 1) for i in range(count)]


def copied(signal: Tensor, first: int, last: int) -> Tensor:
    """Steps `first` to `last` of a signal [..., T] as a batch of one, [1, ..., last - first], that may be written
    into."""
    return signal[None, ..., first:last].clone()


def join(windows: Iterable[Tensor], starts: Sequence[int], fade: int = 0) -> Tensor:
    """Windows [..., t] of equal length that start at steps `starts` and overlap by at least `fade` → one signal.

    A linear fade of `fade` steps in the middle of each overlap leads from one window to the next.
    """
    out, rise, end = torch.empty(0), torch.empty(0), 0
    for window, start in zip(windows, starts, strict=True):
        if not end:
            out = window.new_empty(*window.shape[:-1], starts[-1] + window.shape[-1])
            rise = (torch.arange(fade, device=out.device, dtype=out.dtype) + 0.5) / max(fade, 1)
        first = (start + end - fade) // 2 if end else 0
        faded = fade if end else 0
        window = window[..., first - start :]
        out[..., first : first + faded].lerp_(window[..., :faded], rise[:faded])
        end = first + window.shape[-1]
        out[..., first + faded : end] = window[..., faded:]
    return out
