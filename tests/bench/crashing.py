"""A job for a Ray cluster in which one codec crashes on one clip, as a library in C may."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

from codeczoo.bench.engine import Task
from codeczoo.bench.ray_engine import BenchmarkJob, Outcomes
from codeczoo.bench.ray_process import Hands
from codeczoo.bench.reading import ReadBatch

CODEC, CLIP = "opus_12k", "r_aishell_16k.flac"


class CrashingJob(BenchmarkJob):
    """The benchmark's, with a codec that crashes."""

    def open(self, device: str, folder: Path) -> Hands[Task, Outcomes]:
        return CrashingHands(super().open(device, folder))


class CrashingHands(Hands[Task, Outcomes]):
    """Whole ones, until the clip comes."""

    def __init__(self, whole: Hands[Task, Outcomes]) -> None:
        self.whole = whole

    def begin(self, task: Task, batch: ReadBatch) -> Callable[[], Outcomes]:
        if CODEC in task.subjects and any(entry.id == CLIP for entry in batch.entries):
            os.kill(os.getpid(), signal.SIGKILL)
        return self.whole.begin(task, batch)

    def describe(self):
        return self.whole.describe()
