"""Whether a graph is being recorded for another engine (`codeczoo.onnx`).

Sizes are symbols then. A block that chooses between ways of computing the same by how long its input is, or runs it
tile by tile, takes the one plain way that holds for any length. A batch that is recorded is dense.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_EXPORTING = ContextVar("exporting", default=False)


def exporting() -> bool:
    """Whether the caller runs inside of `plain_graph`."""
    return _EXPORTING.get()


@contextmanager
def plain_graph() -> Iterator[None]:
    """Blocks take their plain way inside."""
    token = _EXPORTING.set(True)
    try:
        yield
    finally:
        _EXPORTING.reset(token)
