"""Numbers as a reader wants them: as many decimals as a column's size asks for, and a dash where there is none."""

from __future__ import annotations

import math
from collections.abc import Iterable
from statistics import median

from codeczoo.metrics.table import METRICS

NOTHING = "–"
SIGNIFICANT = 3  # digits of a column's median


def decimals(values: Iterable[float | None]) -> int:
    """How many a column of these values is shown with."""
    sizes = [abs(value) for value in values if value]
    if not sizes:
        return SIGNIFICANT - 1
    return min(max(SIGNIFICANT - 1 - math.floor(math.log10(median(sizes))), 0), 6)


def fixed(value: float | None, places: int) -> str:
    """With that many decimals and a real minus sign; never "-0"."""
    if value is None:
        return NOTHING
    text = f"{value:.{places}f}"
    return text.lstrip("-") if not text.strip("-0.") else text.replace("-", "−")


def kbps(bitrate: float | None) -> str:
    """A bitrate in bit/s, as kbit/s."""
    return NOTHING if bitrate is None else f"{bitrate / 1000:.{decimals([bitrate / 1000])}f}"


def better(metric: str) -> str:
    """ "higher", "lower", or "" of a metric that this version does not know."""
    return METRICS[metric].better if metric in METRICS else ""


def unit(metric: str) -> str:
    return METRICS[metric].unit if metric in METRICS else ""


def summary(metric: str) -> str:
    return METRICS[metric].summary.replace("`", "") if metric in METRICS else "not a metric of this version"
