"""One batch through one codec: encoded, decoded, measured, and written as rows of the results."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from codeczoo.base.codec import BaseCodec
from codeczoo.base.device import choose_device, is_out_of_memory, seconds_now
from codeczoo.benchmark.embeddings import Embedder
from codeczoo.benchmark.outcome import Evaluating, Outcome, PendingOutcome
from codeczoo.benchmark.protocols import CodecOutput, find_protocol
from codeczoo.benchmark.results import audio_name
from codeczoo.benchmark.settings import Settings
from codeczoo.data.read import Group, ReadBatch
from codeczoo.data.source import Entry
from codeczoo.executor.bisect import reason_of, run_bisecting
from codeczoo.executor.job import BatchTask, JobWorker
from codeczoo.executor.record import describe_codec, environment, versions
from codeczoo.metrics import RUN_METRICS, start_evaluation
from codeczoo.metrics.networks.models import with_room
from codeczoo.metrics.networks_record import describe_networks
from codeczoo.metrics.table import find_all
from codeczoo.registry import load_codec

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BenchmarkTask(BatchTask):
    """A batch, and the codecs (or reconstructions) whose rows of it are missing."""

    codecs: tuple[str, ...]


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
                how: dict[str, Any] = {"precision": settings.precision, "compile": settings.compile}
                codec = load_codec(name, given, device=self.device, **how)
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
        self.stage, self._began = stage, seconds_now(self._device)

    def __call__(self, stage: str) -> None:
        """The present stage ends and `stage` begins."""
        time_now = seconds_now(self._device)
        self._spent[self.stage] = self._spent.get(self.stage, 0.0) + time_now - self._began
        self.stage, self._began = stage, time_now

    def succeed(self, audio: float) -> None:
        """End the attempt and add its seconds, and those of its `audio`, to `seconds`."""
        self("done")
        for stage, spent in self._spent.items():
            if stage in self._seconds:
                self._seconds[stage] += spent
        self._seconds["audio"] += audio


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


def describe_reconstructions(name: str) -> dict[str, Any]:
    """For the record, of audio that a data set holds: only the name of its codec is known."""
    return {"name": name, "weights_source": "reconstructions that the data set holds", "weights_hash": None}
