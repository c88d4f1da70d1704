"""Clips through convolutions, LSTMs and local attention, chunk by chunk: equal to the whole, in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codeczoo.base.memory import release_memory_between
from codeczoo.nn.conv import Conv1d, ConvTranspose1d
from codeczoo.nn.group_norm import GroupNorm
from codeczoo.nn.local_attention import LocalTransformer
from codeczoo.nn.lstm import LSTM, BidirectionalLSTM
from codeczoo.nn.seanet import ResidualUnit


def run_chunked(layers: Iterable[nn.Module], chunks: Iterable[Tensor]) -> Iterator[Tensor]:
    """Consecutive chunks [B, C, t] of clips of one length → consecutive chunks of what the layers give for the whole.

    Args:
        layers: convolutions of any kind, `LSTM`s, `LocalTransformer`s, and others with the attributes `reach` (input
            steps that an output sees to either side; default 0) and `factor` (output steps an input step; default 1).

    Raises:
        TypeError: a layer that must see the whole clip.
    """
    before: list[nn.Module] = []
    for layer in layers:
        if isinstance(layer, LSTM | LocalTransformer):
            chunks, before = _run_stateful(layer, _run_with_context(before, chunks)), []
        else:
            before.append(layer)
    return _run_with_context(before, chunks)


def padded_chunks(whole: Tensor, size: int, fill: int) -> Iterator[Tensor]:
    """A signal [B, C, T] in chunks of `size` steps, the last longer by `fill` zeros; the signal is not copied."""
    *before, last = whole.split(size, dim=-1)
    yield from before
    yield F.pad(last, (0, fill))


def reach_and_rate(layers: Sequence[nn.Module]) -> tuple[int, Fraction]:
    """(reach, rate): input steps that an output sees to either side, and output steps for one input step.

    The reach is the larger of the two sides: at an end of the clip, reflection reads as far inwards as the window
    reaches outwards.
    """
    reach, rate = Fraction(0), Fraction(1)
    for layer in layers:
        if any(isinstance(part, BidirectionalLSTM | GroupNorm) for part in layer.modules()):
            raise TypeError(f"{type(layer).__name__} must see the whole clip: it cannot run chunk by chunk")
        conv = layer.block[1] if isinstance(layer, ResidualUnit) else layer
        if isinstance(conv, Conv1d):
            reach += max(conv.left, conv.span - 1 - conv.left) / rate
            rate /= conv.stride
        elif isinstance(conv, ConvTranspose1d):
            reach += Fraction(conv.kernel_size, conv.stride) / rate
            rate *= conv.stride
        else:
            reach += getattr(layer, "reach", 0) / rate
            rate *= getattr(layer, "factor", 1)
    return math.ceil(reach), rate


def _run_stateful(layer: LSTM | LocalTransformer, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
    state: Any = None
    for chunk in release_memory_between(_in_multiples(chunks, getattr(layer, "window", 1))):
        y, state = layer.first_chunk(chunk) if state is None else layer.step(chunk, state)
        yield y


def _in_multiples(chunks: Iterable[Tensor], size: int) -> Iterator[Tensor]:
    """The same signal in chunks whose sizes are multiples of `size` steps; the last one may be shorter."""
    held: Tensor | None = None
    for chunk in chunks:
        held = chunk if held is None else torch.cat([held, chunk], dim=-1)
        whole = held.shape[-1] // size * size
        if whole:
            yield held[..., :whole]
            held = held[..., whole:]
    if held is not None and held.shape[-1]:
        yield held


def _run_with_context(layers: Sequence[nn.Module], chunks: Iterable[Tensor]) -> Iterator[Tensor]:
    """Run each chunk with its receptive field around it, and drop the outputs of that context."""
    reach, rate = reach_and_rate(layers)
    hop, up = max(int(1 / rate), 1), max(int(rate), 1)  # `hop` input steps give `up` outputs; one of the two is 1
    held: Tensor | None = None  # the input not yet dropped; it starts a whole number of hops after the clip's start
    given = 0  # hops at the start of `held` whose outputs were yielded before
    for chunk, is_last in release_memory_between(_mark_last(chunks)):
        held = chunk if held is None else torch.cat([held, chunk], dim=-1)
        known = max((held.shape[-1] - reach) // hop, 0)  # hops whose outputs see no later input
        if not is_last and known <= given:
            continue
        y = held.clone()  # layers may work in place
        for layer in layers:
            y = layer(y)
        yield y[..., given * up :] if is_last else y[..., given * up : known * up]
        start = max(known - -(-reach // hop), 0)
        held, given = held[..., start * hop :], known - start


def _mark_last(chunks: Iterable[Tensor]) -> Iterator[tuple[Tensor, bool]]:
    iterator = iter(chunks)
    for chunk in iterator:
        for following in iterator:
            yield chunk, False
            chunk = following
        yield chunk, True
