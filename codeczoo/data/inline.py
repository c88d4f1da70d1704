"""Clips whose bytes are the key of their entry: for data that can only be read from front to back."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import fsspec
import soundfile as sf
from huggingface_hub import errors

from codeczoo.base import audio_io
from codeczoo.base.errors import STOPS, first_line, message_of
from codeczoo.data.source import Content, Segment

# Errors of reading a file over the network. Those of the HTTP library that huggingface_hub uses are OSErrors, or have
# the base class `errors.HTTPError`.
HTTP_ERROR: type[Exception] = getattr(errors, "HTTPError", OSError)
FETCH_ERRORS: tuple[type[Exception], ...] = (OSError, RuntimeError, HTTP_ERROR)


@dataclass(frozen=True)
class ReadFailure:
    """The key of an entry whose clip could not be read: the reason."""

    reason: str


def to_inline_bytes(clip: Callable[[], Content]) -> bytes | ReadFailure:
    """The clip as the bytes of a file: a path is fetched, samples become a floating-point WAV."""
    try:
        return _bytes(clip())
    except STOPS:
        raise
    except BaseException as error:  # noqa: BLE001 (whatever it is, it is this clip's failure)
        known = isinstance(error, (*FETCH_ERRORS, ValueError)) and message_of(error)
        return ReadFailure(message_of(error).splitlines()[0] if known else first_line(error))


def inline_bytes(key: Any) -> bytes:
    """The bytes that an entry's key holds.

    Raises:
        OSError: it could not be read.
    """
    if isinstance(key, ReadFailure):
        raise OSError(key.reason)
    return key


def _bytes(clip: Content) -> bytes:
    if isinstance(clip, bytes):
        return clip
    if isinstance(clip, Segment):
        waveform, rate = audio_io.read(clip.recording, offset=clip.offset, duration=clip.duration)
        return _wav(waveform.numpy(), rate)
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
