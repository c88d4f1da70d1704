"""Manifests: files that list clips, as rows with a path, and an id, a category and a segment if they like.

CSV, TSV and JSON; NeMo's, Common Voice's, SpeechBrain's and fairseq's forms of them; lists of paths; Kaldi's `wav.scp`
and `segments`. Each row is a clip; one that names none fails by itself, and what cannot be read as rows is an error.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from codeczoo.base.audio_files.containers import SUFFIXES
from codeczoo.data.manifest_text import Row, lines_of, read_json, read_table, read_text
from codeczoo.data.segments import OF_NEMO, SEGMENT_COLUMNS, segment_of, short
from codeczoo.data.source import (
    CATEGORY_COLUMNS,
    OTHER_IDS,
    ROW,
    SPEAKER_COLUMNS,
    TRANSCRIPT_COLUMNS,
    Entry,
    Segment,
    category_of,
    speaker_of,
    transcript_of,
)
from codeczoo.data.transcripts import OF_KALDI, read_transcripts

TABLES = (".csv", ".tsv")
JSON = (".jsonl", ".json")
LISTS = (".txt", ".lst", ".list")
MANIFESTS = (*TABLES, *JSON, *LISTS, ".scp")
SEGMENTS = "segments"  # Kaldi's name of a file of them
RECORDINGS = "wav.scp"  # and of the file of recordings beside it
PATH_COLUMNS = (
    "path", "file", "filename", "file_name", "audio", "audio_filepath", "audio_path", "audio_file", "wav", "wav_path",
    "filepath", "file_path",
)  # fmt: skip


@dataclass(frozen=True)
class Listed:
    """A clip that a manifest lists.

    Attributes:
        place: in the manifest, as "line 3".
        id: empty = its path, or its line where it has none.
        key: of its entry: a path, an address, samples, or a segment.
        text: the path as it is written.
        transcript: what is said in the clip.
        failure: why there is none.
    """

    place: str
    id: str = ""
    key: Any = None
    text: str = ""
    category: str | None = None
    speaker: str | None = None
    failure: str | None = None
    transcript: str | None = None


def is_manifest(path: Path) -> bool:
    """Whether a file is read as a manifest, by its name."""
    return path.suffix.lower() in MANIFESTS or path.name == SEGMENTS


def read_manifest(path: Path, audio_column: str | None = None, id_column: str | None = None) -> list[Entry]:
    """The clips of a manifest, in its order. Paths are relative to it.

    Args:
        audio_column: the column of paths; None = the first of PATH_COLUMNS that a row fills.
        id_column: the column of ids; `ROW` numbers the rows; None = "id". Where it is empty, the path is the id, with
            the seconds of a segment: `talk.wav@1.5-4`.

    Raises:
        ValueError: text that cannot be read, no rows, no such column, an id twice. The message names the line.
    """
    if path.suffix.lower() in (*TABLES, *JSON):
        listed = _of_rows(path, audio_column, id_column)
    else:
        if audio_column or id_column not in (None, ROW):
            option = "--audio-column" if audio_column else "--id-column"
            raise ValueError(f"{path}: {option} does not go with this form of manifest: it has no names of columns")
        listed = _of_lines(path)
    if not listed:
        raise ValueError(f"{path}: there are no rows in it")
    entries = []
    places: dict[str, str] = {}
    for number, clip in enumerate(listed):
        id_ = f"{path.stem}/{number}" if id_column == ROW else clip.id or _default_id(path, clip)
        if id_ in places:
            raise ValueError(f"{path}: two clips have the id {id_!r}: {places[id_]} and {clip.place}; {OTHER_IDS}")
        places[id_] = clip.place
        place = f"{path.name}, {clip.place}"
        if clip.failure is not None:
            failure = f"{place}: {clip.failure}"
            entries.append(Entry(id_, None, clip.category, place, speaker=clip.speaker, failure=failure))
        else:
            origin = re.split(r"[/\\]", clip.text)[-1] or place
            entries.append(
                Entry(id_, clip.key, clip.category, origin, speaker=clip.speaker, transcript=clip.transcript)
            )
    return entries


def _default_id(path: Path, clip: Listed) -> str:
    if not clip.text:
        return f"{path.name}:{clip.place.split()[-1]}"
    if isinstance(clip.key, Segment) and clip.key.offset is not None:
        begin, duration = clip.key.offset, clip.key.duration
        return f"{clip.text}@{_seconds(begin)}-{'' if duration is None else _seconds(begin + duration)}"
    return clip.text


def _seconds(value: float) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".")


# -- CSV, TSV and JSON --------------------------------------------------------------------------


def _of_rows(path: Path, audio_column: str | None, id_column: str | None) -> list[Listed]:
    """The clips of a table."""
    text = read_text(path)
    wanted = [audio_column] if audio_column else PATH_COLUMNS
    if path.suffix.lower() in TABLES:
        rows = _of_fairseq(path, text)
        if rows is None:
            is_path = lambda cell: cell.lower().endswith(SUFFIXES)  # noqa: E731
            rows = read_table(path, text, lambda name: name in wanted or _plain(name) in wanted, is_path)
    else:
        rows = read_json(path, text)
    found: dict[str, None] = dict.fromkeys(name for row in rows for name in row.values)
    names = {_plain(name): name for name in reversed(found)}  # of two columns that differ in case, the first one
    paths = [audio_column] if audio_column in found else [names[name] for name in PATH_COLUMNS if name in names]
    if (rows and not paths) or (audio_column and audio_column not in found):
        asked = f"no column {audio_column!r}, which --audio-column names" if audio_column else "no column of paths"
        raise ValueError(
            f"{path}: {asked}; its columns: {', '.join(map(repr, found)) or 'none'}; those that are known: "
            f"{', '.join(PATH_COLUMNS)}; --audio-column names another"
        )
    if rows and id_column not in (None, ROW) and id_column not in found:
        raise ValueError(
            f"{path}: no column {id_column!r}, which --id-column names; its columns: {', '.join(map(repr, found))}"
        )
    if {"start", "stop"} <= names.keys():
        raise ValueError(
            f"{path}: the columns start and stop hold samples in some manifests and seconds in others: give offset and "
            "duration, or start and end, in seconds"
        )
    ids = names.get("id") if id_column is None else None if id_column == ROW else id_column
    others = (*SEGMENT_COLUMNS, *CATEGORY_COLUMNS, *SPEAKER_COLUMNS, *TRANSCRIPT_COLUMNS)
    columns = _Columns(paths, ids, {name: names[name] for name in others if name in names})
    folder = _Folder(path.parent, clips_of_common_voice="client_id" in names and "path" in names)
    return [_listed(row, columns, folder) for row in rows]


def _plain(name: str) -> str:
    """A column's name as PATH_COLUMNS spells it."""
    return name.strip().lower().replace(" ", "_")


@dataclass(frozen=True)
class _Columns:
    """Names of columns: of paths, in order of preference; of ids; and of what else is read, as they are spelt here."""

    paths: Sequence[str]
    id: str | None
    others: Mapping[str, str]


def _listed(row: Row, columns: _Columns, folder: _Folder) -> Listed:
    """One row as a clip."""
    values = row.values
    id_ = values.get(columns.id) if columns.id else None
    id_ = "" if id_ is None else str(id_)
    others = {name: values.get(spelt) for name, spelt in columns.others.items()}
    category, speaker = category_of(others), speaker_of(others)
    column = next((name for name in columns.paths if values.get(name) not in (None, "", {}, [])), None)
    value = None if column is None else values[column]
    if column is None or (isinstance(value, str) and not value.strip()):
        failure = f"no path in the column {' or '.join(columns.paths)}"
        return Listed(row.place, id_, category=category, speaker=speaker, failure=failure)
    if isinstance(value, dict) and value.get("array") is not None and "sampling_rate" in value:
        return Listed(row.place, id_, value, category=category, speaker=speaker, transcript=transcript_of(others))
    text = value.get("path") if isinstance(value, dict) else value
    if not isinstance(text, str) or not text:
        failure = f"the column {column!r} holds no path but {short(value)}"
        return Listed(row.place, id_, category=category, speaker=speaker, failure=failure)
    key: Any = folder.find(text)
    try:
        segment = segment_of(others, _plain(column) == OF_NEMO)
    except ValueError as error:
        return Listed(row.place, id_, None, text, category, speaker, str(error))
    if segment is not None:
        key = Segment(key, *segment)
    return Listed(row.place, id_, key, text, category, speaker, transcript=transcript_of(others))


class _Folder:
    """Where the paths of a manifest begin."""

    def __init__(self, folder: Path, clips_of_common_voice: bool = False, or_here: bool = False) -> None:
        self._folders = [folder]
        if clips_of_common_voice and (folder / "clips").is_dir():
            self._folders.append(folder / "clips")
        if or_here:  # of lists and Kaldi's files, which name what they list from where they were made
            self._folders.append(Path())

    def find(self, text: str) -> str | Path:
        """The recording that `text` names. An address is left as it is; so is the path of a file that is not there."""
        if "://" in text:
            return text
        spellings = [text, text.strip()]
        if os.sep != "\\" and "\\" in text:
            spellings.append(text.strip().replace("\\", "/"))
        candidates = [folder / spelling for spelling in dict.fromkeys(spellings) for folder in self._folders]
        if text.strip().startswith("~"):
            candidates.append(_at_home(text.strip()))
        if len(candidates) == 1:
            return candidates[0]
        return next((path for path in candidates if _is_there(path)), candidates[0])


def _at_home(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError:  # nobody of that name
        return Path(text)


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that is too long, say
        return False


def _of_fairseq(path: Path, text: str) -> list[Row] | None:
    """Rows of a TSV that fairseq's tools write: a folder, then paths in it, each with a number of samples."""
    lines = list(lines_of(text))
    if path.suffix.lower() != ".tsv" or len(lines) < 2 or "\t" in lines[0][1] or _plain(lines[0][1]) in PATH_COLUMNS:
        return None
    cells = [(number, line.split("\t")) for number, line in lines[1:]]
    if not all(len(row) == 2 and row[1].strip().isdigit() for _, row in cells):
        return None
    return [Row(f"line {number}", {"path": f"{lines[0][1].strip()}/{name}", "id": name}) for number, (name, _) in cells]


# -- lists and Kaldi's files --------------------------------------------------------------------


def _of_lines(path: Path) -> list[Listed]:
    """The clips of a file without columns."""
    if path.name == SEGMENTS or path.suffix.lower() == ".scp":
        listed = list(_kaldi_segments(path) if path.name == SEGMENTS else _kaldi_recordings(path))
        beside = path.parent / OF_KALDI
        said = read_transcripts(beside) if beside.is_file() else {}
        return [replace(clip, transcript=said.get(clip.id)) for clip in listed]
    folder = _Folder(path.parent, or_here=True)
    lines = lines_of(read_text(path))
    return [Listed(f"line {number}", "", folder.find(line), line.strip()) for number, line in lines]


def _kaldi_recordings(path: Path) -> Iterator[Listed]:
    """Lines of an id and a path. A command in place of the path is not run, and archives of Kaldi are not read."""
    folder = _Folder(path.parent, or_here=True)
    for number, line in lines_of(read_text(path)):
        id_, *rest = line.strip().split(None, 1)
        text = rest[0] if rest else ""
        failure = None
        if not text:
            failure = "no path behind the id"
        elif text.endswith("|"):
            failure = f"a command, which is not run: write its audio to a file ({short(text)})"
        elif re.search(r"\.ark:\d+$", text):
            failure = f"an archive of Kaldi, which is not read: write its audio to files ({short(text)})"
        key = folder.find(text) if failure is None else None
        yield Listed(f"line {number}", id_, key, text, failure=failure)


def _kaldi_segments(path: Path) -> Iterator[Listed]:
    """Lines of an id, a recording of the `wav.scp` beside it, where the segment begins and where it ends, in seconds
    (-1 = with the recording).

    Raises:
        FileNotFoundError: no `wav.scp`.
        ValueError: a line of another form.
    """
    beside = path.parent / RECORDINGS
    if not beside.is_file():
        raise FileNotFoundError(f"{path}: no {RECORDINGS} beside it, which says where its recordings are")
    recordings: dict[str, Listed] = {}
    for recording in _kaldi_recordings(beside):
        if recording.id in recordings:
            raise ValueError(
                f"{beside}: two recordings have the id {recording.id!r}: {recordings[recording.id].place} and "
                f"{recording.place}"
            )
        recordings[recording.id] = recording
    for number, line in lines_of(read_text(path)):
        words = line.split()
        if len(words) != 4:
            what = "a channel, which is not read" if len(words) == 5 else f"{len(words)} words"
            raise ValueError(
                f"{path}, line {number}: {what}: a line holds an id, a recording, and the seconds of begin and end"
            )
        id_, name, begin, end = words
        yield _kaldi_segment(f"line {number}", id_, name, {"start": begin, "end": end}, recordings.get(name))


def _kaldi_segment(place: str, id_: str, name: str, times: Mapping[str, str], recording: Listed | None) -> Listed:
    if recording is None:
        return Listed(place, id_, failure=f"{RECORDINGS} has no recording {name!r}")
    if recording.failure is not None:
        return Listed(place, id_, failure=f"{RECORDINGS}, {recording.place}: {recording.failure}")
    try:
        if times["end"] in ("-1", "-1.0"):
            segment = segment_of({"offset": times["start"]}, of_nemo=False)
        else:
            segment = segment_of(times, of_nemo=False)
    except ValueError as error:
        return Listed(place, id_, failure=str(error))
    assert segment is not None
    return Listed(place, id_, Segment(recording.key, *segment), recording.text)
