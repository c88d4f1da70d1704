"""Clips read and decoded in worker processes, a few batches ahead of the device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from codeczoo.base.inputs import read_clips
from codeczoo.bench.dataset import Entry
from codeczoo.bench.plan import Batch


@dataclass(frozen=True)
class Read:
    """One clip as read, or why it could not be."""

    entry: Entry
    waveform: Tensor | None  # [C, T] float32
    sample_rate: int
    failure: str | None = None


class _Batches(Dataset[tuple[Batch, list[Read]]]):
    def __init__(self, batches: Sequence[Batch]) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> tuple[Batch, list[Read]]:
        batch = self.batches[index]
        return batch, [read_entry(entry) for entry in batch.entries]


def read_entry(entry: Entry) -> Read:
    """A clip, or the reason why there is none: a data set with a broken file is still a data set."""
    try:
        (clip,) = read_clips(entry.path)
    except (OSError, ValueError) as error:
        return Read(entry, None, 0, f"{error}".replace(f"{entry.path}: ", ""))
    return Read(entry, clip.waveform, clip.sample_rate)


def read_ahead(batches: Sequence[Batch], workers: int) -> Iterator[tuple[Batch, list[Read]]]:
    """Batches in order, each with its clips."""
    loader = DataLoader(
        _Batches(batches),
        batch_size=None,
        num_workers=min(workers, len(batches)),
        prefetch_factor=2 if workers and batches else None,
        collate_fn=lambda item: item,
        worker_init_fn=_one_thread,
    )
    yield from loader


def _one_thread(worker: int) -> None:
    torch.set_num_threads(1)
