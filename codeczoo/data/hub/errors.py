"""Errors of the hub and of the `datasets` library, reworded with the way out."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import datasets
import pyarrow as pa
from datasets.data_files import EmptyDatasetError
from datasets.exceptions import (
    DataFilesNotFoundError,
    DatasetGenerationError,
    DatasetNotFoundError,
    DatasetsError,
    SplitsVerificationError,
)
from huggingface_hub import constants, errors

from codeczoo.base.errors import first_line
from codeczoo.data.inline import FETCH_ERRORS, HTTP_ERROR

_RAISED = (*FETCH_ERRORS, ValueError, LookupError, TypeError, DatasetsError, pa.ArrowException)
ELSEWHERE = "or get the data elsewhere and name the folder"


class DataUnavailableError(FileNotFoundError):
    """A data set that cannot be had: not there, not allowed, no network, broken on the way."""


@contextlib.contextmanager
def clear_errors(name: str, repo: str | None = None, file: str = "it") -> Iterator[None]:
    """Re-raise the libraries' errors in this block with the data set's name and the way out.

    Args:
        name: of the data set, as the user gave it.
        repo: on the hub; None for a copy on this machine.
        file: the file that is fetched, if it is one file.

    Raises:
        DataUnavailableError: it cannot be had.
        ValueError: it is there and cannot be used.
    """
    try:
        yield
    except DataUnavailableError:
        raise
    except _RAISED as error:
        chain = list(_causes(error))
        text = _unavailable(chain, repo, file) if repo else None
        if text is not None:
            raise DataUnavailableError(f"{name}: {text}") from error
        raise ValueError(f"{name}: {_unusable(chain)}") from error


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE or HF_DATASETS_OFFLINE says that there is no network."""
    return bool(constants.HF_HUB_OFFLINE or datasets.config.HF_HUB_OFFLINE)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and its causes, the first cause last."""
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _unavailable(chain: list[BaseException], repo: str, file: str) -> str | None:
    """Why a data set of the hub cannot be had; None if that is not what happened."""
    page = f"{constants.ENDPOINT}/datasets/{repo}"
    for error in chain:
        if isinstance(error, errors.GatedRepoError):
            return f"it is gated: accept its terms at {page} and log in (`hf auth login`), {ELSEWHERE}"
        if isinstance(error, errors.RevisionNotFoundError):
            return f"there is no such revision of {repo}: name another as {repo}@REVISION, {ELSEWHERE}"
        if isinstance(error, errors.RepositoryNotFoundError | DatasetNotFoundError):
            return (
                f"there is no such folder or file here, and {repo} is not a data set of {constants.ENDPOINT}, or a "
                f"private one (then log in: `hf auth login`)"
            )
        if isinstance(error, errors.OfflineModeIsEnabled | ConnectionError) and is_offline():
            return (
                f"there is no such folder or file here, {repo} is not in the cache, and the network is off: "
                f"read it once online, {ELSEWHERE}"
            )
        if isinstance(error, errors.HfHubHTTPError) and error.response is not None:
            url, status = _file(str(error.response.url)), error.response.status_code
            if status == 404:
                return f"{url} is not there (404): name another revision as {repo}@REVISION, {ELSEWHERE}"
            return f"{url} was refused (HTTP status {status}): try again later, {ELSEWHERE}"
    for error in reversed(chain):
        if isinstance(error, (ConnectionError, TimeoutError, HTTP_ERROR, errors.LocalEntryNotFoundError)):
            return f"{file} did not arrive from {constants.ENDPOINT} ({first_line(error)}): try again, {ELSEWHERE}"
    if isinstance(chain[0], OSError) and not isinstance(chain[0], FileNotFoundError):
        return f"{file} did not arrive ({first_line(chain[0])}): try again, {ELSEWHERE}"
    return None


def _unusable(chain: list[BaseException]) -> str:
    """Why a data set that is there cannot be read."""
    error, text = chain[0], str(chain[0]).strip()
    if "scripts are no longer supported" in text:
        script = text.rpartition(" ")[2]
        return (
            f"it is a script ({script}), and code of a data set is never run. The hub keeps many such sets as Parquet "
            "too: add @refs/convert/parquet to its name"
        )
    if "Config name is missing" in text or text.startswith("BuilderConfig"):
        said = " ".join(text.partition("Example")[0].split())
        return f"{said} Choose one as NAME:CONFIG"
    if isinstance(error, DataFilesNotFoundError | EmptyDatasetError):
        return (
            "it holds no files that the datasets library reads (Parquet, JSON lines, CSV, audio, tars ...), "
            "or its README names others than there are"
        )
    if isinstance(error, SplitsVerificationError):
        return f"it is not as large as its README says ({first_line(error)})"
    if isinstance(error, DatasetGenerationError):
        return f"it cannot be read ({first_line(chain[-1])})"
    return first_line(error)


def _file(url: str) -> str:
    """The file that a URL of the hub stands for."""
    found = re.search(r"/resolve/[^/]+/(.+?)(?:\?.*)?$", url)
    return found[1] if found else url
