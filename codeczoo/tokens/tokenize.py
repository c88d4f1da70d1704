"""Audio → shards of tokens, for training language models: resumable by shard."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout
from tqdm import tqdm

from codeczoo.base.catalogue import find_variant
from codeczoo.data.batching import Batch, plan_window
from codeczoo.data.open import Source
from codeczoo.data.reader_pool import read_ahead
from codeczoo.executor.local import check_way, devices
from codeczoo.executor.rank import Shard, find_shard
from codeczoo.executor.record import jsonable, write_atomically
from codeczoo.executor.settings import batch_seconds
from codeczoo.tokens.formats import FORMS
from codeczoo.tokens.job import Encoder, Made, TokenTask
from codeczoo.tokens.settings import TokenSettings
from codeczoo.tokens.shards import FORMAT, Gathered, finished, plan_parts, settle, write_index, write_part


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
            from codeczoo.tokens.job import RayEncoders

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
