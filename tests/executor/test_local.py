"""The local executor: results in order, each as soon as it is done, and few that are not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from codeczoo.data.batching import Batch
from codeczoo.executor.job import MAX_PENDING, BatchTask, Job, JobWorker, Pending
from codeczoo.executor.local import LocalExecutor


class Slow(Pending[int]):
    """A result that is done when the test says so."""

    def __init__(self, number: int, log: list[str]) -> None:
        self.number, self.log, self.ready = number, log, False

    @property
    def done(self) -> bool:
        return self.ready

    def finish(self) -> int:
        self.log.append(f"finish {self.number}")
        return self.number


class Counting(Job[BatchTask, int, int], JobWorker[BatchTask, int, int]):
    """Its own worker: two results a task, all steps logged."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.log: list[str] = []
        self.started: list[Slow] = []

    def read(self, task: BatchTask) -> int:
        self.log.append(f"read {task.batch.index}")
        return task.batch.index

    def start_worker(self, device: str, folder: Path) -> Counting:
        return self

    def start(self, task: BatchTask, read: int) -> Iterator[Pending[int]]:
        for half in (0, 1):
            self.log.append(f"start {2 * read + half}")
            self.started.append(Slow(2 * read + half, self.log))
            yield self.started[-1]

    def describe(self) -> dict[str, Any]:
        return {}

    def failed(self, task: BatchTask, stage: str, reason: str) -> int:
        raise AssertionError("no process dies here")

    def merge(self, task: BatchTask, results: Sequence[int]) -> int:
        raise AssertionError("nothing is tried again here")


def tasks(count: int) -> Iterator[BatchTask]:
    return (BatchTask(Batch(index, (), 0.0)) for index in range(count))


def test_the_device_is_never_more_than_a_few_results_ahead() -> None:
    job = Counting()
    assert list(LocalExecutor(job, "cpu", Path(), readers=0).run(tasks(6))) == list(range(12))
    pending = most = 0
    for line in job.log:
        pending += line.startswith("start") - line.startswith("finish")
        most = max(most, pending)
    assert most == MAX_PENDING + 1  # the one that was just started makes the first one wait


def test_what_is_done_is_yielded_before_the_device_goes_on() -> None:
    job = Counting()
    results = LocalExecutor(job, "cpu", Path(), readers=0).run(tasks(6))
    assert next(results) == 0
    started = len(job.started)
    assert started == MAX_PENDING + 1
    for pending in job.started[1:3]:
        pending.ready = True
    assert [next(results), next(results)] == [1, 2]
    assert len(job.started) == started  # both were yielded before the device was given more
    assert sorted(results) == list(range(3, 12))


def test_a_task_is_read_when_the_device_asks_for_it() -> None:
    job = Counting()
    results = LocalExecutor(job, "cpu", Path(), readers=0).run(tasks(100))
    next(results)
    assert sum(line.startswith("read") for line in job.log) == -(-(MAX_PENDING + 1) // 2)
