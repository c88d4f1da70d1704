"""The benchmark as a `Job`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from codeczoo.benchmark.embeddings import Sets, add_sets
from codeczoo.benchmark.measure import BenchmarkTask, BenchmarkWorker
from codeczoo.benchmark.outcome import CLOCKS, Outcome, PendingOutcome
from codeczoo.benchmark.settings import Settings
from codeczoo.data.read import ReadBatch
from codeczoo.executor.job import AudioJob, JobWorker


@dataclass
class BenchmarkJob(AudioJob[BenchmarkTask, Outcome]):
    """Encode, decode and measure batches of a data set; or measure the reconstructions that it holds."""

    settings: Settings

    @property
    def estimates(self) -> tuple[str, ...]:
        return self.settings.codecs if self.source.estimates else ()

    def for_cluster(self, cpus: int) -> BenchmarkJob:
        workers = cpus if self.settings.metric_workers is None else self.settings.metric_workers
        return replace(self, source=self.source.for_reading(), settings=replace(self.settings, metric_workers=workers))

    def start_worker(self, device: str, folder: Path) -> JobWorker[BenchmarkTask, ReadBatch, Outcome]:
        return BenchmarkWorker(replace(self.settings, device=device, out=str(folder)), bool(self.source.estimates))

    def split_for_retry(self, task: BenchmarkTask) -> Sequence[BenchmarkTask]:
        """Codec by codec: a clip may crash one of them only."""
        return [replace(task, codecs=(name,)) for name in task.codecs]

    def failed(self, task: BenchmarkTask, stage: str, reason: str) -> Outcome:
        (name,) = task.codecs
        read = ReadBatch(task.batch.index, tuple(replace(entry, key=None) for entry in task.batch.entries), (), {})
        event = {"event": "process died", "codec": name, "batch": read.index, "clips": len(read.entries),
                 "reason": reason}  # fmt: skip
        failed = {entry.id: (stage, reason) for entry in read.entries}
        return PendingOutcome(read, name, failed=failed, events=[event]).finish()

    def merge(self, task: BenchmarkTask, results: Sequence[Outcome]) -> Outcome:
        (name,) = task.codecs
        counts: list[dict[int, int]] = []
        sets: Sets = {}
        for outcome in results:
            add_sets(sets, outcome.sets)
            counts += [{} for _ in range(len(outcome.counts) - len(counts))]
            for total, more in zip(counts, outcome.counts, strict=False):
                for code, times in more.items():
                    total[code] = total.get(code, 0) + times
        return Outcome(
            task.batch.index,
            name,
            [row for outcome in results for row in outcome.rows],
            counts,
            {clock: sum(outcome.seconds[clock] for outcome in results) for clock in CLOCKS},
            [event for outcome in results for event in outcome.events],
            sets,
        )
