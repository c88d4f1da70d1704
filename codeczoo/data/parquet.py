"""Parquet files with a column of audio: encoded clips, or samples beside a column of their rates.

A row group is read at once, from front to back, and the entries' keys hold the clips' bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from codeczoo.base.errors import first_line
from codeczoo.data.archives import ArchiveSource, archive_names
from codeczoo.data.columns import Columns, choose_columns, clip_of, description_rows
from codeczoo.data.inline import ReadFailure, to_inline_bytes
from codeczoo.data.source import OTHER_IDS, Entry

SPLIT_FILE = re.compile(r"(.+)-\d{5}-of-\d{5}")  # as the hub names a split's files


class ParquetSource(ArchiveSource):
    """Rows of Parquet files; the key of an entry is its file, row group and row; once read, the clip's bytes."""

    def __init__(self, name: str, parts: dict[str, list[Entry]], columns: Columns) -> None:
        super().__init__(name, parts, OTHER_IDS)
        self.columns = columns

    def _shard(self, shard: Path, entries: list[Entry]) -> Iterator[Entry]:
        with _opened(shard) as file:
            for group, members in groupby(entries, lambda entry: entry.key[1]):
                try:
                    rows = file.read_row_group(group, self.columns.audio_columns)
                except Exception as error:  # noqa: BLE001 (whatever pyarrow raises over broken bytes)
                    broken = ReadFailure(f"{shard}: row group {group} cannot be read ({first_line(error)})")
                    yield from (replace(entry, key=broken) for entry in members)
                    continue
                for entry in members:
                    clip = partial(clip_of, rows.slice(entry.key[2], 1), self.columns)
                    yield replace(entry, key=to_inline_bytes(clip))


def open_tables(
    name: str,
    shards: Sequence[Path],
    split: str | Sequence[str] | None = None,
    audio_column: str | None = None,
    id_column: str | None = None,
) -> ParquetSource:
    """All rows, in the order of the files; one row of each split in turn.

    Args:
        split: to read, where the files are named as `test-00000-of-00003.parquet`; None = all of them.
        audio_column, id_column: as `choose_columns` takes them.

    Raises:
        ValueError: a file that is not Parquet or broken, no or several columns of audio, no such split.
    """
    splits: dict[str, list[Path]] = {}
    for shard in shards:
        found = SPLIT_FILE.fullmatch(shard.stem)
        splits.setdefault(found[1] if found else "", []).append(shard)
    wanted = [split] if isinstance(split, str) else list(split or splits)
    for one in wanted:
        if one not in splits:
            raise ValueError(f"{name}: no split {one!r}; the files are of {', '.join(filter(None, splits)) or 'none'}")
    columns: Columns | None = None
    names = archive_names(shards)
    parts: dict[str, list[Entry]] = {one: [] for one in wanted}
    for one in wanted:
        for shard in splits[one]:
            with _opened(shard) as file:
                with _clearly(shard):
                    features, schema = _features(file), file.schema_arrow
                columns = columns or choose_columns(name, schema, _audio(features), audio_column, id_column)
                missing = {*columns.description_columns, *columns.audio_columns} - set(schema.names)
                if missing:
                    raise ValueError(f"{shard}: no column {', '.join(sorted(missing))}, which {shards[0]} has")
                with _clearly(shard):
                    rows = list(_index(shard, file, columns, features))
                split_or_file, before = (one, len(parts[one])) if one else (names[shard], 0)
                for number, (key, row) in enumerate(rows, before):
                    place = f"{shard.name}, row {number}"
                    parts[one].append(columns.entry(row, number, key, split_or_file, len(wanted) > 1, place))
    assert columns is not None
    return ParquetSource(name, parts, columns)


@contextmanager
def _clearly(shard: Path) -> Iterator[None]:
    """Whatever pyarrow raises over a broken file, as a ValueError that names it."""
    try:
        yield
    except Exception as error:
        raise ValueError(f"{shard}: broken, or not Parquet ({first_line(error)})") from error


@contextmanager
def _opened(shard: Path) -> Iterator[pq.ParquetFile]:
    with _clearly(shard):
        file = pq.ParquetFile(shard)
    with file:
        yield file


def _index(
    shard: Path, file: pq.ParquetFile, columns: Columns, features: Mapping[str, Any]
) -> Iterator[tuple[tuple[Path, int, int], dict[str, Any]]]:
    """The key of each row of a file, and its description columns."""
    classes = {column: kind["names"] for column, kind in features.items() if "names" in kind}
    for group in range(file.num_row_groups):
        if columns.description_columns:
            descriptions = description_rows(file.read_row_group(group, columns.description_columns), columns, classes)
        else:
            descriptions = [{}] * file.metadata.row_group(group).num_rows
        for i, row in enumerate(descriptions):
            yield (shard, group, i), row


def _features(file: pq.ParquetFile) -> dict[str, dict[str, Any]]:
    """The column types that the `datasets` library stored in the file, if it wrote it."""
    note: Any = (file.schema_arrow.metadata or {}).get(b"huggingface")
    try:
        features = json.loads(note)["info"]["features"] if note else {}
        return {name: kind for name, kind in features.items() if isinstance(kind, dict)}
    except (ValueError, LookupError, TypeError, AttributeError):
        return {}


def _audio(features: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return [name for name, kind in features.items() if kind.get("_type") == "Audio"]
