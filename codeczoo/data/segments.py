"""Columns that make a row a stretch of its recording, in manifests and tables of paths."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

OF_NEMO = "audio_filepath"  # where this is the path, `duration` alone is a segment, as in NeMo
OFFSETS, DURATIONS, ENDS = ("offset",), ("duration",), ("end", "end_time")
STARTS = ("start", "start_time", "begin")  # read beside a duration or an end only
SEGMENT_COLUMNS = (*OFFSETS, *DURATIONS, *ENDS, *STARTS)


def short(value: Any) -> str:
    """A value of a row, as an error shows it."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def segment_of(values: Mapping[str, Any], of_nemo: bool) -> tuple[float | None, float | None] | None:
    """Offset and duration of a row, in seconds; None = the whole recording.

    Raises:
        ValueError: no such seconds.
    """
    offset, duration, end = (_number(values, names) for names in (OFFSETS, DURATIONS, ENDS))
    if offset is None and (duration is not None or end is not None):
        offset = _number(values, STARTS)
    if offset is None and not (of_nemo and duration is not None):
        return None
    if duration is None and end is not None:
        duration = end - (offset or 0.0)
    if (offset is not None and offset < 0) or (duration is not None and duration <= 0):
        raise ValueError(f"no segment: it begins at {offset} s and is {duration} s long")
    return offset, duration


def _number(values: Mapping[str, Any], names: Iterable[str]) -> float | None:
    name = next((name for name in names if values.get(name) not in (None, "")), None)
    if name is None:
        return None
    value = values[name]
    try:
        number = float(value) if not isinstance(value, bool) else math.nan
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"the column {name!r} holds no seconds but {short(value)}")
    return number
