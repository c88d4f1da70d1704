"""Clips read and decoded in worker processes, a few batches ahead of the device."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from codeczoo.base.audio import Audio, stack
from codeczoo.base.inputs import Clip, read_clips
from codeczoo.bench.plan import Batch
from codeczoo.bench.sources import Content, Entry, Source

log = logging.getLogger(__name__)

DEATHS = 2  # of readers over the same batch, before its clips are read one by one


@dataclass(frozen=True)
class Group:
    """Clips of a batch that share a tensor: of one rate and channel count."""

    entries: tuple[Entry, ...]
    audio: Audio
    estimates: Mapping[str, tuple[Clip | str, ...]] = field(default_factory=dict)  # a string says why there is none

    def __getitem__(self, rows: Sequence[int]) -> Group:
        return Group(
            tuple(self.entries[i] for i in rows),
            self.audio[rows],
            {name: tuple(clips[i] for i in rows) for name, clips in self.estimates.items()},
        )

    def __len__(self) -> int:
        return len(self.entries)

    def pin_memory(self) -> Group:
        """In memory that a GPU copies from while the program goes on. Called by the data loader."""
        return replace(self, audio=replace(self.audio, waveform=self.audio.waveform.pin_memory()))


@dataclass(frozen=True)
class ReadBatch:
    """A batch as read: groups of clips, and why others are in none."""

    index: int
    entries: tuple[Entry, ...]
    groups: tuple[Group, ...]
    failures: Mapping[str, str]  # id → reason

    def pin_memory(self) -> ReadBatch:
        return replace(self, groups=tuple(group.pin_memory() for group in self.groups))


def read_batch(source: Source, batch: Batch, estimates: Sequence[str] = ()) -> ReadBatch:
    """All clips of a batch; a data set with a broken file is still a data set."""
    clips: dict[tuple[int, int], list[tuple[Entry, Clip]]] = {}
    failures: dict[str, str] = {}
    kept: list[Entry] = []
    for entry in batch.entries:
        clip = _read(partial(source.read, entry))
        bare = replace(entry, key=None)  # it may hold the clip's bytes
        kept.append(bare)
        if isinstance(clip, str):
            failures[entry.id] = clip
        else:
            # A file may differ from its header, so what was read decides who can share a tensor.
            clips.setdefault((clip.sample_rate, len(clip.waveform)), []).append((entry, clip))
    groups = []
    for (rate, _), members in clips.items():
        found = {
            name: tuple(_read(partial(source.read_estimate, entry, name)) for entry, _ in members) for name in estimates
        }
        entries = tuple(replace(entry, key=None) for entry, _ in members)
        groups.append(Group(entries, stack([clip.waveform for _, clip in members], rate), found))
    return ReadBatch(batch.index, tuple(kept), tuple(groups), failures)


def _read(read: Callable[[], Content]) -> Clip | str:
    """A clip, or the reason why there is none."""
    content: Content = b""
    try:
        content = read()
        (clip,) = read_clips({"bytes": content} if isinstance(content, bytes) else content)
    except (OSError, ValueError, TypeError, LookupError) as error:
        text = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
        # The row says which clip it is.
        return text.removeprefix(f"{content}: " if isinstance(content, str | Path) else "<bytes>: ")
    return clip


class _Batches(Dataset[ReadBatch]):
    """A "data set" whose indices are the batches themselves: a sampler may make them up as it goes."""

    def __init__(self, source: Source, estimates: Sequence[str]) -> None:
        self.source, self.estimates = source, tuple(estimates)

    def __getitem__(self, batch: Batch) -> ReadBatch:
        return read_batch(self.source, batch, self.estimates)


class _Issued:
    """The batches that a loader takes, remembered until they are back."""

    def __init__(self, batches: Iterable[Batch]) -> None:
        self._rest = iter(batches)
        self.out: deque[Batch] = deque()
        self._again: deque[Batch] = deque()

    def __iter__(self) -> Iterator[Batch]:
        while self._again:
            self.out.append(self._again.popleft())
            yield self.out[-1]
        for batch in self._rest:
            self.out.append(batch)
            yield batch

    def take_back(self) -> None:
        self._again.extendleft(reversed(self.out))
        self.out.clear()

    def drop_first(self) -> Batch:
        return self._again.popleft()


def read_ahead(
    source: Source, batches: Iterable[Batch], workers: int, *, estimates: Sequence[str] = (), pin: bool = False
) -> Iterator[ReadBatch]:
    """Batches in order, each with its clips, read by `workers` processes (0 = by this one).

    A reader that dies (killed, or crashed by a file) is replaced; what it read is read again. A clip over which
    readers die again and again is named as a failure.
    """
    issued = _Issued(batches)
    deaths = 0
    while True:
        try:
            for batch in _loader(source, issued, workers, estimates, pin):
                issued.out.popleft()
                deaths = 0
                yield batch
            return
        except RuntimeError as error:
            if not workers or "DataLoader worker" not in str(error):
                raise
            deaths += 1
            log.warning("a reader died (%s); its clips are read again", str(error).splitlines()[0])
            issued.take_back()
        if deaths >= DEATHS:
            deaths = 0
            yield _one_by_one(source, issued.drop_first(), estimates)


def _loader(
    source: Source, batches: Iterable[Batch], workers: int, estimates: Sequence[str], pin: bool
) -> Iterable[ReadBatch]:
    return DataLoader(
        _Batches(source, estimates),
        sampler=batches,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=2 if workers else None,
        collate_fn=_as_it_is,
        worker_init_fn=_one_thread,
        pin_memory=pin,
    )


def _one_by_one(source: Source, batch: Batch, estimates: Sequence[str]) -> ReadBatch:
    """A batch over which readers die: each clip by a reader of its own."""
    groups: list[Group] = []
    failures: dict[str, str] = {}
    for entry in batch.entries:
        alone = replace(batch, entries=(entry,))
        try:
            for read in _loader(source, [alone], 1, estimates, False):
                groups += read.groups
                failures |= read.failures
        except RuntimeError as error:
            failures[entry.id] = f"the process that read it died: {str(error).splitlines()[0]}"
    return ReadBatch(batch.index, tuple(replace(entry, key=None) for entry in batch.entries), tuple(groups), failures)


def _as_it_is(item: Any) -> Any:
    return item


def _one_thread(worker: int) -> None:
    torch.set_num_threads(1)
