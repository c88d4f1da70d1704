"""A tokenisation on a Ray cluster: batches are encoded by many, and the driver writes the shards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from codeczoo.bench.ray_pool import RayPool
from codeczoo.bench.ray_process import Hands, Job
from codeczoo.bench.reading import ReadBatch, read_batch
from codeczoo.bench.sources import Entry, Source
from codeczoo.tokens.settings import TokenSettings
from codeczoo.tokens.tokenize import Encoder, Made, TokenTask, failure


class RayEncoders:
    """The devices of a cluster. Needs `ray_pool.connected`."""

    def __init__(self, settings: TokenSettings, source: Source) -> None:
        job = TokenJob(settings, source.for_reading())
        self.pool: RayPool[TokenTask, Made] = RayPool(job, settings.device or "cpu", settings.actors)

    def describe(self) -> dict[str, Any]:
        return self.pool.describe()

    def run(self, tasks: Iterator[TokenTask]) -> Iterator[Made]:
        yield from self.pool.run(tasks, _no_files)


def _no_files(name: str, data: bytes) -> None:
    raise AssertionError(f"an encoder wrote {name}")


@dataclass
class TokenJob(Job[TokenTask, Made]):
    """What is done on the cluster."""

    settings: TokenSettings
    source: Source

    def read(self, task: TokenTask) -> ReadBatch:
        return read_batch(self.source, task.batch)

    def open(self, device: str, folder: Path) -> _Hands:
        return _Hands(Encoder(replace(self.settings, device=device)))

    def apart(self, task: TokenTask) -> Iterable[TokenTask]:
        return [task]

    def entries(self, task: TokenTask) -> Sequence[Entry]:
        return task.batch.entries

    def part(self, task: TokenTask, entries: Sequence[Entry]) -> TokenTask:
        return replace(task, batch=replace(task.batch, entries=tuple(entries)))

    def failed(self, task: TokenTask, stage: str, reason: str) -> Made:
        return Made(task.part, {}, [failure(entry.id, stage, reason) for entry in task.batch.entries])

    def join(self, task: TokenTask, parts: Sequence[Made]) -> Made:
        clips = {position: tokens for part in parts for position, tokens in part.clips.items()}
        return Made(task.part, clips, [failed for part in parts for failed in part.failed])


class _Hands(Hands[TokenTask, Made]):
    """An `Encoder`, as the pool holds it."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder

    def begin(self, task: TokenTask, batch: ReadBatch) -> Callable[[], Made]:
        made = self.encoder.encode(task, batch)
        return lambda: made

    def describe(self) -> dict[str, Any]:
        return self.encoder.describe()
