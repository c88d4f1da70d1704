"""A run that grows: begun with a `--limit`, it goes on with a larger one, or with none.

Batches and shards follow from the clips of a session's limit, so those of earlier limits are planned as they were then,
and what is new is planned behind them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from codeczoo.data.source import Content, Entry, Source
from codeczoo.executor.settings import SourceSettings

Limits = tuple[int | None, ...]  # of a run's sessions, the last one's last; each is larger than those before


def grown(run: Mapping[str, Any] | None, limit: int | None) -> Limits | None:
    """The limits of a run with this session's. None where the run would shrink.

    Args:
        run: what its run.json says; None = there is none.
    """
    before: list[int | None] = [] if run is None else run.get("limits", [run["settings"].get("limit")])
    if not before or before[-1] == limit:
        return tuple(before) or (limit,)
    if before[-1] is None or (limit is not None and limit < before[-1]):
        return None
    return (*before, limit)


def parts_of(source: Source, settings: SourceSettings, limits: Limits) -> Iterator[Source]:
    """What each of the limits adds to the data set, in order. Each part is to be walked before the next is taken.

    Args:
        source: the data set of the last limit.
    """
    if len(limits) == 1:
        yield source
        return
    seen: set[str] = set()
    for limit in limits[:-1]:
        yield _Rest(replace(settings, limit=limit).open_source(), seen)
    yield _Rest(source, seen)


class _Rest(Source):
    """The clips of a source whose ids are not in `seen`; they are added to it."""

    def __init__(self, source: Source, seen: set[str]) -> None:
        self.name, self._source, self._seen = source.name, source, seen

    def entries(self) -> Iterator[Entry]:
        for entry in self._source.entries():
            if entry.id not in self._seen:
                self._seen.add(entry.id)
                yield entry

    def read(self, entry: Entry) -> Content:
        return self._source.read(entry)


def differing(run: Mapping[str, Any], record: Mapping[str, Any], limits: Limits | None) -> Sequence[str]:
    """The settings in which a run and this session differ, so that it cannot go on with it. Weights are compared by
    their content elsewhere, and a limit may grow.

    Args:
        record: the session's settings, as `WorkSettings.of_record` gives them.
        limits: of `grown`.
    """
    before = run["settings"]
    differ = {key for key in record.keys() - {"weights", "limit"} if before.get(key) != record[key]}
    return sorted(differ if limits is not None else {*differ, "limit"})
