"""Padding that knows where each item ends.

The convention of all blocks in `nn`: x is [B, C, T], `lengths` [B] says how much of it belongs to each item, None says
that all of it does, and *values behind an item's length are unspecified*. A block that mixes time steps therefore
writes its own padding behind each item before it reads; blocks that act on one time step alone need do nothing. So a
ragged batch costs a few small writes instead of a mask after every layer, and a dense one costs nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

MODES = ("zeros", "reflect", "replicate")


def pad(
    x: Tensor,
    lengths: Tensor | None,
    left: int,
    right: int | Tensor,
    mode: str = "zeros",
    widest: int | None = None,
) -> Tensor:
    """[B, C, T] → [B, C, left + T + widest], each item padded on both sides of its own samples.

    Args:
        right: one number, or [B] when items need different amounts (only with `lengths`).
        mode: "zeros", "reflect" (the edge sample is not repeated) or "replicate". An item no longer than the larger
            side cannot be reflected: it is first lengthened by zeros to one sample more, reflected, and the result cut
            again, as EnCodec does.
        widest: a bound of `right` that is known without asking the device; None = its maximum.
    """
    if lengths is None:
        if isinstance(right, Tensor):
            raise ValueError("right padding of each item's own needs lengths")
        if left == 0 and right == 0:
            return x
        if mode == "zeros":
            return F.pad(x, (left, right))
        if mode == "replicate":
            return F.pad(x, (left, right), mode="replicate")
        return _reflect(x, left, right)
    if widest is None:
        widest = right if isinstance(right, int) else int(right.max())
    return _pad_ragged(x, lengths, left, right, widest, mode)


def zero_tail_(x: Tensor, lengths: Tensor | None, count: int) -> Tensor:
    """Write zeros behind each item, as far as `count` steps or the tensor's end; in place (see above)."""
    if lengths is None or count == 0 or x.shape[-1] == 0:
        return x
    index = lengths[:, None] + torch.arange(count, device=x.device)  # [B, count]
    clipped = index.clamp(max=x.shape[-1] - 1)
    behind = clipped >= lengths[:, None]
    clipped = clipped[:, None].expand(-1, x.shape[1], -1)
    return x.scatter_(-1, clipped, x.gather(-1, clipped).masked_fill(behind[:, None], 0))


def mask_tail(x: Tensor, lengths: Tensor | None) -> Tensor:
    """x [B, ..., T] with zeros everywhere behind each item's length."""
    if lengths is None:
        return x
    behind = torch.arange(x.shape[-1], device=x.device) >= lengths[:, None]
    return x.masked_fill(behind.view(len(x), *[1] * (x.ndim - 2), -1), 0)


def _reflect(x: Tensor, left: int, right: int) -> Tensor:
    length = x.shape[-1]
    missing = max(left, right) + 1 - length
    if missing <= 0:
        return F.pad(x, (left, right), mode="reflect")
    padded = F.pad(F.pad(x, (0, missing)), (left, right), mode="reflect")
    return padded[..., : left + length + right]


def _pad_ragged(x: Tensor, lengths: Tensor, left: int, right: int | Tensor, widest: int, mode: str) -> Tensor:
    """Pad as if dense, then overwrite what stands behind each item."""
    batch, channels, _ = x.shape
    side = torch.as_tensor(right, device=x.device).expand(batch)
    out = F.pad(x, (left, widest))  # a copy: what is written below never reaches the caller's tensor
    steps = torch.arange(widest, device=x.device)  # [R]
    behind = left + lengths[:, None] + steps  # [B, R] places to fill
    if mode == "zeros":
        return _put(out, behind, out.new_zeros(()).expand(batch, channels, widest))
    # For the short-item rule an item counts as `length` samples, zeros behind its own.
    largest = torch.maximum(side, side.new_tensor(left))
    length = torch.maximum(lengths, largest + 1) if mode == "reflect" else lengths
    if mode == "reflect":
        source = 2 * (length[:, None] - 1) - (lengths[:, None] + steps)  # mirrored about the last sample
        own = lengths[:, None] + steps < length[:, None]  # still inside the lengthened item: its zeros
        source = torch.where(own, lengths[:, None] + steps, source)
    else:
        source = (lengths[:, None] - 1).expand(-1, widest)
    out = _put(out, behind, _take(x, source, lengths))
    if left:
        ahead = (
            torch.arange(left, 0, -1, device=x.device)
            if mode == "reflect"
            else torch.zeros(left, device=x.device).long()
        )
        out[..., :left] = _take(x, ahead.expand(batch, -1), lengths)
    return out


def _take(x: Tensor, index: Tensor, lengths: Tensor) -> Tensor:
    """x [B, C, T] at index [B, R], zero outside of each item's own samples → [B, C, R]."""
    inside = (index >= 0) & (index < lengths[:, None])
    safe = index.clamp(0, x.shape[-1] - 1)[:, None].expand(-1, x.shape[1], -1)
    return x.gather(-1, safe).masked_fill(~inside[:, None], 0)


def _put(x: Tensor, index: Tensor, values: Tensor) -> Tensor:
    return x.scatter_(-1, index[:, None].expand(-1, x.shape[1], -1), values)
