"""Data sets of the Hugging Face hub, and copies of them on this machine, through the `datasets` library.

Rows are read as Arrow and clips come out as they are stored, bytes or a path: that library never decodes one, so that
torchcodec is not needed. A prepared data set lies in the library's cache and is mapped into memory, not read into it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import datasets
from huggingface_hub import HfApi, constants, errors, hf_hub_download

from codeczoo.base.download import file_hash
from codeczoo.bench.sources.base import Source
from codeczoo.bench.sources.hub_errors import ELSEWHERE, DataUnavailableError, clear_errors, first_line, is_offline
from codeczoo.bench.sources.hub_rows import HubSource
from codeczoo.bench.sources.hub_stream import FETCHED, HubStream
from codeczoo.bench.sources.reference import Reference
from codeczoo.bench.sources.undecoded import without_decoder

log = logging.getLogger(__name__)

COMMIT, SHA256 = re.compile("[0-9a-f]{40}"), re.compile("[0-9a-f]{64}")


def open_saved(name: str, folder: Path, **options: Any) -> HubSource:
    """A folder that `save_to_disk` wrote, of one split or several."""
    with clear_errors(name):
        found = datasets.load_from_disk(str(folder))
    if isinstance(found, datasets.Dataset):
        found = {str(found.split or folder.name): found}
    return HubSource(name, found, {}, **options)


def open_layout(name: str, folder: Path, config: str | None = None, *, streaming: bool, **options: Any) -> Source:
    """A folder as repositories of the hub are: a README that says where its splits lie, or files of one kind."""
    with clear_errors(name):
        builder = datasets.load_dataset_builder(str(folder), config)
    return _of_builder(name, builder, {"config": builder.config.name}, streaming, **options)


def open_hub(name: str, reference: Reference, *, streaming: bool, **options: Any) -> Source:
    """A data set of the hub: prepared in the cache, or streamed.

    Raises:
        DataUnavailableError: it cannot be had; the message says why and what to do.
        ValueError: no such split, config or column.
    """
    repo = reference.repo
    with clear_errors(name, repo):
        commit = find_commit(name, repo, reference.revision)
        builder = datasets.load_dataset_builder(repo, reference.config, revision=commit)
    if builder.hash != commit and (commit or reference.revision):
        raise DataUnavailableError(
            f"{name}: the cache holds {builder.hash} of it, not {commit or reference.revision}, and the hub cannot be "
            f"asked: read it once online, or name {repo}@{builder.hash}"
        )
    facts = {"repository": repo, "revision": builder.hash, "config": builder.config.name}
    return _of_builder(name, builder, facts, streaming, repo, **options)


def _of_builder(
    name: str, builder: Any, facts: Mapping[str, Any], streaming: bool, repo: str | None = None, **options: Any
) -> Source:
    """The splits of a builder, prepared or streamed."""
    with clear_errors(name, repo), without_decoder(builder):
        if streaming:
            parts = builder.as_streaming_dataset()
        else:
            if repo is not None:
                bring_files(name, builder, repo)
            builder.download_and_prepare()
            parts = builder.as_dataset()
    if not streaming:
        return HubSource(name, parts, facts, **options)
    sizes = {split: info.num_examples for split, info in (builder.info.splits or {}).items()}
    return HubStream(name, parts, {**facts, "streaming": True}, sizes, repo, **options)


def find_commit(name: str, repo: str, revision: str | None) -> str | None:
    """The commit that the hub says a revision is; where it cannot be asked, that it said last. None = not known.

    Raises:
        OSError: of huggingface_hub, where there is neither.
    """
    folder = Path(constants.HF_HUB_CACHE, f"datasets--{repo.replace('/', '--')}")
    if not is_offline():
        try:
            path = hf_hub_download(repo, "README.md", repo_type="dataset", revision=revision)
            return Path(path).parent.name
        except errors.LocalEntryNotFoundError as error:  # no connection
            if not (folder / "refs").is_dir():
                raise
            log.warning("%s: no connection to the hub (%s); going on from the cache", name, first_line(error))
        except errors.EntryNotFoundError:
            return HfApi().dataset_info(repo, revision=revision, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT).sha
    noted = folder / "refs" / (revision or "main")
    if noted.is_file():
        return noted.read_text("utf-8").strip()
    return revision if revision and COMMIT.fullmatch(revision) else None


def bring_files(name: str, builder: Any, repo: str) -> None:
    """Fetch what a builder is to prepare into the hub's cache, and check it.

    Raises:
        DataUnavailableError: a file that cannot be had, or whose sha256 is not the one the hub has for it. Such a file
            is removed.
    """
    files = [file for files in (builder.config.data_files or {}).values() for file in files]
    if Path(builder.cache_dir).exists():
        return
    start = f"hf://datasets/{repo}@{builder.hash}/"

    def bring(url: str) -> None:
        if not url.startswith(start):
            return
        file = url.removeprefix(start)
        with clear_errors(name, repo, file):
            path = Path(hf_hub_download(repo, file, repo_type="dataset", revision=builder.hash))
        blob = path.resolve()
        if SHA256.fullmatch(blob.name) and (found := file_hash(blob)) != blob.name:
            blob.unlink()
            path.unlink()
            raise DataUnavailableError(
                f"{name}: what came as {file} has sha256 {found}, not {blob.name} as the hub says. It was changed on "
                f"the way, and removed: try again, {ELSEWHERE}"
            )

    with ThreadPoolExecutor(FETCHED) as pool:
        list(pool.map(bring, files))
