"""Tars in WebDataset's form: members of one name up to its first dot belong together.

A tar is indexed once and clips are then read by their place in it; a compressed one is read from front to back, and its
clips travel with their entries.
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
from pathlib import Path
from typing import Any, BinaryIO

from codeczoo.data.archives import ShardSource, shard_names
from codeczoo.data.files import SUFFIXES
from codeczoo.data.inline import carry
from codeczoo.data.source import Content, Entry, category_of

log = logging.getLogger(__name__)

TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
COMPRESSED: dict[bytes, Callable[[Path], Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
BROKEN = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError)
BLOCK = 512  # bytes


@dataclass(frozen=True, order=True)
class Place:
    """Where the bytes of a member lie, in the tar as it is before compression."""

    name: str
    offset: int
    size: int


@dataclass
class Sample:
    """Members that belong together, by what follows the first dot of their names."""

    key: str
    members: dict[str, Place] = field(default_factory=dict)
    notes: dict[str, bytes] = field(default_factory=dict)


class TarSource(ShardSource):
    """Tars; the key of an entry is its shard and its place there."""

    def _shard(self, shard: Path, entries: list[Entry]) -> Iterator[Entry]:
        if _opener(shard) is None:
            yield from entries
            return
        with _opened(shard) as file:
            for entry in entries:
                place = entry.key[1]
                yield entry if place is None else replace(entry, key=carry(partial(_read, file, shard, place)))

    def read(self, entry: Entry) -> Content:
        if not isinstance(entry.key, tuple):
            return super().read(entry)
        shard, place = entry.key
        if place is None:
            raise ValueError(f"{entry.origin}: there is no audio in it (of {' '.join(SUFFIXES)})")
        with shard.open("rb") as file:
            return _read(file, shard, place)


def open_tars(name: str, shards: Sequence[Path], audio_column: str | None = None) -> TarSource:
    """Samples of all shards, in their order. Ids are the samples' names or what "id" in a .json beside them says,
    behind the name of their shard where they would not be unique; categories come from that .json or a .cls.

    Args:
        audio_column: the extension of the audio, where samples hold more than one.

    Raises:
        ValueError: a shard is broken, no sample holds audio, or one holds more than one.
    """
    found = [(shard, sample) for shard in shards for sample in _samples(shard)]
    extensions = sorted({extension for _, sample in found for extension in sample.members})
    entries = [_entry(shard, sample, audio_column) for shard, sample in found]
    if not any(entry.key[1] for entry in entries):
        wanted = f".{audio_column}" if audio_column else f"audio ({' '.join(SUFFIXES)})"
        raise ValueError(f"{name}: no member of the tars is {wanted}; there are {', '.join(extensions) or 'none'}")
    if len({entry.id for entry in entries}) < len(entries):
        names = shard_names(shards)
        entries = [replace(entry, id=f"{names[entry.key[0]]}/{entry.id}") for entry in entries]
    return TarSource(name, {"": entries})


def _entry(shard: Path, sample: Sample, audio_column: str | None) -> Entry:
    """A sample as an entry."""
    origin = f"{shard.name}: {sample.key}"
    audio = [e for e in sample.members if (e == audio_column if audio_column else f".{e}".lower().endswith(SUFFIXES))]
    if len(audio) > 1:
        raise ValueError(f"{origin}: several members hold audio ({', '.join(audio)}); --audio-column names one of them")
    row: dict[str, Any] = {}
    if "json" in sample.notes:
        try:
            row = json.loads(sample.notes["json"])
        except ValueError as error:
            raise ValueError(f"{origin}.json: not JSON ({error})") from error
        if not isinstance(row, dict):
            raise ValueError(f"{origin}.json: it is not a JSON object but {type(row).__name__}")
    category = category_of(row)
    if category is None and "cls" in sample.notes:
        category = sample.notes["cls"].decode("utf-8", "replace").strip()
    return Entry(
        str(row.get("id") or sample.key), (shard, sample.members[audio[0]] if audio else None), category, origin
    )


def _samples(shard: Path) -> Iterator[Sample]:
    """The samples of one tar: members that follow one another and have the same name up to its first dot.

    Raises:
        ValueError: it is broken and clips are lost.
    """
    sample = Sample("")
    with _opened(shard) as file:
        for place in _members(shard, file):
            folder, slash, base = place.name.rpartition("/")
            stem, dot, extension = base.partition(".")
            if not stem or not dot:
                continue  # folders, hidden files
            key = f"{folder}{slash}{stem}"
            if key != sample.key or extension in sample.members:
                if sample.members:
                    yield sample
                sample = Sample(key)
            sample.members[extension] = place
            if extension in ("json", "cls"):
                file.seek(place.offset)
                sample.notes[extension] = file.read(place.size)
    if sample.members:
        yield sample


def _members(shard: Path, file: BinaryIO) -> Iterator[Place]:
    """The files in a tar. What Python's reader passes over in silence, a broken header or a second archive behind the
    first one, is an error here."""
    offset, last = 0, Place("", 0, 0)
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for info in tar:
                offset = tar.offset
                if info.isfile():
                    if info.issparse():
                        raise ValueError(
                            f"{shard}: {info.name} is a sparse file, which is not read: write the tar anew"
                        )
                    last = Place(info.name, info.offset_data, info.size)
                    yield last
            offset = tar.offset
        file.seek(offset)
        while block := file.read(BLOCK * 128):
            if block.strip(b"\0"):
                raise tarfile.ReadError("what follows is not a tar's")
        if offset == file.tell():
            log.warning("%s: no mark of its end behind %s: more may be missing", shard, last.name or "its head")
    except BROKEN as error:
        if _opener(shard) is None and 0 <= shard.stat().st_size - (last.offset + last.size) < -last.size % BLOCK:
            return  # nothing but padding is missing
        raise ValueError(
            f"{shard}: broken at byte {offset}, behind {last.name or 'nothing'} ({error}); "
            "clips are lost there: bring the shard anew, or leave it out"
        ) from error


def _opener(shard: Path) -> Callable[[Path], Any] | None:
    """What opens a compressed tar; None for one that is not."""
    with shard.open("rb") as file:
        start = file.read(8)
    return next((opener for magic, opener in COMPRESSED.items() if start.startswith(magic)), None)


def _opened(shard: Path) -> BinaryIO:
    """A tar as it is before compression."""
    opener = _opener(shard)
    return opener(shard) if opener else shard.open("rb")


def _read(file: BinaryIO, shard: Path, place: Place) -> bytes:
    """A member.

    Raises:
        OSError: the file ends before it.
    """
    file.seek(place.offset)
    content = file.read(place.size)
    if len(content) < place.size:
        raise OSError(f"{shard}: {place.name}: {len(content)} of {place.size} bytes are there")
    return content
