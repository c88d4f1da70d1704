"""Data sets of files: a folder, a glob, a manifest, one file, or the embedded clips."""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from codeczoo.base.audio_files.containers import SUFFIXES as SUFFIXES
from codeczoo.data.folders import is_of_finder, walk
from codeczoo.data.manifests import MANIFESTS, RECORDINGS, SEGMENTS, is_manifest, read_manifest
from codeczoo.data.source import Content, Entry, ListSource
from codeczoo.data.transcripts import OF_LIBRISPEECH, transcripts_in

__all__ = ["MANIFESTS", "SUFFIXES", "FileSource", "embedded", "find_files", "is_clip_name"]

log = logging.getLogger(__name__)


class FileSource(ListSource):
    """Audio files; an entry's key is its path, its address, or a segment of one.

    Args:
        listed: a manifest lists the clips; else they are the files that `name` names.
    """

    def __init__(self, name: str, entries: Iterable[Entry], listed: bool = False) -> None:
        super().__init__(name, entries)
        self.listed = listed

    def read(self, entry: Entry) -> Content:
        entry.check_readable()
        return entry.key


def embedded() -> FileSource:
    """The clips that come with the package."""
    from codeczoo.data.embedded import embedded_manifest

    return FileSource("embedded clips", read_manifest(embedded_manifest()), listed=True)


def find_files(dataset: str, audio_column: str | None = None, id_column: str | None = None) -> FileSource | None:
    """A folder (searched to its depths), a glob, a manifest or one file; None if it is none of them. A folder without
    audio that holds Kaldi's `wav.scp` is what its `segments` list, or that.

    Clips are in the manifest's order, or sorted by path.

    Args:
        audio_column, id_column: of a manifest, as `read_manifest` takes them.

    Raises:
        FileNotFoundError: a folder or glob without audio files.
        ValueError: a manifest that cannot be read, without rows, without a column of paths, or with an id twice; a
            column of what has none.
    """
    path = Path(dataset).expanduser()
    entries: list[Entry]
    manifest = path if path.is_file() and is_manifest(path) else None
    if path.is_dir():
        entries = _entries_below(path)
        if (path / RECORDINGS).is_file():
            if entries:
                log.warning("%s: it holds audio files; the %s beside them is left out", dataset, RECORDINGS)
            else:
                manifest = next(p for p in (path / SEGMENTS, path / RECORDINGS) if p.is_file())
    elif path.is_file():
        entries = [_entry(path.name, path)]
    elif glob.has_magic(dataset):
        paths = sorted(Path(p) for p in glob.glob(str(path), recursive=True) if Path(p).is_file())
        paths = [p for p in paths if not is_of_finder(p.name, p)]
        names = [p.name for p in paths]
        unique = len(set(names)) == len(names)
        entries = [_entry(p.name if unique else p.as_posix(), p) for p in paths]
    else:
        return None
    if manifest is not None:
        return FileSource(dataset, read_manifest(manifest, audio_column, id_column), listed=True)
    for option, value in (("--audio-column", audio_column), ("--id-column", id_column)):
        if value:
            raise ValueError(f"{dataset}: {option} does not go with this form of data set: files have no columns")
    if not entries:
        raise FileNotFoundError(f"{dataset}: no audio files there (of {' '.join(SUFFIXES)})")
    return FileSource(dataset, entries)


def is_clip_name(name: str) -> bool:
    """Whether a file's name is one of audio."""
    return os.path.splitext(name)[1].lower() in SUFFIXES


def _entries_below(folder: Path) -> list[Entry]:
    """The audio files of a folder, sorted, with what LibriSpeech's `*.trans.txt` beside them say."""
    found = sorted(walk(folder, lambda name: is_clip_name(name) or name.endswith(OF_LIBRISPEECH)))
    clips = [file for file in found if is_clip_name(file.parts[-1])]
    folders = {os.path.dirname(file.path) for file in found if file.parts[-1].endswith(OF_LIBRISPEECH)}
    said = {folder: transcripts_in(Path(folder)) for folder in folders}
    return [
        Entry("/".join(parts), Path(path), None, parts[-1], transcript=_said_of(path, said)) for parts, path in clips
    ]


def _said_of(path: str, said: Mapping[str, Mapping[str, str]]) -> str | None:
    folder, name = os.path.split(path)
    return said[folder].get(os.path.splitext(name)[0]) if folder in said else None


def _entry(name: str, path: Path) -> Entry:
    return Entry(name, path, None, path.name)
