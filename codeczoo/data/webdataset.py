"""Tars in WebDataset's form: members of one name up to its first dot belong together.

A tar is indexed once, and clips are then read by offset. A compressed tar is read from front to back, and the entries'
keys hold the bytes.
"""

from __future__ import annotations

import bz2
import gzip
import json
import logging
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO

from codeczoo.base.errors import first_line
from codeczoo.data.archives import ArchiveSource, archive_names
from codeczoo.data.files import SUFFIXES
from codeczoo.data.inline import to_inline_bytes
from codeczoo.data.source import OTHER_IDS, ROW, Content, Entry, category_of, speaker_of, transcript_of

log = logging.getLogger(__name__)

TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
COMPRESSED: dict[bytes, Callable[[Path], Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
TAR_ERRORS = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError, ValueError, OverflowError, MemoryError)
TAR_BLOCK_BYTES = 512  # bytes


class SparseFileError(ValueError):
    """A member of a tar that is not read."""


@dataclass(frozen=True, order=True, slots=True)
class TarMember:
    """Where the bytes of a member lie in the uncompressed tar."""

    name: str
    offset: int
    size: int


@dataclass
class TarSample:
    """Members of one name up to its first dot; by what follows that dot."""

    key: str
    members: dict[str, TarMember] = field(default_factory=dict)
    notes: dict[str, bytes] = field(default_factory=dict)


class TarSource(ArchiveSource):
    """Tars; the key of an entry is its shard and its member there."""

    def _shard(self, shard: Path, entries: list[Entry]) -> Iterator[Entry]:
        if _opener(shard) is None:
            yield from entries
            return
        with _opened(shard) as file:
            for entry in entries:
                member = entry.key[1]
                yield (
                    entry
                    if member is None
                    else replace(entry, key=to_inline_bytes(partial(_read, file, shard, member)))
                )

    def read(self, entry: Entry) -> Content:
        if not isinstance(entry.key, tuple):
            return super().read(entry)
        entry.check_readable()
        shard, member = entry.key
        if member is None:
            raise ValueError(f"{entry.origin}: there is no audio in it (of {' '.join(SUFFIXES)})")
        with shard.open("rb") as file:
            return _read(file, shard, member)


def open_tars(
    name: str, shards: Sequence[Path], audio_column: str | None = None, id_column: str | None = None
) -> TarSource:
    """Samples of all shards, in their order. Ids are the samples' names or what "id" in a .json beside them says,
    behind the name of their shard where they would not be unique; categories come from that .json or a .cls, and
    what is said from that .json or a .txt.

    Args:
        audio_column: the extension of the audio, where samples hold more than one.
        id_column: a key of the .json in place of "id"; `ROW` numbers the samples of each shard.

    Raises:
        ValueError: a shard is broken, no sample holds audio, or one holds more than one.
    """
    found = [(shard, sample) for shard in shards for sample in _samples(shard)]
    extensions = sorted({extension for _, sample in found for extension in sample.members})
    entries = [_entry(shard, sample, audio_column, id_column) for shard, sample in found]
    if not any(entry.key[1] for entry in entries):
        wanted = f".{audio_column}" if audio_column else f"audio ({' '.join(SUFFIXES)})"
        raise ValueError(f"{name}: no member of the tars is {wanted}; there are {', '.join(extensions) or 'none'}")
    names = archive_names(shards)
    if id_column == ROW:
        numbers = {shard: count() for shard in shards}
        entries = [replace(entry, id=f"{names[entry.key[0]]}/{next(numbers[entry.key[0]])}") for entry in entries]
    elif len({entry.id for entry in entries}) < len(entries):
        entries = [replace(entry, id=f"{names[entry.key[0]]}/{entry.id}") for entry in entries]
    return TarSource(name, {"": entries}, OTHER_IDS)


def _entry(shard: Path, sample: TarSample, audio_column: str | None, id_column: str | None) -> Entry:
    """A sample as an entry."""
    origin = f"{shard.name}: {sample.key}"
    audio = [e for e in sample.members if (e == audio_column if audio_column else f".{e}".lower().endswith(SUFFIXES))]
    if len(audio) > 1:
        raise ValueError(f"{origin}: several members hold audio ({', '.join(audio)}); --audio-column names one of them")
    row: dict[str, Any] = {}
    if "json" in sample.notes:
        try:
            row = json.loads(sample.notes["json"])
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{origin}.json: not JSON ({error})") from error
        if not isinstance(row, dict):
            raise ValueError(f"{origin}.json: it is not a JSON object but {type(row).__name__}")
    category = category_of(row)
    if category is None and "cls" in sample.notes:
        category = sample.notes["cls"].decode("utf-8", "replace").strip()
    key = (shard, sample.members[audio[0]] if audio else None)
    speaker, transcript = speaker_of(row), transcript_of(row)
    if transcript is None and "txt" in sample.notes:
        transcript = sample.notes["txt"].decode("utf-8", "replace").strip()
    named = row.get("id" if id_column in (None, ROW) else id_column)
    if named not in (None, ""):
        return Entry(str(named), key, category, origin, speaker=speaker, transcript=transcript)
    if id_column in (None, ROW):
        return Entry(sample.key, key, category, origin, speaker=speaker, transcript=transcript)
    failure = f"{origin}: its .json has no {id_column!r}; {OTHER_IDS}"
    return Entry(sample.key, key, category, origin, failure=failure, speaker=speaker)


def _samples(shard: Path) -> Iterator[TarSample]:
    """The samples of one tar: members that follow one another and have the same name up to its first dot.

    Raises:
        ValueError: it is broken and clips are lost.
    """
    sample, last = TarSample(""), TarMember("", 0, 0)
    with _opened(shard) as file:
        for member in _members(shard, file):
            folder, slash, base = member.name.rpartition("/")
            stem, dot, extension = base.partition(".")
            if not stem or not dot:
                continue  # folders, hidden files
            key = f"{folder}{slash}{stem}"
            if key != sample.key or extension in sample.members:
                if sample.members:
                    yield sample
                sample = TarSample(key)
            sample.members[extension] = member
            if extension in ("json", "cls", "txt"):
                try:
                    sample.notes[extension] = _read(file, shard, member)
                except TAR_ERRORS as error:
                    raise _broken(shard, member.offset, last, error) from error
            last = member
    if sample.members:
        yield sample


def _members(shard: Path, file: BinaryIO) -> Iterator[TarMember]:
    """The files in a tar. A broken header, and a second archive behind the first, which Python's reader ignores, are
    errors here."""
    offset, last = 0, TarMember("", 0, 0)
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for info in tar:
                offset = tar.offset
                if info.isfile():
                    if info.issparse():
                        raise SparseFileError(
                            f"{shard}: {info.name} is a sparse file, which is not read: write it to the tar in full"
                        )
                    last = TarMember(info.name, info.offset_data, info.size)
                    yield last
            offset = tar.offset
        file.seek(offset)
        while block := file.read(TAR_BLOCK_BYTES * 128):
            if block.strip(b"\0"):
                raise tarfile.ReadError("what follows is not a tar's")
        if offset == file.tell():
            log.warning("%s: no mark of its end behind %s: more may be missing", shard, last.name or "its head")
    except SparseFileError:
        raise
    except TAR_ERRORS as error:
        if (
            _opener(shard) is None
            and 0 <= shard.stat().st_size - (last.offset + last.size) < -last.size % TAR_BLOCK_BYTES
        ):
            return  # nothing but padding is missing
        raise _broken(shard, offset, last, error) from error


def _broken(shard: Path, offset: int, last: TarMember, error: Exception) -> ValueError:
    return ValueError(
        f"{shard}: broken at byte {offset}, behind {last.name or 'nothing'} ({first_line(error)}); clips are lost "
        "there: fetch the shard again, or leave it out"
    )


def _opener(shard: Path) -> Callable[[Path], Any] | None:
    """The function that opens a compressed tar; None for an uncompressed one."""
    with shard.open("rb") as file:
        start = file.read(8)
    return next((opener for magic, opener in COMPRESSED.items() if start.startswith(magic)), None)


def _opened(shard: Path) -> BinaryIO:
    """The uncompressed bytes of a tar."""
    opener = _opener(shard)
    return opener(shard) if opener else shard.open("rb")


def _read(file: BinaryIO, shard: Path, member: TarMember) -> bytes:
    """The bytes of a member.

    Raises:
        OSError: the file ends before the member does.
    """
    file.seek(member.offset)
    content = file.read(member.size)
    if len(content) < member.size:
        raise OSError(f"{shard}: {member.name}: {len(content)} of {member.size} bytes are there")
    return content
