"""Audio in the wrappings that loaders and data sets give: pairs with a rate, rows of a data set, objects with samples.

============================================================= =====================================================
wrapping                                                      who gives it
============================================================= =====================================================
(samples, rate), (rate, samples)                              torchaudio, soundfile and librosa; SciPy and Gradio
(samples, rate, text, ids ...)                                rows of torchaudio's data sets
{"array", "sampling_rate"}, {"bytes"}, {"path"}               an `Audio` column of Hugging Face datasets
{"waveform" or "audio" or "raw", "sample_rate" ...}           pyannote and pipelines of transformers
{"id": ..., "audio": one of those, a decoder or a path, ...}  a row of a data set as it is, with its other columns
an object with `data` and `sample_rate`                       torchcodec's `AudioSamples`
another library's array                                       JAX, CuPy's host arrays, pandas
a path of a .npy file                                         `numpy.save`
============================================================= =====================================================
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np
from torch import Tensor

from codeczoo.base.arrays import read_npy
from codeczoo.base.audio import Audio
from codeczoo.base.codes import Codes
from codeczoo.base.sample_rate import check_rate

RATE_KEYS = ("sampling_rate", "sample_rate", "sr", "rate")
SAMPLE_KEYS = ("array", "waveform", "raw", "samples", "audio")


def unwrapped(item: Any, rate: int | None) -> tuple[Any, int | None]:
    """`item` without its wrapping, and the rate that it says, or else `rate`.

    Raises:
        TypeError, ValueError: a row without audio, or with several; samples without a rate that a row must have.
    """
    while True:
        pair = _pair(item)
        if pair is not None:
            item, rate = pair[0], check_rate(pair[1])
        elif isinstance(item, Mapping):
            item, rate = _of_row(item, rate)
        elif _has_samples(item):
            item, rate = item.data, check_rate(item.sample_rate)
        elif isinstance(item, str | os.PathLike) and os.fspath(item)[-4:].lower() in (".npy", b".npy"):
            return read_npy(item), rate
        elif hasattr(item, "__array__") and not isinstance(
            item, type | Tensor | np.ndarray | np.generic | Audio | Codes
        ):
            return np.asarray(item), rate
        else:
            return item, rate


def rate_of_wrapping(item: Any) -> int | None:
    """The rate that a pair, a row or an object with samples says of itself; None where it says none."""
    if (pair := _pair(item)) is not None:
        return check_rate(pair[1])
    if _has_samples(item):
        return check_rate(item.sample_rate)
    if isinstance(item, Mapping):
        found = _first(item, SAMPLE_KEYS)
        if found is not None and (found == "array" or is_array(item[found])):
            key = _first(item, RATE_KEYS)
            return None if key is None else check_rate(item[key])
        return rate_of_wrapping(item.get("audio"))
    return None


def is_array(item: Any) -> bool:
    """Whether `item` holds samples along an axis."""
    return isinstance(item, Tensor | np.ndarray) and item.ndim > 0 and item.dtype != object


def _is_number(item: Any) -> bool:
    if isinstance(item, Tensor | np.ndarray):
        return item.ndim == 0
    return isinstance(item, Real) and not isinstance(item, bool)


def _pair(item: Any) -> tuple[Any, Any] | None:
    """(samples, rate) of a tuple or list of both, in whichever order; None if it is another thing."""
    if not isinstance(item, tuple | list) or len(item) < 2:
        return None
    first, second = item[:2]
    if is_array(first) and _is_number(second):
        more = isinstance(item, tuple) and not any(isinstance(other, Tensor | np.ndarray) for other in item[2:])
        return (first, second) if len(item) == 2 or more else None
    return (second, first) if len(item) == 2 and _is_number(first) and is_array(second) else None


def _has_samples(item: Any) -> bool:
    """Whether `item` is as torchcodec's `AudioSamples`."""
    return hasattr(item, "sample_rate") and not isinstance(item, Audio) and is_array(getattr(item, "data", None))


def _first(row: Mapping[str, Any], keys: tuple[str, ...]) -> str | None:
    return next((key for key in keys if row.get(key) is not None), None)


def _of_row(row: Mapping[str, Any], rate: int | None) -> tuple[Any, int | None]:
    """The audio of a dict, and its rate."""
    found = _first(row, SAMPLE_KEYS)
    if found is not None and (found == "array" or is_array(row[found])):
        if not any(key in row for key in RATE_KEYS):
            name = RATE_KEYS[0] if found == "array" else RATE_KEYS[1]
            raise ValueError(f"a dict with {found!r} must have {name!r} too")
        own = check_rate(row[_first(row, RATE_KEYS) or next(key for key in RATE_KEYS if key in row)])
        samples = row[found]
        return samples if isinstance(samples, Tensor) else np.asarray(samples), own
    if row.get("bytes") is not None:
        return row["bytes"], rate
    columns = [key for key, value in row.items() if _holds_audio(key, value)]
    if len(columns) > 1:
        raise ValueError(f"several columns of this row hold audio: {columns}; pass one, row[{columns[0]!r}]")
    if columns:
        value = row[columns[0]]
        return (list(value) if isinstance(value, np.ndarray) else value), rate  # NumPy's rows: an array of dicts
    if row.get("path") is not None:
        return row["path"], rate
    raise ValueError(
        "a dict of audio has 'array', 'bytes' or 'path', or is a row with one column of audio; "
        f"this one has {sorted(map(str, row))}"
    )


def _holds_audio(key: Any, value: Any) -> bool:
    """Whether a column of a row is its audio, by what is in it, or (a path) by its name."""
    if isinstance(value, Mapping):
        return any(value.get(name) is not None for name in ("array", "bytes", "path"))
    if key == "audio":
        return value is not None
    return isinstance(value, Audio) or hasattr(value, "get_all_samples") or _has_samples(value)
