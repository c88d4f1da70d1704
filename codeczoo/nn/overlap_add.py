"""Overlapping windows of equal length over what is too long for one pass, and one signal of them again.

For networks that see the whole clip (a norm over time, attention), so that no finite context makes windows exact.
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


def join(pieces: Iterable[Tensor], starts: Sequence[int], fade: int = 0) -> Tensor:
    """Pieces [..., t], equally long, that start at steps `starts` and overlap by `fade` or more → one signal.

    In the middle of each overlap a piece gives way to the next, over `fade` steps, linearly.
    """
    out, rise, end = torch.empty(0), torch.empty(0), 0
    for piece, start in zip(pieces, starts, strict=True):
        if not end:
            out = piece.new_empty(*piece.shape[:-1], starts[-1] + piece.shape[-1])
            rise = (torch.arange(fade, device=out.device, dtype=out.dtype) + 0.5) / max(fade, 1)
        first = (start + end - fade) // 2 if end else 0
        faded = fade if end else 0
        piece = piece[..., first - start :]
        out[..., first : first + faded].lerp_(piece[..., :faded], rise[:faded])
        end = first + piece.shape[-1]
        out[..., first + faded : end] = piece[..., faded:]
    return out
