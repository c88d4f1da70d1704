"""Audio → shards of tokens, for training language models: resumable by shard."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from tqdm import tqdm

from codeczoo.base.codec import BaseCodec
from codeczoo.base.device import choose_device
from codeczoo.base.registry import load_codec
from codeczoo.base.variant import find_variant
from codeczoo.bench.engine import describe_codec, environment, versions
from codeczoo.bench.halves import in_halves, reason_of
from codeczoo.bench.plan import Batch, plan_window
from codeczoo.bench.readers import read_ahead
from codeczoo.bench.reading import ReadBatch
from codeczoo.bench.results import jsonable, write_atomically
from codeczoo.bench.settings import batch_seconds
from codeczoo.bench.shards import find_shard
from codeczoo.bench.sources import Source
from codeczoo.tokens.forms import FORMS, Tokens
from codeczoo.tokens.parts import FORMAT, Gathered, Part, alone, finished, plan_parts, settle, write_index, write_part
from codeczoo.tokens.settings import TokenSettings


class Tokenizer:
    """One codec on one device, and what it makes of a part of a data set. The same here and on a cluster."""

    def __init__(self, settings: TokenSettings) -> None:
        self.settings = settings
        self.codec: BaseCodec = load_codec(
            settings.codec, settings.weights, device=choose_device(settings.device), precision=settings.precision
        )
        self.count = self.codec.choose_codebooks(settings.num_codebooks, settings.bitrate)

    def describe(self) -> dict[str, Any]:
        """For the record."""
        return {
            "codec": {**describe_codec(self.codec), "num_codebooks": self.count},
            "versions": versions(),
            "environment": environment(self.codec.device),
        }

    def run(self, source: Source, parts: Iterator[Part]) -> Iterator[dict[str, Any]]:
        """Each part read, encoded and written; what is known of each, as it comes."""
        settings = self.settings
        seconds = batch_seconds(settings.max_batch_seconds, self.codec.device)
        under_way: dict[int, Gathered] = {}
        whose: deque[int] = deque()

        def batches() -> Iterator[Batch]:
            for part in parts:
                entries = [replace(entry, position=i) for i, entry in enumerate(part.entries)]
                planned = plan_window(source, entries, settings.batch, seconds)
                under_way[part.number] = Gathered(part, len(planned))
                for batch in planned:
                    whose.append(part.number)
                    yield batch

        pin = self.codec.device.type == "cuda"
        for read in read_ahead(source, batches(), settings.workers, pin=pin):
            gathered = under_way[whose.popleft()]
            self._encode(read, gathered)
            gathered.missing -= 1
            if not gathered.missing:
                yield write_part(self.settings, under_way.pop(gathered.part.number))

    def _encode(self, read: ReadBatch, gathered: Gathered) -> None:
        gathered.failed += [{"id": id, "stage": "read", "reason": reason} for id, reason in read.failures.items()]
        for group in read.groups:
            waveform = group.audio.waveform.to(self.codec.device, non_blocking=True)
            audio = replace(group.audio, waveform=waveform)
            for rows, result in in_halves(
                lambda rows, audio=audio: self.codec.encode(audio[rows], num_codebooks=self.count).cpu(),  # type: ignore[misc]
                range(len(group)),
            ):
                if isinstance(result, Exception):
                    failure = {"id": group.entries[rows[0]].id, "stage": "encode", "reason": reason_of(result)}
                    gathered.failed.append(failure)
                    continue
                for row, codes in zip(rows, result, strict=True):
                    entry = group.entries[row]
                    gathered.clips[entry.position] = Tokens(entry.id, entry.category, alone(codes))


def tokenize(settings: TokenSettings) -> dict[str, Any] | None:
    """Tokenise a data set, or go on with it; returns the index, which also lies in `settings.out` as index.json.

    Of several processes that share the work, the one that finishes last makes the index; for the others, None.

    Raises:
        KeyError, ValueError, FileNotFoundError, ImportError: before anything is written.
    """
    if settings.form not in FORMS:
        raise ValueError(f"the form must be one of {', '.join(FORMS)}; it is {settings.form!r}")
    shard = find_shard(settings.shard)
    if shard.count > 1 and (settings.overwrite or settings.engine != "local"):
        raise ValueError("--overwrite and --engine ray do not go with a run in several shards")
    settings = replace(
        settings,
        codec=find_variant(settings.codec).name,
        device=str(choose_device(shard.device(settings.device))),
    )
    source = settings.open_source()
    out = Path(settings.out)
    out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        try:
            held.enter_context(FileLock(out / f".lock{shard.suffix}", timeout=0))
        except Timeout:
            raise ValueError(f"{out}: another tokenisation writes there; choose another --out") from None
        settle(settings, out)
        engine = _engine(settings)
        if shard.index == 0:
            head = {"format": FORMAT, "settings": settings.of_record(),
                    "dataset": {"name": source.name, **source.facts()}, **engine.describe()}  # fmt: skip
            write_atomically(out / "run.json", jsonable(head))
        known: dict[int, dict[str, Any] | None] = {}
        with tqdm(total=source.count, unit="clip", disable=not settings.progress) as bar:

            def todo() -> Iterator[Part]:
                for part in plan_parts(source, settings.shard_clips):
                    known[part.number] = about = finished(settings, part)
                    if about is not None:
                        bar.update(len(part.entries))
                    elif shard.mine(part.number):
                        yield part

            for about in engine.run(source, todo()):
                known[about["shard"]] = about
                bar.update(about["clips"] + len(about["failed"]))
        with FileLock(out / ".lock-index", timeout=60):
            return write_index(settings, out, sorted(known))


def _engine(settings: TokenSettings) -> Any:
    if settings.engine == "ray":
        from codeczoo.tokens.ray_engine import RayTokenizer  # type: ignore[attr-defined]

        return RayTokenizer(settings)
    if settings.engine != "local":
        raise ValueError(f"engine must be one of local, ray; it is {settings.engine!r}")
    return Tokenizer(settings)
