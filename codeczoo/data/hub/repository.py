"""Data sets of the Hugging Face hub, and copies of them on this machine, through the `datasets` library.

Rows are read as Arrow and clips come out as they are stored, bytes or a path: that library never decodes one, so that
torchcodec is not needed. A prepared data set lies in the library's cache and is mapped into memory, not read into it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets

from codeczoo.data.hub.cache import find_commit, kept_splits, prepare
from codeczoo.data.hub.errors import DataUnavailableError, clear_errors
from codeczoo.data.hub.raw_audio import without_decoder
from codeczoo.data.hub.repo_id import HubDataset
from codeczoo.data.hub.rows import HubSource, check_splits
from codeczoo.data.hub.streaming import HubStream
from codeczoo.data.source import Source


def open_saved(name: str, folder: Path, **options: Any) -> HubSource:
    """A folder that `save_to_disk` wrote, of one split or several."""
    with clear_errors(name):
        found = datasets.load_from_disk(str(folder))
    if isinstance(found, datasets.Dataset):
        found = {str(found.split or folder.name): found}
    return HubSource(name, found, {}, **options)


def open_layout(
    name: str,
    folder: Path,
    config: str | None = None,
    *,
    streaming: bool,
    split: str | Sequence[str] | None = None,
    **options: Any,
) -> Source:
    """A folder as repositories of the hub are: a README that says where its splits lie, or files of one kind."""
    with clear_errors(name):
        builder = datasets.load_dataset_builder(str(folder), config)
    asked = [split] if isinstance(split, str) else list(split or ())
    return _of_builder(name, builder, {"config": builder.config.name}, streaming, split=asked, **options)


def open_hub(
    name: str, hub_dataset: HubDataset, *, streaming: bool, split: str | Sequence[str] | None = None, **options: Any
) -> Source:
    """A data set of the hub: prepared in the cache, or streamed. Of splits that are named, only the files are fetched.

    Raises:
        DataUnavailableError: it cannot be had; the message says why and what to do.
        ValueError: no such split, config or column.
    """
    repo, asked = hub_dataset.repo, [split] if isinstance(split, str) else list(split or ())
    with clear_errors(name, repo):
        commit = find_commit(name, repo, hub_dataset.revision)
        if commit and asked and not streaming and (kept := kept_splits(hub_dataset, commit, asked)):
            config, parts = kept
            facts = {"repository": repo, "revision": commit, "config": config}
            return HubSource(name, parts, facts, split=asked, **options)
        builder = datasets.load_dataset_builder(repo, hub_dataset.config, revision=commit)
    if builder.hash != commit and (commit or hub_dataset.revision):
        raise DataUnavailableError(
            f"{name}: the cache holds {builder.hash} of it, not {commit or hub_dataset.revision}, and the hub does not "
            f"answer: read it once online, or name {repo}@{builder.hash}"
        )
    facts = {"repository": repo, "revision": builder.hash, "config": builder.config.name}
    return _of_builder(name, builder, facts, streaming, hub_dataset, asked, **options)


def _of_builder(
    name: str,
    builder: Any,
    facts: Mapping[str, Any],
    streaming: bool,
    hub_dataset: HubDataset | None = None,
    split: Sequence[str] = (),
    **options: Any,
) -> Source:
    """The splits of a builder, prepared or streamed."""
    if builder.config.data_files:
        check_splits(name, split, builder.config.data_files)
    repo = hub_dataset.repo if hub_dataset else None
    with clear_errors(name, repo), without_decoder(builder):
        if streaming:
            parts = builder.as_streaming_dataset()
        elif hub_dataset is None:
            builder.download_and_prepare()
            parts = builder.as_dataset()
        else:
            parts = prepare(name, builder, hub_dataset, split)
    if not streaming:
        return HubSource(name, parts, facts, split=split, **options)
    sizes = {one: info.num_examples for one, info in (builder.info.splits or {}).items()}
    return HubStream(name, parts, {**facts, "streaming": True}, sizes, repo, split=split, **options)
