"""Clips read and decoded in worker processes, a few batches ahead of the device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from codeczoo.base.inputs import read_clips
from codeczoo.bench.plan import Batch
from codeczoo.bench.sources import Content, Entry, Source


@dataclass(frozen=True)
class Read:
    """One clip as read, or why it could not be."""

    entry: Entry
    waveform: Tensor | None  # [C, T] float32
    sample_rate: int
    failure: str | None = None


class _Batches(Dataset[tuple[Batch, list[Read]]]):
    """A "data set" whose indices are the batches themselves: a sampler may make them up as it goes."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def __getitem__(self, batch: Batch) -> tuple[Batch, list[Read]]:
        return batch, [read_entry(self.source, entry) for entry in batch.entries]


def read_entry(source: Source, entry: Entry) -> Read:
    """A clip, or the reason why there is none: a data set with a broken file is still a data set."""
    try:
        content = source.read(entry)
        return _decoded(entry, content)
    except (OSError, ValueError, TypeError) as error:
        return Read(entry, None, 0, f"{error}".replace(f"{entry.key}: ", ""))


def _decoded(entry: Entry, content: Content) -> Read:
    (clip,) = read_clips({"bytes": content} if isinstance(content, bytes) else content)
    return Read(entry, clip.waveform, clip.sample_rate)


def read_ahead(source: Source, batches: Iterable[Batch], workers: int) -> Iterator[tuple[Batch, list[Read]]]:
    """Batches in order, each with its clips."""
    loader = DataLoader(
        _Batches(source),
        sampler=batches,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=2 if workers else None,
        collate_fn=_as_it_is,
        worker_init_fn=_one_thread,
    )
    yield from loader


def _as_it_is(item: Any) -> Any:
    return item


def _one_thread(worker: int) -> None:
    torch.set_num_threads(1)
