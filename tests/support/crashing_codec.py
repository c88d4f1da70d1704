"""A benchmark in which one codec crashes on one clip, as a library in C may, or a worker raises a surprise."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

from codeczoo.benchmark.job import BenchmarkJob
from codeczoo.benchmark.measure import BenchmarkTask
from codeczoo.benchmark.outcome import Outcome
from codeczoo.data.read import ReadBatch
from codeczoo.executor.job import JobWorker, Pending

CODEC, CLIP = "opus_12k", "r_aishell_16k.flac"


class CrashingJob(BenchmarkJob):
    """The benchmark's, with a codec that crashes."""

    def start_worker(self, device: str, folder: Path) -> JobWorker[BenchmarkTask, ReadBatch, Outcome]:
        return CrashingWorker(super().start_worker(device, folder))


class CrashingWorker(JobWorker[BenchmarkTask, ReadBatch, Outcome]):
    """The benchmark's, until the clip comes."""

    def __init__(self, whole: JobWorker[BenchmarkTask, ReadBatch, Outcome]) -> None:
        self.whole, self.device = whole, whole.device

    def start(self, task: BenchmarkTask, read: ReadBatch) -> Iterator[Pending[Outcome]]:
        if CODEC in task.codecs and any(entry.id == CLIP for entry in read.entries):
            os.kill(os.getpid(), signal.SIGKILL)
        return self.whole.start(task, read)

    def describe(self):
        return self.whole.describe()


class RaisingJob(BenchmarkJob):
    """The benchmark's, with a worker that does not get through a batch with the clip."""

    def start_worker(self, device: str, folder: Path) -> JobWorker[BenchmarkTask, ReadBatch, Outcome]:
        return RaisingWorker(super().start_worker(device, folder))


class RaisingWorker(CrashingWorker):
    """The benchmark's, until the clip comes."""

    def start(self, task: BenchmarkTask, read: ReadBatch) -> Iterator[Pending[Outcome]]:
        if CODEC in task.codecs and any(entry.id == CLIP for entry in read.entries):
            raise MemoryError("no room for the batch")
        return self.whole.start(task, read)
