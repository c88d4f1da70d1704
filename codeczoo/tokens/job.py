"""Tokenising as a `Job`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from codeczoo.data.read import Group, ReadBatch
from codeczoo.executor.bisect import reason_of, run_bisecting
from codeczoo.executor.job import AudioJob, BatchTask, Finished, JobWorker
from codeczoo.executor.record import describe_codec, environment, versions
from codeczoo.registry import load_codec
from codeczoo.tokens.formats import Tokens
from codeczoo.tokens.settings import TokenSettings
from codeczoo.tokens.shards import without_padding


@dataclass(frozen=True)
class TokenTask(BatchTask):
    """A batch of clips of one shard. An entry's position is its place in the shard."""

    shard: int


@dataclass(frozen=True)
class EncodedBatch:
    """The result of a task. It travels between processes.

    Attributes:
        clips: tokens, by the clip's place in the shard; failed: id, stage and reason of the others.
    """

    shard: int
    clips: dict[int, Tokens] = field(default_factory=dict)
    failed: list[dict[str, str]] = field(default_factory=list)


class TokenWorker(JobWorker[TokenTask, ReadBatch, EncodedBatch]):
    """One codec on one device."""

    def __init__(self, settings: TokenSettings) -> None:
        self.codec = load_codec(
            settings.codec,
            settings.weights,
            device=settings.device,
            precision=settings.precision,
            compile=settings.compile,
        )
        self.device = self.codec.device
        self.num_codebooks = self.codec.choose_codebooks(settings.num_codebooks, settings.bitrate)

    def start(self, task: TokenTask, read: ReadBatch) -> Iterator[Finished[EncodedBatch]]:
        """Encode all clips of a batch; when that fails, its halves, down to the clip at fault."""
        encoded = EncodedBatch(task.shard)
        encoded.failed.extend(_failure(id, "read", reason) for id, reason in read.failures.items())
        for group in read.groups:
            for rows, result in run_bisecting(partial(self._encode, group), range(len(group))):
                if isinstance(result, Exception):
                    encoded.failed.append(_failure(group.entries[rows[0]].id, "encode", reason_of(result)))
                else:
                    encoded.clips.update(result)
        yield Finished(encoded)

    def _encode(self, group: Group, rows: list[int]) -> dict[int, Tokens]:
        """The tokens of some clips of a group, by their places in the shard."""
        audio = group.audio if len(rows) == len(group) else group.audio[rows]
        audio = replace(audio, waveform=audio.waveform.to(self.device, non_blocking=True))
        codes = self.codec.encode(audio, num_codebooks=self.num_codebooks).cpu()
        clips = {}
        for row, one in zip(rows, codes, strict=True):
            entry = group.entries[row]
            clips[entry.position] = Tokens(entry.id, entry.category, without_padding(one))
        return clips

    def describe(self) -> dict[str, Any]:
        return {
            "codec": {**describe_codec(self.codec), "num_codebooks": self.num_codebooks},
            "versions": versions(),
            "environment": environment(self.device),
        }


@dataclass
class TokenJob(AudioJob[TokenTask, EncodedBatch]):
    """Encode batches of a data set; the caller gathers shards."""

    settings: TokenSettings

    def start_worker(self, device: str, folder: Path) -> TokenWorker:
        return TokenWorker(replace(self.settings, device=device))

    def failed(self, task: TokenTask, stage: str, reason: str) -> EncodedBatch:
        return EncodedBatch(task.shard, failed=[_failure(entry.id, stage, reason) for entry in task.batch.entries])

    def merge(self, task: TokenTask, results: Sequence[EncodedBatch]) -> EncodedBatch:
        clips = {position: tokens for encoded in results for position, tokens in encoded.clips.items()}
        return EncodedBatch(task.shard, clips, [failed for encoded in results for failed in encoded.failed])


def _failure(id: str, stage: str, reason: str) -> dict[str, str]:
    return {"id": id, "stage": stage, "reason": reason}
