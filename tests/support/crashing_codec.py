"""A job for a Ray cluster in which one codec crashes on one clip, as a library in C may."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

from codeczoo.benchmark.job import BenchmarkJob, Outcomes
from codeczoo.data.read import ReadBatch
from codeczoo.executor.job import JobWorker
from codeczoo.executor.local import Task

CODEC, CLIP = "opus_12k", "r_aishell_16k.flac"


class CrashingJob(BenchmarkJob):
    """The benchmark's, with a codec that crashes."""

    def open(self, device: str, folder: Path) -> JobWorker[Task, Outcomes]:
        return CrashingHands(super().open(device, folder))


class CrashingHands(JobWorker[Task, Outcomes]):
    """Whole ones, until the clip comes."""

    def __init__(self, whole: JobWorker[Task, Outcomes]) -> None:
        self.whole = whole

    def begin(self, task: Task, batch: ReadBatch) -> Callable[[], Outcomes]:
        if CODEC in task.subjects and any(entry.id == CLIP for entry in batch.entries):
            os.kill(os.getpid(), signal.SIGKILL)
        return self.whole.begin(task, batch)

    def describe(self):
        return self.whole.describe()
