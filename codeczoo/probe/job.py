"""Encoding clips, and changed copies of them, as a `Job`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from codeczoo.base.audio import Audio
from codeczoo.base.codes import Codes
from codeczoo.data.read import Group, ReadBatch
from codeczoo.executor.bisect import reason_of, run_bisecting
from codeczoo.executor.job import AudioJob, BatchTask, Finished, JobWorker
from codeczoo.executor.record import describe_codec, environment, versions
from codeczoo.probe.agreement import equal_codes
from codeczoo.probe.changes import amplified, noisy, shifted
from codeczoo.probe.settings import ProbeSettings
from codeczoo.registry import load_codec

SILENT, SHORT = "silent: noise has no level", "too short to be shifted"
Counts = tuple[np.ndarray, np.ndarray]  # equal and all codes of a clip, [K] each


@dataclass
class ProbedClip:
    """What is found of one clip.

    Attributes:
        codes: [K, N], PAD behind each codebook's own.
        equal: name of a comparison → counts. Those of re-encoding are "first-2" (the second codes against the clip's
            own) and "previous-2" (against the first ones).
        left_out: name of a comparison → why it was not made.
    """

    id: str
    seconds: float
    codes: np.ndarray
    equal: dict[str, Counts] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ProbedBatch:
    """The result of a task. It travels between processes.

    Attributes:
        failed: id, stage and reason.
    """

    clips: list[ProbedClip] = field(default_factory=list)
    failed: list[dict[str, str]] = field(default_factory=list)


class ProbeWorker(JobWorker[BatchTask, ReadBatch, ProbedBatch]):
    """One codec, the first of the settings, on one device."""

    def __init__(self, settings: ProbeSettings) -> None:
        self.settings, name = settings, settings.codecs[0]
        self.codec = load_codec(
            name,
            settings.weights.get(name),
            device=settings.device,
            precision=settings.precision,
            compile=settings.compile,
        )
        self.device = self.codec.device
        self.num_codebooks = self.codec.choose_codebooks(settings.num_codebooks)

    def start(self, task: BatchTask, read: ReadBatch) -> Iterator[Finished[ProbedBatch]]:
        """Encode a batch; when that fails, its halves, down to the clip at fault. Then the same with each change."""
        batch = ProbedBatch()
        batch.failed.extend(_failure(id, "read", reason) for id, reason in read.failures.items())
        for group in read.groups:
            for rows, result in run_bisecting(partial(self._encoded, group), range(len(group))):
                if isinstance(result, Exception):
                    batch.failed.append(_failure(group.entries[rows[0]].id, "encode", reason_of(result)))
                else:
                    batch.clips.extend(self._compared([group.entries[row].id for row in rows], *result, batch.failed))
        yield Finished(batch)

    def _encoded(self, group: Group, rows: list[int]) -> tuple[Audio, Codes]:
        audio = self.codec.prepare(group.audio if len(rows) == len(group) else group.audio[rows])
        return audio, self.codec.encode(audio, num_codebooks=self.num_codebooks)

    def _compared(
        self, ids: Sequence[str], audio: Audio, codes: Codes, failed: list[dict[str, str]]
    ) -> list[ProbedClip]:
        """Clips that are encoded already, with all comparisons."""
        rows = codes.cpu()
        clips = [
            ProbedClip(id, seconds, row.codes[0].numpy())
            for id, seconds, row in zip(ids, audio.seconds.tolist(), rows, strict=True)
        ]
        settings = self.settings
        silent = [not bool(clip.any()) for clip in audio.split()]
        short = (audio.lengths <= settings.shift).tolist()
        stages: dict[str, tuple[Callable[[Audio, list[int]], Audio], list[bool], str]] = {
            "shift": (lambda part, _: shifted(part, settings.shift), short, SHORT),
            "noise": (lambda part, own: noisy(part, [ids[i] for i in own], settings.snr), silent, SILENT),
            "gain": (lambda part, _: amplified(part, settings.gain), [False] * len(ids), ""),
        }
        for name, (change, out, why) in stages.items():
            for clip, left in zip(clips, out, strict=True):
                if left:
                    clip.left_out[name] = why
            kept = [i for i, left in enumerate(out) if not left]
            work = partial(self._changed, name, change, audio, codes)
            self._collect(name, work, kept, clips, failed)
        if settings.repeats and self.codec.supports_decode:
            self._collect("reencode", partial(self._reencoded, codes), list(range(len(ids))), clips, failed)
        return clips

    def _changed(
        self, name: str, change: Callable[[Audio, list[int]], Audio], audio: Audio, codes: Codes, rows: list[int]
    ) -> list[dict[str, Counts]]:
        other = self.codec.encode(change(audio[rows], rows), num_codebooks=self.num_codebooks)
        return [{name: counts} for counts in _by_clip(codes[rows], other)]

    def _reencoded(self, codes: Codes, rows: list[int]) -> list[dict[str, Counts]]:
        first = previous = codes[rows]
        found: list[dict[str, Counts]] = [{} for _ in rows]
        for i in range(1, self.settings.repeats + 1):
            again = self.codec.encode(self.codec.decode(previous), num_codebooks=self.num_codebooks)
            for name, other in (("first", first), ("previous", previous)):
                for clip, counts in zip(found, _by_clip(other, again), strict=True):
                    clip[f"{name}-{i}"] = counts
            previous = again
        return found

    def _collect(
        self,
        stage: str,
        work: Callable[[list[int]], list[dict[str, Counts]]],
        rows: list[int],
        clips: list[ProbedClip],
        failed: list[dict[str, str]],
    ) -> None:
        for part, result in run_bisecting(work, rows):
            if isinstance(result, Exception):
                failed.append(_failure(clips[part[0]].id, stage, reason_of(result)))
            else:
                for row, counts in zip(part, result, strict=True):
                    clips[row].equal |= counts

    def describe(self) -> dict[str, Any]:
        return {
            "codec": {**describe_codec(self.codec), "num_codebooks": self.num_codebooks, "strides": self._strides()},
            "versions": versions(),
            "environment": environment(self.device),
        }

    def _strides(self) -> tuple[int, ...]:
        return (self.codec.strides or (1,) * len(self.codec.codebook_sizes))[: self.num_codebooks]


@dataclass
class ProbeJob(AudioJob[BatchTask, ProbedBatch]):
    """Encode batches of a data set; the caller counts."""

    settings: ProbeSettings

    def start_worker(self, device: str, folder: Path) -> ProbeWorker:
        return ProbeWorker(replace(self.settings, device=device))

    def failed(self, task: BatchTask, stage: str, reason: str) -> ProbedBatch:
        return ProbedBatch(failed=[_failure(entry.id, stage, reason) for entry in task.batch.entries])

    def merge(self, task: BatchTask, results: Sequence[ProbedBatch]) -> ProbedBatch:
        return ProbedBatch(
            [clip for batch in results for clip in batch.clips], [one for batch in results for one in batch.failed]
        )


def _by_clip(one: Codes, other: Codes) -> list[Counts]:
    equal, total = equal_codes(one, other)
    return list(zip(equal.numpy(), total.numpy(), strict=True))


def _failure(id: str, stage: str, reason: str) -> dict[str, str]:
    return {"id": id, "stage": stage, "reason": reason}
