"""Files below a folder, found by one look into each folder: data sets have millions of them."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

log = logging.getLogger(__name__)

APPLE_DOUBLE = b"\x00\x05\x16\x07"  # what files begin with in which macOS keeps a file's attributes


class Found(NamedTuple):
    """A file below a folder. They sort as `pathlib` sorts paths: by their parts.

    Attributes:
        parts: the folders below the one that was searched, and the name; path: of the file, with that folder.
    """

    parts: tuple[str, ...]
    path: str


def walk(folder: Path, wanted: Callable[[str], bool]) -> Iterator[Found]:
    """The files below a folder whose names are `wanted`, in no certain order; a link that leads nowhere is one, what
    macOS keeps beside files is none. Links to folders are not followed; a folder that may not be read is left out,
    with a warning."""
    todo: list[tuple[str, tuple[str, ...]]] = [(str(folder), ())]
    while todo:
        path, parts = todo.pop()
        try:
            with os.scandir(path) as items:
                for item in items:
                    if item.is_dir(follow_symlinks=False):
                        todo.append((item.path, (*parts, item.name)))
                    elif wanted(item.name) and _is_file(item) and not is_of_finder(item.name, item.path):
                        yield Found((*parts, item.name), item.path)
        except PermissionError as error:
            log.warning("%s: what is in it is left out: %s", path, error.strerror)


def _is_file(item: os.DirEntry[str]) -> bool:
    """Whether an item is a file or leads to one, or leads nowhere: a clip that fails, and not one that is passed
    over."""
    return item.is_file() or (item.is_symlink() and not os.path.exists(item.path))


def is_of_finder(name: str, path: str | Path) -> bool:
    """Whether a file is one in which macOS keeps the attributes of another (`._talk.wav` beside `talk.wav`)."""
    if not name.startswith("._"):
        return False
    try:
        with open(path, "rb") as file:
            return file.read(len(APPLE_DOUBLE)) == APPLE_DOUBLE
    except OSError:
        return False
