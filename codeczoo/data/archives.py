"""Data sets in shards: files of many clips each."""

from __future__ import annotations

import glob
import os
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, islice
from pathlib import Path

from codeczoo.data.folders import walk
from codeczoo.data.inline import inline_bytes
from codeczoo.data.source import Content, Entry, Source, check_ids, interleave

BRACES = re.compile(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}")


class ArchiveSource(Source):
    """Clips in shards. The key of an entry begins with its shard; entries are in the order of reading.

    Args:
        parts: the clips by split.
        way_out: said in the error about equal ids.
    """

    def __init__(self, name: str, parts: Mapping[str, Sequence[Entry]], way_out: str = "") -> None:
        self.name = name
        self._parts = {split: list(entries) for split, entries in parts.items()}
        self.count = sum(len(entries) for entries in self._parts.values())
        check_ids(name, [entry for entries in self._parts.values() for entry in entries], way_out)

    def entries(self) -> Iterator[Entry]:
        return interleave([self._in_order_of_archives(entries) for entries in self._parts.values()])

    def select(self, limit: int | None, shuffle: bool, seed: int) -> None:
        """Keep `limit` clips: the first ones, or random ones. Their order stays that of the shards."""
        chosen = self._parts
        if shuffle:
            chosen = {split: random.Random(seed).sample(part, len(part)) for split, part in self._parts.items()}
        kept = {entry.id for entry in islice(interleave(list(chosen.values())), limit)}
        self._parts = {split: [e for e in part if e.id in kept] for split, part in self._parts.items()}
        self.count = len(kept)

    def _in_order_of_archives(self, entries: Sequence[Entry]) -> Iterator[Entry]:
        for shard, members in groupby(entries, lambda entry: entry.key[0]):
            yield from self._shard(shard, list(members))

    def _shard(self, shard: Path, entries: list[Entry]) -> Iterator[Entry]:
        """The clips of one shard: as they are if `read` can find each by itself, else with their bytes as key."""
        yield from entries

    def read(self, entry: Entry) -> Content:
        entry.check_readable()
        return inline_bytes(entry.key)


def find_archives(dataset: str, suffixes: Sequence[str]) -> list[Path]:
    """Files that end in one of `suffixes`: one file, those below a folder, or the matches of a glob or of braces if all
    of them do. Sorted, except for braces.

    Raises:
        FileNotFoundError: a file that braces name is missing.
    """
    path = Path(dataset).expanduser()
    if path.is_dir():
        ends = tuple(suffixes)
        return [Path(file.path) for file in sorted(walk(path, lambda name: name.lower().endswith(ends)))]
    found: list[Path] = []
    if path.exists():
        found = [path]
    else:
        for pattern in expand_braces(str(path)):
            matches = sorted(Path(p) for p in glob.glob(pattern, recursive=True)) if glob.has_magic(pattern) else None
            if matches is None and not Path(pattern).is_file():
                if pattern != str(path) and pattern.lower().endswith(tuple(suffixes)):
                    raise FileNotFoundError(f"{dataset}: there is no {pattern}")
                continue
            found += [Path(pattern)] if matches is None else matches
    shards = [p for p in found if p.name.lower().endswith(tuple(suffixes))]
    return shards if len(shards) == len(found) else []


def archive_names(shards: Sequence[Path]) -> dict[Path, str]:
    """Short names of shards: without suffixes, and with their folders only where names would be equal."""
    folder = os.path.commonpath([shard.parent for shard in shards])
    for whole in (False, True):
        names = {s: (s.relative_to(folder) if whole else Path(s.name)).as_posix() for s in shards}
        names = {shard: re.sub(r"\.[^/]*$", "", name) for shard, name in names.items()}
        if len(set(names.values())) == len(names):
            break
    return names


def expand_braces(pattern: str) -> list[str]:
    """`a-{00..02}.tar` and `{a,b}.tar` as the names they stand for; numbers keep their width."""
    found = BRACES.search(pattern)
    if found is None:
        return [pattern]
    first, last, words = found.groups()
    if words is not None:
        middle = words.split(",")
    else:
        step = 1 if int(first) <= int(last) else -1
        middle = [str(i).zfill(len(first)) for i in range(int(first), int(last) + step, step)]
    before, after = pattern[: found.start()], pattern[found.end() :]
    return [name for word in middle for name in expand_braces(before + word + after)]
