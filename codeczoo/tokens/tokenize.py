"""Tokenise a data set: audio in, shards of tokens out, for training language models. Resumable by shard."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from tqdm import tqdm

from codeczoo.base.catalogue import find_variant
from codeczoo.data.batching import plan_block
from codeczoo.data.source import Source
from codeczoo.executor.engine import check_engine, engine_device, start_executor
from codeczoo.executor.growth import Limits, parts_of
from codeczoo.executor.rank import Rank, find_rank
from codeczoo.executor.record import jsonable, write_atomically
from codeczoo.executor.settings import batch_seconds
from codeczoo.tokens.formats import FORMS
from codeczoo.tokens.job import TokenJob, TokenTask
from codeczoo.tokens.settings import TokenSettings
from codeczoo.tokens.shards import (
    INDEX_FORMAT,
    ShardInProgress,
    ShardPlan,
    check_settings,
    check_weights,
    is_written,
    plan_shards,
    write_index,
    write_shard,
)


def tokenize(settings: TokenSettings, source: Source | None = None) -> dict[str, Any] | None:
    """Tokenise a data set, or go on with it; returns the index, which is also written to `settings.out` as index.json.

    Args:
        source: a data set of your own; None = that of the settings.

    Of several processes that share the work, the last to finish writes the index; the others return None.

    Raises:
        KeyError, ValueError, FileNotFoundError, ImportError: before anything is written.
    """
    if settings.form not in FORMS:
        raise ValueError(f"the format must be one of {', '.join(FORMS)}; it is {settings.form!r}")
    rank = find_rank(settings.shard)
    check_engine(settings, rank)
    settings = replace(settings, codec=find_variant(settings.codec).name)
    with engine_device(settings, rank) as device:
        settings = replace(
            settings, device=str(device), max_batch_seconds=batch_seconds(settings.max_batch_seconds, device)
        )
        own = source is not None
        source = source or settings.open_source()
        out = Path(settings.out)
        out.mkdir(parents=True, exist_ok=True)
        try:
            lock = FileLock(out / f".lock{rank.suffix}", timeout=0).acquire()
        except Timeout:
            raise ValueError(f"{out}: another tokenisation writes there; choose another --out") from None
        with lock:
            limits = check_settings(settings, may_grow=not own)
            return _TokenSession(settings, rank, source, limits).run()


class _TokenSession:
    """One process's time at a tokenisation."""

    def __init__(self, settings: TokenSettings, rank: Rank, source: Source, limits: Limits) -> None:
        self.settings, self.rank, self.source, self.limits = settings, rank, source, limits
        self.in_progress: dict[int, ShardInProgress] = {}
        self.planned: list[int] = []  # clips of each shard; complete once all are planned

    def run(self) -> dict[str, Any] | None:
        out = Path(self.settings.out)
        executor = start_executor(TokenJob(self.source, self.settings), self.settings, out)
        description = executor.describe()
        check_weights(out, description["codec"])
        if self.rank.number == 0:
            dataset = {"name": self.source.name, **self.source.facts()}
            head = {"format": INDEX_FORMAT, "settings": self.settings.of_record(), "limits": list(self.limits),
                    "dataset": dataset, **description}  # fmt: skip
            write_atomically(out / "run.json", jsonable(head))
        total = None if self.source.count is None else self.source.count // self.rank.world_size
        with tqdm(total=total, unit="clip", disable=not self.settings.progress) as bar:
            for encoded in executor.run(self._tasks(bar)):
                shard = self.in_progress[encoded.shard]
                shard.clips |= encoded.clips
                shard.failed += encoded.failed
                shard.missing -= 1
                bar.update(len(encoded.clips) + len(encoded.failed))
                if not shard.missing:
                    write_shard(self.settings, self.in_progress.pop(encoded.shard))
        with FileLock(out / ".lock-index", timeout=60):
            return write_index(self.settings, self.planned)

    def _tasks(self, bar: tqdm) -> Iterator[TokenTask]:
        """The batches of this rank's shards that are not there yet."""
        assert self.settings.max_batch_seconds is not None
        index = 0
        for plan in self._plans():
            self.planned.append(len(plan.entries))
            if not self.rank.owns(plan.number):
                continue  # its own process looks whether it is there
            if is_written(self.settings, plan):
                bar.update(len(plan.entries))
            else:
                entries = [replace(entry, position=i) for i, entry in enumerate(plan.entries)]
                planned = plan_block(self.source, entries, self.settings.batch, self.settings.max_batch_seconds, index)
                index += len(planned)
                self.in_progress[plan.number] = ShardInProgress(plan, len(planned))
                for batch in planned:
                    yield TokenTask(batch, plan.number)

    def _plans(self) -> Iterator[ShardPlan]:
        """All shards; those of a smaller limit that the tokenisation began with are as they were then."""
        for part in parts_of(self.source, self.settings, self.limits):
            yield from plan_shards(part, self.settings.shard_clips, first=len(self.planned))
