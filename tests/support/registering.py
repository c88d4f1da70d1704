"""Codecs that are registered for one test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from codeczoo.base import catalogue


@contextmanager
def registered_for_a_while() -> Iterator[None]:
    """What is registered meanwhile is forgotten afterwards."""
    before, registered = catalogue._catalogue().copy(), dict(catalogue._registered)
    try:
        yield
    finally:
        catalogue._catalogue().become(before)
        catalogue._registered.clear()
        catalogue._registered.update(registered)
