"""Audio in any form (`AudioLike`) as a list of clips, and clips as one batch."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping, Sequence
from numbers import Number
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from codeczoo.base import audio_io
from codeczoo.base.audio import Audio, AudioLike, check_rate, stack

FORMS = (
    "a path or address, an open file, a file's bytes, a NumPy array or torch tensor [T], [C, T] or [B, C, T], an "
    "Audio, a dict with 'array' and 'sampling_rate', 'path' or 'bytes' (as Hugging Face datasets give), or a list of "
    "these"
)


BytesLike: TypeAlias = bytes | bytearray | memoryview
CHECK_BLOCK_SAMPLES = 1 << 18  # samples that are checked at once: a block and its mask fit a processor's cache


class Clip(NamedTuple):
    """One recording on its way into a batch."""

    waveform: Tensor  # [C, T] floating point
    sample_rate: int


def read_clips(audio: AudioLike, sample_rate: int | None = None) -> list[Clip]:
    """`audio` as a list of clips, each at its own rate and with its own channels.

    Raises:
        TypeError: a form that `AudioLike` does not name.
        ValueError: an array without `sample_rate`, wrong shapes, no samples, NaN, an unreadable file.
    """
    if sample_rate is not None:
        sample_rate = check_rate(sample_rate)
    if isinstance(audio, Audio):
        if sample_rate not in (None, audio.sample_rate):
            raise ValueError(f"sample_rate={sample_rate} was given for an Audio that says {audio.sample_rate} Hz")
        clips = [Clip(clip, audio.sample_rate) for clip in audio.split()]
    elif isinstance(audio, str | os.PathLike | Mapping | BytesLike) or _is_file(audio) or _is_decoder(audio):
        clips = [_one(audio, sample_rate)]
    elif isinstance(audio, Tensor | np.ndarray):
        batch = _tensor(audio)
        if batch.ndim == 3:
            clips = [Clip(clip, _needs_rate(sample_rate)) for clip in batch]
        else:
            clips = [_one(batch, sample_rate)]
    elif isinstance(audio, Sequence | Iterator) and not isinstance(audio, io.IOBase):
        items = list(audio)
        if any(isinstance(item, Number) for item in items):
            raise TypeError(
                "a list of numbers, or with numbers in it, is not taken as audio: pass an array of the samples, "
                "numpy.asarray(samples), and their rate, sample_rate="
            )
        clips = [_one(item, sample_rate, f"clip {i}: ") for i, item in enumerate(items)]
    else:
        raise TypeError(f"audio must be {FORMS}; it is {type(audio).__name__}")
    if not clips:
        raise ValueError("no audio was given: the list is empty")
    for i, clip in enumerate(clips):
        _check_shape(clip, _where(i, clips))
    _check_samples(clips)
    return clips


def collate(clips: Sequence[Clip], sample_rate: int | None = None, channels: int | None = None) -> Audio:
    """Clips as one batch at `sample_rate` with `channels`; None = those of the clips, which must then agree."""
    for what, wanted, found in (
        ("sample rate", sample_rate, {clip.sample_rate for clip in clips}),
        ("channel count", channels, {len(clip.waveform) for clip in clips}),
    ):
        if wanted is None and len(found) > 1:
            keyword = what.replace(" count", "s").replace(" ", "_")
            raise ValueError(f"the clips differ in {what} ({sorted(found)}): choose one with {keyword}=")
    # All clips of one rate and channel count are resampled at once.
    groups: dict[tuple[int, int, torch.device], list[int]] = {}
    for i, clip in enumerate(clips):
        groups.setdefault((clip.sample_rate, len(clip.waveform), clip.waveform.device), []).append(i)
    out: list[Tensor] = [torch.empty(0)] * len(clips)
    for (rate, _, _), members in groups.items():
        group = stack([clips[i].waveform for i in members], rate)
        if channels is not None:
            group = group.mix(channels)
        group = group.resample(sample_rate or rate)
        if len(groups) == 1:
            return group
        for i, waveform in zip(members, group.split(), strict=True):
            out[i] = waveform
    return stack(out, sample_rate or clips[0].sample_rate)


def _one(item: Any, sample_rate: int | None, where: str = "") -> Clip:
    """One clip in any form."""
    try:
        if isinstance(item, str | os.PathLike | BytesLike) or _is_file(item):
            return Clip(*audio_io.read(item))
        if isinstance(item, Audio):
            if len(item) != 1:
                raise ValueError(f"an Audio inside a list must hold one clip; this one holds {len(item)}")
            return Clip(item.split()[0], item.sample_rate)
        if isinstance(item, Mapping):
            return _from_mapping(item)
        if _is_decoder(item):
            samples = item.get_all_samples()
            return Clip(_tensor(samples.data), check_rate(samples.sample_rate))
        if isinstance(item, Tensor | np.ndarray):
            waveform = _tensor(item)
            if waveform.ndim == 1:
                waveform = waveform[None]
            if waveform.ndim != 2:
                raise ValueError(f"a clip is [T] or [C, T]; its shape is {tuple(waveform.shape)}")
            return Clip(waveform, _needs_rate(sample_rate))
    except (TypeError, ValueError) as error:
        if not where:
            raise
        raise (TypeError if isinstance(error, TypeError) else ValueError)(f"{where}{error}") from error
    raise TypeError(f"{where}audio must be {FORMS}; it is {type(item).__name__}")


def _is_file(item: Any) -> bool:
    """Whether `item` is a file open for reading bytes, which need not seek, or an open SoundFile."""
    return callable(getattr(item, "read", None)) and not isinstance(item, io.TextIOBase)


def _is_decoder(item: Any) -> bool:
    """Whether `item` is an `AudioDecoder` of torchcodec."""
    return hasattr(item, "get_all_samples")


def _from_mapping(item: Mapping[str, Any]) -> Clip:
    """The three dict forms of Hugging Face datasets."""
    if item.get("array") is not None:
        if "sampling_rate" not in item:
            raise ValueError("a dict with 'array' must have 'sampling_rate' too")
        return _one(np.asarray(item["array"]), check_rate(item["sampling_rate"]))
    if item.get("bytes") is not None:
        return Clip(*audio_io.read(item["bytes"]))
    if item.get("path") is not None:
        return Clip(*audio_io.read(item["path"]))
    raise ValueError(f"a dict of audio has 'array', 'bytes' or 'path'; this one has {sorted(map(str, item))}")


def from_numpy(array: np.ndarray) -> Tensor:
    """An array of any layout, byte order and shape as a tensor; a TypeError if it does not hold numbers."""
    if array.dtype == object:
        raise TypeError("an array of objects is not audio; give a list of arrays for clips of different lengths")
    if array.dtype.kind not in "biufc":
        raise TypeError(f"an array of {array.dtype} is not audio")
    native = array.astype(array.dtype.newbyteorder("="), order="C", copy=not array.flags.writeable)
    return torch.from_numpy(native)


def _tensor(array: Tensor | np.ndarray) -> Tensor:
    """A floating point tensor of 1 to 3 axes. Integers are an error: their full scale is not known."""
    if isinstance(array, np.ndarray):
        array = from_numpy(array)
    if not array.is_floating_point():
        raise TypeError(
            f"audio must be floating point with full scale 1; its type is {array.dtype}. "
            "For 16-bit integers: samples / 32768"
        )
    if not 1 <= array.ndim <= 3:
        raise ValueError(f"audio is [T], [C, T] or [B, C, T]; its shape is {tuple(array.shape)}")
    return array.float() if array.dtype in (torch.float16, torch.bfloat16) else array


def _needs_rate(sample_rate: int | None) -> int:
    if sample_rate is None:
        raise ValueError("a bare array has no sample rate: pass sample_rate= (in Hz)")
    return sample_rate


def _where(i: int, clips: Sequence[Clip]) -> str:
    return f"clip {i}: " if len(clips) > 1 else ""


def _check_shape(clip: Clip, where: str) -> None:
    channels, samples = clip.waveform.shape
    if channels == 0 or samples == 0:
        raise ValueError(f"{where}the clip has no samples (its shape is {(channels, samples)})")
    if channels > 64 and channels > samples:
        raise ValueError(
            f"{where}{channels} channels of {samples} samples: the axes look swapped; a clip is [C, T], channels first"
        )


def _check_samples(clips: Sequence[Clip]) -> None:
    device = clips[0].waveform.device
    together = device.type != "cpu" and all(clip.waveform.device == device for clip in clips)
    # One read from the device for all clips: the wait for it takes longer than the check of a clip.
    if together and bool(torch.stack([clip.waveform.abs().amax() for clip in clips]).isfinite().all()):
        return
    for i, clip in enumerate(clips):
        # In blocks, because the mask of an hour has as many values as the hour.
        blocks = clip.waveform.split(CHECK_BLOCK_SAMPLES, dim=-1)
        count = sum(int((~torch.isfinite(block)).sum()) for block in blocks)
        if count:
            raise ValueError(f"{_where(i, clips)}{count} of {clip.waveform.numel()} samples are NaN or infinite")
