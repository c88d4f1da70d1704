"""`Job`: a kind of work over batches of clips, and `JobWorker`: what carries it out on one device."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from codeczoo.data.read import ReadBatch
from codeczoo.data.source import Entry

Task = TypeVar("Task")


Result = TypeVar("Result")


Finish = Callable[[], Result]


class JobWorker(ABC, Generic[Task, Result]):
    """What an actor has: codecs on a device."""

    @abstractmethod
    def begin(self, task: Task, batch: ReadBatch) -> Finish[Result]:
        """Do what the device does. What is returned waits for the rest, while the next batch has begun.

        What goes wrong with a clip is part of the result; an exception ends the run.
        """

    @abstractmethod
    def describe(self) -> Any:
        """Facts for the record."""


class Job(ABC, Generic[Task, Result]):
    """Which work is done on the cluster. Pickled to all its processes."""

    @abstractmethod
    def read(self, task: Task) -> ReadBatch:
        """In a process without a device."""

    @abstractmethod
    def open(self, device: str, folder: Path) -> JobWorker[Task, Result]:
        """Once in every actor. Files that are written below `folder` are brought to the driver."""

    @abstractmethod
    def apart(self, task: Task) -> Iterable[Task]:
        """A task that could not be done in the pool, as the tasks that are to be tried one by one."""

    @abstractmethod
    def entries(self, task: Task) -> Sequence[Entry]:
        """The clips of one of those tasks."""

    @abstractmethod
    def part(self, task: Task, entries: Sequence[Entry]) -> Task:
        """The same with these clips only."""

    @abstractmethod
    def failed(self, task: Task, stage: str, reason: str) -> Result:
        """The result of a task of one clip over which processes die."""

    @abstractmethod
    def join(self, task: Task, parts: Sequence[Result]) -> Result:
        """The result of a task from those of its parts, in order."""
