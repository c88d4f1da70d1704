"""`Source`: a data set as clips in a fixed order, and the bytes of each. `Entry`: one clip of it."""

from __future__ import annotations

import copy
import random
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from codeczoo.base.errors import printable

CATEGORY_COLUMNS = ("category", "label", "domain")
ROW = "row"  # --id-column row: number the rows
OTHER_IDS = f"--id-column names another column, and --id-column {ROW} numbers the rows"  # the way out, in errors


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a recording that is a clip of its own. It alone is read.

    Attributes:
        recording: a path or an address.
        offset: where it begins, in seconds; None = at the start.
        duration: how long it is, in seconds; None = to the end.
    """

    recording: str | Path
    offset: float | None = None
    duration: float | None = None


# One clip: a segment, or a form that `base.inputs.read_clips` takes (bytes are those of a file).
Content = str | Path | bytes | Mapping[str, Any] | Segment
SPEAKER_COLUMNS = ("speaker", "speaker_id", "client_id")
# What is said in a clip. Common Voice's name is sentence, SpeechBrain's wrd.
TRANSCRIPT_COLUMNS = ("transcript", "transcription", "text", "sentence", "wrd")


@dataclass(frozen=True, slots=True)
class Entry:
    """One clip of a data set, not read yet. A data set holds one a clip, so it is kept small.

    Attributes:
        id: unique in its data set. What UTF-8 cannot write (a file's name may hold any bytes) is escaped in it, and in
            category and origin.
        key: where its source finds it: a path, a row, a member of a shard, or its bytes. It is pickled to the readers.
        category: of the clip, where the data set has categories.
        origin: a human-readable place: a file's name, or an archive and a member.
        position: in the order of the data set; `data.batching` counts it.
        failure: why it cannot be read, where the data set itself says so (a row without a path); else None.
        speaker: of the clip, where the data set names speakers.
        transcript: what is said in the clip, where the data set tells; empty = nothing is.
    """

    id: str
    key: Any
    category: str | None = None
    origin: str = ""
    position: int = -1
    speaker: str | None = None
    failure: str | None = None
    transcript: str | None = None

    def __post_init__(self) -> None:
        for name in ("id", "category", "origin", "speaker", "transcript"):
            text = getattr(self, name)
            if text and not text.isascii():
                object.__setattr__(self, name, printable(text))

    def check_readable(self) -> None:
        """Raises a ValueError with `failure`, if it has one."""
        if self.failure is not None:
            raise ValueError(self.failure)


class Source(ABC):
    """A data set. It is pickled to the reader processes, so it holds paths and offsets, not open files or samples.

    Attributes:
        name: as the user gave it.
        count: number of clips that `entries` gives; None if unknown before all are read.
        estimates: names of the reconstructions that the data set holds beside each clip (`read_estimate`). These are
            measured without a codec.
    """

    name: str
    count: int | None = None
    estimates: tuple[str, ...] = ()

    @abstractmethod
    def entries(self) -> Iterator[Entry]:
        """All clips, in an order that is the same each time."""

    @abstractmethod
    def read(self, entry: Entry) -> Content:
        """One clip, not decoded.

        Raises:
            OSError, ValueError: it cannot be read; the message says why.
        """

    def read_estimate(self, entry: Entry, estimate: str) -> Content:
        """The reconstruction of a clip that the data set holds under one of the names in `estimates`.

        Raises:
            OSError, ValueError: it cannot be read, or is missing.
        """
        raise NotImplementedError

    def for_reading(self) -> Source:
        """This source without what only `entries` needs, to be sent to the machines of a cluster."""
        return self

    def facts(self) -> dict[str, Any]:
        """What identifies the data in the results: a revision, a split, a hash."""
        return {}


class ListSource(Source):
    """A data set whose entries fit into memory as a list. A subclass says how one is read."""

    def __init__(self, name: str, entries: Iterable[Entry], way_out: str = "") -> None:
        self.name = name
        self._entries = list(entries)
        self.count = len(self._entries)
        check_ids(name, self._entries, way_out)

    def entries(self) -> Iterator[Entry]:
        return iter(self._entries)

    def for_reading(self) -> Source:
        bare = copy.copy(self)
        bare._entries = []
        return bare

    def select(self, limit: int | None, shuffle: bool, seed: int) -> None:
        """Keep the first `limit` clips, after shuffling if `shuffle`."""
        if shuffle:
            random.Random(seed).shuffle(self._entries)
        self._entries = self._entries[:limit] if limit is not None else self._entries
        self.count = len(self._entries)


def check_ids(name: str, entries: Sequence[Entry], way_out: str = "") -> None:
    """Raise a ValueError if two clips have the same id, as their results could not be told apart."""
    seen: dict[str, Entry] = {}
    for entry in entries:
        if entry.id in seen:
            places = f"{seen[entry.id].origin} and {entry.origin}"
            raise ValueError(f"{name}: two clips have the id {entry.id!r}: {places}{way_out and f'; {way_out}'}")
        seen[entry.id] = entry


def category_of(row: Mapping[str, Any]) -> str | None:
    """The category that a row of a manifest or a data set names."""
    return next((str(row[c]) for c in CATEGORY_COLUMNS if row.get(c) not in (None, "")), None)


def speaker_of(row: Mapping[str, Any]) -> str | None:
    """The speaker that a row of a manifest or a data set names."""
    return next((str(row[c]) for c in SPEAKER_COLUMNS if row.get(c) not in (None, "")), None)


def transcript_of(row: Mapping[str, Any]) -> str | None:
    """What a row of a manifest or a data set says is spoken in the clip; a column that is there and empty = nothing."""
    filled = (row[c] for c in TRANSCRIPT_COLUMNS if isinstance(row.get(c), str) and row[c])
    return next(filled, "" if any(row.get(c) == "" for c in TRANSCRIPT_COLUMNS) else None)


def interleave(parts: Sequence[Iterable[Entry]]) -> Iterator[Entry]:
    """One entry of each part in turn, so that the first clips of a data set come from all of its splits."""
    iterators = [iter(part) for part in parts]
    while iterators:
        going = []
        for iterator in iterators:
            for entry in islice(iterator, 1):
                going.append(iterator)
                yield entry
        iterators = going
