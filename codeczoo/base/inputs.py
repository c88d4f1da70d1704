"""Audio in any form (`AudioLike`) as a list of clips, and clips as one batch."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from numbers import Number
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from codeczoo.base import audio_io
from codeczoo.base.arrays import channels_first, samples_of
from codeczoo.base.audio import Audio, AudioLike, stack
from codeczoo.base.rows import rate_of_wrapping, unwrapped
from codeczoo.base.sample_rate import check_rate
from codeczoo.base.sample_values import check_peak, peak_of

FORMS = (
    "a path or address, an open file, a file's bytes, a NumPy array or torch tensor [T], [C, T] or [B, C, T], a "
    "pair of one and its rate, an Audio, a dict with 'array' and 'sampling_rate', 'path' or 'bytes' or a row with one "
    "(as Hugging Face datasets give), or a list of these"
)


BytesLike: TypeAlias = bytes | bytearray | memoryview


class Clip(NamedTuple):
    """One recording on its way into a batch."""

    waveform: Tensor  # [C, T] floating point
    sample_rate: int


def read_clips(audio: AudioLike, sample_rate: int | None = None) -> list[Clip]:
    """`audio` as a list of clips, each at its own rate and with its own channels.

    Raises:
        TypeError: a form that `AudioLike` does not name.
        ValueError: an array without `sample_rate`, wrong shapes, no samples, NaN, an unreadable file; a rate beside
            audio that says another one.
    """
    if sample_rate is not None:
        sample_rate = check_rate(sample_rate)
        own = audio.sample_rate if isinstance(audio, Audio) else rate_of_wrapping(audio)
        if own not in (None, sample_rate):
            kind = "an Audio" if isinstance(audio, Audio) else f"a {type(audio).__name__}"
            raise ValueError(f"sample_rate={sample_rate} was given for {kind} that says {own} Hz")
    audio, sample_rate = unwrapped(audio, sample_rate)
    clips: list[Clip]
    if isinstance(audio, Audio):
        clips = [Clip(clip, audio.sample_rate) for clip in audio.split()]
    elif isinstance(audio, str | os.PathLike | BytesLike) or _is_file(audio) or _is_decoder(audio):
        clips = [_one(audio, sample_rate)]
    elif isinstance(audio, Tensor) and audio.is_nested:
        clips = [_one(item, sample_rate, f"clip {i}: ") for i, item in enumerate(audio.unbind())]
    elif isinstance(audio, Tensor | np.ndarray):
        batch = samples_of(audio)
        if batch.ndim == 3:
            rate = _needs_rate(sample_rate)
            clips = [Clip(clip, rate) for clip in channels_first(batch, "clip 0: ")]
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
        if 0 in clip.waveform.shape:
            shape = tuple(clip.waveform.shape)
            raise ValueError(f"{_where(i, clips)}the clip has no samples (its shape is {shape})")
    _check_samples(clips)
    return clips


def collate(clips: Sequence[Clip], sample_rate: int | None = None, channels: int | None = None) -> Audio:
    """Clips as one batch at `sample_rate` with `channels`; None = those of the clips, which must then agree."""
    sample_rate = None if sample_rate is None else check_rate(sample_rate)
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
        item, sample_rate = unwrapped(item, sample_rate)
        if isinstance(item, str | os.PathLike | BytesLike) or _is_file(item):
            return Clip(*audio_io.read(item))
        if isinstance(item, Audio):
            if len(item) != 1:
                raise ValueError(f"an Audio inside a list must hold one clip; this one holds {len(item)}")
            return Clip(item.split()[0], item.sample_rate)
        if _is_decoder(item):
            samples = item.get_all_samples()
            return Clip(samples_of(samples.data), check_rate(samples.sample_rate))
        if isinstance(item, Tensor | np.ndarray):
            waveform = samples_of(item)
            if waveform.ndim == 1:
                waveform = waveform[None]
            if waveform.ndim != 2:
                raise ValueError(f"a clip is [T] or [C, T]; its shape is {tuple(waveform.shape)}")
            return Clip(channels_first(waveform), _needs_rate(sample_rate))
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


def _needs_rate(sample_rate: int | None) -> int:
    if sample_rate is None:
        raise ValueError("a bare array has no sample rate: pass sample_rate= (in Hz)")
    return sample_rate


def _where(i: int, clips: Sequence[Clip]) -> str:
    return f"clip {i}: " if len(clips) > 1 else ""


def _check_samples(clips: Sequence[Clip]) -> None:
    device = clips[0].waveform.device
    if device.type != "cpu" and all(clip.waveform.device == device for clip in clips):
        # One read from the device for all clips: the wait for it takes longer than the check of a clip.
        peaks = torch.stack([clip.waveform.abs().amax().double() for clip in clips]).tolist()
    else:
        peaks = [peak_of(clip.waveform) for clip in clips]
    for i, (clip, peak) in enumerate(zip(clips, peaks, strict=True)):
        check_peak(peak, clip.waveform, _where(i, clips))
