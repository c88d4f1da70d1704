"""The local copy of hub data sets: resolved commits, files, and prepared splits."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import datasets
from huggingface_hub import HfApi, constants, errors, hf_hub_download

from codeczoo.base.errors import first_line
from codeczoo.data.hub.errors import ELSEWHERE, DataUnavailableError, clear_errors, is_offline
from codeczoo.data.hub.repo_id import HubDataset
from codeczoo.weights.download import file_hash

log = logging.getLogger(__name__)

PARALLEL_FETCHES = 8  # files
COMMIT, SHA256 = re.compile("[0-9a-f]{40}"), re.compile("[0-9a-f]{64}")


def prepare(name: str, builder: Any, hub_dataset: HubDataset, asked: Sequence[str]) -> Mapping[str, Any]:
    """The splits of a builder, fetched and prepared where they are not yet.

    All splits go into the `datasets` library's cache, as that library does it. If only some are asked for, these alone
    go into a folder "codeczoo" of that cache, since the others may be many times as large.

    Raises:
        DataUnavailableError: a file that cannot be had.
    """
    files, repo = builder.config.data_files or {}, hub_dataset.repo
    ready = Path(builder.cache_dir).exists()
    if ready or not asked or not files or set(asked) == set(files):
        if not ready:
            bring_files(name, builder, repo)
        builder.download_and_prepare()
        return builder.as_dataset()
    parts = {}
    for split in asked:
        place = _place(hub_dataset, builder.hash) / builder.config.name / split
        if not place.exists():
            builder.config.data_files = datasets.data_files.DataFilesDict({split: files[split]})
            bring_files(name, builder, repo)
            builder.download_and_prepare(
                str(place), verification_mode="no_checks"
            )  # the checks are for all splits together
        parts[split] = _kept(place)
    return parts


def kept_splits(hub_dataset: HubDataset, commit: str, asked: Sequence[str]) -> tuple[str, dict[str, Any]] | None:
    """The config, and splits that `prepare` has prepared alone before; None if one is missing."""
    for folder in _place(hub_dataset, commit).glob("*"):
        if all((folder / split).exists() for split in asked):
            return folder.name, {split: _kept(folder / split) for split in asked}
    return None


def _place(hub_dataset: HubDataset, commit: str) -> Path:
    """Folder of separately prepared splits. Below it lies one folder a config: the config asked for, or the data set's
    default."""
    folder = Path(datasets.config.HF_DATASETS_CACHE, "codeczoo", hub_dataset.repo.replace("/", "--"), commit)
    return folder / (f"config {hub_dataset.config}" if hub_dataset.config else "default")


def _kept(place: Path) -> Any:
    """A prepared split, mapped into memory."""
    return datasets.concatenate_datasets(
        [datasets.Dataset.from_file(str(file)) for file in sorted(place.glob("*.arrow"))]
    )


def find_commit(name: str, repo: str, revision: str | None) -> str | None:
    """The commit of a revision, asked from the hub or, offline, as last resolved. None = unknown.

    Raises:
        OSError: of huggingface_hub, if the hub does not answer and nothing is cached.
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

    with ThreadPoolExecutor(PARALLEL_FETCHES) as pool:
        list(pool.map(bring, files))
