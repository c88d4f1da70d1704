"""A long clip through convolutions, LSTMs and local attention piece by piece, equal to the whole, in bounded memory."""

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


def run_chunked(layers: Iterable[nn.Module], pieces: Iterable[Tensor]) -> Iterator[Tensor]:
    """Consecutive pieces [B, C, t] of clips of one length → consecutive pieces of what the layers give for the whole.

    Args:
        layers: convolutions of any kind, `LSTM`s, `LocalTransformer`s, and others that say their `reach` to either
            side in steps of their input (0 if they do not) and their `factor`, the steps they give for one (1).

    Raises:
        TypeError: a layer that must see the whole clip.
    """
    before: list[nn.Module] = []
    for layer in layers:
        if isinstance(layer, LSTM | LocalTransformer):
            pieces, before = _recur(layer, _convolve(before, pieces)), []
        else:
            before.append(layer)
    return _convolve(before, pieces)


def padded_chunks(whole: Tensor, size: int, fill: int) -> Iterator[Tensor]:
    """A signal [B, C, T] in chunks of `size` steps, the last longer by `fill` zeros; the signal is not copied."""
    *before, last = whole.split(size, dim=-1)
    yield from before
    yield F.pad(last, (0, fill))


def reach_and_rate(layers: Sequence[nn.Module]) -> tuple[int, Fraction]:
    """How many input steps an output sees to either side of its own, and how many outputs there are an input step.

    A window that passes an end of the clip sees what is mirrored there, which may lie further in than the window
    reaches out: hence the larger of the two sides.
    """
    reach, rate = Fraction(0), Fraction(1)
    for layer in layers:
        if any(isinstance(part, BidirectionalLSTM | GroupNorm) for part in layer.modules()):
            raise TypeError(f"{type(layer).__name__} must see the whole clip: it cannot run piece by piece")
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


def _recur(layer: LSTM | LocalTransformer, pieces: Iterable[Tensor]) -> Iterator[Tensor]:
    state: Any = None
    for piece in release_memory_between(_in_multiples(pieces, getattr(layer, "window", 1))):
        y, state = layer.first_chunk(piece) if state is None else layer.step(piece, state)
        yield y


def _in_multiples(pieces: Iterable[Tensor], size: int) -> Iterator[Tensor]:
    """The same signal in pieces of whole multiples of `size` steps, but for its end."""
    held: Tensor | None = None
    for piece in pieces:
        held = piece if held is None else torch.cat([held, piece], dim=-1)
        whole = held.shape[-1] // size * size
        if whole:
            yield held[..., :whole]
            held = held[..., whole:]
    if held is not None and held.shape[-1]:
        yield held


def _convolve(layers: Sequence[nn.Module], pieces: Iterable[Tensor]) -> Iterator[Tensor]:
    """Each piece runs with the steps around it that its outputs see; outputs made of the seams are dropped."""
    reach, rate = reach_and_rate(layers)
    hop, up = max(int(1 / rate), 1), max(int(rate), 1)  # `hop` input steps give `up` outputs; one of the two is 1
    held: Tensor | None = None  # the input from some step on, a whole number of hops after the clip's start
    given = 0  # hops of `held` whose outputs were given already
    for piece, is_last in release_memory_between(_mark_last(pieces)):
        held = piece if held is None else torch.cat([held, piece], dim=-1)
        known = max((held.shape[-1] - reach) // hop, 0)  # hops whose outputs see nothing to come
        if not is_last and known <= given:
            continue
        y = held.clone()  # layers may work in place
        for layer in layers:
            y = layer(y)
        yield y[..., given * up :] if is_last else y[..., given * up : known * up]
        start = max(known - -(-reach // hop), 0)
        held, given = held[..., start * hop :], known - start


def _mark_last(pieces: Iterable[Tensor]) -> Iterator[tuple[Tensor, bool]]:
    iterator = iter(pieces)
    for piece in iterator:
        for following in iterator:
            yield piece, False
            piece = following
        yield piece, True
