"""Clips that travel with their entry, as the bytes of a file: for data that can only be read from front to back."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import fsspec
import soundfile as sf
from huggingface_hub import errors

from codeczoo.data.source import Content

# What reading a file over the network raises: the errors of the HTTP library that huggingface_hub uses, whichever that
# is, are OSErrors or have an ancestor of their own.
HTTP_ERROR: type[Exception] = getattr(errors, "HTTPError", OSError)
FETCH_ERRORS: tuple[type[Exception], ...] = (OSError, RuntimeError, HTTP_ERROR)
CARRY_ERRORS: tuple[type[Exception], ...] = (*FETCH_ERRORS, ValueError)


@dataclass(frozen=True)
class Unread:
    """In the place of a clip that could not be read: why."""

    reason: str


def carry(clip: Callable[[], Content]) -> bytes | Unread:
    """What `clip` gives, as the bytes of a file: fetched where it is a path, samples as floating point WAV."""
    try:
        return _bytes(clip())
    except CARRY_ERRORS as error:
        return Unread(str(error).strip().partition("\n")[0] or type(error).__name__)


def carried(key: Any) -> bytes:
    """The clip that an entry carries.

    Raises:
        OSError: it could not be read.
    """
    if isinstance(key, Unread):
        raise OSError(key.reason)
    return key


def _bytes(clip: Content) -> bytes:
    if isinstance(clip, bytes):
        return clip
    if isinstance(clip, Mapping):
        if clip.get("array") is not None:
            return _wav(clip["array"], clip["sampling_rate"])
        if clip.get("bytes") is not None:
            return clip["bytes"]
        clip = clip["path"]
    with fsspec.open(str(clip), "rb") as file:
        return file.read()


def _wav(samples: Any, rate: int) -> bytes:
    subtype = {"float32": "FLOAT", "float64": "DOUBLE"}.get(str(samples.dtype))
    if subtype is None:
        raise ValueError(f"audio must be floating point with full scale 1; its type is {samples.dtype}")
    file = io.BytesIO()
    sf.write(file, samples.T, rate, subtype, format="WAV")
    return file.getvalue()
