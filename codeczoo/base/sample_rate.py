"""A sample rate in whatever form a loader gives it."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

import numpy as np
from torch import Tensor


def check_rate(rate: Any, name: str = "sample_rate") -> int:
    """`rate` as an int: a number of Python's or NumPy's, or an array or tensor of one rate (however often it is
    there: a `DataLoader` makes one of each clip's).

    Raises:
        TypeError: not a number.
        ValueError: not a positive whole number, or several rates that differ.
    """
    value: Any = rate
    if isinstance(rate, Tensor | np.ndarray) and 0 not in rate.shape:
        values = set(rate.reshape(-1).tolist())
        if len(values) > 1:
            raise ValueError(f"{name} must be one rate for all clips; it is {sorted(values)}: pass a list")
        (value,) = values
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number of Hz; it is {rate!r}")
    number: Any = value
    if not math.isfinite(number) or number != int(number) or number <= 0:
        raise ValueError(f"{name} must be a positive whole number of Hz; it is {rate!r}")
    return int(number)
