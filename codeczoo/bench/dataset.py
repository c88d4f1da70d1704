"""What a benchmark runs over: a folder, a glob, a manifest, or the embedded clips."""

from __future__ import annotations

import csv
import glob
import json
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
PATH_COLUMNS = ("path", "file", "filename", "audio", "audio_filepath", "wav")
CATEGORY_COLUMNS = ("category", "label", "domain")


@dataclass(frozen=True)
class Entry:
    """One clip of a data set, not read yet."""

    id: str
    path: Path
    category: str | None = None


def find_clips(
    dataset: str | Path | None, *, limit: int | None = None, shuffle: bool = False, seed: int = 0
) -> list[Entry]:
    """The clips of `dataset`: a folder (searched to its depths), a glob, a manifest (.csv, .tsv, .jsonl), one file,
    or None for the embedded clips. In a fixed order: that of the manifest, or of sorted paths.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: a manifest without a column of paths, or with an id twice.
    """
    if dataset is None:
        from codeczoo.data import embedded_manifest

        entries = _manifest(embedded_manifest())
    else:
        entries = _resolve(str(dataset))
    if not entries:
        raise FileNotFoundError(f"{dataset}: no audio files there (of {' '.join(SUFFIXES)})")
    seen: dict[str, Path] = {}
    for entry in entries:
        if entry.id in seen:
            raise ValueError(f"{dataset}: two clips have the id {entry.id!r}: {seen[entry.id]} and {entry.path}")
        seen[entry.id] = entry.path
    if shuffle:
        random.Random(seed).shuffle(entries)
    return entries[:limit] if limit is not None else entries


def _resolve(dataset: str) -> list[Entry]:
    path = Path(dataset).expanduser()
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file() and p.suffix.lower() in SUFFIXES)
        return [Entry(str(p.relative_to(path).as_posix()), p) for p in files]
    if path.is_file() and path.suffix.lower() in (".csv", ".tsv", ".jsonl", ".json"):
        return _manifest(path)
    if path.is_file():
        return [Entry(path.name, path)]
    if glob.has_magic(dataset):
        paths = sorted(Path(p) for p in glob.glob(str(path), recursive=True) if Path(p).is_file())
        names = [p.name for p in paths]
        unique = len(set(names)) == len(names)
        return [Entry(p.name if unique else p.as_posix(), p) for p in paths]
    raise FileNotFoundError(f"{dataset}: no such folder, glob, manifest or audio file")


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
        category = next((str(row[c]) for c in CATEGORY_COLUMNS if row.get(c)), None)
        entries.append(Entry(str(row.get("id") or row[column]), path.parent / str(row[column]), category))
    return entries


def _json_row(path: Path, number: int, line: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {number}: not JSON ({error.msg})") from error
    if not isinstance(row, dict):
        raise ValueError(f"{path}, line {number}: a row is a JSON object; this is {type(row).__name__}")
    return row
