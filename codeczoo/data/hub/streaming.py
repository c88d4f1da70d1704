"""Splits of a data set that the `datasets` library streams: read over the network as they are needed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from codeczoo.data.columns import clip_of, description_rows
from codeczoo.data.hub.cache import PARALLEL_FETCHES
from codeczoo.data.hub.errors import clear_errors
from codeczoo.data.hub.rows import HubSplits
from codeczoo.data.inline import inline_bytes, to_inline_bytes
from codeczoo.data.source import OTHER_IDS, Content, Entry

SHUFFLE_BUFFER_CLIPS, SHUFFLE_BUFFER_BYTES = 1000, 256 << 20  # that a shuffled stream holds back


class HubStream(HubSplits):
    """Splits that are read over the network when needed; an entry's key is the clip's bytes.

    Shuffling uses a buffer of at most SHUFFLE_BUFFER_CLIPS and SHUFFLE_BUFFER_BYTES: it mixes neighbouring clips only.
    """

    def __init__(
        self,
        name: str,
        parts: Mapping[str, Any],
        facts: Mapping[str, Any],
        sizes: Mapping[str, int | None],
        repo: str | None,
        **options: Any,
    ) -> None:
        super().__init__(name, parts, facts, **options)
        if self.estimates:
            raise ValueError(
                f"{name}: reconstructions beside the clips are found by their id, which a stream cannot do: "
                "read it without --streaming, or name one --split"
            )
        self.repo = repo
        found = [sizes.get(split) for split in self.splits]
        if None not in found:
            total = sum(size or 0 for size in found)
            self.count = total if self.limit is None else min(total, self.limit)

    def _entries(self, split: str) -> Iterator[Entry]:
        entries = self._in_order(split)
        if not self.shuffle:
            return entries
        return _shuffled(entries, self._generator(split), SHUFFLE_BUFFER_BYTES // len(self.splits))

    def _in_order(self, split: str) -> Iterator[Entry]:
        part, columns = self.parts[split], self.columns[split]
        seen: set[str] = set()
        rows = _clearly(self.name, self.repo, part.with_format("arrow"))
        with ThreadPoolExecutor(PARALLEL_FETCHES) as pool:
            # Rows may hold paths of remote files: these are fetched in parallel.
            for number, (row, clip) in enumerate(
                _ahead(pool, lambda row: (row, to_inline_bytes(partial(clip_of, row, columns))), rows)
            ):
                (description,) = description_rows(row, columns, self.classes[split])
                entry = self._entry(split, description, number, clip)
                if columns.id is not None and entry.id in seen:
                    raise ValueError(
                        f"{self.name}: two clips of {split} have the id {entry.id!r}, the second one is row {number}; "
                        f"{OTHER_IDS}"
                    )
                seen.add(entry.id)
                yield entry

    def read(self, entry: Entry) -> Content:
        entry.check_readable()
        return inline_bytes(entry.key)


def _clearly(name: str, repo: str | None, rows: Iterable[pa.Table]) -> Iterator[pa.Table]:
    with clear_errors(name, repo):
        yield from rows


def _ahead(pool: Executor, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
    """`function` of each item, in order, PARALLEL_FETCHES of them at a time."""
    running: deque[Future] = deque()
    for item in items:
        running.append(pool.submit(function, item))
        if len(running) > PARALLEL_FETCHES:
            yield running.popleft().result()
    while running:
        yield running.popleft().result()


def _shuffled(entries: Iterable[Entry], generator: np.random.Generator, room: int) -> Iterator[Entry]:
    """Entries shuffled within a buffer of `room` bytes."""
    buffer: list[Entry] = []
    held = 0
    for entry in entries:
        buffer.append(entry)
        held += _size(entry)
        if len(buffer) > SHUFFLE_BUFFER_CLIPS or held > room:
            i = int(generator.integers(len(buffer)))
            buffer[i], buffer[-1] = buffer[-1], buffer[i]
            held -= _size(buffer[-1])
            yield buffer.pop()
    for i in generator.permutation(len(buffer)):
        yield buffer[i]


def _size(entry: Entry) -> int:
    return len(entry.key) if isinstance(entry.key, bytes) else 0
