"""Warnings that are given once a process for each kind, at the user's line."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

PACKAGE = f"{Path(__file__).parent.parent}{os.sep}"

_given: set[str] = set()


def warn_once(kind: str, text: str) -> None:
    """A `UserWarning` of `text`, unless there was one of that kind before."""
    if kind in _given:
        return
    _given.add(kind)
    depth, frame = 2, sys._getframe(1)  # a stack level of 1 is this function
    while frame.f_back is not None and frame.f_code.co_filename.startswith(PACKAGE):
        frame, depth = frame.f_back, depth + 1
    warnings.warn(text, UserWarning, stacklevel=depth)
