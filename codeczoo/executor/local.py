"""Who does the work of a benchmark: this process with its helpers, or (`ray_engine`) a cluster."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from codeczoo.base.device import choose_device
from codeczoo.benchmark.measure import Outcome, Pending, Worker, describe
from codeczoo.benchmark.settings import Settings
from codeczoo.data.batching import Batch
from codeczoo.data.open import Source
from codeczoo.data.reader_pool import read_ahead
from codeczoo.executor.rank import Shard
from codeczoo.executor.settings import WorkSettings

AHEAD = 4  # outcomes that the metric pool may still be at while the device goes on

ENGINES = ("local", "ray")


@dataclass(frozen=True)
class Task:
    """A batch, and the codecs that it has yet to go through."""

    batch: Batch
    subjects: tuple[str, ...]


class Engine(Protocol):
    """What carries a benchmark out."""

    devices: int  # that work at the same time

    def describe(self) -> dict[str, Any]:
        """`codecs`, `versions` and `environment` for the record."""
        ...

    def run(self, tasks: Iterator[Task]) -> Iterator[Outcome]:
        """Everything that comes of the tasks, in any order."""
        ...

    def memory(self) -> dict[str, Any]:
        """Peak memory of the devices, where that is known."""
        ...


class LocalEngine:
    """One device, which is kept busy: files are read and decoded ahead, and slow metrics computed behind it."""

    devices = 1

    def __init__(self, settings: Settings, source: Source) -> None:
        self.settings, self.source = settings, source
        self.worker = Worker(settings, bool(source.estimates))

    def describe(self) -> dict[str, Any]:
        return describe(self.worker)

    def run(self, tasks: Iterator[Task]) -> Iterator[Outcome]:
        wanted: deque[tuple[str, ...]] = deque()

        def batches() -> Iterator[Batch]:
            for task in tasks:
                wanted.append(task.subjects)
                yield task.batch

        pending: deque[Pending] = deque()
        reads = read_ahead(
            self.source,
            batches(),
            self.settings.workers,
            estimates=self.settings.codecs if self.source.estimates else (),
            pin=self.worker.device.type == "cuda",
        )
        for batch in reads:
            for subject in wanted.popleft():
                pending.append(self.worker.start(batch, subject))
                while pending and (len(pending) > AHEAD or pending[0].done):
                    yield pending.popleft().finish()
        while pending:
            yield pending.popleft().finish()

    def memory(self) -> dict[str, Any]:
        if self.worker.device.type != "cuda":
            return {}
        return {"peak_device_memory_bytes": torch.cuda.max_memory_allocated(self.worker.device)}


def check_way(settings: WorkSettings, shard: Shard) -> None:
    """Raises a ValueError for ways to spread the work that do not go together."""
    if settings.engine not in ENGINES:
        raise ValueError(f"engine must be one of {', '.join(ENGINES)}; it is {settings.engine!r}")
    if shard.count > 1 and (settings.overwrite or settings.engine != "local"):
        what = "--overwrite" if settings.overwrite else f"--engine {settings.engine}"
        raise ValueError(f"{what} does not go with a run in {shard.count} shards: they share one folder and one plan")


@contextmanager
def devices(settings: WorkSettings, shard: Shard) -> Iterator[torch.device]:
    """The kind of device that is used, here or on the cluster, which is there for as long as the context lasts."""
    if settings.engine == "ray":
        from codeczoo.executor.ray import cluster_device, connected

        with connected(settings.address):
            yield torch.device(cluster_device(settings.device))
    else:
        yield choose_device(shard.device(settings.device))
