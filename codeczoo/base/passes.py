"""Length without limit: a long clip in several passes that give what one pass would."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from codeczoo.base.family import Decoded, Encoded, Family
from codeczoo.base.ragged import join

Item = TypeVar("Item")


class Context(NamedTuple):
    """How far a network sees to each side of one output: samples for an encoder, frames for a decoder."""

    left: int
    right: int


def one_by_one(items: Iterable[Item]) -> Iterator[Item]:
    """The items of a loop over passes. Between two of them the memory that the first has freed goes back to the system.

    For the C library of Linux keeps it, and where blocks of many sizes come and go it finds no room between them and
    asks for more: without this a process grows with the length of its clips though it holds no more.
    """
    for i, item in enumerate(items):
        if i:
            _give_back()(0)
        yield item


@lru_cache
def _give_back() -> Any:
    """glibc's `malloc_trim`; elsewhere a function that does nothing."""
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return lambda _: None


def contexts_of(seconds: float, sample_rate: int, hop_length: int) -> tuple[Context, Context]:
    """So much to each side, in whole frames: of an encoder, and of a decoder."""
    frames = round(seconds * sample_rate / hop_length)
    return Context(frames * hop_length, frames * hop_length), Context(frames, frames)


def groups_within(lengths: Sequence[int], limit: float, whole: float = math.inf) -> list[slice]:
    """Consecutive rows whose padded size (count x longest) stays within `limit`; a row longer than that, or than
    `whole`, stands alone."""
    groups, start, longest = [], 0, 0
    for i, length in enumerate(lengths):
        longest = max(longest, length)
        if i > start and ((i - start + 1) * longest > limit or longest > whole):
            groups.append(slice(start, i))
            start, longest = i, length
    return [*groups, slice(start, len(lengths))]


def encode_in_windows(
    codec: Family, waveform: Tensor, lengths: Tensor, num_codebooks: int, samples: int, context: Context
) -> Encoded:
    """One clip [1, C, T] through an encoder of finite receptive field, window by window, exactly.

    Each window carries the context that its frames can see; frames made of the context itself are dropped.
    """
    hop = codec.hop_length
    assert hop is not None and len(waveform) == 1
    total = int(lengths[0])
    left, right = -(-context.left // hop) * hop, -(-context.right // hop) * hop
    # At least as long as half of its context, lest a pass of little more than context be mostly work for nothing.
    step = max((samples - left - right) // hop, (left + right) // (2 * hop), 1) * hop
    pieces = []
    for start in one_by_one(range(0, total, step)):
        first, last = max(start - left, 0), min(start + step + right, total)
        piece = codec._encode(waveform[..., first:last], lengths.new_tensor([last - first]), num_codebooks)
        skip = (start - first) // hop
        stop = skip + step // hop if start + step < total else None
        pieces.append(piece.codes[..., skip:stop])
    codes = torch.cat(pieces, dim=-1)
    return Encoded(codes, lengths.new_tensor([codes.shape[-1]]))


def decode_in_windows(
    codec: Family,
    codes: Tensor,
    lengths: Tensor,
    side: Mapping[str, Tensor],
    num_samples: Tensor,
    frames: int,
    context: Context,
) -> Decoded:
    """As `encode_in_windows`, for the codes [1, K, N] of one clip."""
    hop = codec.output_hop_length
    assert hop is not None and len(codes) == 1
    total = int(lengths[0])
    step = max(frames - context.left - context.right, (context.left + context.right) // 2, 1)

    def pieces() -> Iterator[Tensor]:
        for start in one_by_one(range(0, total, step)):
            first, last = max(start - context.left, 0), min(start + step + context.right, total)
            piece = codec._decode(codes[..., first:last], lengths.new_tensor([last - first]), side, num_samples)
            skip = (start - first) * hop
            stop = skip + step * hop if start + step < total else int(piece.lengths[0])
            yield piece.waveform[..., skip:stop]

    # Some decoders end a few samples short of the last frame; those samples are zeros, put there without a copy.
    waveform = join(pieces(), total * hop, least=int(num_samples[0]))
    return Decoded(waveform, lengths.new_tensor([waveform.shape[-1]]))


def encode_through_state(codec: Family, waveform: Tensor, lengths: Tensor, num_codebooks: int, samples: int) -> Encoded:
    """One clip [1, C, T] through the streaming state of a causal encoder, in chunks of at most `samples`."""
    hop = codec.hop_length or 1
    step, total = max(samples // hop, 1) * hop, int(lengths[0])
    whole = total // hop * hop

    def pieces() -> Iterator[Tensor]:
        state = codec._stream_encode_start(1)
        for start in one_by_one(range(0, whole, step)):
            chunk = waveform[..., start : min(start + step, whole)]
            codes, counts, state = codec._stream_encode(chunk, state, num_codebooks)
            yield codes if counts is None else codes[..., : int(counts[0])]
        rest = waveform[..., whole:total]
        codes, counts = codec._stream_encode_end(rest, lengths - whole, state, num_codebooks)
        yield codes if counts is None else codes[..., : int(counts[0])]

    codes = join(pieces(), -(-total // hop))
    return Encoded(codes, lengths.new_tensor([codes.shape[-1]]))


def decode_through_state(codec: Family, codes: Tensor, lengths: Tensor, frames: int) -> Decoded:
    """As `encode_through_state`, for the codes [1, K, N] of one clip."""
    total = int(lengths[0])

    def pieces() -> Iterator[Tensor]:
        state = codec._stream_decode_start(1)
        for start in one_by_one(range(0, total, frames)):
            waveform, counts, state = codec._stream_decode(codes[..., start : min(start + frames, total)], state)
            yield waveform if counts is None else waveform[..., : int(counts[0])]
        waveform, counts = codec._stream_decode_end(state)
        yield waveform if counts is None else waveform[..., : int(counts[0])]

    waveform = join(pieces(), total * (codec.output_hop_length or 1))
    return Decoded(waveform, lengths.new_tensor([waveform.shape[-1]]))
