"""A benchmark on a Ray cluster: what `LocalEngine` does, by many."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from codeczoo.benchmark.measure import CLOCKS, Outcome, Pending, Worker, describe
from codeczoo.benchmark.settings import Settings
from codeczoo.data.open import Entry, Source
from codeczoo.data.read import ReadBatch, read_batch
from codeczoo.executor.job import Job, JobWorker
from codeczoo.executor.local import AHEAD, Task
from codeczoo.executor.ray import RayPool

Outcomes = list[Outcome]


class RayEngine:
    """The devices of a cluster. Needs `ray_pool.connected`."""

    def __init__(self, settings: Settings, source: Source) -> None:
        self.settings = settings
        job = BenchmarkJob(settings, source.for_reading())
        self.pool: RayPool[Task, Outcomes] = RayPool(job, settings.device or "cpu", settings.actors)
        if settings.metric_workers is None:
            job.settings = replace(settings, metric_workers=self.pool.cpus_per_actor)
        self.devices = self.pool.actors

    def describe(self) -> dict[str, Any]:
        return self.pool.describe()

    def run(self, tasks: Iterator[Task]) -> Iterator[Outcome]:
        for outcomes in self.pool.run(tasks, self._keep):
            yield from outcomes

    def memory(self) -> dict[str, Any]:
        return {"peak_device_memory_bytes": self.pool.peak} if self.pool.peak else {}

    def _keep(self, name: str, data: bytes) -> None:
        path = Path(self.settings.out) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


@dataclass
class BenchmarkJob(Job[Task, Outcomes]):
    """What is done on the cluster."""

    settings: Settings
    source: Source

    def read(self, task: Task) -> ReadBatch:
        return read_batch(self.source, task.batch, self.settings.codecs if self.source.estimates else ())

    def open(self, device: str, folder: Path) -> _Worker:
        settings = replace(self.settings, device=device, out=str(folder))
        return _Worker(Worker(settings, bool(self.source.estimates)))

    def apart(self, task: Task) -> Iterable[Task]:
        """Codec by codec: one may crash on what others code."""
        return [replace(task, subjects=(subject,)) for subject in task.subjects]

    def entries(self, task: Task) -> Sequence[Entry]:
        return task.batch.entries

    def part(self, task: Task, entries: Sequence[Entry]) -> Task:
        return replace(task, batch=replace(task.batch, entries=tuple(entries)))

    def failed(self, task: Task, stage: str, reason: str) -> Outcomes:
        read = ReadBatch(task.batch.index, tuple(replace(entry, key=None) for entry in task.batch.entries), (), {})
        out = []
        for subject in task.subjects:
            pending = Pending(read, subject)
            pending.failed |= {entry.id: (stage, reason) for entry in read.entries}
            pending.events.append({"event": "process died", "codec": subject, "batch": read.index,
                                   "clips": len(read.entries), "reason": reason})  # fmt: skip
            out.append(pending.finish())
        return out

    def join(self, task: Task, parts: Sequence[Outcomes]) -> Outcomes:
        return [_joined([outcomes[i] for outcomes in parts]) for i in range(len(task.subjects))]


def _joined(parts: Sequence[Outcome]) -> Outcome:
    """Of parts of one batch under one codec."""
    counts: list[dict[int, int]] = []
    for part in parts:
        counts += [{} for _ in range(len(part.counts) - len(counts))]
        for total, more in zip(counts, part.counts, strict=False):
            for code, times in more.items():
                total[code] = total.get(code, 0) + times
    return Outcome(
        parts[0].batch,
        parts[0].subject,
        [row for part in parts for row in part.rows],
        counts,
        {name: sum(part.seconds[name] for part in parts) for name in CLOCKS},
        [event for part in parts for event in part.events],
    )


class _Worker(JobWorker[Task, Outcomes]):
    """A `Worker`, as the pool holds it."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker

    def begin(self, task: Task, batch: ReadBatch) -> Callable[[], Outcomes]:
        pending: deque[Pending] = deque()
        outcomes: Outcomes = []
        for subject in task.subjects:
            pending.append(self.worker.start(batch, subject))
            if len(pending) > AHEAD:
                outcomes.append(pending.popleft().finish())

        def finish() -> Outcomes:
            while pending:
                outcomes.append(pending.popleft().finish())
            return outcomes

        return finish

    def describe(self) -> dict[str, Any]:
        return describe(self.worker)
