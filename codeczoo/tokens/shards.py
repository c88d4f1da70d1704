"""The folder of a tokenisation: shards, and the index of them.

run.json                  data set, settings, versions, codec with the hash of its weights
tokens-000000.SUFFIX      a shard, in one of `formats.FORMS`
shards/000000.json        clips, frames, bytes, sha256 and failures of a shard. Written after the shard
index.json                the same of all shards, when all are there

Each file is written under another name and renamed, so it is never there in part.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from codeczoo.base.codes import Codes, describe_weights
from codeczoo.data.batching import entry_blocks
from codeczoo.data.source import Entry, Source
from codeczoo.executor.growth import Limits, differing, grown
from codeczoo.executor.record import weights_id, write_atomically
from codeczoo.tokens.formats import FORMS, Facts, Tokens
from codeczoo.tokens.settings import TokenSettings
from codeczoo.weights.download import sha256_of

INDEX_FORMAT = "codeczoo.tokenization/1"
CODEC_FACTS = (
    "name",
    "sample_rate",
    "frame_rate",
    "num_codebooks",
    "codebook_sizes",
    "weights_hash",
    "weights_source",
    "precision",
    "arithmetic",
)


@dataclass(frozen=True)
class ShardPlan:
    """The clips of one shard of tokens."""

    number: int
    entries: tuple[Entry, ...]


@dataclass
class ShardInProgress:
    """A shard, some of whose batches are still to come.

    Attributes:
        missing: how many batches; clips: tokens, by the clip's place in the shard.
    """

    plan: ShardPlan
    missing: int
    clips: dict[int, Tokens] = field(default_factory=dict)
    failed: list[dict[str, str]] = field(default_factory=list)


def without_padding(codes: Codes) -> Codes:
    """One clip, without the NaN that pad its side information to the length of others in its batch."""

    def cut(value: Tensor) -> Tensor:
        if value.ndim < 2 or not value.is_floating_point():
            return value
        held = (~value[0].isnan()).reshape(value.shape[1], -1).any(1)
        return value[:, : int(held.nonzero().max()) + 1] if bool(held.any()) else value[:, :0]

    return replace(codes, side_info={name: cut(value) for name, value in codes.side_info.items()})


def shard_name(number: int, form: str) -> str:
    """The name of a shard's file."""
    return f"tokens-{number:06d}{FORMS[form].suffix}"


def write_shard(settings: TokenSettings, shard: ShardInProgress) -> dict[str, Any]:
    """Write the shard, then its file in `shards/`, which says that the shard is complete; returns what that holds."""
    out = Path(settings.out)
    clips = [shard.clips[i] for i in sorted(shard.clips)]
    order = {entry.id: i for i, entry in enumerate(shard.plan.entries)}
    about: dict[str, Any] = {
        "shard": shard.plan.number,
        "file": None,
        "clips": len(clips),
        "failed": sorted(shard.failed, key=lambda failure: order[failure["id"]]),
        "frames": sum(int(clip.codes.lengths) for clip in clips),
        "tokens": sum(int(clip.codes.counts.sum()) for clip in clips),
        "seconds": sum(int(clip.codes.num_samples) / clip.codes.sample_rate for clip in clips),
    }
    if clips:
        path = out / shard_name(shard.plan.number, settings.form)
        temporary = path.with_name(f".part-{path.name}")
        FORMS[settings.form].write(temporary, Facts.of(clips[0].codes), clips)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        about |= {"file": path.name, "bytes": temporary.stat().st_size, "sha256": sha256_of(temporary)}
        os.replace(temporary, path)
    (out / "shards").mkdir(exist_ok=True)
    write_atomically(out / "shards" / f"{shard.plan.number:06d}.json", about)
    return about


def plan_shards(source: Source, clips: int, first: int = 0) -> Iterator[ShardPlan]:
    """The data set in its order, `clips` a shard (fewer, where clips are streamed and long), numbered from `first`."""
    for number, block in enumerate(entry_blocks(source.entries(), clips), first):
        yield ShardPlan(number, tuple(block))


def is_written(settings: TokenSettings, plan: ShardPlan) -> bool:
    """Whether a shard is there, complete; where `settings.verify`, its hash is computed and compared.

    Raises:
        ValueError: the shard was made of other clips: the data set has changed.
    """
    out = Path(settings.out)
    path = out / "shards" / f"{plan.number:06d}.json"
    if not path.exists():
        return False
    about = json.loads(path.read_text("utf-8"))
    _check_clips(out, about, len(plan.entries))
    if not _has_file(out, about):
        return False
    return not settings.verify or about["file"] is None or sha256_of(out / about["file"]) == about["sha256"]


def _check_clips(out: Path, about: Mapping[str, Any], clips: int) -> None:
    """Raise a ValueError if a shard was made of another number of clips than it now has."""
    made_of = about["clips"] + len(about["failed"])
    if made_of != clips:
        raise ValueError(
            f"{out}: shard {about['shard']} was made of {made_of} clips and now has {clips}: the data set has changed; "
            "choose another --out, or --overwrite"
        )


def _has_file(out: Path, about: Mapping[str, Any]) -> bool:
    """Whether the file of a shard is there, as long as it was written; a shard whose clips all failed has none."""
    if about["file"] is None:
        return True
    try:
        return (out / about["file"]).stat().st_size == about["bytes"]
    except FileNotFoundError:
        return False


def check_settings(settings: TokenSettings, may_grow: bool = True) -> Limits:
    """Compare `settings` with those of the tokenisation in their folder. Of the weights see `check_weights`.

    Args:
        may_grow: it may go on with a larger limit; the shards that are there stay as they are.

    Returns:
        The limits of its sessions, this one's last.

    Raises:
        ValueError: they differ. (With `overwrite` the folder is emptied.)
    """
    out = Path(settings.out)
    if settings.overwrite:
        for pattern in ("run.json", "index.json", "tokens-*", ".part-*", "shards/*.json"):
            for file in out.glob(pattern):
                file.unlink()
    run = _run(out)
    if run is None:
        return (settings.limit,)
    limits = grown(run, settings.limit)
    if not may_grow and limits is not None and limits != (settings.limit,):
        limits = None
    if differ := differing(run, settings.of_record(), limits):
        raise ValueError(
            f"{out} holds tokens made with other settings ({', '.join(differ)}): choose another --out, "
            "or --overwrite to discard them"
        )
    assert limits is not None
    return limits


def check_weights(out: Path, codec: Mapping[str, Any]) -> None:
    """Compare the weights of `codec` (of `describe_codec`) with those that made the tokens in a folder.

    Raises:
        ValueError: they differ.
    """
    run = _run(out)
    if run is not None and (before := weights_id(run["codec"])) != (now := weights_id(codec)):
        raise ValueError(
            f"{out} holds tokens made by {codec['name']} with the weights {describe_weights(before)}; the weights "
            f"given now are {describe_weights(now)}: choose another --out, or --overwrite to discard them"
        )


def _run(out: Path) -> dict[str, Any] | None:
    """What run.json says; None where there is none yet."""
    path = out / "run.json"
    return json.loads(path.read_text("utf-8")) if path.exists() else None


def write_index(settings: TokenSettings, planned: Sequence[int]) -> dict[str, Any] | None:
    """Write index.json if all shards are there; returns what it holds.

    Args:
        planned: the number of clips of each shard.

    Raises:
        ValueError: a shard was made of other clips: the data set has changed.
    """
    out = Path(settings.out)
    folder, names = out / "shards", [f"{number:06d}.json" for number in range(len(planned))]
    # Each process of a run comes here at its end: one look into the folder, and only the last one reads the files.
    if not set(names) <= (set(os.listdir(folder)) if folder.is_dir() else set()):
        return None
    abouts: list[Mapping[str, Any]] = [json.loads((folder / name).read_text("utf-8")) for name in names]
    for about, clips in zip(abouts, planned, strict=True):
        _check_clips(out, about, clips)
        if not _has_file(out, about):
            return None
    run = json.loads((out / "run.json").read_text("utf-8"))
    codec = run["codec"]
    index = {
        "format": INDEX_FORMAT,
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
