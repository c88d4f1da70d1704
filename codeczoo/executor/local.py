"""A job on one device of this machine: its input is read ahead, and slow metrics are computed behind it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from codeczoo.executor.job import Executor, Job, PendingResults, Read, Result, Task


class LocalExecutor(Executor[Task, Result]):
    """One worker in this process.

    Args:
        device: as torch names it.
        folder: for files that the worker writes.
        readers: processes that read; 0 = this one.
    """

    devices = 1

    def __init__(self, job: Job[Task, Read, Result], device: str, folder: Path, readers: int) -> None:
        self._job: Job[Task, Any, Result] = job
        self._readers = readers
        self._worker = job.start_worker(device, folder)
        self.device = self._worker.device

    def describe(self) -> dict[str, Any]:
        return self._worker.describe()

    def run(self, tasks: Iterable[Task]) -> Iterator[Result]:
        """The results of all tasks, in order; each is yielded at the first moment after it is done at which the device
        has finished a result."""
        pending: PendingResults[Result] = PendingResults()
        for task, read in self._job.read_ahead(tasks, self._readers, pin=self.device.type == "cuda"):
            for started in self._worker.start(task, read):
                yield from pending.add(started)
                del started  # it holds audio, and the device needs the room for what comes next
        yield from pending.finish()

    def memory(self) -> dict[str, Any]:
        if self.device.type != "cuda":
            return {}
        return {"peak_device_memory_bytes": torch.cuda.max_memory_allocated(self.device)}
