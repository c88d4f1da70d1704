"""Ragged batches: clips of different lengths in one dense tensor, with their lengths."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence
from typing import Any, SupportsIndex

import torch
from torch import Tensor

from codeczoo.base.exporting import exporting
from codeczoo.base.recording import recorder


def check_lengths(lengths: Tensor, batch: int, longest: int, unit: str) -> Tensor:
    """`lengths` as [B] int64, or an error that says what they must be. `unit`: "samples" or "frames"."""
    if lengths is None:
        raise TypeError(f"lengths must be whole numbers of {unit} [{batch}], one for each item; they are None")
    lengths = torch.as_tensor(lengths)
    if lengths.is_floating_point() or lengths.is_complex() or lengths.dtype == torch.bool:
        raise TypeError(f"lengths must be whole numbers of {unit}; their type is {lengths.dtype}")
    if lengths.shape != (batch,):
        raise ValueError(f"lengths must be [{batch}], one for each item; their shape is {tuple(lengths.shape)}")
    lengths = lengths.long()
    values = lengths.tolist()
    if values and (min(values) < 0 or max(values) > longest):
        raise ValueError(f"lengths must lie in 0 to {longest} {unit}; they are {values}")
    return lengths


def pad_stack(items: Sequence[Tensor], value: float = 0) -> tuple[Tensor, Tensor]:
    """Tensors [..., T_b] → ([B, ..., max T_b], lengths [B]); `value` fills the shorter ones."""
    lengths = torch.tensor([item.shape[-1] for item in items], dtype=torch.int64)
    return padded(items, value), lengths.to(items[0].device)


def padded(items: Sequence[Tensor], value: float = 0) -> Tensor:
    """Tensors [..., T_b] → [B, ..., max T_b]; `value` fills the shorter ones."""
    longest = max(item.shape[-1] for item in items)
    if len(items) == 1:
        return items[0][None]
    if all(item.shape[-1] == longest for item in items):
        return torch.stack(list(items))
    batch = items[0].new_full((len(items), *items[0].shape[:-1], longest), value)
    for i, item in enumerate(items):
        batch[i, ..., : item.shape[-1]] = item
    return batch


def widen(tensor: Tensor, size: int, value: float) -> Tensor:
    """[..., T] → [..., size], filled up with `value`."""
    return torch.nn.functional.pad(tensor, (0, size - tensor.shape[-1]), value=value)


def cat_ragged(parts: Sequence[Tensor]) -> Tensor:
    """Side values [B, ...] on one batch axis; a shorter last axis is filled with NaN, of integers with -1."""
    if parts[0].ndim == 1:
        return torch.cat(list(parts))
    longest = max(part.shape[-1] for part in parts)
    fill = torch.nan if parts[0].is_floating_point() else -1
    return torch.cat([widen(part, longest, fill) for part in parts])


def batch_index(index: Any, batch: int) -> Any:
    """The `index` of `x[index]` as one that keeps the batch axis: a number becomes a list of one, a tuple a list."""
    if isinstance(index, slice):
        return index
    if isinstance(index, SupportsIndex) and getattr(index, "ndim", 0) == 0 and not isinstance(index, bool):
        number = operator.index(index)
        if not -batch <= number < batch:
            raise IndexError(f"item {number} is out of range: the batch has {batch}")
        return [number % batch]
    return list(index) if isinstance(index, tuple) else index


def join_chunks(chunks: Iterable[Tensor], most: int, least: int = 0) -> Tensor:
    """Chunks [..., t] end to end, at most `most` steps in all, in memory for one copy of them. Zeros fill up to `least`
    steps (or `most`, if that is less)."""
    out, filled = None, 0
    for chunk in chunks:
        if out is None:
            out = chunk.new_empty(*chunk.shape[:-1], most)
        out[..., filled : filled + chunk.shape[-1]] = chunk
        filled += chunk.shape[-1]
    if out is None:
        raise ValueError("there are no chunks to join")
    end = max(filled, min(least, most))
    out[..., filled:end] = 0
    return out[..., :end]


def valid_mask(lengths: Tensor, longest: int) -> Tensor:
    """[B, T] bool: True where a value belongs to its item."""
    return torch.arange(longest, device=lengths.device) < lengths[:, None]


def dense_or_none(lengths: Tensor, longest: int) -> Tensor | None:
    """`lengths`, or None when all are `longest`: the blocks of `nn` then skip the work of ragged batches."""
    if exporting():
        return None
    asked = recorder()
    full = bool((lengths == longest).all()) if asked is None else asked.is_full(lengths, longest)
    return None if full else lengths


def groups_within(lengths: Sequence[int], limit: float, whole: float = math.inf) -> list[slice]:
    """Consecutive rows whose padded size (count x longest) is at most `limit`. A row longer than `limit` or `whole`
    is a group by itself."""
    groups, start, longest = [], 0, 0
    for i, length in enumerate(lengths):
        longest = max(longest, length)
        if i > start and ((i - start + 1) * longest > limit or longest > whole):
            groups.append(slice(start, i))
            start, longest = i, length
    return [*groups, slice(start, len(lengths))]
