"""Work on many clips together; when it fails, on halves of them, down to the one whose fault it is."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

log = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")

# What a clip, a codec or a full device may raise. Whatever else comes is a mistake of ours and goes up.
ERRORS: tuple[type[Exception], ...] = (
    RuntimeError,
    ValueError,
    TypeError,
    ArithmeticError,
    LookupError,
    OSError,
    MemoryError,
)


def run_bisecting(
    work: Callable[[list[Item]], Result],
    items: Sequence[Item],
    *,
    errors: tuple[type[Exception], ...] = ERRORS,
    on_split: Callable[[list[Item], Exception], None] | None = None,
) -> Iterator[tuple[list[Item], Result | Exception]]:
    """`work` done on all `items`: in one piece if that goes well, else in as few and as large ones as halving finds.

    Args:
        work: what is done on a list of at least one item.
        errors: those that lead to halves; others go up to the caller.
        on_split: told of each list that is about to be halved, and why (out of memory, say).

    Yields:
        Pieces of `items`, in order, none left out, each with what `work` returned; or one item alone with its error.
    """
    todo = [list(items)] if items else []
    while todo:
        part = todo.pop()
        failure: Exception | None = None
        try:
            result = work(part)
        except errors as error:
            failure = error
        if failure is None:
            yield part, result
            continue
        # Outside of `except`, and without the frames that the error remembers: they hold the tensors of what failed,
        # and the halves need the room.
        _forget_frames(failure)
        _release_cached_memory()
        if len(part) == 1:
            yield part, failure
            continue
        log.info("%s on %d clips; going on in halves", reason_of(failure), len(part))
        if on_split is not None:
            on_split(part, failure)
        middle = len(part) // 2
        todo += [part[middle:], part[:middle]]


def reason_of(error: BaseException) -> str:
    """An error in one line: its kind and the first line of its message."""
    message = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
    return f"{type(error).__name__}: {message.strip().splitlines()[0] if message.strip() else 'no message'}"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device or the machine had no room; torch says so in words only on the CPU."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and "alloc" in str(error) and "memory" in str(error)
    )


def _forget_frames(error: BaseException) -> None:
    """Drop the tracebacks of an error and of those that it came from."""
    seen: set[int] = set()
    chain: list[BaseException | None] = [error]
    while chain:
        link = chain.pop()
        if link is not None and id(link) not in seen:
            seen.add(id(link))
            link.__traceback__ = None
            chain += [link.__cause__, link.__context__]


def _release_cached_memory() -> None:
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()
