"""A tokenisation on a Ray cluster: batches are encoded by many, and the driver writes the shards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from codeczoo.base.codec import BaseCodec
from codeczoo.data.batching import Batch
from codeczoo.data.open import Entry, Source
from codeczoo.data.read import ReadBatch, read_batch
from codeczoo.executor.bisect import reason_of, run_bisecting
from codeczoo.executor.job import Job, JobWorker
from codeczoo.executor.ray import RayPool
from codeczoo.executor.record import describe_codec, environment, versions
from codeczoo.registry import load_codec
from codeczoo.tokens.formats import Tokens
from codeczoo.tokens.settings import TokenSettings
from codeczoo.tokens.shards import alone


@dataclass(frozen=True)
class TokenTask:
    """A batch of clips of one part; an entry's position is its place in the part."""

    part: int
    batch: Batch


@dataclass(frozen=True)
class Made:
    """What became of a task. It travels between processes."""

    part: int
    clips: dict[int, Tokens]
    failed: list[dict[str, str]]


class Encoder:
    """One codec on one device. The same here and on a cluster."""

    def __init__(self, settings: TokenSettings) -> None:
        self.codec: BaseCodec = load_codec(
            settings.codec, settings.weights, device=settings.device, precision=settings.precision
        )
        self.count = self.codec.choose_codebooks(settings.num_codebooks, settings.bitrate)

    def describe(self) -> dict[str, Any]:
        """For the record."""
        return {
            "codec": {**describe_codec(self.codec), "num_codebooks": self.count},
            "versions": versions(),
            "environment": environment(self.codec.device),
        }

    def encode(self, task: TokenTask, read: ReadBatch) -> Made:
        """All clips of a batch; when that fails, its halves, down to the clip whose fault it is."""
        made = Made(task.part, {}, [failure(id, "read", reason) for id, reason in read.failures.items()])
        for group in read.groups:
            waveform = group.audio.waveform.to(self.codec.device, non_blocking=True)
            audio = replace(group.audio, waveform=waveform)
            for rows, result in run_bisecting(
                lambda rows, audio=audio: self.codec.encode(audio[rows], num_codebooks=self.count).cpu(),  # type: ignore[misc]
                range(len(group)),
            ):
                if isinstance(result, Exception):
                    made.failed.append(failure(group.entries[rows[0]].id, "encode", reason_of(result)))
                    continue
                for row, codes in zip(rows, result, strict=True):
                    entry = group.entries[row]
                    made.clips[entry.position] = Tokens(entry.id, entry.category, alone(codes))
        return made


def failure(id: str, stage: str, reason: str) -> dict[str, str]:
    return {"id": id, "stage": stage, "reason": reason}


class RayEncoders:
    """The devices of a cluster. Needs `ray_pool.connected`."""

    def __init__(self, settings: TokenSettings, source: Source) -> None:
        job = TokenJob(settings, source.for_reading())
        self.pool: RayPool[TokenTask, Made] = RayPool(job, settings.device or "cpu", settings.actors)

    def describe(self) -> dict[str, Any]:
        return self.pool.describe()

    def run(self, tasks: Iterator[TokenTask]) -> Iterator[Made]:
        yield from self.pool.run(tasks, _no_files)


def _no_files(name: str, data: bytes) -> None:
    raise AssertionError(f"an encoder wrote {name}")


@dataclass
class TokenJob(Job[TokenTask, Made]):
    """What is done on the cluster."""

    settings: TokenSettings
    source: Source

    def read(self, task: TokenTask) -> ReadBatch:
        return read_batch(self.source, task.batch)

    def open(self, device: str, folder: Path) -> _Worker:
        return _Worker(Encoder(replace(self.settings, device=device)))

    def apart(self, task: TokenTask) -> Iterable[TokenTask]:
        return [task]

    def entries(self, task: TokenTask) -> Sequence[Entry]:
        return task.batch.entries

    def part(self, task: TokenTask, entries: Sequence[Entry]) -> TokenTask:
        return replace(task, batch=replace(task.batch, entries=tuple(entries)))

    def failed(self, task: TokenTask, stage: str, reason: str) -> Made:
        return Made(task.part, {}, [failure(entry.id, stage, reason) for entry in task.batch.entries])

    def join(self, task: TokenTask, parts: Sequence[Made]) -> Made:
        clips = {position: tokens for part in parts for position, tokens in part.clips.items()}
        return Made(task.part, clips, [failed for part in parts for failed in part.failed])


class _Worker(JobWorker[TokenTask, Made]):
    """An `Encoder`, as the pool holds it."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder

    def begin(self, task: TokenTask, batch: ReadBatch) -> Callable[[], Made]:
        made = self.encoder.encode(task, batch)
        return lambda: made

    def describe(self) -> dict[str, Any]:
        return self.encoder.describe()
