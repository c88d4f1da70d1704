"""Work on many clips together; when it fails, on halves of them, down to the clip at fault."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

from codeczoo.base.errors import STOPS, message_of

log = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")


def run_bisecting(
    work: Callable[[list[Item]], Result],
    items: Sequence[Item],
    *,
    errors: tuple[type[BaseException], ...] = (BaseException,),
    on_split: Callable[[list[Item], Exception], None] | None = None,
) -> Iterator[tuple[list[Item], Result | Exception]]:
    """Call `work` on all `items`; where it raises, on both halves of them, and so on.

    Args:
        work: takes a list of at least one item.
        errors: which ones lead to halves; others are raised, and so are `base.errors.STOPS`.
        on_split: called with each list before it is halved, and with the error (out of memory, say).

    Yields:
        Consecutive sublists that together are `items`, each with what `work` returned, or one item with its error. (An
        error that is no `Exception` is given as a RuntimeError that names it.)
    """
    todo = [list(items)] if items else []
    while todo:
        batch = todo.pop()
        failure: Exception | None = None
        try:
            result = work(batch)
        except STOPS:
            raise
        except errors as error:
            failure = error if isinstance(error, Exception) else RuntimeError(reason_of(error))
        if failure is None:
            yield batch, result
            continue
        # Outside of `except`, and without the error's frames: they hold the tensors of the failed attempt, and the
        # halves need that memory.
        _forget_frames(failure)
        _release_cached_memory()
        if len(batch) == 1:
            yield batch, failure
            continue
        log.info("%s on %d clips; trying halves", reason_of(failure), len(batch))
        if on_split is not None:
            on_split(batch, failure)
        middle = len(batch) // 2
        todo += [batch[middle:], batch[:middle]]


def reason_of(error: BaseException) -> str:
    """An error in one line: its class and the first line of its message."""
    message = message_of(error)
    return f"{type(error).__name__}: {message.splitlines()[0] if message else 'no message'}"


def _forget_frames(error: BaseException) -> None:
    """Drop the tracebacks of an error and of its causes."""
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
