"""Memory between chunks of a long clip."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, TypeVar

Item = TypeVar("Item")


def release_memory_between(items: Iterable[Item]) -> Iterator[Item]:
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
