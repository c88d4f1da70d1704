"""One file, or a stretch of it, as samples."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import BinaryIO, NamedTuple, TypeAlias

import numpy as np
import soundfile as sf

from codeczoo.base.audio_files import ffmpeg, libsndfile
from codeczoo.base.audio_files.containers import Container, identify
from codeczoo.base.audio_files.opening import opened
from codeczoo.base.audio_files.parts import Part, UnknownCodecError, agree
from codeczoo.base.audio_files.stretch import OVERSHOOT, Kept, Stretch

FileLike: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | sf.SoundFile


def read_samples(source: FileLike, stretch: Stretch) -> tuple[np.ndarray, int]:
    """The samples [C, T] float32 of a file in any form, and its rate. `audio_io.read` says more."""
    with opened(source) as file:
        name = file.name
        container, start = identify(file)
        kept: Kept | None = None
        rate = channels = 0
        for part in container.parts(file, start):
            decoder = _decoder(part, name, container)
            try:
                if kept is None:
                    rate, channels = decoder.sample_rate, decoder.channels
                    first, last = stretch.bounds(rate, name)
                    kept = Kept(first, last, channels)
                    skipped = kept.position = decoder.skip(first) if first else 0
                    if first and part.enter and decoder.announced and (entry := part.enter(first, decoder.announced)):
                        decoder.close()
                        decoder, kept.position = _decoder(entry[0], name, container), entry[1]
                agree(name, "rates in Hz", (rate, decoder.sample_rate))
                agree(name, "channel counts", (channels, decoder.channels))
                for block in _without_filling(decoder.blocks(skipped), decoder.most, decoder.filling):
                    kept.add(block)
                    if kept.full:
                        break
            finally:
                decoder.close()
            skipped = 0
            if kept.full:
                break
    if kept is None or kept.position == 0:
        raise ValueError(f"{name}: the file holds no samples")
    samples = kept.samples()
    seconds = kept.position / rate
    if samples.shape[1] == 0:
        raise ValueError(f"{name}: the stretch begins at {stretch.offset} s; the file has {seconds:.3f} s")
    if last is not None and kept.position < last - OVERSHOOT * rate:
        end = (stretch.offset or 0) + (stretch.duration or 0)
        raise ValueError(
            f"{name}: the stretch from {stretch.offset or 0} s ends at {end} s; the file has {seconds:.3f} s"
        )
    return samples, rate


class FileInfo(NamedTuple):
    """What a file says of itself."""

    sample_rate: int  # Hz
    channels: int
    samples: int | None  # of each channel, as announced; None if the file does not tell


def read_info(source: FileLike) -> FileInfo:
    """Rate, channels and announced length of a file in any form, without decoding it to the end."""
    found: list[FileInfo] = []
    with opened(source) as file:
        container, start = identify(file)
        for part in container.parts(file, start):
            decoder = _decoder(part, file.name, container)
            found.append(FileInfo(decoder.sample_rate, decoder.channels, decoder.announced))
            decoder.close()
    if not found:
        raise ValueError(f"{file.name}: the file holds no samples")
    told = [info.samples for info in found if info.samples is not None]
    return FileInfo(found[0].sample_rate, found[0].channels, sum(told) if len(told) == len(found) else None)


def _decoder(part: Part, name: str, container: Container) -> libsndfile.Decoder | ffmpeg.Decoder:
    if part.demuxer is not None:
        return ffmpeg.decoder(part, name, container.name)
    try:
        return libsndfile.Decoder(part, name)
    except UnknownCodecError:
        if part.fallback is None:
            raise
    return ffmpeg.decoder(replace(part, demuxer=part.fallback), name, f"a codec inside this {container.name} file")


def _without_filling(blocks: Iterator[np.ndarray], most: int | None, filling: int) -> Iterator[np.ndarray]:
    """Blocks without what lies behind `most` samples, unless that is more than `filling`: then `most` is wrong."""
    position = 0
    behind: list[np.ndarray] = []
    for block in blocks:
        keep = len(block) if most is None else max(min(most - position, len(block)), 0)
        position += len(block)
        if keep:
            yield block[:keep]
        if keep < len(block):
            behind.append(block[keep:])
            if sum(map(len, behind)) > filling:
                yield from behind
                yield from blocks
                return
