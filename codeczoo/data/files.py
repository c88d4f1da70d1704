"""Data sets of files: a folder, a glob, a manifest, one file, or the embedded clips."""

from __future__ import annotations

import csv
import glob
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from codeczoo.data.source import Content, Entry, ListSource, category_of, speaker_of

SUFFIXES = (
    ".wav",
    ".flac",
    ".ogg",
    ".oga",
    ".opus",
    ".mp3",
    ".aiff",
    ".aif",
    ".au",
    ".caf",
    ".w64",
    ".m4a",
    ".aac",
)
MANIFESTS = (".csv", ".tsv", ".jsonl", ".json")
PATH_COLUMNS = ("path", "file", "filename", "audio", "audio_filepath", "wav")


class FileSource(ListSource):
    """Audio files; an entry's key is its path."""

    def read(self, entry: Entry) -> Content:
        return entry.key


def embedded() -> FileSource:
    """The clips that come with the package."""
    from codeczoo.data.embedded import embedded_manifest

    return FileSource("embedded clips", _manifest(embedded_manifest()))


def find_files(dataset: str) -> FileSource | None:
    """A folder (searched to its depths), a glob, a manifest (.csv, .tsv, .jsonl) or one file; None if it is none of
    them. Clips are in the manifest's order, or sorted by path.

    Raises:
        FileNotFoundError: a folder or glob without audio files.
        ValueError: a manifest without a column of paths, or with an id twice.
    """
    path = Path(dataset).expanduser()
    entries: list[Entry]
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file() and p.suffix.lower() in SUFFIXES)
        entries = [_entry(p.relative_to(path).as_posix(), p) for p in files]
    elif path.is_file() and path.suffix.lower() in MANIFESTS:
        entries = _manifest(path)
    elif path.is_file():
        entries = [_entry(path.name, path)]
    elif glob.has_magic(dataset):
        paths = sorted(Path(p) for p in glob.glob(str(path), recursive=True) if Path(p).is_file())
        names = [p.name for p in paths]
        unique = len(set(names)) == len(names)
        entries = [_entry(p.name if unique else p.as_posix(), p) for p in paths]
    else:
        return None
    if not entries:
        raise FileNotFoundError(f"{dataset}: no audio files there (of {' '.join(SUFFIXES)})")
    return FileSource(dataset, entries)


def _entry(name: str, path: Path, category: str | None = None, speaker: str | None = None) -> Entry:
    return Entry(name, path, category, path.name, speaker=speaker)


def _manifest(path: Path) -> list[Entry]:
    """Rows of a manifest; paths are relative to it."""
    text = path.read_text("utf-8-sig")
    rows: Iterable[Mapping[str, Any]]
    if path.suffix.lower() in (".csv", ".tsv"):
        rows = csv.DictReader(text.splitlines(), delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
    else:
        rows = [_json_row(path, i, line) for i, line in enumerate(text.splitlines(), 1) if line.strip()]
    entries = []
    for number, row in enumerate(rows, 1):
        column = next((c for c in PATH_COLUMNS if row.get(c)), None)
        if column is None:
            raise ValueError(f"{path}, row {number}: no path in any of the columns {', '.join(PATH_COLUMNS)}")
        name = str(row.get("id") or row[column])
        entries.append(_entry(name, path.parent / str(row[column]), category_of(row), speaker_of(row)))
    return entries


def _json_row(path: Path, number: int, line: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {number}: not JSON ({error.msg})") from error
    if not isinstance(row, dict):
        raise ValueError(f"{path}, line {number}: a row is a JSON object; this is {type(row).__name__}")
    return row
