"""Numbers for readers: three significant digits of a column's median, and a dash for a missing value."""

from __future__ import annotations

import math
from collections.abc import Iterable
from statistics import median

from codeczoo.metrics.table import METRICS

NO_VALUE = "–"
SIGNIFICANT_DIGITS = 3  # digits of a column's median


def decimals(values: Iterable[float | None]) -> int:
    """The number of decimals for a column of these values."""
    sizes = [abs(value) for value in values if value]
    if not sizes:
        return SIGNIFICANT_DIGITS - 1
    return min(max(SIGNIFICANT_DIGITS - 1 - math.floor(math.log10(median(sizes))), 0), 6)


def fixed(value: float | None, places: int) -> str:
    """A value with `decimals` decimals and a real minus sign; never "-0"."""
    if value is None:
        return NO_VALUE
    text = f"{value:.{places}f}"
    return text.lstrip("-") if not text.strip("-0.") else text.replace("-", "−")


def kbps(bitrate: float | None) -> str:
    """A bitrate in bit/s, as kbit/s."""
    return NO_VALUE if bitrate is None else f"{bitrate / 1000:.{decimals([bitrate / 1000])}f}"


def better(metric: str) -> str:
    """ "higher" or "lower" is better; "" for a metric that this version does not know."""
    return METRICS[metric].better if metric in METRICS else ""


def unit(metric: str) -> str:
    return METRICS[metric].unit if metric in METRICS else ""


def summary(metric: str) -> str:
    return METRICS[metric].summary.replace("`", "") if metric in METRICS else "not a metric of this version"
