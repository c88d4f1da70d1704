"""What of the hub lies on this machine: commits that it has named, files, and prepared splits."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import datasets
from huggingface_hub import HfApi, constants, errors, hf_hub_download

from codeczoo.data.hub.errors import ELSEWHERE, DataUnavailableError, clear_errors, first_line, is_offline
from codeczoo.data.hub.repo_id import Reference
from codeczoo.weights.download import file_hash

log = logging.getLogger(__name__)

FETCHED = 8  # files that are fetched at the same time
COMMIT, SHA256 = re.compile("[0-9a-f]{40}"), re.compile("[0-9a-f]{64}")


def prepare(name: str, builder: Any, reference: Reference, asked: Sequence[str]) -> Mapping[str, Any]:
    """The splits of a builder, fetched and prepared where they are not yet.

    They go into the `datasets` library's own cache, all of them, as that library does it; where only some are asked
    for, these alone go into a folder of ours in it, since the others may be many times as large.

    Raises:
        DataUnavailableError: a file that cannot be had.
    """
    files, repo = builder.config.data_files or {}, reference.repo
    ready = Path(builder.cache_dir).exists()
    if ready or not asked or not files or set(asked) == set(files):
        if not ready:
            bring_files(name, builder, repo)
        builder.download_and_prepare()
        return builder.as_dataset()
    parts = {}
    for split in asked:
        place = _place(reference, builder.hash) / builder.config.name / split
        if not place.exists():
            builder.config.data_files = datasets.data_files.DataFilesDict({split: files[split]})
            bring_files(name, builder, repo)
            builder.download_and_prepare(str(place), verification_mode="no_checks")  # which are for all of the splits
        parts[split] = _kept(place)
    return parts


def kept_splits(reference: Reference, commit: str, asked: Sequence[str]) -> tuple[str, dict[str, Any]] | None:
    """The config, and splits that `prepare` has prepared alone before; None if one is missing."""
    for folder in _place(reference, commit).glob("*"):
        if all((folder / split).exists() for split in asked):
            return folder.name, {split: _kept(folder / split) for split in asked}
    return None


def _place(reference: Reference, commit: str) -> Path:
    """Where splits that are prepared alone lie, below the name of their config: the one that was asked for, or the one
    that the data set has for those who ask for none."""
    folder = Path(datasets.config.HF_DATASETS_CACHE, "codeczoo", reference.repo.replace("/", "--"), commit)
    return folder / (f"config {reference.config}" if reference.config else "default")


def _kept(place: Path) -> Any:
    """A prepared split, mapped into memory."""
    return datasets.concatenate_datasets(
        [datasets.Dataset.from_file(str(file)) for file in sorted(place.glob("*.arrow"))]
    )


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
