"""Download published weights from the hub or a URL: pinned, cached, checked, offline-aware.

Files of the hub are in huggingface_hub's cache. Files of other URLs are beside it in `HF_HOME/codeczoo` (or in
`codeczoo` under the given cache folder), in a folder named by a hash of the URL.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import importlib.util
import json
import logging
import os
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from filelock import FileLock
from huggingface_hub import constants, errors, hf_hub_download
from tqdm import tqdm

from codeczoo.base.catalogue import WeightsSource
from codeczoo.base.errors import first_line
from codeczoo.weights.zip_archive import unpack

log = logging.getLogger(__name__)

INSIST = (
    "CODECZOO_CHANGED_WEIGHTS"  # in the environment: "allow" = a file that is not the pinned one is taken, and said
)
DOWNLOAD_BLOCK = 1 << 20  # bytes read at once
# What huggingface_hub raises beside its own errors: those of its HTTP library (which one depends on its version), and
# RuntimeError from its fast transfer.
_TRANSFER_ERRORS: tuple[type[Exception], ...] = (OSError, getattr(errors, "HTTPError", OSError), RuntimeError)


@dataclass(frozen=True)
class Pin:
    """What is known of a file: its sha256, whole or its first digits, or its size in bytes."""

    sha256: str | None = None
    size: int | None = None


class WeightsUnavailableError(FileNotFoundError):
    """Published weights that cannot be downloaded: absent, refused, no network, or interrupted."""


def fetch(
    codec: str,
    source: WeightsSource,
    *,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
) -> list[Path]:
    """The local paths of a source's files, downloaded if they are not cached. `codec` is named in errors.

    Raises:
        WeightsUnavailableError: a file cannot be downloaded; the message says why and what to do.
        ValueError: a file's sha256 is not the published one (the file is removed).
    """
    if revision is not None and (source.url or source.package):
        raise ValueError(f"{codec}: revision={revision!r} is for hub repositories; its weights come from {source}")
    home = {"repo": source.repo, "revision": revision or source.revision, "package": source.package}
    pins = {"sha256": source.sha256, "size": source.size, "mirrors": source.mirrors} if revision is None else {}
    own = {"url": source.url, **pins}
    files = [{**home, **own, "file": source.file, "member": source.member}]
    for more in source.more:
        # A member without a URL is in the same archive.
        entry: dict[str, Any] = {**(own if "member" in more and "url" not in more else {}), **more}
        elsewhere = bool(entry.keys() & {"url", "repo", "package"})
        files.append({**entry} if elsewhere else {**entry, **home})
        if revision is not None and not elsewhere:  # another revision has other hashes
            files[-1] |= {"sha256": None, "size": None, "mirrors": ()}
    return [_fetch_one(codec, entry, cache_dir, local_files_only) for entry in files]


def _fetch_one(codec: str, entry: Mapping[str, Any], cache_dir: str | Path | None, local_files_only: bool) -> Path:
    """From its own place, or from the first mirror that has it. What is cached is asked for first."""
    pins = {name: entry.get(name) for name in ("sha256", "size")}
    places = [entry, *({**mirror, **pins} for mirror in entry.get("mirrors") or ())]
    for place in places[: len(places) if len(places) > 1 else 0]:
        with contextlib.suppress(WeightsUnavailableError):
            return _from_place(codec, place, cache_dir, local_files_only=True)
    failed: list[str] = []
    for place in places:
        try:
            path = _from_place(codec, place, cache_dir, local_files_only)
        except WeightsUnavailableError as error:
            if place is places[-1] and not failed:
                raise
            failed.append(str(error).removeprefix(f"{codec}: "))
        else:
            if failed:
                log.warning("%s: %s. Its mirror %s gave the same file", codec, failed[0], _told(place))
            return path
    raise WeightsUnavailableError(f"{codec}: {'. Its mirror: '.join(failed)}")


def _from_place(codec: str, entry: Mapping[str, Any], cache_dir: str | Path | None, local_files_only: bool) -> Path:
    pin = Pin(entry.get("sha256"), entry.get("size"))
    if package := entry.get("package"):
        return from_package(codec, package, entry.get("file") or "", pin)
    if url := entry.get("url"):
        path = from_url(codec, url, pin, cache_dir=cache_dir, local_files_only=local_files_only)
        member = entry.get("member")
        return from_archive(codec, path, [member], cache_dir)[0] if member else path
    repo, file = entry.get("repo"), entry.get("file")
    if not repo or not file:
        raise ValueError(f"{codec}: its configuration names no URL, and no file of a hub repository or a package")
    path = from_hub(codec, repo, file, entry.get("revision"), cache_dir, local_files_only=local_files_only)
    _verify(codec, path, pin, _told(entry))
    return path


def _told(entry: Mapping[str, Any]) -> str:
    return str(entry.get("url") or f"{entry.get('repo')}/{entry.get('file')}")


def from_hub(
    codec: str,
    repo: str,
    file: str,
    revision: str | None,
    cache_dir: str | Path | None = None,
    *,
    local_files_only: bool = False,
) -> Path:
    """The local path of a file of a hub repository, from huggingface_hub and its cache.

    Raises:
        WeightsUnavailableError: it cannot be downloaded.
    """
    what = f"{codec}: {file} of {repo}{f' at {revision}' if revision else ''}"
    own = f"or get {file} elsewhere and pass weights=path (--weights in the shell)"
    try:
        return Path(
            hf_hub_download(repo, file, revision=revision, cache_dir=cache_dir, local_files_only=local_files_only)
        )
    except errors.GatedRepoError as error:
        terms = f"{constants.ENDPOINT}/{repo}"
        reason = f"the repository is gated: accept its terms at {terms} and log in (`hf auth login`), {own}"
        raise WeightsUnavailableError(f"{what} was refused: {reason}") from error
    except errors.RevisionNotFoundError as error:
        raise WeightsUnavailableError(f"{what}: there is no such revision; pass revision=..., {own}") from error
    except errors.RepositoryNotFoundError as error:
        reason = f"the repository is not there, or private (then log in: `hf auth login`), {own}"
        raise WeightsUnavailableError(f"{what} was refused: {reason}") from error
    except errors.LocalEntryNotFoundError as error:
        if local_files_only or constants.HF_HUB_OFFLINE:
            reason = f"is not in the cache and the network is off: load {codec} once online"
        else:
            why = first_line(error.__cause__ or error)
            reason = f"cannot be had: no connection to {constants.ENDPOINT} ({why}): try again"
        raise WeightsUnavailableError(f"{what} {reason}, {own}") from error
    except errors.EntryNotFoundError as error:
        raise WeightsUnavailableError(f"{what} is not there (404): pass revision=..., {own}") from error
    except _TRANSFER_ERRORS as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise  # an error of the cache folder, which its message names
        raise WeightsUnavailableError(f"{what} did not arrive ({first_line(error)}): try again, {own}") from error


def from_url(
    codec: str,
    url: str,
    pin: Pin,
    *,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
) -> Path:
    """The local path of the file at a URL, downloaded once. It is checked before it gets its final name.

    Raises:
        WeightsUnavailableError: it cannot be downloaded.
        ValueError: it is not what `pin` says; nothing is kept.
    """
    path = cache_folder(cache_dir) / "files" / _digest(url)[:16] / unquote(urlsplit(url).path.rpartition("/")[2])
    own = f"or get it elsewhere, and put it at {path} or pass weights=path (--weights in the shell)"
    if not path.exists():
        if local_files_only or constants.HF_HUB_OFFLINE:
            raise WeightsUnavailableError(
                f"{codec}: {url} is not in the cache and the network is off: load {codec} once online, {own}"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(path.name + ".lock")):
            if not path.exists():  # another process may have downloaded it meanwhile
                partial = path.with_name(f"{path.name}.{os.getpid()}.part")
                try:
                    digest = _download(url, partial)
                    _check(codec, url, pin, digest, partial.stat().st_size)
                    partial.replace(path)
                    _remember(path, digest)
                except urllib.error.HTTPError as error:
                    why = "it is not there (404)" if error.code == 404 else f"HTTP status {error.code}"
                    raise WeightsUnavailableError(f"{codec}: {url} was refused: {why}; try later, {own}") from error
                except (OSError, http.client.HTTPException) as error:
                    raise WeightsUnavailableError(
                        f"{codec}: {url} did not arrive ({first_line(error)}): try again, {own}"
                    ) from error
                finally:
                    partial.unlink(missing_ok=True)
    _verify(codec, path, pin, url)
    return path


def from_package(codec: str, package: str, file: str, pin: Pin) -> Path:
    """The path of a file that an installed Python package brings with it. The package is not imported.

    Args:
        package: importable name; `file` is a path in its folder.

    Raises:
        WeightsUnavailableError: there is no such package here, or no such file in it.
        ValueError: it is not the file that `pin` tells of. It stays where it is.
    """
    own = "install it again, or pass weights=path (--weights in the shell)"
    spec = importlib.util.find_spec(package)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    path = next((path for path in (Path(folder) / file for folder in folders) if path.is_file()), None)
    if path is None:
        reason = f"{file} is not in the package {package}" if spec else f"the package {package} is not installed"
        raise WeightsUnavailableError(f"{codec}: {reason}: {own}")
    _check(codec, str(path), pin, file_hash(path), path.stat().st_size, CHANGED_HERE)
    return path


def from_archive(codec: str, path: Path, members: Sequence[str], cache_dir: str | Path | None = None) -> list[Path]:
    """The local paths of files from a zip archive.

    Raises:
        ValueError: the archive is broken, or lacks one of them.
    """
    try:
        return unpack(path, members, cache_folder(cache_dir) / "files")
    except ValueError as error:
        raise ValueError(f"{codec}: {error}") from error


def _download(url: str, path: Path) -> str:
    """Download `url` to `path`; returns its sha256."""
    digest = hashlib.sha256()
    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT  # seconds without an answer
    request = urllib.request.Request(url, headers={"User-Agent": "codeczoo"})
    with urllib.request.urlopen(request, timeout=timeout) as response, path.open("wb") as file:
        length = response.headers.get("Content-Length")
        total = int(length) if length else None
        with tqdm(total=total, unit="B", unit_scale=True, desc=path.parent.name, disable=None) as bar:
            while block := response.read(DOWNLOAD_BLOCK):
                file.write(block)
                digest.update(block)
                bar.update(len(block))
        if total is not None and file.tell() != total:
            raise OSError(f"{file.tell()} of {total} bytes arrived")
    return digest.hexdigest()


def _verify(codec: str, path: Path, pin: Pin, origin: str) -> None:
    """Raise ValueError, and remove the file, if it is not what `pin` says.

    The hub's cache names a large file by its sha256, so that one which came damaged is noticed without a pin too.
    """
    real = path.resolve()
    if not pin.sha256 and re.fullmatch("[0-9a-f]{64}", real.name):
        pin = replace(pin, sha256=real.name)
    if not pin.sha256 and not pin.size:
        return
    try:
        _check(codec, origin, pin, file_hash(path), real.stat().st_size)
    except ValueError:
        real.unlink(missing_ok=True)
        path.unlink(missing_ok=True)  # the hub's cache holds a link to the file
        raise


REMOVED = "it was removed. It was changed at its source or on the way: load again"
CHANGED_HERE = "it was changed after it was made: install that package again"


def _check(codec: str, origin: str, pin: Pin, digest: str, size: int, then: str = REMOVED) -> None:
    """Compare a file with what is known of it. What was insisted on is a warning.

    Args:
        then: what has become of the file, and the first way out.
    """
    wrong = []
    if pin.sha256 and not digest.startswith(pin.sha256.lower()):
        wrong.append(f"sha256 {digest}, not {pin.sha256}")
    if pin.size and size != pin.size:
        wrong.append(f"{size:,} bytes, not {pin.size:,}")
    if not wrong:
        return
    what = f"{codec}: what came from {origin} has {' and '.join(wrong)}"
    if os.environ.get(INSIST) == "allow":
        log.warning("%s; it is taken all the same, as %s=allow says", what, INSIST)
        return
    raise ValueError(
        f"{what}: {then}. To insist on a changed file, "
        f"set {INSIST}=allow in the environment, give another revision= of a hub repository, or pass a copy that you "
        "trust as weights=path (--weights in the shell)"
    )


def file_hash(path: Path) -> str:
    """The sha256 of a file, in hex. Kept in the cache folder, and used while the file's size and time are unchanged."""
    note, known = _hash_record(path)
    with contextlib.suppress(OSError, ValueError):
        kept = json.loads(note.read_text("utf-8"))
        if isinstance(kept, dict) and {**known, "sha256": kept.get("sha256")} == kept:
            return str(kept["sha256"])
    digest = sha256_of(path)
    _remember(path, digest)
    return digest


def sha256_of(path: Path) -> str:
    """The sha256 of the file's content, in hex, computed now."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remember(path: Path, digest: str) -> None:
    note, known = _hash_record(path)
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        partial = note.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
        partial.write_text(json.dumps({**known, "sha256": digest}), "utf-8")
        partial.replace(note)
    except OSError as error:  # the cache cannot be written: the file is hashed again next time
        log.debug("the hash of %s was not kept: %s", path, error)


def _hash_record(path: Path) -> tuple[Path, dict[str, str | int]]:
    """The path where the hash of a file is kept, and the facts that must match for it to be valid."""
    real = path.resolve()
    stat = real.stat()
    note = cache_folder(None) / "sha256" / f"{_digest(str(real))[:32]}.json"
    return note, {"path": str(real), "size": stat.st_size, "time": stat.st_mtime_ns}


def cache_folder(cache_dir: str | Path | None) -> Path:
    """The folder of all that codeczoo caches itself."""
    return Path(constants.HF_HOME if cache_dir is None else cache_dir) / "codeczoo"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
