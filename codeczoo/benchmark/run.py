"""Run a benchmark: plan batches, have an executor carry them out, write results and their summary."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from codeczoo.base.catalogue import find_variant
from codeczoo.base.device import choose_device
from codeczoo.benchmark.applications import run_steps
from codeczoo.benchmark.embeddings import write_sets
from codeczoo.benchmark.job import BenchmarkJob
from codeczoo.benchmark.measure import BenchmarkTask
from codeczoo.benchmark.outcome import CLOCKS, Outcome
from codeczoo.benchmark.protocols import PROTOCOLS, Protocol, find_protocol
from codeczoo.benchmark.results import RESULTS_FORMAT, Results
from codeczoo.benchmark.settings import Settings
from codeczoo.benchmark.summary import summarise
from codeczoo.benchmark.trials import read_trials
from codeczoo.data.batching import Batch, plan_batches
from codeczoo.data.source import Source
from codeczoo.executor.engine import check_engine, engine_device, start_executor
from codeczoo.executor.growth import Limits, parts_of
from codeczoo.executor.job import Executor
from codeczoo.executor.rank import Rank, find_rank
from codeczoo.executor.record import jsonable, write_atomically
from codeczoo.executor.settings import batch_seconds
from codeczoo.metrics.speaker_embedding import SPEAKER_NETWORKS
from codeczoo.metrics.table import find_all, with_twins

DEFAULT_CODECS = (  # those that need no download
    "zoo_16k_0_5kbps",
    "zoo_16k_1_5kbps",
    "zoo_16k_3kbps",
    "zoo_16k",
    "opus_6k",
    "opus_12k",
    "opus_24k",
    "opus_64k",
    "mp3_32k",
    "vorbis_48k",
    "g711_ulaw",
    "g711_alaw",
)
BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} codings [{elapsed}<{remaining}, {rate_fmt}]"


def run_benchmark(settings: Settings, source: Source | None = None) -> dict[str, Any] | None:
    """Run (or go on with) a benchmark; returns its summary, which is also written to `settings.out`.

    Args:
        source: a data set of your own; None = that of the settings.

    Of several processes that share the work, the last to finish writes the summary; the others return None.

    Raises:
        KeyError: an unknown codec, metric or protocol, before anything runs.
        FileNotFoundError, ValueError: a data set or settings that cannot be used.
        ImportError: an extra that is not installed; the message names it.
    """
    protocol = find_protocol(settings.protocol)
    rank = find_rank(settings.shard)
    check_engine(settings, rank)
    settings = replace(_with_trials(settings, protocol), asr=settings.asr or protocol.asr)
    metrics = tuple(with_twins(find_all(settings.metrics or protocol.metrics)))
    with engine_device(settings, rank) as device:
        seconds = batch_seconds(settings.max_batch_seconds, device)
        settings = replace(settings, metrics=metrics, max_batch_seconds=seconds, device=str(device))
        own = source is not None
        source = source or settings.open_source()
        settings = replace(settings, codecs=_codec_names(settings, source))
        with Results(settings.out, rank.suffix) as results:
            limits = results.check_settings(settings.of_record(), settings.overwrite, may_grow=not own)
            return _BenchmarkSession(settings, rank, source, results, limits).run()


def _with_trials(settings: Settings, protocol: Protocol) -> Settings:
    """The same, with the audio of all clips kept where there is a trial list.

    Raises:
        FileNotFoundError, ValueError: a trial list that cannot be read, or that the protocol has no use for; another
            speaker network than those that there are.
    """
    if settings.speaker_network not in SPEAKER_NETWORKS:
        there = ", ".join(SPEAKER_NETWORKS)
        raise ValueError(f"there is no speaker network {settings.speaker_network!r}; there are: {there}")
    if settings.trials is None:
        return settings
    if not any(step.kind == "trials" for step in protocol.steps):
        able = [one.name for one in PROTOCOLS.values() if any(step.kind == "trials" for step in one.steps)]
        raise ValueError(f"protocol {protocol.name} verifies no speakers: --trials goes with {', '.join(able)}")
    read_trials(settings.trials)
    return replace(settings, save_audio=-1)


def _codec_names(settings: Settings, source: Source) -> tuple[str, ...]:
    """Names of the codecs, without aliases; or of the reconstructions that the data set holds.

    Raises:
        KeyError: an unknown codec, or a reconstruction that the data set does not hold.
    """
    if not source.estimates:
        return tuple(dict.fromkeys(find_variant(name).name for name in settings.codecs or DEFAULT_CODECS))
    missing = sorted(set(settings.codecs) - set(source.estimates))
    if missing:
        raise KeyError(
            f"{source.name} holds no reconstructions by {', '.join(missing)}; it holds: {', '.join(source.estimates)}"
        )
    return settings.codecs or source.estimates


class _BenchmarkSession:
    """One process's time at a benchmark. It counts codings: a coding is one clip with one codec."""

    def __init__(self, settings: Settings, rank: Rank, source: Source, results: Results, limits: Limits) -> None:
        self.settings, self.rank, self.source, self.results = settings, rank, source, results
        self.limits = limits
        self.seconds = {name: dict.fromkeys(CLOCKS, 0.0) for name in settings.codecs}
        self.events: list[dict[str, Any]] = []
        self.clips = 0  # of the data set; complete once all batches are planned
        self.already = 0  # codings of earlier sessions
        self.started = time.perf_counter()

    def run(self) -> dict[str, Any] | None:
        out = Path(self.settings.out)
        executor = start_executor(BenchmarkJob(self.source, self.settings), self.settings, out)
        description = executor.describe()
        self.results.check_weights(description["codecs"])
        if self.rank.number == 0:
            self.results.write_run({**self._description(), **description})
        total = None  # the number of clips of a streamed data set is known only at its end
        if self.source.count is not None:
            total = self.source.count * len(self.settings.codecs) // self.rank.world_size
        with tqdm(
            total=total,
            unit="coding",
            bar_format=None if total is None else BAR,
            disable=not self.settings.progress,
            smoothing=0.1,
        ) as bar:
            for outcome in executor.run(self._tasks(bar)):
                bar.set_description(outcome.codec, refresh=False)
                bar.update(self._write(outcome))
        write_atomically(out / f"timing{self.rank.suffix}.json", jsonable(self._timing(executor)))
        return self._summary()

    def _tasks(self, bar: tqdm) -> Iterator[BenchmarkTask]:
        """This rank's batches, each with the codecs whose lines are missing."""
        for batch in self._batches():
            if not self.rank.owns(batch.index):
                continue
            missing = []
            for name in self.settings.codecs:
                there = sum((name, entry.id) in self.results.done for entry in batch.entries)
                bar.update(there)
                self.already += there
                if there < len(batch.entries):
                    missing.append(name)
            if missing:
                yield BenchmarkTask(batch, tuple(missing))

    def _batches(self) -> Iterator[Batch]:
        """All batches of the data set; those of a smaller limit that the run began with are as they were then."""
        assert self.settings.max_batch_seconds is not None
        index = 0
        for part in parts_of(self.source, self.settings, self.limits):
            bounds = (self.settings.batch, self.settings.max_batch_seconds)
            for batch in plan_batches(part, *bounds, first=index, position=self.clips):
                index += 1
                self.clips += len(batch.entries)
                yield batch

    def _write(self, outcome: Outcome) -> int:
        """Write an outcome to the disk; returns the number of new lines."""
        if outcome.counts:
            self.results.write_statistics(outcome.codec, outcome.batch, outcome.counts)
        if outcome.sets:
            write_sets(self.results.sets_folder(outcome.codec) / f"{outcome.batch:06d}.npz", outcome.sets)
        self.results.log_events(outcome.events)
        self.events += outcome.events
        for clock, spent in outcome.seconds.items():
            self.seconds[outcome.codec][clock] += spent
        return self.results.add(outcome.rows)

    def _summary(self) -> dict[str, Any] | None:
        """Write the summary if all lines are there; the process that finishes last does it."""
        with self.results.summary_lock():
            self.results.reload_done()
            wanted = self.clips * len(self.settings.codecs)
            names = set(self.settings.codecs)
            if sum(name in names for name, _ in self.results.done) < wanted:
                return None
            summary = summarise(self.results, self.settings.codecs, self.settings.metrics, self.clips)
            if steps := find_protocol(self.settings.protocol).steps:
                out = Path(self.settings.out)
                summary["applications"] = jsonable(
                    run_steps(
                        steps,
                        out,
                        summary,
                        trials=self.settings.trials,
                        speaker_network=self.settings.speaker_network,
                        device=choose_device(None if self.settings.engine == "ray" else self.settings.device),
                    )
                )
                write_atomically(out / "summary.json", summary)
            return summary

    def _description(self) -> dict[str, Any]:
        protocol = find_protocol(self.settings.protocol)
        return {
            "format": RESULTS_FORMAT,
            "limits": list(self.limits),
            "protocol": protocol.name,
            "resampler": protocol.resampler,
            "settings": self.settings.of_record(),
            "dataset": {"name": self.source.name, "clips": self.source.count, **self.source.facts()},
        }

    def _timing(self, executor: Executor[BenchmarkTask, Outcome]) -> dict[str, Any]:
        """Everything that depends on the clock: this session's, and seconds of codecs that only earlier ones ran."""
        wall = time.perf_counter() - self.started
        # A codec that was measured in an earlier session keeps its seconds.
        path = Path(self.settings.out) / f"timing{self.rank.suffix}.json"
        before = {} if self.settings.overwrite or not path.exists() else json.loads(path.read_text("utf-8"))["codecs"]
        kept = {name: spent for name, spent in before.items() if not self.seconds.get(name, {}).get("audio")}
        busy = sum(spent[clock] for spent in self.seconds.values() for clock in ("encode", "decode", "metrics"))
        return {
            "seconds": wall,
            "device_busy": busy / wall / executor.devices,
            "continued": self.already > 0,
            "codecs": kept
            | {
                name: {
                    **spent,
                    "encode_rtf": spent["encode"] / spent["audio"] if spent["audio"] else None,
                    "decode_rtf": spent["decode"] / spent["audio"] if spent["audio"] and spent["decode"] else None,
                }
                for name, spent in self.seconds.items()
                if name not in kept
            },
            "events": self.events,
            "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            * (1 if sys.platform == "darwin" else 1024),
            **executor.memory(),
        }
