"""Read pickled checkpoints without running anything that they name.

A pickle is a program: unpickled, it calls whatever it can import. This reader imports nothing. It steps through the
pickle's instructions itself (`pickle_machine`); a name that they mention stays a pair of strings (`pickle_names`), and
a call is looked up in a small table, whose entries build tensors and plain containers (`pickle_calls`). Classes that
training frameworks leave in checkpoints beside the tensors (settings, paths, NumPy scalars) become inert `Opaque`
marks. Any other name is an error as soon as it is mentioned.

The files are those of `torch.save`, in the zip format and in the legacy format before it. Tensors are views of the
memory-mapped file, so an optimiser's moments beside the model take no memory. (Python's `pickletools` describes the
instructions, torch/serialization.py the files.)
"""

from __future__ import annotations

import errno
import mmap
import struct
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from codeczoo.weights.pickle_machine import Machine
from codeczoo.weights.pickle_names import Opaque, Storage, UnsafeCheckpointError, dtype_of
from codeczoo.weights.zip_archive import MOST_GROWTH, ZIP_ERRORS

__all__ = ["LEGACY_MAGIC", "LEGACY_PROTOCOL", "Opaque", "UnsafeCheckpointError", "read_pickle", "tensors_of"]

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # begins a file in torch's legacy format
LEGACY_PROTOCOL = 1001

# What reading a damaged file may end in.
_BROKEN: tuple[type[Exception], ...] = (
    ValueError, TypeError, LookupError, AttributeError, OverflowError, MemoryError, RuntimeError, EOFError,
    struct.error, *ZIP_ERRORS,
)  # fmt: skip


def read_pickle(path: str | Path, told: str | Path | None = None) -> Any:
    """The object of a torch checkpoint (zip or legacy format): dicts, lists, plain values, tensors on the CPU.

    `told` is what errors call the file, where it is the copy of a part of another.

    Raises:
        UnsafeCheckpointError: it names code, or it is a program (TorchScript, torch.package).
        ValueError: not a torch checkpoint, or one cut short.
    """
    path = Path(path)
    told = path if told is None else told
    try:
        with path.open("rb") as file:
            if file.seek(0, 2) == 0:
                raise ValueError("it is empty")
            # Copy on write: tensors may be written to without changing the file.
            memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        return _read_zip(path, memory) if memory[:4] == b"PK\x03\x04" else _read_legacy(memory)
    except UnsafeCheckpointError as error:
        raise UnsafeCheckpointError(
            f"{told}: refused: {error}. If you trust its origin, take the tensors out of it elsewhere and pass them "
            "as weights=dict, or save them as safetensors"
        ) from None
    except _BROKEN as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise  # of the disk
        raise ValueError(f"{told}: not a whole torch checkpoint ({type(error).__name__}: {error})") from error


def tensors_of(tree: Any, prefix: str = "") -> dict[str, Tensor]:
    """All tensors of nested dicts and lists, keys joined by dots."""
    if isinstance(tree, Tensor):
        return {prefix: tree}
    if isinstance(tree, Mapping):
        items = list(tree.items())
    elif isinstance(tree, list | tuple):
        items = list(enumerate(tree))
    else:
        return {}
    out: dict[str, Tensor] = {}
    for key, value in items:
        out |= tensors_of(value, f"{prefix}.{key}" if prefix else str(key))
    return out


# -- the two file formats -------------------------------------------------------------------------


def _read_zip(path: Path, memory: mmap.mmap) -> Any:
    """`data.pkl` holds the object, `data/KEY` the storages; all are in one folder, and usually not compressed."""
    with zipfile.ZipFile(path) as archive:
        entries = {info.filename.partition("/")[2]: info for info in archive.infolist()}

        def content(name: str) -> Any:
            """The bytes of an entry, without a copy if it is not compressed."""
            info = entries[name]
            if info.compress_type != zipfile.ZIP_STORED:
                if info.file_size > MOST_GROWTH * max(info.compress_size, 1):
                    raise ValueError(f"{name} would grow from {info.compress_size} to {info.file_size} bytes")
                return bytearray(archive.read(info))
            start = info.header_offset
            name_size, extra_size = struct.unpack("<HH", memory[start + 26 : start + 30])
            start += 30 + name_size + extra_size
            return memoryview(memory)[start : start + info.file_size]

        if "constants.pkl" in entries:
            raise UnsafeCheckpointError("it is a TorchScript archive, which holds a program")
        if ".data/extern_modules" in entries:
            raise UnsafeCheckpointError("it is a torch.package archive, which holds a program")
        if "data.pkl" not in entries:
            raise ValueError("a zip archive without data.pkl")
        if "byteorder" in entries:
            _check_byteorder(bytes(content("byteorder")).decode())
        storages: dict[str, Storage] = {}

        def storage(saved: Any) -> Storage:
            kind, type_name, key, _location, size = saved
            _check_reference(kind, key)
            if key not in storages:
                dtype, data = dtype_of(type_name), content(f"data/{key}")
                if size * dtype.itemsize > len(data):
                    raise ValueError(f"storage {key} should have {size} values; {len(data)} bytes of it are there")
                storages[key] = Storage(torch.frombuffer(data, dtype=dtype, count=size) if size else _empty(dtype))
            return storages[key]

        return Machine(storage).run(bytes(content("data.pkl")))


def _read_legacy(memory: mmap.mmap) -> Any:
    """Pickles of a magic number, a version, the machine, the object, the storages' keys; then the storages' bytes."""
    if memory[257:262] == b"ustar":
        raise ValueError("a tar archive, as torch wrote them before 2017")
    storages: dict[str, Storage] = {}

    def storage(saved: Any) -> Storage:
        kind, type_name, key, _location, size, view = saved
        _check_reference(kind, key)
        if view is not None:
            raise ValueError("a view of a storage, as torch wrote them before 2017")
        dtype = dtype_of(type_name)
        if key not in storages:
            together = size * dtype.itemsize + sum(known.values.nbytes for known in storages.values())
            if together > len(memory):
                raise ValueError(f"storage {key} should have {size} values; the file has {len(memory)} bytes")
            storages[key] = Storage(torch.empty(size, dtype=dtype))
        return storages[key]

    plain = Machine()
    if plain.run(memory) != LEGACY_MAGIC or plain.run(memory) != LEGACY_PROTOCOL:
        raise ValueError("it does not begin as torch's files do")
    _check_byteorder("little" if plain.run(memory)["little_endian"] else "big")
    tree = Machine(storage).run(memory)
    for key in plain.run(memory):
        _check_reference("storage", key)
        values = storages[key].values
        (size,) = struct.unpack("<q", memory.read(8))
        data = memory.read(values.nbytes)
        if size != len(values) or len(data) != values.nbytes:
            raise ValueError(f"storage {key} should have {len(values)} values; {len(data)} bytes of it are there")
        if size:
            values.copy_(torch.frombuffer(bytearray(data), dtype=values.dtype))
    return tree


def _check_reference(kind: Any, key: Any) -> None:
    if not isinstance(kind, str) or kind != "storage":
        raise ValueError(f"a reference to {kind[:64]!r}" if isinstance(kind, str) else "a reference to no name")
    if not isinstance(key, str | int):
        raise ValueError(f"a storage whose key is {type(key).__name__}")


def _check_byteorder(order: str) -> None:
    if order != sys.byteorder:
        raise ValueError(f"its numbers are stored in {order}-endian order, which is not this machine's")


def _empty(dtype: torch.dtype) -> Tensor:
    return torch.empty(0, dtype=dtype)
