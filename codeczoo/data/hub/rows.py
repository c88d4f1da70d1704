"""Splits of a data set that the `datasets` library opened: prepared ones, read row by row from this machine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import datasets
import numpy as np
import pyarrow.compute as pc

from codeczoo.data.columns import Columns, choose_columns, clip_of, description_rows
from codeczoo.data.source import OTHER_IDS, Content, Entry, Source, interleave

ORIGINAL = "original"  # in Codec-SUPERB's data sets of reconstructions, the split of the original clips
ID_PAGE_ROWS = 1000  # rows whose ids are read together


class HubSplits(Source):
    """Splits of one data set, one clip of each in turn.

    Args:
        parts: splits by name.
        split: to read; None = all of them.
        audio_column, id_column: as `choose_columns` takes them.
        limit: only that many clips.
        shuffle, seed: each split in a random order.
    """

    def __init__(
        self,
        name: str,
        parts: Mapping[str, Any],
        facts: Mapping[str, Any],
        split: str | Sequence[str] | None = None,
        audio_column: str | None = None,
        id_column: str | None = None,
        limit: int | None = None,
        shuffle: bool = False,
        seed: int = 0,
    ) -> None:
        self.name, self.limit, self.shuffle, self.seed = name, limit, shuffle, seed
        chosen = [split] if isinstance(split, str) else list(split or parts)
        check_splits(name, chosen, parts)
        if not split and ORIGINAL in parts:
            chosen, self.estimates = [ORIGINAL], tuple(one for one in parts if one != ORIGINAL)
        self.splits = tuple(dict.fromkeys(chosen))
        self.parts = {one: parts[one] for one in (*self.splits, *self.estimates)}
        self.columns = {
            one: _columns(f"{name} ({one})", part, audio_column, id_column) for one, part in self.parts.items()
        }
        self.classes = {one: _classes(part.features) for one, part in self.parts.items()}
        self._facts = {**facts, "splits": list(self.splits), "datasets": datasets.__version__}

    def entries(self) -> Iterator[Entry]:
        return islice(interleave([self._entries(split) for split in self.splits]), self.limit)

    def _entries(self, split: str) -> Iterator[Entry]:
        """One split."""
        raise NotImplementedError

    def _entry(self, split: str, row: Mapping[str, Any], number: int, key: Any) -> Entry:
        return self.columns[split].entry(row, number, key, split, len(self.splits) > 1)

    def _generator(self, split: str) -> np.random.Generator:
        return np.random.default_rng([self.seed, self.splits.index(split)])

    def facts(self) -> dict[str, Any]:
        return self._facts


class HubSource(HubSplits):
    """Splits that lie on this machine; an entry's key is its split and row."""

    def __init__(
        self, name: str, parts: Mapping[str, Any], facts: Mapping[str, Any], *args: Any, **options: Any
    ) -> None:
        super().__init__(name, parts, facts, *args, **options)
        if "revision" not in facts:  # a revision would identify them
            self._facts["fingerprints"] = {split: self.parts[split]._fingerprint for split in self.splits}
        self._rows: dict[str, dict[str, int]] = {}
        total = sum(len(self.parts[split]) for split in self.splits)
        if total == 0:
            raise ValueError(f"{name}: there are no rows in {', '.join(self.splits)}")
        self.count = total if self.limit is None else min(total, self.limit)
        for split in self.parts:
            self._check_ids(split)
        self._heard = {split: _arrow(part, self.columns[split].audio_columns) for split, part in self.parts.items()}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_rows": {}}  # each process builds its own index when it needs it

    def _check_ids(self, split: str) -> None:
        """Raise a ValueError if two clips have one id. Ids of different splits differ: they begin with the split."""
        column = self.columns[split].id
        if column is None:
            return
        ids = _arrow(self.parts[split], [column])[:].column(0)
        if pc.count_distinct(ids, mode="all").as_py() == len(ids):
            return
        counts = pc.value_counts(ids)
        repeated = (count["values"] for count in counts.filter(pc.greater(counts.field("counts"), 1)))
        twice = next((value for value in repeated if value.as_py() not in (None, "")), None)
        if twice is None:  # only rows without an id, each of which fails by itself
            return
        rows = [number for number, value in enumerate(ids) if value == twice][:2]
        raise ValueError(
            f"{self.name}: two clips of {split} have the {column} {twice.as_py()!r}: rows {rows[0]} and {rows[-1]}; "
            f"{OTHER_IDS}"
        )

    def _entries(self, split: str) -> Iterator[Entry]:
        part, columns = self.parts[split], self.columns[split]
        rows = _arrow(part, columns.description_columns)
        order: Sequence[int] | np.ndarray = range(len(part))
        if self.shuffle:
            order = self._generator(split).permutation(len(part))
        for start in range(0, len(part), ID_PAGE_ROWS):
            page = order[start : start + ID_PAGE_ROWS]
            descriptions = (
                description_rows(rows[page], columns, self.classes[split])
                if columns.description_columns
                else [{}] * len(page)
            )
            for number, row in zip(page, descriptions, strict=True):
                yield self._entry(split, row, int(number), (split, int(number)))

    def read(self, entry: Entry) -> Content:
        entry.check_readable()
        return self._clip(*entry.key)

    def read_estimate(self, entry: Entry, estimate: str) -> Content:
        split, number = entry.key
        wanted, column = self.columns[split].id, self.columns[estimate].id
        if wanted is None or column is None:
            if len(self.parts[split]) != len(self.parts[estimate]):
                raise ValueError(
                    f"{estimate} has {len(self.parts[estimate])} rows and {split} {len(self.parts[split])}, and there "
                    "is no column of ids to tell which belong together"
                )
            return self._clip(estimate, number)
        if estimate not in self._rows:
            ids = _arrow(self.parts[estimate], [column])[:].column(0).to_pylist()
            self._rows[estimate] = {str(id_): i for i, id_ in enumerate(ids)}
        if entry.id not in self._rows[estimate]:
            raise ValueError(f"{estimate} has no row with the {column} {entry.id!r}")
        return self._clip(estimate, self._rows[estimate][entry.id])

    def _clip(self, split: str, number: int) -> Content:
        return clip_of(self._heard[split][number], self.columns[split])


def check_splits(name: str, asked: Iterable[str], known: Iterable[str]) -> None:
    """Raises a ValueError for a split that the data set does not have."""
    known = list(map(str, known))
    for split in asked:
        if split not in known:
            raise ValueError(f"{name}: no split {split!r}; it has {', '.join(known)}")


def _columns(name: str, part: Any, audio_column: str | None, id_column: str | None) -> Columns:
    """Which columns of a split to read."""
    features = part.features
    if features is None:  # a stream without a schema: its first row has one
        row = next(iter(part.with_format("arrow")), None)
        if row is None:
            raise ValueError(f"{name}: there are no rows")
        features = datasets.Features.from_arrow_schema(row.schema)
    declared = [column for column, kind in features.items() if isinstance(kind, datasets.Audio)]
    return choose_columns(name, features.arrow_schema, declared, audio_column, id_column)


def _arrow(part: Any, columns: Sequence[str]) -> Any:
    """A view of some columns that gives rows as pyarrow tables."""
    return part.select_columns(list(columns)).with_format("arrow")


def _classes(features: Any) -> dict[str, list[str]]:
    """The names of classes, by column."""
    return {column: kind.names for column, kind in (features or {}).items() if isinstance(kind, datasets.ClassLabel)}
