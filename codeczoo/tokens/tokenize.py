"""Audio → shards of tokens, for training language models: resumable by shard."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout
from tqdm import tqdm

from codeczoo.base.codec import BaseCodec
from codeczoo.base.registry import load_codec
from codeczoo.base.variant import find_variant
from codeczoo.bench.engine import check_way, describe_codec, devices, environment, versions
from codeczoo.bench.halves import in_halves, reason_of
from codeczoo.bench.plan import Batch, plan_window
from codeczoo.bench.readers import read_ahead
from codeczoo.bench.reading import ReadBatch
from codeczoo.bench.results import jsonable, write_atomically
from codeczoo.bench.settings import batch_seconds
from codeczoo.bench.shards import Shard, find_shard
from codeczoo.bench.sources import Source
from codeczoo.tokens.forms import FORMS, Tokens
from codeczoo.tokens.parts import FORMAT, Gathered, alone, finished, plan_parts, settle, write_index, write_part
from codeczoo.tokens.settings import TokenSettings


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
            for rows, result in in_halves(
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


class Engine(Protocol):
    """What encodes: `LocalEncoders`, or `ray_engine.RayEncoders`."""

    def describe(self) -> dict[str, Any]: ...

    def run(self, tasks: Iterator[TokenTask]) -> Iterator[Made]:
        """What becomes of each task, in any order."""
        ...


class LocalEncoders:
    """One device, with files read and decoded ahead of it."""

    def __init__(self, settings: TokenSettings, source: Source) -> None:
        self.settings, self.source = settings, source
        self.encoder = Encoder(settings)

    def describe(self) -> dict[str, Any]:
        return self.encoder.describe()

    def run(self, tasks: Iterator[TokenTask]) -> Iterator[Made]:
        waiting: deque[TokenTask] = deque()

        def batches() -> Iterator[Batch]:
            for task in tasks:
                waiting.append(task)
                yield task.batch

        pin = self.encoder.codec.device.type == "cuda"
        for read in read_ahead(self.source, batches(), self.settings.workers, pin=pin):
            yield self.encoder.encode(waiting.popleft(), read)


def tokenize(settings: TokenSettings, source: Source | None = None) -> dict[str, Any] | None:
    """Tokenise a data set, or go on with it; returns the index, which also lies in `settings.out` as index.json.

    Args:
        source: a data set of your own; None = that of the settings.

    Of several processes that share the work, the one that finishes last makes the index; for the others, None.

    Raises:
        KeyError, ValueError, FileNotFoundError, ImportError: before anything is written.
    """
    if settings.form not in FORMS:
        raise ValueError(f"the form must be one of {', '.join(FORMS)}; it is {settings.form!r}")
    shard = find_shard(settings.shard)
    check_way(settings, shard)
    settings = replace(settings, codec=find_variant(settings.codec).name)
    with devices(settings, shard) as device:
        settings = replace(
            settings, device=str(device), max_batch_seconds=batch_seconds(settings.max_batch_seconds, device)
        )
        source = source or settings.open_source()
        out = Path(settings.out)
        out.mkdir(parents=True, exist_ok=True)
        try:
            lock = FileLock(out / f".lock{shard.suffix}", timeout=0).acquire()
        except Timeout:
            raise ValueError(f"{out}: another tokenisation writes there; choose another --out") from None
        with lock:
            settle(settings, out)
            return _Run(settings, shard, source).go()


class _Run:
    """One sitting of a tokenisation."""

    def __init__(self, settings: TokenSettings, shard: Shard, source: Source) -> None:
        self.settings, self.shard, self.source = settings, shard, source
        self.under_way: dict[int, Gathered] = {}
        self.numbers: list[int] = []  # of all parts, known once all are planned

    def go(self) -> dict[str, Any] | None:
        engine = self._engine()
        out = Path(self.settings.out)
        if self.shard.index == 0:
            dataset = {"name": self.source.name, **self.source.facts()}
            head = {"format": FORMAT, "settings": self.settings.of_record(), "dataset": dataset, **engine.describe()}
            write_atomically(out / "run.json", jsonable(head))
        with tqdm(total=self.source.count, unit="clip", disable=not self.settings.progress) as bar:
            for made in engine.run(self._tasks(bar)):
                gathered = self.under_way[made.part]
                gathered.clips |= made.clips
                gathered.failed += made.failed
                gathered.missing -= 1
                bar.update(len(made.clips) + len(made.failed))
                if not gathered.missing:
                    write_part(self.settings, self.under_way.pop(made.part))
        with FileLock(out / ".lock-index", timeout=60):
            return write_index(self.settings, out, self.numbers)

    def _engine(self) -> Engine:
        if self.settings.engine == "ray":
            from codeczoo.tokens.ray_engine import RayEncoders

            return RayEncoders(self.settings, self.source)
        return LocalEncoders(self.settings, self.source)

    def _tasks(self, bar: tqdm) -> Iterator[TokenTask]:
        """What is left to do: the batches of parts of this process whose shards are not there."""
        assert self.settings.max_batch_seconds is not None
        index = 0
        for part in plan_parts(self.source, self.settings.shard_clips):
            self.numbers.append(part.number)
            if finished(self.settings, part) is not None:
                bar.update(len(part.entries))
            elif self.shard.mine(part.number):
                entries = [replace(entry, position=i) for i, entry in enumerate(part.entries)]
                planned = plan_window(self.source, entries, self.settings.batch, self.settings.max_batch_seconds, index)
                index += len(planned)
                self.under_way[part.number] = Gathered(part, len(planned))
                for batch in planned:
                    yield TokenTask(part.number, batch)
