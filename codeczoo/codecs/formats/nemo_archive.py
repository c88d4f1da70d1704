"""`.nemo`, the form in which NVIDIA NeMo publishes its models: a tar archive, in older files gzipped, of

    model_config.yaml     the settings
    model_weights.ckpt    the tensors, a torch pickle

and as a rule nothing else that a network needs. Both are found by these names (`./` may stand before them). No name in
the archive is ever used as a path: the pickle is copied to a temporary file, whose tensors are read where they lie and
which goes when they go. Nothing grows beyond what the archive's own bytes allow.
"""

from __future__ import annotations

import gzip
import tarfile
import tempfile
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import IO, Any

import yaml

from codeczoo.weights.safe_pickle import read_pickle

CONFIG, WEIGHTS = "model_config.yaml", "model_weights.ckpt"
MOST_CONFIG, DEEPEST = 1 << 17, 32  # bytes of settings, and tables in tables; a network's are far from both
INFLATION = 16  # times that a gzipped archive may grow; one of weights hardly does
SLACK = 1 << 20  # bytes more, for small archives that are mostly the tar format's zeros
PIECE = 1 << 20


def read_nemo(path: Path) -> Mapping[str, Any]:
    """{"model_weights": the pickle's tree, "model_config": the settings} of a `.nemo` archive.

    Raises:
        UnsafeCheckpointError: its pickle names code.
        ValueError: not a whole archive, or one that could do harm; the message names the file and the part.
    """
    with tempfile.TemporaryDirectory(prefix="codeczoo-", ignore_cleanup_errors=True) as folder:
        weights = Path(folder) / WEIGHTS
        try:
            with path.open("rb") as file:
                zipped = file.read(2) == b"\x1f\x8b"
            if zipped:
                plain = Path(folder) / "archive.tar"
                with gzip.open(path) as source:
                    _copy(source, plain, INFLATION * path.stat().st_size + SLACK)
                config = _take_apart(plain, weights)
                plain.unlink()
            else:
                config = _take_apart(path, weights)
        except (tarfile.TarError, gzip.BadGzipFile, zlib.error, yaml.YAMLError, ValueError, LookupError, OverflowError,
                EOFError, RecursionError) as error:  # fmt: skip
            raise ValueError(f"{path}: not a whole NeMo archive ({' '.join(str(error).split())})") from error
        return {"model_weights": read_pickle(weights, told=f"{path}, {WEIGHTS}"), "model_config": config}


def _take_apart(archive: Path, weights: Path) -> Mapping[str, Any]:
    """The settings of a plain tar archive; its pickle is copied to `weights`."""
    size = archive.stat().st_size
    with tarfile.open(archive, "r:") as content:
        members = _members(content, size)
        for name in (CONFIG, WEIGHTS):
            if name not in members:
                raise ValueError(f"there is no {name} in it")
        if members[CONFIG].size > MOST_CONFIG:
            raise ValueError(f"{CONFIG} has {members[CONFIG].size} bytes; settings have {MOST_CONFIG} at most")
        config = _settings(_open(content, members[CONFIG]).read(MOST_CONFIG))
        copied = _copy(_open(content, members[WEIGHTS]), weights, members[WEIGHTS].size)
        if copied != members[WEIGHTS].size:
            raise ValueError(f"{WEIGHTS} should have {members[WEIGHTS].size} bytes; {copied} are there")
    return config


def _members(content: tarfile.TarFile, size: int) -> dict[str, tarfile.TarInfo]:
    """The archive's files, by name. `size`: of the archive, in bytes."""
    members: dict[str, tarfile.TarInfo] = {}
    for member in content:
        place = PurePosixPath(member.name)
        if place.is_absolute() or ".." in place.parts:
            raise ValueError(f"its member {member.name!r} leads out of it")
        if member.size < 0:  # the next header would be sought before this one, again and again
            raise ValueError(f"its member {member.name!r} has {member.size} bytes")
        if str(place) not in (CONFIG, WEIGHTS):
            continue
        if str(place) in members:
            raise ValueError(f"there are two {place} in it")
        if not member.isreg() or member.issparse():
            raise ValueError(f"its {place} is no plain file")
        if member.size > size - member.offset_data:
            raise ValueError(f"{place} should have {member.size} bytes; the archive ends before")
        members[str(place)] = member
    return members


def _open(content: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    file = content.extractfile(member)
    assert file is not None  # of plain files there always is one
    return file


def _copy(source: Any, target: Path, most: int) -> int:
    """Copy a file to `target` and say how many bytes that were.

    Raises:
        ValueError: more than `most`.
    """
    copied = 0
    with target.open("wb") as out:
        while piece := source.read(PIECE):
            copied += len(piece)
            if copied > most:
                raise ValueError(f"unpacked it has more than {most} bytes")
            out.write(piece)
    return copied


def _settings(text: bytes) -> Mapping[str, Any]:
    """The table in a YAML text of plain values. Without aliases: by them few bytes stand for a tree of any size."""
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise ValueError(f"{CONFIG} is nested more than {DEEPEST} deep")
        if isinstance(event, yaml.AliasEvent):
            raise ValueError(f"{CONFIG} refers to itself by aliases")
    settings = yaml.safe_load(text)
    if not isinstance(settings, Mapping):
        raise ValueError(f"{CONFIG} holds {type(settings).__name__}, not a table")
    return settings
