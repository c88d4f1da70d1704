"""How a batch goes through a network: how much of it at once, how many groups side by side, in which tiles.

A strategy changes time and memory, never codes. It is chosen by, in this order,

1. `fixed_strategy`, as a measurement sets it;
2. the table of this machine that `codeczoo tune` wrote (`base.tuning`), where it has the codec at about this batch size
   and clip length;
3. the rule below.

`max_chunk_seconds`, or the default for the device, bounds what is inside the network at once: all groups together.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from math import ceil

# A group of the rule has at least so many clips where the network is recurrent: each step of an LSTM reads all of its
# weights. With 8 a group EnCodec gained nothing and SpeechTokenizer lost a tenth (docs/tuning.md). And so many seconds.
RECURRENT_ROWS = 16
GROUP_SECONDS = 1.0


@dataclass(frozen=True)
class Strategy:
    """How a batch goes through a network.

    Attributes:
        seconds: of audio in one group of clips at most, with padding.
        beside: groups side by side.
        threads: of the CPU on which each of them runs; None = those of the caller (there is one group at a time then).
        tiles: the size of tiles (`nn.cache_tiling`), as a multiple of the usual one.
        source: "rule", "tuned" or "fixed".
    """

    seconds: float
    beside: int = 1
    threads: int | None = None
    tiles: float = 1.0
    source: str = "rule"

    def __post_init__(self) -> None:
        if not (self.seconds > 0 and self.tiles > 0 and self.beside >= 1 and (self.threads or 1) >= 1):
            raise ValueError(f"seconds, beside, threads and tiles of a strategy must be greater than zero: {self!r}")
        if self.beside > 1 and self.threads is None:
            raise ValueError(f"{self.beside} groups side by side need threads=, the number of each group")

    def __str__(self) -> str:
        told = f"groups of {self.seconds:.3g} s"
        if self.threads is not None:
            told += f", {self.beside} side by side" if self.beside > 1 else ""
            told += f" on {self.threads} thread{'s' * (self.threads > 1)}" + (" each" if self.beside > 1 else "")
        return f"{told}{f', tiles x {self.tiles:g}' if self.tiles != 1 else ''} ({self.source})"


def by_rule(rows: int, longest: float, most: float, threads: int, recurrent: bool) -> Strategy:
    """The strategy for `rows` clips of at most `longest` seconds, where the network may hold `most` seconds.

    As many groups side by side as there are `threads`, each on one, where the batch is large enough for that; else one
    group at a time on all threads.
    """
    least = max(RECURRENT_ROWS if recurrent else 1, ceil(GROUP_SECONDS / longest))
    if threads < 2 or rows < threads * least or longest * least > most / threads:
        return Strategy(most)
    return Strategy(most / threads, threads, 1)


def fitted(strategy: Strategy, rows: int, longest: float, most: float, threads: int) -> Strategy:
    """`strategy` on no more than `threads`, with no more than `most` seconds in the network, and for `rows` clips of at
    most `longest` seconds in groups of about one size, so that none of those side by side is idle."""
    if strategy.threads is None:
        return replace(strategy, seconds=min(strategy.seconds, most))
    each = min(strategy.threads, threads)
    beside = max(min(strategy.beside, threads // each, rows, int(most // longest)), 1)
    if beside == 1 < strategy.beside:
        return replace(strategy, seconds=most, beside=1, threads=None)
    seconds = min(strategy.seconds, most / beside)
    groups = ceil(ceil(rows * longest / seconds - 1e-9) / beside) * beside
    return replace(strategy, seconds=min(seconds, ceil(rows / groups) * longest), beside=beside, threads=each)


# -- what holds inside a call -----------------------------------------------------------------------------------------

_fixed: ContextVar[Strategy | None] = ContextVar("strategy of a measurement", default=None)
_tiles: ContextVar[float] = ContextVar("size of tiles", default=1.0)


@contextmanager
def fixed_strategy(strategy: Strategy | None) -> Iterator[None]:
    """Inside, in this thread, every codec uses `strategy`, as far as its memory bound and PyTorch's number of threads
    allow; None = what it chooses without this."""
    token = _fixed.set(None if strategy is None else replace(strategy, source="fixed"))
    try:
        yield
    finally:
        _fixed.reset(token)


def the_fixed_one() -> Strategy | None:
    """The strategy of the innermost `fixed_strategy`."""
    return _fixed.get()


@contextmanager
def tiles_of(strategy: Strategy) -> Iterator[None]:
    """Inside, tiles have the size that `strategy` says."""
    token = _tiles.set(strategy.tiles)
    try:
        yield
    finally:
        _tiles.reset(token)


def tile_scale() -> float:
    """The size of tiles, as a multiple of the usual one."""
    return _tiles.get()
