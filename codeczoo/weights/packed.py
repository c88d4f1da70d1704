"""Packed weights: a safetensors file, a sixth (F32) to a third (BF16) smaller, and the very same file comes back.

A packed file is a safetensors file too. Each tensor of the original is in it as bytes: its blocks, one after the
other, each as its planes (`weights.planes`), with a checksum each. A table in the metadata says where they are. So any
tensor, and any part of one, is read by itself. The original's header is kept word for word, and its sha256 is the
weights' hash: codes of the packed and of the plain file belong together.
"""

from __future__ import annotations

import json
import math
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from codeczoo.weights.download import sha256_of
from codeczoo.weights.planes import SIZES, TOGETHER, Bytes, delta, entropy, fill, frames_of, package, undo_delta

FORMAT = "codeczoo packed 1"
BLOCK = 1 << 20  # values
WRITTEN_AT_ONCE = 16  # blocks
MAX_THREADS = 8
DTYPES = {"BOOL": torch.bool, "U8": torch.uint8, "I8": torch.int8, "F8_E4M3": torch.float8_e4m3fn,
          "F8_E5M2": torch.float8_e5m2, "U16": torch.uint16, "I16": torch.int16, "F16": torch.float16,
          "BF16": torch.bfloat16, "U32": torch.uint32, "I32": torch.int32, "F32": torch.float32, "U64": torch.uint64,
          "I64": torch.int64, "F64": torch.float64}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """How one tensor is packed."""

    dtype: str
    shape: tuple[int, ...]
    block: int  # values
    row: int  # of the differences that are coded in place of the values; 0 = the values themselves
    planes: tuple[tuple[int, ...], ...]  # bytes of each frame, a block

    @property
    def values(self) -> int:
        return math.prod(self.shape)

    def spans(self) -> Iterator[tuple[int, int]]:
        """First value and end of each block."""
        for start in range(0, self.values, self.block):
            yield start, min(start + self.block, self.values)

    def check(self, name: str) -> None:
        """Raise a ValueError if the numbers of the table cannot be right."""
        count = -(-self.values // self.block) if self.block > 0 else -1
        counts = {SIZES.get(self.dtype), *([len(TOGETHER)] if self.dtype == "F32" else [])}
        whole = self.block % self.row == 0 and self.values % self.row == 0 if self.row else True
        if self.dtype not in SIZES or min(self.shape, default=0) < 0 or not 0 < self.block <= BLOCK or not whole:
            raise ValueError(f"the table says nothing sensible of {name}")
        if len(self.planes) != count or not {len(lengths) for lengths in self.planes} <= counts:
            raise ValueError(f"the table lacks blocks of {name}")
        if min((length for lengths in self.planes for length in lengths), default=1) < 1:
            raise ValueError(f"the table says nothing sensible of {name}")


# -- pack -----------------------------------------------------------------------------------------


def pack(source: str | Path, target: str | Path, predict: bool = False) -> None:
    """Pack a safetensors file. A target that is there is replaced when the new one is whole.

    Args:
        predict: try, for each tensor of 8 bit integers, whether differences along its last axis are shorter.

    Raises:
        ImportError: no extra [packed].
        ValueError: not a safetensors file, or one that is packed already.

    Example:
        pack("model.safetensors", "model.packed.safetensors")
        codec = load_codec("dac_44k", weights="model.packed.safetensors")
    """
    package()
    source, target = Path(source), Path(target)
    header, metadata, data = _opened(source)
    if is_packed(metadata):
        raise ValueError(f"{source}: it is packed already")
    layout = {name: own for name, own in json.loads(header).items() if name != "__metadata__"}
    if unknown := sorted({own["dtype"] for own in layout.values()} - SIZES.keys()):
        raise ValueError(f"{source}: it holds tensors of type {', '.join(unknown)}, which cannot be packed")
    names = sorted(layout, key=lambda name: layout[name]["data_offsets"])
    plans = {name: _plan(layout[name], data, predict) for name in names}
    # Its numbers get no longer: so much room before the tensors will do.
    room = len(_header(header, {name: _worst(layout[name], *plans[name]) for name in names}, "0" * 64))
    unfinished = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        with unfinished.open("wb") as out, ThreadPoolExecutor(_threads()) as pool:
            digest = pool.submit(sha256_of, source)
            out.seek(8 + room)
            entries = {name: _pack_one(pool, layout[name], data, *plans[name], out) for name in names}
            out.seek(0)
            out.write(room.to_bytes(8, "little") + _header(header, entries, digest.result()).ljust(room))
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


def _plan(own: Mapping[str, Any], data: Bytes, predict: bool) -> tuple[int, int]:
    """Block and row of a tensor."""
    shape = own["shape"]
    row = shape[-1] if shape else 0
    if not predict or own["dtype"] not in ("I8", "U8") or not 1 < row <= BLOCK:
        return BLOCK, 0
    block = BLOCK // row * row
    first, last = own["data_offsets"]
    sample = data[first:last][:block]
    return (block, row) if entropy(delta(sample, row)) < entropy(sample) else (BLOCK, 0)


def _pack_one(
    pool: ThreadPoolExecutor, own: Mapping[str, Any], data: Bytes, block: int, row: int, out: BinaryIO
) -> Entry:
    kind, (first, last) = own["dtype"], own["data_offsets"]
    step = block * SIZES[kind]
    pieces = [data[start : min(start + step, last)] for start in range(first, last, step)]
    planes: list[tuple[int, ...]] = []
    for start in range(0, len(pieces), WRITTEN_AT_ONCE):  # or a large tensor would wait in memory
        for coded in pool.map(lambda piece: _encode(piece, kind, row), pieces[start : start + WRITTEN_AT_ONCE]):
            planes.append(tuple(map(len, coded)))
            out.writelines(coded)
    return Entry(kind, tuple(own["shape"]), block, row, tuple(planes))


def _encode(piece: Bytes, kind: str, row: int) -> list[bytes]:
    return frames_of(delta(piece, row) if row else piece, kind)


def _worst(own: Mapping[str, Any], block: int, row: int) -> Entry:
    """The entry with the longest numbers that can come: of planes that nothing makes shorter."""
    values, size = math.prod(own["shape"]), SIZES[own["dtype"]]
    spans = [min(block, values - start) for start in range(0, values, block)]
    planes = tuple((count + count // 256 + 64,) * size for count in spans)
    return Entry(own["dtype"], tuple(own["shape"]), block, row, planes)


def _header(original: bytes, entries: Mapping[str, Entry], digest: str) -> bytes:
    table, place = {}, 0
    head: dict[str, Any] = {}
    for name, entry in entries.items():
        size = sum(map(sum, entry.planes))
        head[name] = {"dtype": "U8", "shape": [size], "data_offsets": [place, place + size]}
        table[name] = [entry.dtype, entry.shape, entry.block, entry.row, entry.planes]
        place += size
    text = json.dumps(table, separators=(",", ":"))
    about = {"format": FORMAT, "header": original.decode(), "sha256": digest, "table": text}
    about["check"] = _check_of(about)
    return json.dumps({"__metadata__": about, **head}, separators=(",", ":")).encode()


def _check_of(about: Mapping[str, str]) -> str:
    """CRC-32 of the metadata: ten digits, so that its length is known before they are."""
    return f"{zlib.crc32(''.join(about[key] for key in ('header', 'sha256', 'table')).encode()):010}"


# -- read -----------------------------------------------------------------------------------------


class PackedFile:
    """A packed file, to be read a tensor or a part of one at a time.

    Attributes:
        entries: how each tensor is packed, by name, in the original's order.
        metadata: the original's.
        sha256: of the original file, in hex.

    Raises:
        ImportError: no extra [packed].
        ValueError: not a packed file, or a damaged one; the message names the file.
    """

    def __init__(self, path: str | Path) -> None:
        package()
        self.path = Path(path)
        header, about, self._data = _opened(self.path)
        if not is_packed(about):
            raise ValueError(f"{path}: not a packed file; `codeczoo pack` makes one")
        try:
            if about["check"] != _check_of(about):
                raise ValueError("the table has another checksum")
            self.original, self.sha256 = about["header"].encode(), about["sha256"]
            self.metadata: dict[str, str] = json.loads(self.original).get("__metadata__", {})
            self.entries = {name: _entry(name, row) for name, row in json.loads(about["table"]).items()}
            head = json.loads(header)
            self._places = {name: head[name]["data_offsets"] for name in self.entries}
            for name, entry in self.entries.items():
                first, last = self._places[name]
                if last - first != sum(map(sum, entry.planes)):
                    raise ValueError(f"{name} has another size than its table says")
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise self._damaged(error) from None

    def tensor(self, name: str) -> Tensor:
        """A whole tensor, bit for bit.

        Raises:
            KeyError: no such tensor.
            ValueError: it is damaged.
        """
        return self.tensors([name])[name]

    def tensors(self, names: Iterable[str] | None = None) -> dict[str, Tensor]:
        """Several tensors (None = all), as `tensor` gives them; decoded by several threads."""
        found, jobs = {}, []
        for name in self.entries if names is None else names:
            entry = self.entries[name]
            raw, own = self._blocks(name, 0, entry.values)
            found[name] = _typed(raw, entry.dtype).view(entry.shape)
            jobs += own
        self._run(jobs)
        return found

    def values(self, name: str, start: int, stop: int) -> Tensor:
        """The values `start` to `stop` of a flattened tensor; no other blocks than theirs are read.

        Raises:
            KeyError: no such tensor.
            ValueError: there are no such values, or they are damaged.
        """
        entry = self.entries[name]
        if not 0 <= start <= stop <= entry.values:
            raise ValueError(f"{self.path}: {name} has {entry.values} values; {start} to {stop} were asked for")
        first = start // entry.block * entry.block
        raw, jobs = self._blocks(name, first, stop)
        self._run(jobs)
        size = SIZES[entry.dtype]
        return _typed(raw[(start - first) * size : (stop - first) * size].copy(), entry.dtype)

    def write(self, out: BinaryIO) -> None:
        """The original file."""
        out.write(len(self.original).to_bytes(8, "little") + self.original)
        for name, entry in self.entries.items():
            for start in range(0, entry.values, WRITTEN_AT_ONCE * entry.block):
                raw, jobs = self._blocks(name, start, min(start + WRITTEN_AT_ONCE * entry.block, entry.values))
                self._run(jobs)
                out.write(raw.data)

    def _blocks(self, name: str, start: int, stop: int) -> tuple[Bytes, list[Callable[[], None]]]:
        """Room for the blocks from the one that begins at value `start` to the one that holds the last before `stop`,
        and what fills it."""
        entry, size = self.entries[name], SIZES[self.entries[name].dtype]
        first, last = start // entry.block, -(-stop // entry.block)
        # NumPy would ask for large pages from 4 MB on, which the system is slow to make where memory is scattered.
        count = min(last * entry.block, entry.values) - first * entry.block
        out: Bytes = torch.empty(count * size, dtype=torch.uint8).numpy()
        place = self._places[name][0] + sum(map(sum, entry.planes[:first]))
        jobs: list[Callable[[], None]] = []
        for number in range(first, last):
            length, begin = sum(entry.planes[number]), (number - first) * entry.block * size
            coded, own = self._data[place : place + length], out[begin : begin + entry.block * size]
            jobs.append(partial(_decode, entry, number, coded, own))
            place += length
        return out, jobs

    def _run(self, jobs: Sequence[Callable[[], None]]) -> None:
        try:
            if len(jobs) < 2 or _threads() == 1:
                for job in jobs:
                    job()
            else:
                with ThreadPoolExecutor(_threads()) as pool:
                    for _ in pool.map(lambda job: job(), jobs):
                        pass
        except ValueError as error:
            raise self._damaged(error) from None

    def _damaged(self, error: Exception) -> ValueError:
        return ValueError(f"{self.path}: the packed file is damaged ({error}): get it again")


def _typed(raw: Bytes, kind: str) -> Tensor:
    """Bytes as flat values; torch has no such view of no bytes."""
    return torch.from_numpy(raw).view(DTYPES[kind]) if len(raw) else torch.empty(0, dtype=DTYPES[kind])


def _decode(entry: Entry, number: int, coded: Bytes, out: Bytes) -> None:
    """Decode one block into `out`."""
    ends = np.cumsum(entry.planes[number]).tolist()
    starts = [0, *ends[:-1]]
    fill(out, [coded[start:end] for start, end in zip(starts, ends, strict=True)], entry.dtype)
    if entry.row:
        out[:] = undo_delta(out, entry.row)


def _entry(name: str, row: Sequence[Any]) -> Entry:
    dtype, shape, block, delta_row, planes = row
    entry = Entry(dtype, tuple(shape), block, delta_row, tuple(map(tuple, planes)))
    entry.check(name)
    return entry


def read_packed(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors of a packed file, and the original's metadata.

    Raises:
        ImportError: no extra [packed].
        ValueError: it is not a packed file, or damaged.
    """
    file = PackedFile(path)
    return file.tensors(), file.metadata


def unpack(source: str | Path, target: str | Path) -> None:
    """Write the original of a packed file, byte for byte. A target that is there is replaced when the new one is whole.

    Raises:
        ImportError: no extra [packed].
        ValueError: it is not a packed file, or damaged.
    """
    file, target = PackedFile(source), Path(target)
    unfinished = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        with unfinished.open("wb") as out:
            file.write(out)
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


def is_packed(metadata: Mapping[str, Any] | None) -> bool:
    """Whether the metadata of a safetensors file are those of a packed one."""
    return (metadata or {}).get("format") == FORMAT


def original_hash(path: Path) -> str | None:
    """The sha256 of the file that a packed one was made of; None for other files."""
    if path.suffix.lower() != ".safetensors":
        return None
    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
    return metadata.get("sha256") if is_packed(metadata) else None


def _opened(path: Path) -> tuple[bytes, dict[str, str], Bytes]:
    """The header of a safetensors file, word for word; its metadata; and the bytes of its tensors, mapped."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with safe_open(path, "pt") as opened:  # checks the header: every tensor is in the file, none on another
            metadata = dict(opened.metadata() or {})
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{path}: not a whole safetensors file ({error})") from error
    whole = np.memmap(path, np.uint8, "r")
    length = int.from_bytes(whole[:8].tobytes(), "little")
    return whole[8 : 8 + length].tobytes(), metadata, whole[8 + length :]


def _threads() -> int:
    return min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, MAX_THREADS)
