"""Which clips of a data set can be read."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from codeczoo.data.batching import Batch, plan_batches
from codeczoo.data.reader_pool import read_ahead
from codeczoo.data.source import Entry, Source

BATCH_CLIPS, BATCH_SECONDS = 16, 120.0  # that are read together, and held in memory


@dataclass(frozen=True)
class CheckedClip:
    """What reading and decoding a clip came to.

    Attributes:
        entry: of its source, with its place there.
        failure: why it cannot be read; None if it can.
        seconds, sample_rate, channels: of a clip that can be read; else 0.
    """

    entry: Entry
    failure: str | None = None
    seconds: float = 0.0
    sample_rate: int = 0
    channels: int = 0


def check_clips(source: Source, workers: int = 2) -> Iterator[CheckedClip]:
    """Read and decode every clip of a data set, in no certain order.

        failures = [clip for clip in check_clips(open_source("recordings/")) if clip.failure]

    Args:
        workers: processes that read; 0 = this one.
    """
    asked: deque[Batch] = deque()

    def batches() -> Iterator[Batch]:
        for batch in plan_batches(source, BATCH_CLIPS, BATCH_SECONDS):
            asked.append(batch)
            yield batch

    for read in read_ahead(source, batches(), workers):
        entries = {entry.id: entry for entry in asked.popleft().entries}
        for id_, reason in read.failures.items():
            yield CheckedClip(entries[id_], reason)
        for group in read.groups:
            for entry, seconds in zip(group.entries, group.audio.seconds.tolist(), strict=True):
                yield CheckedClip(entries[entry.id], None, seconds, group.audio.sample_rate, group.audio.channels)
