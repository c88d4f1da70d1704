"""Padding that knows where each item ends.

The convention of all blocks in `nn`: x is [B, C, T], `lengths` [B] says how much of it belongs to each item, None says
that all of it does, and *values behind an item's length are unspecified*. A block that mixes time steps therefore
writes its own padding behind each item before it reads; a block that acts on single time steps needs no padding. So a
ragged batch costs a few small writes instead of a mask after every layer, and a dense one costs nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from codeczoo.base.exporting import exporting
from codeczoo.nn import cuda_kernels
from codeczoo.nn.bfloat16 import channels_lie_last
from codeczoo.nn.inplace import overwritable

MODES = ("zeros", "reflect", "replicate")
MASK_MAX_VALUES = 1 << 22  # a GPU masks an activation of this size faster than it starts a few small kernels


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
        if channels_lie_last(x):
            return _pad_channels_last(x, left, right, mode)
        if mode == "zeros":
            return F.pad(x, (left, right))
        if mode == "replicate":
            return F.pad(x, (left, right), mode="replicate")
        return _reflect(x, left, right)
    if widest is None:
        widest = right if isinstance(right, int) else int(right.max())
    return _pad_ragged(x, lengths, left, right, widest, mode)


def zero_tail_(x: Tensor, lengths: Tensor | None, count: int) -> Tensor:
    """Write zeros behind each item, as far as `count` steps or the tensor's end; in place (see above), but into a copy
    where gradients are recorded."""
    if lengths is None or count == 0 or x.shape[-1] == 0:
        return x
    if not overwritable(x):
        return mask_tail(x, lengths)
    if x.device.type != "cpu" and x.numel() < MASK_MAX_VALUES:
        behind = torch.arange(x.shape[-1], device=x.device) >= lengths[:, None]
        return x.masked_fill_(behind[:, None], 0)
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
    return x.masked_fill(behind.view(x.shape[0], *[1] * (x.ndim - 2), -1), 0)


def _pad_channels_last(x: Tensor, left: int, right: int, mode: str) -> Tensor:
    """As PyTorch's padding, which would put the steps next to each other in memory."""
    if mode == "zeros":
        return F.pad(x.mT, (0, 0, left, right)).mT
    total = x.shape[-1]
    if mode == "replicate":
        before, behind = x[..., :1].expand(-1, -1, left), x[..., -1:].expand(-1, -1, right)
        return torch.cat([before.mT, x.mT, behind.mT], dim=1).mT
    x = F.pad(x.mT, (0, 0, 0, max(max(left, right) + 1 - total, 0))).mT
    last = x.shape[-1] - 1
    before, behind = x[..., 1 : left + 1].flip(-1), x[..., last - right : last].flip(-1)
    return torch.cat([before.mT, x.mT, behind.mT], dim=1).mT[..., : left + total + right]


def _reflect(x: Tensor, left: int, right: int) -> Tensor:
    length = x.shape[-1]
    missing = 0 if exporting() else max(left, right) + 1 - length
    if missing <= 0:
        return F.pad(x, (left, right), mode="reflect")
    padded = F.pad(F.pad(x, (0, missing)), (left, right), mode="reflect")
    return padded[..., : left + length + right]


def _pad_ragged(x: Tensor, lengths: Tensor, left: int, right: int | Tensor, widest: int, mode: str) -> Tensor:
    """Pad as if dense, then overwrite what stands before and behind each item."""
    if left == widest == 0:
        return x
    out = F.pad(x, (left, widest))  # a copy: what is written below never reaches the caller's tensor
    own = lengths[:, None]
    if mode == "zeros":
        behind = own + torch.arange(left, left + widest, device=x.device)
        return out.scatter_(-1, _for_channels(behind, x), 0)
    # The padding's steps, k: `left` before the item, `widest` behind it. What they get stands in `out` already, zeros
    # where it has just been padded with them.
    k, nothing = torch.arange(left + widest, device=x.device), 0 if left else x.shape[-1]
    # An item that is too short to be reflected counts as longer by zeros, see `pad`.
    most: int | Tensor = 0
    if mode == "reflect":
        most = max(left, right) if isinstance(right, int) else right[:, None].clamp(min=left)
    if cuda_kernels.here(x):
        most = most if isinstance(most, Tensor) else k.new_full((1,), most)
        places, sources = (
            cuda_kernels.places(k, own, left),
            cuda_kernels.sources(k, own, most, left, nothing, mode == "reflect"),
        )
    else:
        places = torch.where(k < left, k, k + own)
        sources = _sources(k, own, most, left, nothing, mode == "reflect")
    index, found = _for_channels(places, x), out.gather(-1, _for_channels(sources, x))
    return out.scatter_(-1, index, found) if overwritable(out) else out.scatter(-1, index, found)


def _sources(k: Tensor, own: Tensor, most: int | Tensor, left: int, nothing: int, reflect: bool) -> Tensor:
    """[B, K]: where each step of the padding is taken from, `nothing` where from no sample of the item's own."""
    if reflect:
        last = torch.clamp(own - 1, min=most)
        at = torch.where(k < left, left - k, k - left + own)
        at = torch.where((k >= left) & (at > last), 2 * last - at, at)
    else:
        at = torch.where(k < left, 0, own - 1)
    return torch.where((at >= 0) & (at < own), at + left, nothing)


def _for_channels(index: Tensor, x: Tensor) -> Tensor:
    return index[:, None].expand(-1, x.shape[1], -1)
