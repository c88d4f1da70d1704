"""One batch through one codec: coded, measured, and told as lines of results. The same here and on a cluster."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from codeczoo.base.audio import Audio
from codeczoo.base.codec import BaseCodec
from codeczoo.base.codes import Codes
from codeczoo.base.device import choose_device
from codeczoo.benchmark.protocols import Coded, find_protocol
from codeczoo.benchmark.results import audio_name
from codeczoo.benchmark.settings import Settings
from codeczoo.data.open import Entry
from codeczoo.data.read import Group, ReadBatch
from codeczoo.executor.bisect import is_out_of_memory, reason_of, run_bisecting
from codeczoo.executor.record import describe_codec, environment, number, versions
from codeczoo.metrics import Evaluation, Scores, start_evaluation
from codeczoo.registry import load_codec

log = logging.getLogger(__name__)

CLOCKS = ("audio", "encode", "decode", "metrics", "waiting")  # seconds: of audio, of work, of waiting for the pool


@dataclass(frozen=True)
class Outcome:
    """What became of one batch under one codec. Plain values: it travels between processes.

    Attributes:
        batch: its number; subject: the codec.
        rows: one a clip, in the batch's order.
        counts: for each codebook, how often each code occurred.
        seconds: spent, by `CLOCKS`.
        events: what did not go straight: batches that were halved, and why.
    """

    batch: int
    subject: str
    rows: list[dict[str, Any]]
    counts: list[dict[int, int]]
    seconds: dict[str, float]
    events: list[dict[str, Any]]


@dataclass
class Pending:
    """A batch that is coded, while the pool still measures it."""

    batch: ReadBatch
    subject: str
    parts: list[tuple[Group, Coded, Evaluation | None]] = field(default_factory=list)
    failed: dict[str, tuple[str, str]] = field(default_factory=dict)  # id → stage, reason
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(CLOCKS, 0.0))
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def done(self) -> bool:
        """Whether `finish` would not wait."""
        return all(evaluation is None or evaluation.done for _, _, evaluation in self.parts)

    def finish(self) -> Outcome:
        """Wait for the metrics; everything as lines."""
        rows: dict[str, dict[str, Any]] = {}
        counts: list[dict[int, int]] = []
        for group, coded, evaluation in self.parts:
            began = time.perf_counter()
            scores = None if evaluation is None else evaluation.finish()
            self.seconds["waiting"] += time.perf_counter() - began
            rows |= _rows(group, coded, scores)
            if coded.codes is not None:
                _count(counts, coded.codes)
        lines = []
        for entry in self.batch.entries:
            head = {"codec": self.subject, "id": entry.id, "path": entry.origin, "category": entry.category}
            if entry.id in self.failed:
                stage, reason = self.failed[entry.id]
                lines.append({**head, "status": "failed", "stage": stage, "reason": reason})
            else:
                lines.append({**head, "status": "ok", **rows[entry.id]})
        return Outcome(self.batch.index, self.subject, lines, counts, self.seconds, self.events)


class Worker:
    """The codecs of a benchmark on one device, and what is done with a batch.

    Args:
        estimates: whether the names in `settings.codecs` are of reconstructions that the data set holds.
    """

    def __init__(self, settings: Settings, estimates: bool = False) -> None:
        self.settings = settings
        self.protocol = find_protocol(settings.protocol)
        self.metrics = list(settings.metrics or self.protocol.metrics)
        self.device = choose_device(settings.device)
        self.codecs: dict[str, BaseCodec] = {}
        if not estimates:
            for name in settings.codecs:
                given = settings.weights.get(name)
                codec = load_codec(name, given, device=self.device, precision=settings.precision)
                self.codecs[codec.name] = codec
                if reason := codec.variant.decode_unsupported_reason:
                    log.warning("%s. Its codes and its speed are measured", reason)
        self.subjects = settings.codecs if estimates else tuple(self.codecs)
        self._moved: tuple[tuple[Entry, ...], list[Group]] = ((), [])

    def start(self, batch: ReadBatch, subject: str) -> Pending:
        """Encode, decode and begin to measure; when a batch fails, its halves, down to the clip whose fault it is."""
        pending = Pending(batch, subject)
        pending.failed |= {id: ("read", reason) for id, reason in batch.failures.items()}
        for group in self._on_device(batch):
            group = self._within_limit(group, pending)
            if not len(group):
                continue
            stage = _Stage(self.device, pending.seconds)
            for rows, result in run_bisecting(
                lambda rows, group=group, stage=stage: self._code(group[rows], subject, stage),  # type: ignore[misc]
                range(len(group)),
                on_split=lambda rows, error: pending.events.append(self._halved(batch, subject, rows, error)),
            ):
                if isinstance(result, Exception):
                    pending.failed[group.entries[rows[0]].id] = (stage.name, reason_of(result))
                else:
                    part = group[rows]
                    pending.parts.append((part, *result))
                    self._keep(part, result[0], subject)
        return pending

    def _code(self, group: Group, subject: str, stage: _Stage) -> tuple[Coded, Evaluation | None]:
        codec = self.codecs.get(subject)
        stage.begin("read" if codec is None else "encode")
        if codec is None:
            clips = []
            for clip in group.estimates[subject]:
                if isinstance(clip, str):
                    raise ValueError(f"no reconstruction: {clip}")
                clips.append(clip._replace(waveform=clip.waveform.to(self.device)))
            coded = self.protocol.compare(group.audio, clips)
        else:
            coded = self.protocol.code(codec, group.audio, stage)
        stage("metrics")
        evaluation = None
        if coded.estimate is not None:
            evaluation = start_evaluation(
                coded.reference,
                coded.estimate.to(torch.float32),
                metrics=self.metrics,
                num_workers=self.settings.metric_workers,
            )
        stage.end(float(group.audio.seconds.sum()))
        return coded, evaluation

    def _on_device(self, batch: ReadBatch) -> list[Group]:
        """The batch's groups on the device: moved once, for all codecs."""
        if self._moved[0] != batch.entries:
            groups = [replace(g, audio=replace(g.audio, waveform=_moved(g.audio, self.device))) for g in batch.groups]
            self._moved = (batch.entries, groups)
        return self._moved[1]

    def _within_limit(self, group: Group, pending: Pending) -> Group:
        """Without the clips that the protocol leaves out."""
        longest = self.protocol.longest
        if longest is None:
            return group
        kept = []
        for i, (entry, seconds) in enumerate(zip(group.entries, group.audio.seconds.tolist(), strict=True)):
            if seconds > longest:
                reason = f"longer than {longest:g} s ({seconds:.1f} s): protocol {self.protocol.name} leaves it out"
                pending.failed[entry.id] = ("protocol", reason)
            else:
                kept.append(i)
        return group if len(kept) == len(group) else group[kept]

    def _halved(self, batch: ReadBatch, subject: str, rows: Sequence[int], error: Exception) -> dict[str, Any]:
        what = "out of memory" if is_out_of_memory(error) else "failed"
        return {"event": f"halved: {what}", "codec": subject, "batch": batch.index, "clips": len(rows),
                "reason": reason_of(error)}  # fmt: skip

    def _keep(self, group: Group, coded: Coded, subject: str) -> None:
        """Write what is to be listened to."""
        wanted = self.settings.save_audio
        for i, entry in enumerate(group.entries):
            if coded.estimate is not None and (wanted < 0 or entry.position < wanted):
                for name, audio in (("original", coded.reference), (subject, coded.estimate)):
                    path = Path(self.settings.out) / "audio" / name / audio_name(entry.id)
                    if name != "original" or not path.exists():
                        path.parent.mkdir(parents=True, exist_ok=True)
                        audio[i].save(path)


class _Stage:
    """What is being done, and how long it takes."""

    def __init__(self, device: torch.device, seconds: dict[str, float]) -> None:
        self.name = "read"
        self._device, self._seconds = device, seconds
        self._spent: dict[str, float] = {}
        self._began = 0.0

    def begin(self, name: str) -> None:
        """A new attempt: what was spent on one that failed does not count."""
        self._spent.clear()
        self.name, self._began = name, clock(self._device)

    def __call__(self, name: str) -> None:
        now = clock(self._device)
        self._spent[self.name] = self._spent.get(self.name, 0.0) + now - self._began
        self.name, self._began = name, now

    def end(self, audio: float) -> None:
        """All went well, with so many seconds of audio."""
        self("done")
        for name, spent in self._spent.items():
            if name in self._seconds:
                self._seconds[name] += spent
        self._seconds["audio"] += audio


def clock(device: torch.device) -> float:
    """Seconds, once the device is through with what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
    return time.perf_counter()


def _moved(audio: Audio, device: torch.device) -> torch.Tensor:
    return audio.waveform.to(device, non_blocking=audio.waveform.is_pinned() if device.type == "cuda" else False)


def _rows(group: Group, coded: Coded, scores: Scores | None) -> dict[str, dict[str, Any]]:
    """What is known of each clip, by id."""
    seconds = group.audio.seconds.tolist()
    codes = coded.codes
    bits = None if codes is None else codes.num_bits.tolist()
    tokens = None if codes is None else codes.counts.sum(1).tolist()
    values = {} if scores is None else {name: scores[name].tolist() for name in scores}
    reasons: Mapping[str, Sequence[str | None]] = {} if scores is None else scores.reasons
    out = {}
    for i, entry in enumerate(group.entries):
        measured = {name: column[i] for name, column in values.items()}
        undefined = {name: reasons[name][i] for name in measured if math.isnan(measured[name])}
        stand_ins = {name: r for name in measured if name not in undefined and (r := reasons[name][i]) is not None}
        out[entry.id] = {
            "seconds": seconds[i],
            "sample_rate": group.audio.sample_rate,
            "channels": group.audio.channels,
            "bits": None if bits is None else bits[i],
            "bitrate": None if bits is None else bits[i] / seconds[i],
            "tokens": None if tokens is None else int(tokens[i]),
            "metrics": {name: number(value) for name, value in measured.items()},
            "undefined": undefined,
            **({"stand_ins": stand_ins} if stand_ins else {}),
        }
    return out


def _count(counts: list[dict[int, int]], codes: Codes) -> None:
    """Add how often each code of each codebook occurs."""
    mask = codes.mask
    for k in range(codes.num_codebooks):
        if k == len(counts):
            counts.append({})
        values, times = codes.codes[:, k][mask[:, k]].unique(return_counts=True)
        for value, n in zip(values.tolist(), times.tolist(), strict=True):
            counts[k][value] = counts[k].get(value, 0) + n


def describe(worker: Worker) -> dict[str, Any]:
    """What a reader of the results must know of the codecs, the programs and the machine."""
    return {
        "codecs": {
            name: describe_codec(worker.codecs[name]) if name in worker.codecs else describe_reconstructions(name)
            for name in worker.subjects
        },
        "versions": versions(),
        "environment": environment(worker.device),
    }


def describe_reconstructions(name: str) -> dict[str, Any]:
    """Of audio that a data set holds: what made it is known by name only."""
    return {"name": name, "weights_source": "reconstructions that the data set holds", "weights_hash": None}
