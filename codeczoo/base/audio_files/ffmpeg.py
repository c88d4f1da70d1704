"""Decoding by FFmpeg, for what libsndfile does not know: PyAV where it is installed, else an ffmpeg program.

PyAV (the extra `files`) is the first choice: its wheels bring an FFmpeg of their own, with no CUDA, no torch and no
system library to match, and it reads from open files. torchcodec is not asked: its wheels bring no FFmpeg, so where it
works an ffmpeg program is there too.

FFmpeg is told the container, which the bytes show, and never finds out for itself: some that it would find are lists
of other files and addresses.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np

from codeczoo.base.audio_files.parts import Part, warn

TOLERANCE = 0.2  # seconds by which a file may fall short of the length that its container tells
AU_HEADER = 24  # bytes
SCALES = {"u8": 128.0, "s16": 32768.0, "s32": 2147483648.0, "s64": 2.0**63}
MOST_AT_ONCE = 1 << 28  # bytes that an ffmpeg program may ask for at once


def available() -> str | None:
    """What decodes: "PyAV", "ffmpeg" (a program), or None."""
    if importlib.util.find_spec("av") is not None:
        return "PyAV"
    return "ffmpeg" if shutil.which("ffmpeg") else None


def decoder(part: Part, name: str, container: str) -> Decoder:
    """The decoder of a part.

    Raises:
        ValueError: there is none, or the part holds no audio track; the message says what to install.
    """
    found = available()
    if found is None:
        raise ValueError(
            f"{name}: {container} is not read by libsndfile: pip install 'codeczoo[files]' (PyAV, with an FFmpeg of "
            "its own), or put an ffmpeg program on the PATH"
        )
    return PyAV(part, name, container) if found == "PyAV" else Program(part, name, container)


class Decoder:
    """One part of a file: its rate, its channels, and its samples in blocks."""

    sample_rate: int
    channels: int
    most: int | None = None  # samples; what is decoded behind them fills the last packet
    filling = 4096  # samples

    @property
    def announced(self) -> int | None:
        """Samples that there should be, if the container tells."""
        return None

    def skip(self, samples: int) -> int:
        return 0  # a seek is not exact in lossy formats

    def blocks(self, position: int = 0) -> Iterator[np.ndarray]:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


class PyAV(Decoder):
    """FFmpeg by PyAV, in this process."""

    def __init__(self, part: Part, name: str, container: str) -> None:
        import av

        self._errors = av.error.FFmpegError
        self._name, self._container, self._part = name, container, part
        part.handle.seek(0)
        with self._named():
            self._file = av.open(part.handle, mode="r", format=part.demuxer, metadata_errors="ignore")
        tracks = self._file.streams.audio
        if not tracks:
            self._file.close()
            raise ValueError(f"{name}: the {container} file has no audio track")
        if len(tracks) > 1:
            warn(name, f"{len(tracks)} audio tracks; the first is read")
        self._track = tracks[0]
        self._packets = 0
        self._decoded = self._frames()
        try:
            self._first = next(self._decoded, None)
        except BaseException:
            self._file.close()
            raise
        if self._first is None:
            self._file.close()
            raise ValueError(f"{name}: the file holds no samples")
        # The first frame, not the header, knows the rate of HE-AAC.
        self.sample_rate, self.channels = self._first.sample_rate, self._first.layout.nb_channels
        self.most = self._most()

    def blocks(self, position: int = 0) -> Iterator[np.ndarray]:
        frame = self._first
        while frame is not None:
            if (frame.sample_rate, frame.layout.nb_channels) != (self.sample_rate, self.channels):
                raise ValueError(
                    f"{self._name}: rate and channels change from {self.sample_rate} Hz, {self.channels} to "
                    f"{frame.sample_rate} Hz, {frame.layout.nb_channels} behind sample {position}"
                )
            block = _samples(frame)
            position += len(block)
            yield block
            frame = next(self._decoded, None)
        self._check(position)

    def close(self) -> None:
        self._file.close()

    def _frames(self) -> Iterator[Any]:
        with self._named():
            for packet in self._file.demux(self._track):
                if packet.is_corrupt:
                    raise ValueError(f"{self._name}: damaged: FFmpeg marks packet {self._packets} as broken")
                self._packets += packet.size > 0
                yield from packet.decode()

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except self._errors as error:
            reason = getattr(error, "strerror", None) or error
            raise ValueError(
                f"{self._name}: damaged or cut: FFmpeg does not read it as {self._container} ({reason})"
            ) from error

    @property
    def announced(self) -> int | None:
        return round(self._seconds() * self.sample_rate) or None

    def _seconds(self) -> float:
        """The length that the container tells; 0 if it does not."""
        if self._track.duration is not None and self._track.time_base is not None:
            return float(self._track.duration * self._track.time_base)
        return (self._file.duration or 0) / 1e6

    def _most(self) -> int | None:
        """Samples that an MPEG-4 track holds, where its clock counts samples: the last packet may decode to more."""
        track = self._track
        if self._part.demuxer != "mov" or not track.duration or not track.time_base:
            return None
        return round(track.duration * track.time_base * self.sample_rate)

    def _check(self, position: int) -> None:
        """The error if less was decoded than the container tells."""
        announced = self._part.samples
        if announced is not None and position < announced:
            raise ValueError(f"{self._name}: truncated: {announced} samples are announced and {position} are there")
        if self._part.demuxer == "mov" and self._track.frames > self._packets:
            raise ValueError(
                f"{self._name}: truncated: {self._track.frames} packets are announced and {self._packets} are there"
            )
        seconds = position / self.sample_rate
        if self._part.demuxer not in GUESSING and seconds < self._seconds() - TOLERANCE:
            raise ValueError(
                f"{self._name}: truncated: {self._seconds():.3f} s are announced and {seconds:.3f} s are there"
            )


GUESSING = ("aac", "amr")  # demuxers that guess a length by the rate of the first packets


def _samples(frame: Any) -> np.ndarray:
    """A decoded frame as [T, C] float32, full scale 1."""
    values = frame.to_ndarray()
    kind = frame.format.name.removesuffix("p")
    values = values.T if frame.format.is_planar else values.reshape(-1, frame.layout.nb_channels)
    if kind == "u8":
        return (values.astype(np.float32) - 128) / 128
    if kind in SCALES:
        return (values / SCALES[kind]).astype(np.float32)
    return values.astype(np.float32)


class Program(Decoder):
    """An ffmpeg program, which writes samples with a header of rate and channels (AU) into a pipe."""

    def __init__(self, part: Part, name: str, container: str) -> None:
        self._name, self._container, self._part = name, container, part
        self._stack = contextlib.ExitStack()
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            path = os.path.join(folder, "audio")
            with open(path, "wb") as copy:
                part.handle.seek(0)
                shutil.copyfileobj(part.handle, copy)
            errors = stack.enter_context(tempfile.TemporaryFile())
            command = ["ffmpeg", "-v", "error", "-nostdin", "-max_alloc", str(MOST_AT_ONCE), "-xerror"]
            command += ["-protocol_whitelist", "file", "-f", str(part.demuxer), "-i", path]
            command += ["-map", "0:a:0", "-c:a", "pcm_f32be", "-f", "au", "-"]
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors)
            stack.callback(self._stop)
            self._errors = errors
            head = self._output(AU_HEADER)
            if len(head) < AU_HEADER:
                self._finish(0)
                raise ValueError(f"{name}: the file holds no samples")
            start, _, _, rate, channels = (int.from_bytes(head[i : i + 4], "big") for i in range(4, 24, 4))
            self._output(start - AU_HEADER)
            self.sample_rate, self.channels = rate, channels
            self._stack = stack.pop_all()

    def blocks(self, position: int = 0) -> Iterator[np.ndarray]:
        width = 4 * self.channels
        while data := self._output(width << 16):
            block = np.frombuffer(data[: len(data) // width * width], ">f4").reshape(-1, self.channels)
            position += len(block)
            yield block.astype(np.float32)
        self._finish(position)
        announced = self._part.samples
        if announced is not None and position < announced:
            raise ValueError(f"{self._name}: truncated: {announced} samples are announced and {position} are there")

    def close(self) -> None:
        self._stack.close()

    def _output(self, count: int) -> bytes:
        assert self._process.stdout is not None
        return self._process.stdout.read(count) if count > 0 else b""

    def _finish(self, position: int) -> None:
        code = self._process.wait()
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").strip().splitlines()
        if code != 0 or said:
            reason = said[-1] if said else f"exit code {code}"
            raise ValueError(
                f"{self._name}: damaged or cut behind sample {position}: FFmpeg does not read it as {self._container} "
                f"({reason})"
            )

    def _stop(self) -> None:
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process.kill()
        self._process.wait()
