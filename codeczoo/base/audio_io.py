"""Audio files, read in any form (by `audio_files`) and written by libsndfile."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, BinaryIO

import soundfile as sf
import torch
from torch import Tensor

from codeczoo.base.audio_files.reading import FileInfo, FileLike, read_info, read_samples
from codeczoo.base.audio_files.stretch import Stretch

# suffix → (libsndfile format, subtype)
FORMATS = {
    ".wav": ("WAV", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".ogg": ("OGG", "VORBIS"),
    ".oga": ("OGG", "VORBIS"),
    ".opus": ("OGG", "OPUS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
}
OPUS_RATES = (8000, 12000, 16000, 24000, 48000)


def read(
    source: FileLike,
    *,
    offset: float | None = None,
    duration: float | None = None,
) -> tuple[Tensor, int]:
    """One file, or a stretch of it, as (waveform [C, T] float32, sample rate in Hz).

    A stretch holds the very samples that the whole file has there: round(offset * rate) is its first, and it has
    round(duration * rate). Formats without loss and MP3 are read there alone; the others are decoded from their
    start, in blocks, and only the stretch is kept.

    Args:
        source: a path, an address (https://, file://, and what fsspec knows), a file's bytes, a file open for reading,
            which is read from its start (one that cannot seek, to its end), or an open SoundFile.
        offset: where the stretch begins, in seconds; None = the start.
        duration: how long it is, in seconds; None = to the end. It may end up to 0.1 s behind the file's end,
            and is then as much shorter.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not audio, cut short, without samples, without the stretch, or of a format that takes a decoder
            which is not installed; the message names the file and says which.
    """
    samples, rate = read_samples(source, Stretch(offset, duration))
    return torch.from_numpy(samples), rate


def info(source: FileLike) -> FileInfo:
    """Rate, channels and announced number of samples of a file in any form that `read` takes.

    The announcement is the container's, which `read` finds to be right or not; None if it tells none.

    Raises:
        FileNotFoundError, ValueError: as `read`, as far as the beginning shows it.
    """
    return read_info(source)


def write(
    target: str | os.PathLike[str] | BinaryIO,
    waveform: Tensor,
    sample_rate: int,
    *,
    format: str | None = None,
    subtype: str | None = None,
    **options: Any,
) -> None:
    """Write `waveform` [C, T] or [T]. Samples over full scale are clipped, unless the subtype is FLOAT or DOUBLE.

    Args:
        target: a path, or a file open for writing.
        format: libsndfile's name ("FLAC"); None = from the path's suffix.
        subtype: for instance "FLOAT" or "PCM_24"; None = 16 bit, or the format's default.
        options: soundfile's `compression_level` and `bitrate_mode`.

    Raises:
        ValueError: an unknown suffix, a rate that the format lacks, an empty or non-finite waveform.
    """
    if waveform.ndim == 1:
        waveform = waveform[None]
    if waveform.ndim != 2 or waveform.shape[1] == 0:
        raise ValueError(f"a file takes a waveform [C, T] with samples; its shape is {tuple(waveform.shape)}")
    if not bool(torch.isfinite(waveform).all()):
        raise ValueError("the waveform holds NaN or infinity; a file of it would be noise")
    name = os.fspath(target) if isinstance(target, str | os.PathLike) else str(getattr(target, "name", "<file>"))
    if format is None:
        suffix = Path(name).suffix.lower()
        if suffix not in FORMATS:
            raise ValueError(f"{name}: unknown suffix {suffix!r}; known: {', '.join(FORMATS)} (or pass format=)")
        format, usual = FORMATS[suffix]
        subtype = subtype or usual
    elif subtype is None:
        subtype = "PCM_16" if format in ("WAV", "FLAC") else sf.default_subtype(format)
    if subtype == "OPUS" and sample_rate not in OPUS_RATES:
        raise ValueError(f"Opus knows {OPUS_RATES} Hz; this waveform has {sample_rate} Hz: resample it first")
    if subtype == "MPEG_LAYER_III" and len(waveform) > 2:
        raise ValueError(f"MP3 knows mono and stereo; this waveform has {len(waveform)} channels: mix it first")
    if isinstance(target, str | os.PathLike):
        target = Path(target).expanduser()
        if not target.parent.is_dir():
            raise FileNotFoundError(f"{name}: there is no folder {str(target.parent)!r}")
    held = waveform.detach().float().cpu()
    samples = (held if subtype in ("FLOAT", "DOUBLE") else held.clamp(-1, 1)).numpy().T
    try:
        sf.write(target, samples, sample_rate, format=format, subtype=subtype, **options)
    except sf.LibsndfileError as error:
        raise ValueError(f"{name}: {format}/{subtype} at {sample_rate} Hz: {error.error_string}") from error
