"""A file as parts that are decoded one by one, and the bytes that the decoder of each is given."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeAlias


class AudioFileWarning(UserWarning):
    """What is odd about a file that could be read all the same."""


def warn(name: str, text: str) -> None:
    """Warn of what is odd about a file."""
    warnings.warn(f"{name}: {text}", AudioFileWarning, stacklevel=2)


Handle: TypeAlias = "BinaryIO | io.RawIOBase"


@dataclass(frozen=True)
class File:
    """A file that is open for reading and can seek."""

    name: str  # for messages
    handle: Handle
    size: int  # bytes

    def at(self, start: int, count: int) -> bytes:
        """Up to `count` bytes from `start`; none behind the file's end."""
        if start >= self.size:
            return b""
        self.handle.seek(start)
        found = self.handle.read(count) or b""
        while len(found) < count and (more := self.handle.read(count - len(found))):
            found += more
        return found

    def part_of(self, start: int, stop: int) -> File:
        """A stretch of it as a file of its own."""
        if (start, stop) == (0, self.size):
            return self
        return File(self.name, Window(self.handle, start, stop), stop - start)


@dataclass(frozen=True)
class Part:
    """One stream of a file, which is decoded by itself. Most files have one; chained files have several."""

    handle: Handle
    samples: int | None = None  # that it must give; None = as many as the decoder says, if it says so
    most: int | None = None  # samples behind these fill the last block of a codec, and are cut off
    fallback: str | None = None  # FFmpeg's name of the container, for a codec in it that libsndfile lacks
    estimated: bool = False  # the decoder's own number of samples is a guess
    # From a sample and the number of all: a part that begins before that sample and goes on with the same ones, and the
    # sample it begins with; or None. Of formats that can be entered only with care.
    enter: Callable[[int, int], tuple[Part, int] | None] | None = None
    demuxer: str | None = None  # FFmpeg's name of the container; None = libsndfile reads it


class Window(io.RawIOBase):
    """Bytes `start` to `stop` of a file as a file, with some of them replaced.

    `claimed` is a size that is named instead of the true one. libmpg123 guesses the length of an MPEG stream by the
    size of the file and stops there, so it is told of a file that is long enough; the bytes end where they end.
    """

    def __init__(
        self,
        handle: Handle,
        start: int,
        stop: int,
        patches: Mapping[int, bytes] | None = None,
        claimed: int | None = None,
    ) -> None:
        self._handle = handle
        self._start = start
        self._size = stop - start
        self._patches = dict(patches or {})  # at offsets from `start`
        self._claimed = claimed or self._size
        self._position = 0
        self.error: Exception | None = None

    def check(self) -> None:
        """Raise what reading the file raised while a decoder read."""
        if self.error is not None:
            raise self.error

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._claimed}[whence]
        # A decoder that seeks before the start of a damaged file must not meet an exception in its callback.
        self._position = max(base + offset, 0)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        if self._claimed > self._size and self._position >= self._claimed - TAG:
            count = max(min(len(view), self._claimed - self._position), 0)  # here a tag would be: zeros are none
            view[:count] = bytes(count)
            self._position += count
            return count
        count = max(min(len(view), self._size - self._position), 0)
        if count == 0:
            return 0
        try:
            self._handle.seek(self._start + self._position)
            found = self._handle.read(count) or b""
        except Exception as error:  # noqa: BLE001 – it must not pass through the decoder's callback; `check` raises it
            self.error = error
            return 0
        view[: len(found)] = found
        for at, patch in self._patches.items():
            first, last = max(at, self._position), min(at + len(patch), self._position + len(found))
            if first < last:
                view[first - self._position : last - self._position] = patch[first - at : last - at]
        self._position += len(found)
        return len(found)


TAG = 128  # bytes of an ID3v1 tag, which decoders look for at the end


def agree(name: str, what: str, values: Iterable[Any]) -> None:
    """That all parts of a file have one rate, or one channel count."""
    found = list(dict.fromkeys(values))
    if len(found) > 1:
        raise ValueError(
            f"{name}: streams of different {what} end to end ({', '.join(map(str, found))}): split the file"
        )


class UnknownCodecError(ValueError):
    """A container that libsndfile knows, with a codec inside that it does not."""
