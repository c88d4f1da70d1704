"""Decoding by libsndfile, in blocks."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import numpy as np
import soundfile as sf

from codeczoo.base.audio_files.parts import Part, UnknownCodecError, Window

BLOCK_SAMPLES = 1 << 16  # that are decoded at once, of each channel
# libsndfile's log of a header that announces more bytes or samples than the file has, by format.
SHORT = re.compile(
    r"(?:Data Size|SSND|BODY)\s*: (?P<a>\d+) \(should be (?P<b>\d+)\)"  # AU, AIFF, SVX
    r"|Data length (?P<c>\d+) should be (?P<d>\d+)"  # WVE
    r"|seems to be truncated\. (?P<e>\d+) <--> (?P<f>\d+)|(?P<g>Seems to be a truncated file)"  # MAT4, VOC
)
COUNTED = re.compile(r"(?m)^\s*(?:Frames|Rows : 1    Cols)\s*: (\d+)$")  # AVR, MPC2K, MAT5
COUNTED_IN = ("AVR", "MPC2K", "MAT5")
UNKNOWN_CODEC = (4, 18)  # libsndfile's numbers of such errors
UNKNOWN = 2**62  # samples; libsndfile announces at least as many where it does not know
NOT_FILLED_IN = 2**31 - 2**16  # bytes
# Formats whose samples stand at a place that can be computed, so that reading may begin anywhere.
PLAIN = ("PCM", "FLOAT", "DOUBLE", "ULAW", "ALAW")


class _Forward(sf.SoundFile):
    """A SoundFile that soundfile does not ask to seek after each block, which not every format can."""

    def seekable(self) -> bool:
        return False


class Decoder:
    """One part of a file: its rate, its channels, and its samples in blocks."""

    filling = 1 << 14  # samples; the blocks of ADPCM and GSM are shorter

    def __init__(self, part: Part, name: str) -> None:
        self._name = name
        handle = part.handle
        self._window = handle if isinstance(handle, Window) else Window(handle, 0, handle.seek(0, os.SEEK_END))
        self._window.seek(0)
        try:
            self._file = _Forward(self._window)
        except (sf.SoundFileError, RuntimeError) as error:
            self._window.check()
            unknown = getattr(error, "code", None) in UNKNOWN_CODEC
            kind = UnknownCodecError if unknown else ValueError
            raise kind(f"{name}: not readable as audio ({_reason(error)})") from error
        self.sample_rate: int = self._file.samplerate
        self.channels: int = self._file.channels
        self.format: str = self._file.format
        self.most = part.most
        announced = part.samples if part.samples is not None else self._file.frames
        self._announced = None if announced >= UNKNOWN or (part.estimated and part.samples is None) else announced
        self._check_log()

    @property
    def announced(self) -> int | None:
        """Samples that there should be; None if nothing tells."""
        return self._announced if self.most is None or self._announced is None else min(self._announced, self.most)

    def skip(self, samples: int) -> int:
        """Go on at this sample, or one before it; gives where. Only where what follows is then the same."""
        plain = self.format == "FLAC" or self._file.subtype.startswith(PLAIN)
        if not plain or self.most is not None or self._announced is None or samples > self._announced:
            return 0
        try:
            return self._file.seek(samples)
        except (sf.SoundFileError, RuntimeError) as error:
            self._window.check()
            raise ValueError(
                f"{self._name}: damaged or cut: sample {samples} cannot be reached ({_reason(error)})"
            ) from error

    def blocks(self, position: int = 0) -> Iterator[np.ndarray]:
        """The samples [T, C] float32, in blocks; the error, at the end, if some are missing."""
        while True:
            try:
                block = self._file.read(BLOCK_SAMPLES, dtype="float32", always_2d=True)
            except (sf.SoundFileError, RuntimeError) as error:
                self._window.check()
                raise ValueError(f"{self._name}: damaged or cut behind sample {position} ({_reason(error)})") from error
            if len(block) == 0:
                break
            position += len(block)
            yield block
        self._window.check()
        if self._announced is not None and position < self._announced:
            raise ValueError(
                f"{self._name}: truncated: {self._announced} samples are announced and {position} are there"
            )

    def close(self) -> None:
        self._file.close()

    def _check_log(self) -> None:
        """The error if the header announces more than there is."""
        log = self._file.extra_info
        if short := SHORT.search(log):
            found = [int(number) for number in short.group("a", "b", "c", "d", "e", "f") if number is not None]
            if not found:
                raise ValueError(f"{self._name}: truncated: fewer bytes of samples are there than announced")
            if min(found) < max(found) < NOT_FILLED_IN:
                announced, there = max(found), min(found)
                if short["a"] is None or int(short["a"]) == announced:
                    raise ValueError(
                        f"{self._name}: truncated: {announced} bytes of samples are announced and {there} are there"
                    )
        if self.format in COUNTED_IN and (counts := COUNTED.findall(log)):
            count = max(map(int, counts))
            if count > self._file.frames:
                raise ValueError(
                    f"{self._name}: truncated: {count} samples are announced and {self._file.frames} are there"
                )


def _reason(error: Exception) -> str:
    return str(getattr(error, "error_string", error)).strip().removesuffix(".")
