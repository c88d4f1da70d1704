"""The folder of a tokenisation: shards, each there whole or not at all, and the index of them.

run.json                  what was run: data set, settings, versions, codec with the hash of its weights
tokens-000000.SUFFIX      a shard, in one of `forms.FORMS`
shards/000000.json        what is known of it: clips, frames, bytes, sha256, failures. It is written after the shard
index.json                all of that in one, when all shards are there
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from codeczoo.base.codes import Codes
from codeczoo.data.batching import windows
from codeczoo.data.open import Entry, Source
from codeczoo.executor.record import write_atomically
from codeczoo.tokens.formats import FORMS, Facts, Tokens
from codeczoo.tokens.settings import TokenSettings
from codeczoo.weights.download import sha256_of

FORMAT = "codeczoo.tokenization/1"
CODEC_FACTS = (
    "name",
    "sample_rate",
    "frame_rate",
    "num_codebooks",
    "codebook_sizes",
    "weights_hash",
    "weights_source",
    "precision",
)


@dataclass(frozen=True)
class Part:
    """Clips that become one shard of tokens."""

    number: int
    entries: tuple[Entry, ...]


@dataclass
class Gathered:
    """What is there of a part so far."""

    part: Part
    missing: int  # batches that are under way
    clips: dict[int, Tokens] = field(default_factory=dict)  # by the place in the part
    failed: list[dict[str, str]] = field(default_factory=list)


def alone(codes: Codes) -> Codes:
    """One item without what its batch left behind it: NaN that pads side values."""

    def cut(value: Tensor) -> Tensor:
        if value.ndim < 2 or not value.is_floating_point():
            return value
        held = (~value[0].isnan()).reshape(value.shape[1], -1).any(1)
        return value[:, : int(held.nonzero().max()) + 1] if bool(held.any()) else value[:, :0]

    return replace(codes, side_info={name: cut(value) for name, value in codes.side_info.items()})


def shard_name(number: int, form: str) -> str:
    return f"tokens-{number:06d}{FORMS[form].suffix}"


def write_part(settings: TokenSettings, gathered: Gathered) -> dict[str, Any]:
    """The shard, then what is known of it: each is there whole or not at all, and the second says that the first is."""
    out = Path(settings.out)
    clips = [gathered.clips[i] for i in sorted(gathered.clips)]
    order = {entry.id: i for i, entry in enumerate(gathered.part.entries)}
    about: dict[str, Any] = {
        "shard": gathered.part.number,
        "file": None,
        "clips": len(clips),
        "failed": sorted(gathered.failed, key=lambda failure: order[failure["id"]]),
        "frames": sum(int(clip.codes.lengths) for clip in clips),
        "tokens": sum(int(clip.codes.counts.sum()) for clip in clips),
        "seconds": sum(int(clip.codes.num_samples) / clip.codes.sample_rate for clip in clips),
    }
    if clips:
        path = out / shard_name(gathered.part.number, settings.form)
        temporary = path.with_name(f".part-{path.name}")
        FORMS[settings.form].write(temporary, Facts.of(clips[0].codes), clips)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        about |= {"file": path.name, "bytes": temporary.stat().st_size, "sha256": sha256_of(temporary)}
        os.replace(temporary, path)
    (out / "shards").mkdir(exist_ok=True)
    write_atomically(out / "shards" / f"{gathered.part.number:06d}.json", about)
    return about


def plan_parts(source: Source, clips: int) -> Iterator[Part]:
    """The data set in stretches of `clips`, in its order (of fewer, where clips are streamed and long)."""
    for number, window in enumerate(windows(source.entries(), clips)):
        yield Part(number, tuple(window))


def finished(settings: TokenSettings, part: Part) -> dict[str, Any] | None:
    """What is known of a part whose shard is there, whole; with `verify`, its hash is computed anew.

    Raises:
        ValueError: the shard was made of other clips: the data set has changed.
    """
    out = Path(settings.out)
    path = out / "shards" / f"{part.number:06d}.json"
    if not path.exists():
        return None
    about = json.loads(path.read_text("utf-8"))
    if about["clips"] + len(about["failed"]) != len(part.entries):
        raise ValueError(
            f"{out}: shard {part.number} was made of {about['clips'] + len(about['failed'])} clips and now has "
            f"{len(part.entries)}: the data set has changed; choose another --out, or --overwrite"
        )
    if about["file"] is None:
        return about
    file = out / about["file"]
    if not file.exists() or file.stat().st_size != about["bytes"]:
        return None
    return about if not settings.verify or sha256_of(file) == about["sha256"] else None


def settle(settings: TokenSettings, out: Path) -> None:
    """Compare with an earlier run here: the same goes on, another is an error."""
    path = out / "run.json"
    if settings.overwrite:
        for pattern in ("run.json", "index.json", "tokens-*", ".part-*", "shards/*.json"):
            for file in out.glob(pattern):
                file.unlink()
    elif path.exists():
        before = json.loads(path.read_text("utf-8"))["settings"]
        differ = sorted(key for key, value in settings.of_record().items() if before.get(key) != value)
        if differ:
            raise ValueError(
                f"{out} holds tokens made with other settings ({', '.join(differ)}): choose another --out, "
                "or --overwrite to start anew"
            )


def write_index(settings: TokenSettings, out: Path, numbers: Sequence[int]) -> dict[str, Any] | None:
    """index.json, when all shards are there."""
    abouts: list[Mapping[str, Any]] = []
    for number in numbers:
        path = out / "shards" / f"{number:06d}.json"
        if not path.exists():
            return None
        abouts.append(json.loads(path.read_text("utf-8")))
    run = json.loads((out / "run.json").read_text("utf-8"))
    codec = run["codec"]
    index = {
        "format": FORMAT,
        "form": settings.form,
        "codec": {key: codec[key] for key in CODEC_FACTS},
        "dataset": run["dataset"],
        **{key: sum(about[key] for about in abouts) for key in ("clips", "frames", "tokens", "seconds")},
        "failed": [failure for about in abouts for failure in about["failed"]],
        "shards": [
            {key: about[key] for key in ("file", "clips", "frames", "tokens", "seconds", "bytes", "sha256")}
            for about in abouts
            if about["file"] is not None
        ],
    }
    write_atomically(out / "index.json", index)
    return index
