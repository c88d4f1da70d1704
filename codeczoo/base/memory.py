"""Memory between chunks of a long clip."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, TypeVar

Item = TypeVar("Item")


def release_memory_between(items: Iterable[Item]) -> Iterator[Item]:
    """Yield the items of a loop over chunks, and call `malloc_trim` between them.

    glibc keeps freed blocks and, where blocks of many sizes come and go, fragments them: without this, memory grows
    with the length of the clip although no more of it is in use.
    """
    for i, item in enumerate(items):
        if i:
            _malloc_trim()(0)
        yield item


@lru_cache
def _malloc_trim() -> Any:
    """glibc's `malloc_trim`; with other C libraries a function that does nothing."""
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return lambda _: None
