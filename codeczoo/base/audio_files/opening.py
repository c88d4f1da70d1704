"""Every form of a file as one that is open and can seek."""

from __future__ import annotations

import contextlib
import io
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import soundfile as sf

from codeczoo.base.audio_files.parts import File
from codeczoo.base.errors import first_line

ADDRESS = re.compile(r"(?i)([a-z][a-z0-9+.-]+)://")
BYTES = (bytes, bytearray, memoryview)


def is_address(text: str) -> bool:
    """Whether `text` is an address as fsspec reads them: `https://…`, `file://…`, `s3://…`."""
    return ADDRESS.match(text) is not None


@contextlib.contextmanager
def opened(source: Any) -> Iterator[File]:
    """`source` as a file: a path, an address, a file's bytes, a file open for reading, or an open SoundFile.

    What cannot seek (a pipe, the answer of a web server) is read into memory. A file that was open is read from its
    start; a SoundFile is left at the place where it was.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: the file is empty; the message names it.
    """
    with contextlib.ExitStack() as stack:
        if isinstance(source, sf.SoundFile):
            source = stack.enter_context(_below(source))
        if isinstance(source, str | os.PathLike):
            name = os.fspath(source)
            if isinstance(name, str) and is_address(name):
                handle: BinaryIO = io.BytesIO(_fetched(name))
            else:
                handle = stack.enter_context(_path(os.fsdecode(name)))
                name = os.fsdecode(name)
        elif isinstance(source, BYTES):
            name, handle = "<bytes>", io.BytesIO(source)
        else:
            name, handle = _name(source), source
        try:
            handle.seek(0)
            handle.seek(0, os.SEEK_END)
            size = handle.tell()
        except (AttributeError, OSError):  # io.UnsupportedOperation is an OSError
            handle = io.BytesIO(_all_of(handle, name))
            size = handle.getbuffer().nbytes
        if size == 0:
            raise ValueError(f"{name}: the file is empty")
        yield File(str(name), handle, size)


def _name(handle: Any) -> str:
    if isinstance(handle, io.BytesIO):
        return "<bytes>"
    found = getattr(handle, "name", None)
    return str(found) if isinstance(found, str | bytes | os.PathLike) and str(found) else f"<{type(handle).__name__}>"


def _path(name: str) -> BinaryIO:
    path = Path(name).expanduser()
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(f"no audio file at {name!r}") from error
    except ValueError as error:  # a null byte
        raise ValueError(f"no path: {name!r} ({error})") from error
    if stat.S_ISDIR(mode):
        raise FileNotFoundError(f"no audio file at {name!r}: it is a folder")
    return path.open("rb")


def _all_of(handle: Any, name: str) -> bytes:
    data = handle.read()
    if not isinstance(data, BYTES):
        raise TypeError(f"{name}: a file of audio is opened for bytes, open(path, 'rb'); it gave {type(data).__name__}")
    return bytes(data)


def _fetched(address: str) -> bytes:
    """What stands at an address."""
    import fsspec

    scheme = address.partition("://")[0]
    try:
        with fsspec.open(address, "rb") as file:
            return file.read()
    except ImportError as error:
        raise ValueError(
            f"{address}: addresses of {scheme}:// are read by fsspec, which says: {error}. "
            "For http(s): pip install 'codeczoo[files]'"
        ) from error
    except FileNotFoundError as error:
        cause: BaseException | None = error
        while isinstance(cause, FileNotFoundError):  # so fsspec names whatever goes wrong over HTTP
            cause = cause.__cause__
        why = f" ({first_line(cause)})" if cause is not None else ""
        raise FileNotFoundError(f"no audio file at {address!r}{why}") from error
    except Exception as error:  # fsspec's file systems raise their libraries' own errors
        raise OSError(f"{address}: fsspec could not read it ({first_line(error)})") from error


@contextlib.contextmanager
def _below(file: sf.SoundFile) -> Iterator[Any]:
    """The file that an open SoundFile reads, which is then where it was again."""
    if file.closed:
        raise ValueError(f"{file.name}: the SoundFile is closed")
    if "r" not in file.mode:
        raise ValueError(f"{file.name}: the SoundFile is open for writing")
    below = file.name
    if file.format == "RAW":
        raise ValueError(
            f"{below}: samples without a header: pass the array, SoundFile.read().T, and its rate, sample_rate="
        )
    if isinstance(below, str | bytes | os.PathLike):
        yield os.fsdecode(below)
    elif isinstance(below, int):
        place = os.lseek(below, 0, os.SEEK_CUR)
        with os.fdopen(os.dup(below), "rb") as handle:
            yield handle
        os.lseek(below, place, os.SEEK_SET)
    else:
        place = below.tell()
        try:
            yield below
        finally:
            below.seek(place)
