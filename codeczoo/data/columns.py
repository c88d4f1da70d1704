"""Tables read by pyarrow: which column is the audio, and a clip out of one cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from codeczoo.data.segments import OF_NEMO, SEGMENT_COLUMNS, segment_of
from codeczoo.data.source import (
    CATEGORY_COLUMNS,
    OTHER_IDS,
    ROW,
    SPEAKER_COLUMNS,
    TRANSCRIPT_COLUMNS,
    Content,
    Entry,
    Segment,
    category_of,
    speaker_of,
    transcript_of,
)

ID_COLUMNS = ("id", "__key__")
RATE_COLUMNS = ("sampling_rate", "sample_rate")


@dataclass(frozen=True)
class Columns:
    """The columns that are read.

    Attributes:
        audio: the clip: its bytes, its path, or its samples.
        rate: the sample rate of bare samples; None if the clip has it.
        id: the clip's id; None = the row's number.
        categories: columns that may name the category, in order of preference.
        speakers: the same, of the speaker.
        transcripts: the same, of what is said.
        segment: the columns of times in seconds, beside a column that holds paths.
    """

    audio: str
    rate: str | None
    id: str | None
    categories: tuple[str, ...]
    speakers: tuple[str, ...] = ()
    transcripts: tuple[str, ...] = ()
    segment: tuple[str, ...] = ()

    @property
    def description_columns(self) -> list[str]:
        """The columns of id, category, speaker and transcript."""
        return list(
            dict.fromkeys([*([self.id] if self.id else []), *self.categories, *self.speakers, *self.transcripts])
        )

    @property
    def audio_columns(self) -> list[str]:
        """The columns of the clip itself."""
        return [self.audio, *([self.rate] if self.rate else []), *self.segment]

    def entry(self, row: Mapping[str, Any], number: int, key: Any, split: str, several: bool, place: str = "") -> Entry:
        """A row as an entry.

        Args:
            row: its `description_columns`.
            number: of the row in its split.
            several: whether there are other splits. Ids then begin with the split, and the split is the category of
                a clip without one.
            place: human-readable, of the row.

        A row without an id is a clip that cannot be read.
        """
        place = place or f"{split}, row {number}"
        failure = None
        if self.id is None:
            id_ = f"{split}/{number}"
        elif row[self.id] in (None, ""):
            id_ = f"{split}/{number}"
            failure = f"{place}: the column {self.id!r} is empty; {OTHER_IDS}"
        else:
            id_ = f"{split}/{row[self.id]}" if several else str(row[self.id])
        category = category_of(row) if self.categories else split if several else None
        speaker, transcript = speaker_of(row), transcript_of(row) if self.transcripts else None
        return Entry(id_, key, category, place, failure=failure, speaker=speaker, transcript=transcript)


def choose_columns(
    name: str,
    schema: pa.Schema,
    declared: Sequence[str] = (),
    audio_column: str | None = None,
    id_column: str | None = None,
) -> Columns:
    """Which columns of a pyarrow schema to read.

    Args:
        declared: columns that the data set itself says are audio.
        audio_column: to read as audio, where that is not clear.
        id_column: with the names of the clips; `ROW` numbers them. None = one of ID_COLUMNS.

    Raises:
        ValueError: no or several columns of audio, or no such column.
    """
    types = {field.name: field.type for field in schema}
    listed = ", ".join(f"{column} ({_short(kind)})" for column, kind in types.items())
    rate = next((column for column in RATE_COLUMNS if column in types), None)
    if audio_column is not None:
        found = [audio_column]
        if audio_column not in types:
            raise ValueError(f"{name}: no column {audio_column!r}, which --audio-column names; its columns: {listed}")
    else:
        found = [c for c in types if c in declared] or [c for c, kind in types.items() if _holds_clips(kind)]
        found = found or [c for c, kind in types.items() if rate and _holds_samples(kind)]
    if len(found) != 1:
        what = "no column holds audio" if not found else f"several columns hold audio ({', '.join(found)})"
        raise ValueError(f"{name}: {what}; --audio-column names the one to read; its columns: {listed}")
    if id_column is None:
        id_column = next((c for c in ID_COLUMNS if c in types and _is_name(types[c])), None)
    elif id_column not in types and id_column != ROW:
        raise ValueError(f"{name}: no column {id_column!r}, which --id-column names; its columns: {listed}")
    return Columns(
        audio=found[0],
        rate=rate if _holds_samples(types[found[0]]) else None,
        id=id_column if id_column in types else None,
        categories=tuple(c for c in CATEGORY_COLUMNS if c in types and c != found[0] and _is_name(types[c])),
        speakers=tuple(c for c in SPEAKER_COLUMNS if c in types and c != found[0] and _is_name(types[c])),
        transcripts=tuple(c for c in TRANSCRIPT_COLUMNS if c in types and c != found[0] and _is_text(types[c])),
        segment=tuple(c for c in SEGMENT_COLUMNS if c in types and c != found[0])
        if _may_be_path(types[found[0]])
        else (),
    )


def description_rows(
    rows: pa.Table, columns: Columns, classes: Mapping[str, Sequence[str]] | None = None
) -> list[dict[str, Any]]:
    """The `description_columns` of each row; numbers of `classes` become their names."""
    descriptions = (
        rows.select(columns.description_columns).to_pylist()
        if columns.description_columns
        else [{} for _ in range(len(rows))]
    )
    for column, names in (classes or {}).items():
        for row in descriptions:
            if isinstance(row.get(column), int) and 0 <= row[column] < len(names):
                row[column] = names[row[column]]
    return descriptions


def clip_of(row: pa.Table, columns: Columns) -> Content:
    """The clip in a table of one row, not decoded.

    Raises:
        ValueError: there is none in it, or its times are none.
    """
    rate = row.column(columns.rate)[0].as_py() if columns.rate else None
    content = content_of(row.column(columns.audio)[0], rate)
    path = content["path"] if isinstance(content, dict) and content.get("bytes", b"") is None else content
    if not isinstance(path, str):  # bytes and samples are the clip itself
        return content
    times = {name: row.column(name)[0].as_py() for name in columns.segment}
    segment = segment_of(times, columns.audio == OF_NEMO)
    return content if segment is None else Segment(path, *segment)


def content_of(cell: pa.Scalar, rate: int | None = None) -> Content:
    """A clip out of a pyarrow scalar, not decoded.

    Raises:
        ValueError: there is none in it.
    """
    kind = cell.type
    if not cell.is_valid:
        raise ValueError("the row holds no audio")
    if pa.types.is_struct(kind):
        names = {field.name for field in kind}
        if "array" in names and cell["array"].is_valid:
            return content_of(cell["array"], cell["sampling_rate"].as_py() if "sampling_rate" in names else rate)
        held = {key: cell[key].as_py() for key in ("bytes", "path") if key in names}
        if held.get("bytes") is None and not held.get("path"):
            raise ValueError("the row holds no audio: neither bytes nor a path")
        return held
    if _is_list(kind):
        if rate is None:
            raise ValueError("the row has samples and no sampling rate")
        if _is_list(kind.value_type):  # channels first, as in every array of the package
            samples = np.array([channel.values.to_numpy(zero_copy_only=False) for channel in cell.values])
        else:
            samples = np.array(cell.values.to_numpy(zero_copy_only=False))
        return {"array": samples, "sampling_rate": rate}
    value = cell.as_py()
    if not value:
        raise ValueError("the row holds no audio: it is empty")
    return value


def _may_be_path(kind: pa.DataType) -> bool:
    return _is_text(kind) or (pa.types.is_struct(kind) and "path" in {field.name for field in kind})


def _holds_clips(kind: pa.DataType) -> bool:
    """Whether a type is that of an encoded clip, or of samples with their rate."""
    if pa.types.is_struct(kind):
        names = {field.name for field in kind}
        return "bytes" in names or {"array", "sampling_rate"} <= names
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)


def _holds_samples(kind: pa.DataType) -> bool:
    while _is_list(kind):
        kind = kind.value_type
        if pa.types.is_floating(kind):
            return True
    return False


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _is_name(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return _is_text(kind) or pa.types.is_integer(kind)


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _short(kind: pa.DataType) -> str:
    text = str(kind)
    return text if len(text) <= 60 else f"{text[:57]}..."
