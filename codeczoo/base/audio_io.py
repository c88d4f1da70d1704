"""Audio files, read and written by libsndfile: WAV, FLAC, Ogg (Vorbis, Opus), MP3 and the other formats it knows."""

from __future__ import annotations

import contextlib
import io
import math
import os
import re
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soundfile as sf
import torch
from torch import Tensor

# suffix → (libsndfile format, subtype)
FORMATS = {
    ".wav": ("WAV", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".ogg": ("OGG", "VORBIS"),
    ".oga": ("OGG", "VORBIS"),
    ".opus": ("OGG", "OPUS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
}
# libsndfile's log of a header (WAV, AIFF, AU) that announces more bytes of samples than the file has.
TRUNCATED_IN_LOG = re.compile(r"(?:data|Data Size|SSND)\s*: (\d+) \(should be (\d+)\)")
UNKNOWN_SIZE = 2**31 - 2**16  # bytes; a writer into a pipe does not know the size and announces at least this
MAX_OGG_PAGE = 27 + 255 + 255 * 255  # bytes
BLOCK_SAMPLES = 1 << 16  # that are decoded at once, of each channel
# Seconds. Manifests give times with two or three decimals, and lossy formats add or cut a frame.
OVERSHOOT = 0.1
LOSSLESS_FORMATS = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC")
OPUS_RATES = (8000, 12000, 16000, 24000, 48000)


def read(
    source: str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO,
    *,
    offset: float | None = None,
    duration: float | None = None,
) -> tuple[Tensor, int]:
    """One file, or a stretch of it, as (waveform [C, T] float32, sample rate in Hz).

    A stretch holds the very samples that the whole file has there: round(offset * rate) is its first, and it has
    round(duration * rate). Formats without loss are read there alone; the others are decoded from their start, in
    blocks, and only the stretch is kept.

    Args:
        source: a path, a file's bytes, or a file open for reading, which is read from its start.
        offset: where the stretch begins, in seconds; None = the start.
        duration: how long it is, in seconds; None = to the end. It may end up to `OVERSHOOT` s behind the file's end,
            and is then as much shorter.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not audio, cut short, without samples, or without the stretch; the message names the file.
    """
    _check_stretch(offset, duration)
    handle: Path | BinaryIO
    if isinstance(source, str | os.PathLike):
        name, handle = os.fspath(source), Path(source).expanduser()
        if not handle.is_file():
            raise FileNotFoundError(f"no audio file at {name!r}")
        if handle.stat().st_size == 0:
            raise ValueError(f"{name}: the file is empty")
    else:
        handle = io.BytesIO(source) if isinstance(source, bytes | bytearray | memoryview) else source
        name = str(getattr(handle, "name", "<bytes>"))
        handle.seek(0, os.SEEK_END)
        if handle.tell() == 0:
            raise ValueError(f"{name}: the file is empty")
        handle.seek(0)
    try:
        with sf.SoundFile(handle) as file:
            announced, rate = file.frames, file.samplerate
            if offset is None and duration is None:
                samples = file.read(dtype="float32", always_2d=True)
            else:
                samples = _stretch(file, name, offset or 0.0, duration)
                announced = 0
            found, log = file.format, file.extra_info
    except sf.LibsndfileError as error:
        raise ValueError(f"{name}: not readable as audio ({error.error_string})") from error
    if len(samples) == 0:
        raise ValueError(f"{name}: the file holds no samples")
    # Some containers do not announce their length; libsndfile then gives a number of at least 2 ** 62.
    if len(samples) < announced < 2**62:
        raise ValueError(f"{name}: truncated: {announced} samples are announced and {len(samples)} are there")
    if (short := TRUNCATED_IN_LOG.search(log)) and int(short[2]) < int(short[1]) < UNKNOWN_SIZE:
        raise ValueError(f"{name}: truncated: {short[1]} bytes of samples are announced and {short[2]} are there")
    if found == "OGG" and _ogg_is_cut(handle):
        raise ValueError(f"{name}: truncated: the last page of the Ogg file is cut")
    return torch.from_numpy(samples.T.copy()), rate


def _check_stretch(offset: float | None, duration: float | None) -> None:
    if offset is not None and not 0 <= offset < math.inf:
        raise ValueError(f"offset must be at least 0 seconds; it is {offset}")
    if duration is not None and not 0 < duration < math.inf:
        raise ValueError(f"duration must be more than 0 seconds; it is {duration}")


def _stretch(file: sf.SoundFile, name: str, offset: float, duration: float | None) -> np.ndarray:
    """The samples [T, C] of a stretch; the error if the file ends before it."""
    rate = file.samplerate
    start = round(offset * rate)
    wanted = None if duration is None else round(duration * rate)
    if wanted == 0:
        raise ValueError(f"{name}: a stretch of {duration} s holds no sample at {rate} Hz")
    position = 0
    if start and file.format in LOSSLESS_FORMATS and "ADPCM" not in file.subtype and start <= file.frames:
        position = file.seek(start)
    blocks: list[np.ndarray] = []
    while wanted is None or position < start + wanted:
        size = BLOCK_SAMPLES if wanted is None else min(BLOCK_SAMPLES, start + wanted - position)
        block = file.read(size, dtype="float32", always_2d=True)
        if len(block) == 0:
            break
        if position + len(block) > start:
            blocks.append(block[max(start - position, 0) :])
        position += len(block)
    if not blocks:
        raise ValueError(f"{name}: the stretch begins at {offset} s; the file has {position / rate:.3f} s")
    if wanted is not None and position < start + wanted - OVERSHOOT * rate:
        raise ValueError(
            f"{name}: the stretch from {offset} s ends at {offset + (duration or 0)} s; "
            f"the file has {position / rate:.3f} s"
        )
    return np.concatenate(blocks)


def _ogg_is_cut(handle: Path | BinaryIO) -> bool:
    """Whether the last page of an Ogg file is longer than what is left of the file."""
    with handle.open("rb") if isinstance(handle, Path) else contextlib.nullcontext(handle) as file:
        file.seek(max(file.seek(0, os.SEEK_END) - MAX_OGG_PAGE, 0))
        tail = file.read()
    page = tail[tail.rfind(b"OggS") :]
    return len(page) < 27 or len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]])


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
