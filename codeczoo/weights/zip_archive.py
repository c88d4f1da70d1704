"""Checkpoints that are published inside a zip archive: their files, unpacked into the cache."""

from __future__ import annotations

import errno
import hashlib
import logging
import lzma
import os
import shutil
import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

log = logging.getLogger(__name__)

MOST_GROWTH = 100  # times that a member may grow when it is unpacked; one of weights hardly does
# What Python's zipfile raises on damaged archives. (OSError: where a place in the file cannot be.)
ZIP_ERRORS: tuple[type[Exception], ...] = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError, OverflowError,
    struct.error, OSError,
)  # fmt: skip
UNPACK_BLOCK = 1 << 20  # bytes copied at once


def unpack(archive: Path, members: Sequence[str], cache: Path) -> list[Path]:
    """Unpack members of a zip archive into a folder in `cache`, again only if the archive's size or time has changed.

    Args:
        members: their paths in the archive, or the ends of those: "vocoder/v1/model.pkl" finds
            "exp/vocoder/v1/model.pkl".

    Raises:
        ValueError: not a whole zip archive, or a member is not in it; the message names both.
    """
    real = archive.resolve()
    stat = real.stat()
    mark = hashlib.sha256(f"{real} {stat.st_size} {stat.st_mtime_ns}".encode()).hexdigest()[:16]
    paths = [cache / mark / member for member in members]
    if all(path.is_file() for path in paths):
        return paths
    try:
        with zipfile.ZipFile(archive) as content:
            for member, path in zip(members, paths, strict=True):
                _unpack_one(content, _find(content.namelist(), member), path)
    except ZIP_ERRORS as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise  # of the disk
        raise ValueError(f"{archive}: not a whole zip archive ({error})") from error
    except LookupError as error:
        raise ValueError(f"{archive}: there is no {error.args[0]} in this archive") from None
    log.info("%d files of %s unpacked into %s", len(paths), archive, cache / mark)
    return paths


def _find(names: Sequence[str], member: str) -> str:
    """The full path of a member. (macOS adds entries with the same names and other content: those are skipped.)"""
    found = [name for name in names if f"/{name}".endswith(f"/{member}") and not name.startswith("__MACOSX/")]
    if not found:
        raise LookupError(member)
    return min(found, key=len)


def _unpack_one(content: zipfile.ZipFile, name: str, path: Path) -> None:
    info = content.getinfo(name)
    if info.file_size > MOST_GROWTH * max(info.compress_size, 1):
        raise zipfile.BadZipFile(f"{name} would grow from {info.compress_size} to {info.file_size} bytes")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with content.open(name) as source, partial.open("wb") as target:
            shutil.copyfileobj(source, target, UNPACK_BLOCK)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
