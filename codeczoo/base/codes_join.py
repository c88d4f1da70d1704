"""Codes joined and cut: clips into a batch, stretches end to end in time, and a stretch of frames."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from codeczoo.base.ragged import cat_ragged, padded, widen

if TYPE_CHECKING:
    from codeczoo.base.codes import Codes

PAD = -1  # fills the frames behind an item's own; no codebook has this index


def batch_of(parts: Sequence[Codes]) -> Codes:
    """See `Codes.cat`."""
    head, weights = _alike(parts)
    longest = max(part.codes.shape[-1] for part in parts)
    return replace(
        head,
        weights=weights,
        codes=torch.cat([widen(part.codes, longest, PAD) for part in parts]),
        lengths=torch.cat([part.lengths for part in parts]),
        num_samples=torch.cat([part.num_samples for part in parts]),
        side_info={name: cat_ragged([part.side_info[name] for part in parts]) for name in head.side_info},
    )


def in_time(parts: Sequence[Codes], num_samples: Tensor | int | None) -> Codes:
    """See `Codes.concat`."""
    head, weights = _alike(parts)
    if len(sizes := {len(part) for part in parts}) > 1:
        raise ValueError(f"codes of {sorted(sizes)} clips do not join in time, clip by clip (Codes.cat makes a batch)")
    hop = 0.0
    if len(parts) > 1:
        hop = _hop_of(head, "join in time")
        for name, value in head.side_info.items():
            _per_clip(head, name, value, "join in time")
            if not all(same_values(value, part.side_info[name]) for part in parts[1:]):
                raise ValueError(
                    f"codes of {head.codec} with different side values {name!r} do not join in time: a clip has one"
                )
    counts = torch.stack([part.lengths for part in parts])  # [parts, B]
    ends = counts.cumsum(0)
    goes_on = ends < ends[-1]  # [parts, B]: whether frames of another part follow
    cycle = math.lcm(*head.strides)
    cut = (goes_on & (counts % cycle != 0)).nonzero().tolist()
    if cut:
        i, b = cut[0]
        raise ValueError(
            f"part {i} ends within a frame of the slowest codebook, which spans {cycle}: it has {int(counts[i, b])} "
            f"frames of item {b}"
        )
    if num_samples is None:
        # Parts that others follow count with all samples of their frames, the last one of a clip with its own.
        own = torch.stack([part.num_samples for part in parts])
        last = goes_on.sum(0)[None]
        own, before = own.gather(0, last)[0], (ends - counts).gather(0, last)[0]
        # A stream's last chunk may have no frames left, and alone says the length.
        end = parts[-1].num_samples
        only_at_end = (own < 0) & (end >= 0) & (counts[-1] == 0)
        own, before = torch.where(only_at_end, end, own), torch.where(only_at_end, ends[-1], before)
        num_samples = torch.where(own < 0, -1, (before.double() * hop).round().long() + own)
    rows = []
    for b in range(len(head)):
        pieces = []
        for k in range(head.num_codebooks):
            row = torch.cat([part.codes[b, k, : int(part.counts[b, k])] for part in parts])
            pieces.append(widen(row, int(counts[:, b].sum()), PAD))
        rows.append(torch.stack(pieces))
    codes = padded(rows, PAD) if rows else head.codes
    samples = torch.as_tensor(num_samples, device=head.device)
    return replace(head, weights=weights, codes=codes, lengths=counts.sum(0), num_samples=samples)


def frames_of(codes: Codes, start: int | None, stop: int | None) -> Codes:
    """See `Codes.frames`."""
    hop = _hop_of(codes, "be cut in time")
    for name, value in codes.side_info.items():
        _per_clip(codes, name, value, "be cut in time")
    cycle = math.lcm(*codes.strides)
    rows, lengths, samples = [], [], []
    for row, length, known in zip(codes.codes, codes.lengths.tolist(), codes.num_samples.tolist(), strict=True):
        first, last, _ = slice(start, stop).indices(length)
        last = max(first, last)
        if first < last and (first % cycle or (last % cycle and last != length)):
            raise ValueError(
                f"{codes.codec} has a codebook of one code for {cycle} frames: frames {first} to {last} of {length} do "
                f"not begin and end between its codes; take multiples of {cycle}"
            )
        width = last - first
        taken = torch.full_like(row[:, :width], PAD)
        for k, stride in enumerate(codes.strides):
            own = row[k, first // stride : -(-last // stride)]
            taken[k, : len(own)] = own
        rows.append(taken)
        lengths.append(width)
        whole = round(width * hop)
        rest = max(known - round(first * hop), 0)
        samples.append(-1 if known < 0 else rest if last == length else min(whole, rest))
    device = codes.device
    return replace(
        codes,
        codes=padded(rows, PAD) if rows else codes.codes[..., :0],
        lengths=torch.tensor(lengths, dtype=torch.int64, device=device),
        num_samples=torch.tensor(samples, dtype=torch.int64, device=device),
    )


def indexed(codes: Codes, index: tuple[Any, ...]) -> Codes:
    """`codes[items, codebooks, frames]`: an index for each axis of `codes.codes` [B, K, N], of which some are left
    out. Codebooks are a slice that begins with the first, frames a slice."""
    if index.count(Ellipsis) > 1:
        raise IndexError("an index of codes has at most one ...")
    if Ellipsis in index:
        at = index.index(Ellipsis)
        index = index[:at] + (slice(None),) * (4 - len(index)) + index[at + 1 :]
    if len(index) > 3:
        raise IndexError(f"codes have three axes, [B, K, N]; the index has {len(index)}")
    items, codebooks, frames = index + (slice(None),) * (3 - len(index))
    for what, part in (("codebooks", codebooks), ("frames", frames)):
        if not isinstance(part, slice) or part.step not in (None, 1):
            raise IndexError(f"{what} are taken by a slice without a step, [:, :4] or [..., 10:20]; not by {part!r}")
    first, last, _ = codebooks.indices(codes.num_codebooks)
    if first:
        raise IndexError(
            f"codebooks {first} to {last - 1} alone cannot be decoded: a residual codebook refines those before it. "
            f"Take the first ones, [:, :{last}] or .first({last}), or the bare tensor, codes.tensor[:, {first}:]"
        )
    taken = codes if items == slice(None) else codes[items]
    if last != codes.num_codebooks:
        taken = taken.first(last)
    return taken if frames == slice(None) else frames_of(taken, frames.start, frames.stop)


def _alike(parts: Sequence[Codes]) -> tuple[Codes, str | None]:
    """The first of parts that fit each other, and the weights that made all of them, if they are known."""
    if not parts:
        raise ValueError("no codes were given")
    head = parts[0]
    known = dict.fromkeys(part.weights for part in parts)
    if len(known.keys() - {None}) > 1:
        told = " and ".join(describe_weights(weights) for weights in known if weights)
        raise ValueError(
            f"codes of {head.codec} made with different weights do not join: {told}. To join them all the same, "
            "put one of these (or None) on all: dataclasses.replace(codes, weights=None)"
        )
    for part in parts:
        if (part.codec, part.codebook_sizes, part.sample_rate, part.side_info.keys()) != (
            head.codec,
            head.codebook_sizes,
            head.sample_rate,
            head.side_info.keys(),
        ):
            raise ValueError(f"codes of different codecs, rates or side values do not join: {head!r} and {part!r}")
    return head, None if None in known else head.weights


def describe_weights(weights: str | None) -> str:
    """`Codes.weights` in a message."""
    return f"sha256 {weights}" if weights and re.fullmatch("[0-9a-f]{64}", weights) else weights or "not known"


def _hop_of(codes: Codes, what: str) -> float:
    """Samples a frame."""
    if codes.frame_rate is None:
        raise ValueError(f"codes of {codes.codec} cannot {what}: their frames, a file's bytes, have no fixed duration")
    return codes.sample_rate / codes.frame_rate


def _per_clip(codes: Codes, name: str, value: Tensor, what: str) -> None:
    """A ValueError if a side value follows time: [B, S] and not of a codebook."""
    if name not in codes.side_sizes and math.prod(value.shape[1:]) > 1:
        raise ValueError(
            f"codes of {codes.codec} cannot {what}: their side value {name!r} {list(value.shape)} follows time in "
            "steps of its own"
        )


def same_values(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors hold the same values; NaN, which pads, equals NaN."""
    return one.shape == other.shape and bool(torch.isclose(one, other.to(one), rtol=0, atol=0, equal_nan=True).all())


def narrowest(codebook_sizes: Sequence[int]) -> torch.dtype:
    """The smallest integer type that holds every code and PAD."""
    largest = max(codebook_sizes, default=1)
    return torch.int16 if largest <= 2**15 else torch.int32 if largest <= 2**31 else torch.int64
