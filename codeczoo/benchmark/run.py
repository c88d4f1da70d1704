"""The benchmark: read, encode, decode, measure, write; whatever fails is named, and the rest goes on."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from tqdm import tqdm

from codeczoo.base.catalogue import find_variant
from codeczoo.benchmark.measure import CLOCKS, Outcome
from codeczoo.benchmark.protocols import find_protocol
from codeczoo.benchmark.results import FORMAT, Results
from codeczoo.benchmark.settings import Settings
from codeczoo.benchmark.summary import summarise
from codeczoo.data.batching import plan_batches
from codeczoo.data.open import Source
from codeczoo.executor.local import Engine, LocalEngine, Task, check_way, devices
from codeczoo.executor.rank import Shard, find_shard
from codeczoo.executor.record import jsonable, write_atomically
from codeczoo.executor.settings import batch_seconds
from codeczoo.metrics.table import find_metrics

DEFAULT_CODECS = (
    "opus_6k",
    "opus_12k",
    "opus_24k",
    "opus_64k",
    "mp3_32k",
    "vorbis_48k",
    "g711_ulaw",
    "g711_alaw",
)


def run_benchmark(settings: Settings, source: Source | None = None) -> dict[str, Any] | None:
    """Run (or go on with) a benchmark; returns its summary, which also lies in `settings.out`.

    Args:
        source: a data set of your own; None = that of the settings.

    Of several processes that share the work, the one that finishes last makes the summary; for the others, None.

    Raises:
        KeyError: an unknown codec, metric or protocol, before anything runs.
        FileNotFoundError, ValueError: a data set or settings that cannot be used.
        ImportError: an extra that is not installed; the message names it.
    """
    protocol = find_protocol(settings.protocol)
    shard = find_shard(settings.shard)
    check_way(settings, shard)
    metrics = tuple(metric.name for metric in find_metrics(settings.metrics or protocol.metrics))
    with devices(settings, shard) as device:
        seconds = batch_seconds(settings.max_batch_seconds, device)
        settings = replace(settings, metrics=metrics, max_batch_seconds=seconds, device=str(device))
        source = source or settings.open_source()
        settings = replace(settings, codecs=_subjects(settings, source))
        with Results(settings.out, shard.suffix) as results:
            results.settle(settings.of_record(), settings.overwrite)
            return _Run(settings, shard, source, results).go()


def _subjects(settings: Settings, source: Source) -> tuple[str, ...]:
    """The codecs, by their own names; or the reconstructions of a data set that holds some.

    Raises:
        KeyError: one that is not there.
    """
    if not source.estimates:
        return tuple(dict.fromkeys(find_variant(name).name for name in settings.codecs or DEFAULT_CODECS))
    missing = sorted(set(settings.codecs) - set(source.estimates))
    if missing:
        raise KeyError(
            f"{source.name} holds no reconstructions by {', '.join(missing)}; it holds: {', '.join(source.estimates)}"
        )
    return settings.codecs or source.estimates


class _Run:
    """One sitting of a benchmark."""

    def __init__(self, settings: Settings, shard: Shard, source: Source, results: Results) -> None:
        self.settings, self.shard, self.source, self.results = settings, shard, source, results
        self.seconds = {name: dict.fromkeys(CLOCKS, 0.0) for name in settings.codecs}
        self.events: list[dict[str, Any]] = []
        self.clips = 0  # of the data set, known once all is planned
        self.already = 0  # lines that are there from before
        self.started = time.perf_counter()

    def go(self) -> dict[str, Any] | None:
        engine = self._engine()
        if self.shard.index == 0:
            self.results.write_run(self._description(engine))
        # A data set that is streamed tells only at its end how long it is.
        total = None if self.source.count is None else self.source.count * len(self.settings.codecs) // self.shard.count
        with tqdm(total=total, unit="clip", disable=not self.settings.progress, smoothing=0.1) as bar:
            for outcome in engine.run(self._tasks(bar)):
                bar.set_description(outcome.subject, refresh=False)
                bar.update(self._take(outcome))
        write_atomically(self.results.folder / f"timing{self.shard.suffix}.json", jsonable(self._timing(engine)))
        return self._summary()

    def _engine(self) -> Engine:
        if self.settings.engine == "ray":
            from codeczoo.benchmark.job import RayEngine

            return RayEngine(self.settings, self.source)
        return LocalEngine(self.settings, self.source)

    def _tasks(self, bar: tqdm) -> Iterator[Task]:
        """What is left to do: batches of this process, each with the codecs whose lines are missing."""
        assert self.settings.max_batch_seconds is not None
        for batch in plan_batches(self.source, self.settings.batch, self.settings.max_batch_seconds):
            self.clips += len(batch.entries)
            if not self.shard.mine(batch.index):
                continue
            subjects = []
            for subject in self.settings.codecs:
                have = sum((subject, entry.id) in self.results.done for entry in batch.entries)
                bar.update(have)
                self.already += have
                if have < len(batch.entries):
                    subjects.append(subject)
            if subjects:
                yield Task(batch, tuple(subjects))

    def _take(self, outcome: Outcome) -> int:
        """Onto the disk; how many lines are new."""
        if outcome.counts:
            self.results.write_statistics(outcome.subject, outcome.batch, outcome.counts)
        self.results.note(outcome.events)
        self.events += outcome.events
        for clock, spent in outcome.seconds.items():
            self.seconds[outcome.subject][clock] += spent
        return self.results.add(outcome.rows)

    def _summary(self) -> dict[str, Any] | None:
        """Made by whoever finds all lines there."""
        with self.results.whole():
            self.results.look()
            wanted = self.clips * len(self.settings.codecs)
            mine = set(self.settings.codecs)
            if sum(codec in mine for codec, _ in self.results.done) < wanted:
                return None
            return summarise(self.results, self.settings.codecs, self.settings.metrics, self.clips)

    def _description(self, engine: Engine) -> dict[str, Any]:
        protocol = find_protocol(self.settings.protocol)
        return {
            "format": FORMAT,
            "protocol": protocol.name,
            "resampler": protocol.resampler,
            "settings": self.settings.of_record(),
            "dataset": {"name": self.source.name, "clips": self.source.count, **self.source.facts()},
            **engine.describe(),
        }

    def _timing(self, engine: Engine) -> dict[str, Any]:
        """All that depends on the clock: of this sitting alone, when a run was continued."""
        wall = time.perf_counter() - self.started
        busy = sum(spent[clock] for spent in self.seconds.values() for clock in ("encode", "decode", "metrics"))
        return {
            "seconds": wall,
            "device_busy": busy / wall / engine.devices,
            "continued": self.already > 0,
            "codecs": {
                name: {
                    **spent,
                    "encode_rtf": spent["encode"] / spent["audio"] if spent["audio"] else None,
                    "decode_rtf": spent["decode"] / spent["audio"] if spent["audio"] and spent["decode"] else None,
                }
                for name, spent in self.seconds.items()
            },
            "events": self.events,
            "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            * (1 if sys.platform == "darwin" else 1024),
            **engine.memory(),
        }
