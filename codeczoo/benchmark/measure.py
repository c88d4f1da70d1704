"""One batch through one codec: encoded, decoded, measured, and written as rows of the results."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from codeczoo.base.codec import BaseCodec
from codeczoo.base.codes import Codes
from codeczoo.base.device import choose_device, is_out_of_memory
from codeczoo.base.errors import STOPS
from codeczoo.benchmark.embeddings import Embedded, Embedder, Sets, add_sets
from codeczoo.benchmark.protocols import CodecOutput, find_protocol
from codeczoo.benchmark.results import audio_name
from codeczoo.benchmark.settings import Settings
from codeczoo.data.read import Group, ReadBatch
from codeczoo.data.source import Entry
from codeczoo.executor.bisect import reason_of, run_bisecting
from codeczoo.executor.job import BatchTask, JobWorker, Pending
from codeczoo.executor.record import describe_codec, environment, number, versions
from codeczoo.metrics import RUN_METRICS, Evaluation, Scores, start_evaluation
from codeczoo.metrics.networks.models import with_room
from codeczoo.metrics.networks_record import describe_networks
from codeczoo.metrics.pool import PoolError
from codeczoo.metrics.table import find_all
from codeczoo.registry import load_codec

log = logging.getLogger(__name__)

CLOCKS = ("audio", "encode", "decode", "metrics", "waiting")  # seconds: of audio, of work, of waiting for the pool


@dataclass(frozen=True)
class BenchmarkTask(BatchTask):
    """A batch, and the codecs (or reconstructions) whose rows of it are missing."""

    codecs: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """The results of one batch with one codec. Plain values: they travel between processes.

    Attributes:
        batch: its index; codec: its name, or that of a reconstruction.
        rows: one a clip, in the batch's order.
        counts: for each codebook, how often each code occurred.
        seconds: spent, by `CLOCKS`.
        events: batches that were halved, processes that died, and why.
        sets: what the clips add to the sets of metrics of the run.
    """

    batch: int
    codec: str
    rows: list[dict[str, Any]]
    counts: list[dict[int, int]]
    seconds: dict[str, float]
    events: list[dict[str, Any]]
    sets: Sets = field(default_factory=dict)


class Evaluating(NamedTuple):
    """The metrics of an output, in progress: those of clips (None without a decoder), and what it adds to the run's."""

    scores: Evaluation | None
    embedded: Embedded


class Measured(NamedTuple):
    """Rows by the ids of clips, counts of codes by codebook, and what the clips add to the sets of the run."""

    rows: dict[str, dict[str, Any]]
    counts: list[dict[int, int]]
    sets: Sets


@dataclass
class PendingOutcome(Pending[Outcome]):
    """A batch that one codec is done with, while the metric pool may still work at it.

    Attributes:
        measured: groups of clips, each with its output and its evaluation.
        failed: id → stage and reason.
        evaluate: starts the evaluation of a group's output.
    """

    batch: ReadBatch
    codec: str
    measured: list[tuple[Group, CodecOutput, Evaluating]] = field(default_factory=list)
    failed: dict[str, tuple[str, str]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(CLOCKS, 0.0))
    events: list[dict[str, Any]] = field(default_factory=list)
    evaluate: Callable[[Group, CodecOutput], Evaluating] = lambda group, output: Evaluating(None, Embedded())

    @property
    def done(self) -> bool:
        return all(evaluation.scores is None or evaluation.scores.done for _, _, evaluation in self.measured)

    def finish(self) -> Outcome:
        rows: dict[str, dict[str, Any]] = {}
        counts: list[dict[int, int]] = []
        sets: Sets = {}
        for group, output, evaluation in self.measured:
            began = time.perf_counter()
            for part, result in self._finished(group, output, evaluation):
                if isinstance(result, Exception):
                    self.failed[group.entries[part[0]].id] = ("metrics", reason_of(result))
                else:
                    rows |= result.rows
                    _add(counts, result.counts)
                    add_sets(sets, result.sets)
            self.seconds["waiting"] += time.perf_counter() - began
        lines = []
        for entry in self.batch.entries:
            head = {"codec": self.codec, "id": entry.id, "path": entry.origin, "category": entry.category}
            if entry.speaker is not None:
                head["speaker"] = entry.speaker
            if entry.id in self.failed:
                stage, reason = self.failed[entry.id]
                lines.append({**head, "status": "failed", "stage": stage, "reason": reason})
            else:
                lines.append({**head, "status": "ok", **rows[entry.id]})
        return Outcome(self.batch.index, self.codec, lines, counts, self.seconds, self.events, sets)

    def _finished(
        self, group: Group, output: CodecOutput, evaluation: Evaluating
    ) -> Iterator[tuple[list[int], Measured | Exception]]:
        """What the rows of a group say, once the metric pool is done with it; where that fails, of its halves, down to
        the clip at fault.

        Raises:
            ImportError, PoolError: no clip is to blame.
        """
        try:
            measured = _measured(group, output, evaluation)
        except (ImportError, PoolError, *STOPS):
            raise
        except BaseException as error:  # noqa: BLE001 (whatever it is, it is one clip's failure)
            log.info("%s in the metrics of %d clips; trying halves", reason_of(error), len(group))
        else:
            yield list(range(len(group))), measured
            return
        again = lambda rows: _measured(group[rows], output[rows], self.evaluate(group[rows], output[rows]))  # noqa: E731
        yield from run_bisecting(again, range(len(group)))


class BenchmarkWorker(JobWorker[BenchmarkTask, ReadBatch, Outcome]):
    """The codecs of a benchmark on one device.

    Args:
        settings: `device` is the worker's; `out` is where audio is kept.
        has_estimates: the names in `settings.codecs` are of reconstructions that the data set holds.
    """

    def __init__(self, settings: Settings, has_estimates: bool = False) -> None:
        self.settings = settings
        self.protocol = find_protocol(settings.protocol)
        names = find_all(settings.metrics or self.protocol.metrics)
        self.metrics = [name for name in names if name not in RUN_METRICS]
        self.device = choose_device(settings.device)
        self.codecs: dict[str, BaseCodec] = {}
        if not has_estimates:
            for name in settings.codecs:
                given = settings.weights.get(name)
                codec = load_codec(name, given, device=self.device, precision=settings.precision)
                self.codecs[codec.name] = codec
                if reason := codec.variant.decode_unsupported_reason:
                    log.warning("%s. Its codes and its speed are measured", reason)
        self.embedder = Embedder([name for name in names if name in RUN_METRICS], self.device)
        self.names = settings.codecs if has_estimates else tuple(self.codecs)
        self._moved: tuple[tuple[Entry, ...], list[Group]] = ((), [])

    def start(self, task: BenchmarkTask, read: ReadBatch) -> Iterator[PendingOutcome]:
        """Encode, decode and begin to measure, codec by codec."""
        for name in task.codecs:
            yield self._start_codec(read, name)

    def describe(self) -> dict[str, Any]:
        return {
            "codecs": {
                name: describe_codec(self.codecs[name]) if name in self.codecs else describe_reconstructions(name)
                for name in self.names
            },
            "networks": {
                **describe_networks(self.metrics, self.device, self.settings.recogniser),
                **self.embedder.facts,
            },
            "versions": versions(),
            "environment": environment(self.device),
        }

    def _start_codec(self, batch: ReadBatch, name: str) -> PendingOutcome:
        """The batch with one codec; when that fails, its halves, down to the clip at fault."""
        pending = PendingOutcome(batch, name, evaluate=self._evaluate)
        pending.failed |= {id: ("read", reason) for id, reason in batch.failures.items()}
        for group in self._on_device(batch):
            group = self._within_limit(group, pending)
            if not len(group):
                continue
            clock = _StageClock(self.device, pending.seconds)
            for rows, result in run_bisecting(
                lambda rows, group=group, clock=clock: self._code(group[rows], name, clock),  # type: ignore[misc]
                range(len(group)),
                on_split=lambda rows, error: pending.events.append(_halved(batch, name, rows, error)),
            ):
                if isinstance(result, Exception):
                    pending.failed[group.entries[rows[0]].id] = (clock.stage, reason_of(result))
                else:
                    output, evaluation = result
                    coded = group[rows]
                    pending.measured.append((coded, output, evaluation))
                    try:
                        self._keep_audio(coded, output, name)
                    except Exception as error:  # noqa: BLE001 (a NaN in it, a full disk: it is measured all the same)
                        log.warning("audio of %s is not kept: %s", name, reason_of(error))
                        pending.events.append(
                            {"event": "audio not kept", "codec": name, "batch": batch.index, "clips": len(coded),
                             "reason": reason_of(error)}
                        )  # fmt: skip
        return pending

    def _code(self, group: Group, name: str, clock: _StageClock) -> tuple[CodecOutput, Evaluating]:
        """Where memory is short the networks of the metrics go before the batch is halved."""
        return with_room(lambda: self._attempt(group, name, clock))

    def _attempt(self, group: Group, name: str, clock: _StageClock) -> tuple[CodecOutput, Evaluating]:
        codec = self.codecs.get(name)
        clock.restart("read" if codec is None else "encode")
        group = _moved(group, self.device)
        if codec is None:
            clips = []
            for clip in group.estimates[name]:
                if isinstance(clip, str):
                    raise ValueError(f"no reconstruction: {clip}")
                clips.append(clip._replace(waveform=clip.waveform.to(self.device)))
            output = self.protocol.compare(group.audio, clips)
        else:
            output = self.protocol.code(codec, group.audio, clock)
        clock("metrics")
        evaluation = self._evaluate(group, output)
        clock.succeed(float(group.audio.seconds.sum()))
        return output, evaluation

    def _evaluate(self, group: Group, output: CodecOutput) -> Evaluating:
        embedded = self.embedder(group, output)
        if output.estimate is None or not self.metrics:
            return Evaluating(None, embedded)
        evaluation = start_evaluation(
            output.reference,
            output.estimate.to(torch.float32),
            metrics=self.metrics,
            num_workers=self.settings.metric_workers,
            transcripts=[entry.transcript for entry in group.entries],
            recogniser=self.settings.recogniser,
        )
        return Evaluating(evaluation, embedded)

    def _on_device(self, batch: ReadBatch) -> list[Group]:
        """The batch's groups on the device, moved there once for all codecs. Where it has no room for a group, that
        stays where it is, and `_code` moves what it tries."""
        if self._moved[0] != batch.entries:
            groups = []
            for group in batch.groups:
                try:
                    groups.append(_moved(group, self.device))
                except Exception as error:  # noqa: BLE001 (of each part of it that cannot be moved, `_code` says why)
                    log.info("%s while %d clips were moved", reason_of(error), len(group))
                    groups.append(group)
            self._moved = (batch.entries, groups)
        return self._moved[1]

    def _within_limit(self, group: Group, pending: PendingOutcome) -> Group:
        """The group without the clips that are longer than the protocol's limit; these fail."""
        limit = self.protocol.max_seconds
        if limit is None:
            return group
        kept = []
        for i, (entry, seconds) in enumerate(zip(group.entries, group.audio.seconds.tolist(), strict=True)):
            if seconds > limit:
                reason = f"longer than {limit:g} s ({seconds:.1f} s): protocol {self.protocol.name} leaves it out"
                pending.failed[entry.id] = ("protocol", reason)
            else:
                kept.append(i)
        return group if len(kept) == len(group) else group[kept]

    def _keep_audio(self, group: Group, output: CodecOutput, name: str) -> None:
        """Write the audio of the clips that `save_audio` asks for."""
        wanted = self.settings.save_audio
        for i, entry in enumerate(group.entries):
            if output.estimate is not None and (wanted < 0 or entry.position < wanted):
                for folder, audio in (("original", output.reference), (name, output.estimate)):
                    path = Path(self.settings.out) / "audio" / folder / audio_name(entry.id)
                    if folder != "original" or not path.exists():
                        path.parent.mkdir(parents=True, exist_ok=True)
                        audio[i].save(path)


class _StageClock:
    """Which stage (read, encode, decode, metrics) a batch is in, and the seconds that each takes.

    Attributes:
        stage: the present one; after an error, the one that failed.
    """

    def __init__(self, device: torch.device, seconds: dict[str, float]) -> None:
        self.stage = "read"
        self._device, self._seconds = device, seconds
        self._spent: dict[str, float] = {}
        self._began = 0.0

    def restart(self, stage: str) -> None:
        """Begin an attempt. The seconds of an attempt that failed do not count."""
        self._spent.clear()
        self.stage, self._began = stage, now(self._device)

    def __call__(self, stage: str) -> None:
        """The present stage ends and `stage` begins."""
        time_now = now(self._device)
        self._spent[self.stage] = self._spent.get(self.stage, 0.0) + time_now - self._began
        self.stage, self._began = stage, time_now

    def succeed(self, audio: float) -> None:
        """End the attempt and add its seconds, and those of its `audio`, to `seconds`."""
        self("done")
        for stage, spent in self._spent.items():
            if stage in self._seconds:
                self._seconds[stage] += spent
        self._seconds["audio"] += audio


def now(device: torch.device) -> float:
    """Seconds of a clock, read once the device has finished its queue."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
    return time.perf_counter()


def _halved(batch: ReadBatch, name: str, rows: Sequence[int], error: Exception) -> dict[str, Any]:
    what = "out of memory" if is_out_of_memory(error) else "failed"
    return {"event": f"halved: {what}", "codec": name, "batch": batch.index, "clips": len(rows),
            "reason": reason_of(error)}  # fmt: skip


def _moved(group: Group, device: torch.device) -> Group:
    """The group with its audio on the device."""
    waveform = group.audio.waveform
    if waveform.device == device:
        return group
    pinned = device.type == "cuda" and waveform.is_pinned()
    return replace(group, audio=replace(group.audio, waveform=waveform.to(device, non_blocking=pinned)))


def _measured(group: Group, output: CodecOutput, evaluation: Evaluating) -> Measured:
    scores = None if evaluation.scores is None else evaluation.scores.finish()
    rows = _rows(group, output, scores)
    for id_, undefined in evaluation.embedded.undefined.items():
        rows[id_]["undefined"] |= undefined
    return Measured(rows, _counts(output.codes), evaluation.embedded.sets)


def _rows(group: Group, output: CodecOutput, scores: Scores | None) -> dict[str, dict[str, Any]]:
    """What a row says of each clip, by id."""
    seconds = group.audio.seconds.tolist()
    codes = output.codes
    bits = None if codes is None else codes.num_bits.tolist()
    tokens = None if codes is None else codes.counts.sum(1).tolist()
    values = {} if scores is None else {name: scores[name].tolist() for name in scores}
    reasons: Mapping[str, Sequence[str | None]] = {} if scores is None else scores.reasons
    rows = {}
    for i, entry in enumerate(group.entries):
        measured = {name: column[i] for name, column in values.items()}
        undefined = {name: reasons[name][i] for name in measured if math.isnan(measured[name])}
        stand_ins = {name: r for name in measured if name not in undefined and (r := reasons[name][i]) is not None}
        rows[entry.id] = {
            "seconds": seconds[i],
            "sample_rate": group.audio.sample_rate,
            "channels": group.audio.channels,
            "bits": None if bits is None else number(bits[i]),
            "bitrate": None if bits is None else number(bits[i] / seconds[i]),
            "tokens": None if tokens is None else int(tokens[i]),
            "metrics": {name: number(value) for name, value in measured.items()},
            "undefined": undefined,
            **({"stand_ins": stand_ins} if stand_ins else {}),
            **({"details": made} if (made := _details(scores, i)) else {}),
        }
    return rows


def _details(scores: Scores | None, clip: int) -> dict[str, Any]:
    """What the values of one clip were made of, by metric."""
    results = {} if scores is None else scores.results
    return {name: dict(made) for name, result in results.items() if result.details and (made := result.details[clip])}


def _counts(codes: Codes | None) -> list[dict[int, int]]:
    """For each codebook, how often each code occurs."""
    if codes is None:
        return []
    mask, counts = codes.mask, []
    for k in range(codes.num_codebooks):
        values, times = codes.codes[:, k][mask[:, k]].unique(return_counts=True)
        counts.append(dict(zip(values.tolist(), times.tolist(), strict=True)))
    return counts


def _add(total: list[dict[int, int]], more: list[dict[int, int]]) -> None:
    """Add counts to counts."""
    total.extend({} for _ in range(len(more) - len(total)))
    for k, counts in enumerate(more):
        for code, times in counts.items():
            total[k][code] = total[k].get(code, 0) + times


def describe_reconstructions(name: str) -> dict[str, Any]:
    """For the record, of audio that a data set holds: only the name of its codec is known."""
    return {"name": name, "weights_source": "reconstructions that the data set holds", "weights_hash": None}
