"""What an executor carries out: a `Job` says how the input of a task is read, a `JobWorker` does tasks on one device.

Three jobs exist: the benchmark, tokenising, and the commands encode, reconstruct and decode. Two executors run them:
`local.LocalExecutor` and `ray.RayExecutor`. This module does not import Ray.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

from codeczoo.base.memory import release_memory_between
from codeczoo.data.batching import Batch
from codeczoo.data.read import ReadBatch, read_batch
from codeczoo.data.reader_pool import read_ahead
from codeczoo.data.source import Entry, Source

MAX_PENDING = 4  # results of one worker that are not finished while its device goes on


@dataclass(frozen=True)
class BatchTask:
    """A task: one batch of clips. Jobs add what else they must know of it."""

    batch: Batch


Task = TypeVar("Task", bound=BatchTask)
Read = TypeVar("Read")  # what is read for a task
Result = TypeVar("Result")


class Pending(ABC, Generic[Result]):
    """A result whose share on the device is done, while other processes may still work at theirs (slow metrics)."""

    @property
    @abstractmethod
    def done(self) -> bool:
        """Whether `finish` returns without waiting."""

    @abstractmethod
    def finish(self) -> Result:
        """Wait for the other processes; the result."""


@dataclass(frozen=True)
class Finished(Pending[Result]):
    """A result that waits for nothing."""

    result: Result

    @property
    def done(self) -> bool:
        return True

    def finish(self) -> Result:
        return self.result


class PendingResults(Generic[Result]):
    """Pending results of one worker, in order, at most `MAX_PENDING` of them: each holds its audio in memory."""

    def __init__(self) -> None:
        self._pending: deque[Pending[Result]] = deque()

    def add(self, pending: Pending[Result]) -> Iterator[Result]:
        """Append; yields the results at the front that are done, and waits for those beyond `MAX_PENDING`."""
        self._pending.append(pending)
        while self._pending and (len(self._pending) > MAX_PENDING or self._pending[0].done):
            yield self._pending.popleft().finish()

    def finish(self) -> Iterator[Result]:
        """Wait for all that are left."""
        while self._pending:
            yield self._pending.popleft().finish()


class JobWorker(ABC, Generic[Task, Read, Result]):
    """Codecs on one device.

    Attributes:
        device: which one.
    """

    device: torch.device

    @abstractmethod
    def start(self, task: Task, read: Read) -> Iterator[Pending[Result]]:
        """Do the device's share of a task. Each result is yielded as soon as its share is done, so that a process that
        is killed loses only the results in progress.

        A clip that fails is part of a result; an exception ends the run.
        """

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Codecs, versions and machine, for the record."""


class Job(ABC, Generic[Task, Read, Result]):
    """A kind of work over batches of clips. On Ray it is pickled to all processes."""

    @abstractmethod
    def read(self, task: Task) -> Read:
        """The input of a task. Runs in a process without a device."""

    def read_ahead(self, tasks: Iterable[Task], readers: int, pin: bool) -> Iterator[tuple[Task, Read]]:
        """Tasks in order, each with its input. Here: read by this process, when the worker asks for the next task.

        Args:
            readers: number of processes that read, where a job can use them.
            pin: into memory that a GPU copies from while the program goes on.
        """
        for task in release_memory_between(tasks):
            yield task, self.read(task)

    def for_cluster(self, cpus: int) -> Job[Task, Read, Result]:
        """The job as it is sent to the machines of a cluster, where each worker has `cpus` CPUs."""
        return self

    @abstractmethod
    def start_worker(self, device: str, folder: Path) -> JobWorker[Task, Read, Result]:
        """Load the codecs onto a device. On Ray, files that the worker writes below `folder` are brought to the
        driver's own."""

    def split_for_retry(self, task: Task) -> Sequence[Task]:
        """The tasks that are tried one by one when processes died over this one. Each has exactly one result."""
        return [task]

    def subset(self, task: Task, entries: Sequence[Entry]) -> Task:
        """The task with these of its clips only."""
        return replace(task, batch=replace(task.batch, entries=tuple(entries)))

    @abstractmethod
    def failed(self, task: Task, stage: str, reason: str) -> Result:
        """The result of a task (of `split_for_retry`) whose clips all failed: processes died over it."""

    @abstractmethod
    def merge(self, task: Task, results: Sequence[Result]) -> Result:
        """The result of a task (of `split_for_retry`) from the results of its subsets, in order."""


@dataclass
class AudioJob(Job[Task, ReadBatch, Result]):
    """A job over audio.

    Attributes:
        source: the data set; estimates: names of its reconstructions that are read beside each clip.
    """

    source: Source

    @property
    def estimates(self) -> tuple[str, ...]:
        return ()

    def read(self, task: Task) -> ReadBatch:
        return read_batch(self.source, task.batch, self.estimates)

    def read_ahead(self, tasks: Iterable[Task], readers: int, pin: bool) -> Iterator[tuple[Task, ReadBatch]]:
        """As `Job.read_ahead`, by `readers` processes (0 = by this one) that are some batches ahead."""
        asked: deque[Task] = deque()

        def batches() -> Iterator[Batch]:
            for task in tasks:
                asked.append(task)
                yield task.batch

        for read in read_ahead(self.source, batches(), readers, estimates=self.estimates, pin=pin):
            yield asked.popleft(), read

    def for_cluster(self, cpus: int) -> AudioJob[Task, Result]:
        return replace(self, source=self.source.for_reading())


class Executor(ABC, Generic[Task, Result]):
    """Feeds the workers of a job.

    Attributes:
        devices: how many work at the same time.
    """

    devices: int

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What `JobWorker.describe` says, of one worker."""

    @abstractmethod
    def run(self, tasks: Iterable[Task]) -> Iterator[Result]:
        """The results of all tasks, in any order.

        Raises:
            RuntimeError, ImportError: an error that no clip is to blame for.
        """

    @abstractmethod
    def memory(self) -> Mapping[str, Any]:
        """Peak memory of the devices, where it is known."""
