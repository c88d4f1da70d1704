"""GGUF files: their tensors and metadata, read and written.

The table at the front of a file is read here, not by the package `gguf`: that one makes an object of every value and
trusts every count, so that a damaged file of a kilobyte can fill the memory. All else of the format is `gguf`'s (extra
[gguf]): the quantised types, and writing. Files of plain types (F32, F16, BF16) are read without it.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little endian.
"""

from __future__ import annotations

import math
import mmap
import os
import struct
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

MAGIC = b"GGUF"
VERSIONS = (2, 3)
ALIGNMENT = 32  # bytes, unless the file says otherwise
MAX_DIMENSIONS = 4
MAX_LISTED = 1 << 20  # entries of a list of strings: more are no metadata of a codec
IGNORED = ("lm.", "codec.lm.")  # tensors and keys of language models, which may lie beside a codec

# Codes of the types of values → their form for struct and NumPy.
VALUES = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
# Codes of the types of tensors that NumPy has → their names and forms. BF16 is the upper half of a float32.
PLAIN = {0: ("F32", "<f4"), 1: ("F16", "<f2"), 30: ("BF16", "<u2"), 28: ("F64", "<f8"),
         24: ("I8", "<i1"), 25: ("I16", "<i2"), 26: ("I32", "<i4"), 27: ("I64", "<i8")}  # fmt: skip

LARGEST_F16 = 65504.0
TYPES = ("F32", "F16", "Q8_0")  # that are written

Found = TypeVar("Found")


@dataclass(frozen=True)
class _Place:
    """Where a tensor lies in the file."""

    shape: tuple[int, ...]  # NumPy's: the file has it in reverse
    type_code: int
    offset: int  # from the start of the file
    nbytes: int


class _Cursor:
    """Reads a buffer from front to back; a ValueError where it ends too early."""

    def __init__(self, data: memoryview) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> memoryview:
        if count > len(self.data) - self.at:
            raise ValueError(f"it ends at byte {len(self.data)}, in the middle of its table")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, form: str) -> Any:
        return struct.unpack(f"<{form}", self.take(struct.calcsize(f"<{form}")))[0]

    def text(self) -> str:
        try:
            return str(self.take(self.number("Q")), "utf-8")
        except UnicodeDecodeError:
            raise ValueError(f"the text before byte {self.at} is not UTF-8") from None

    def value(self, kind: int) -> Any:
        if kind in VALUES:
            return self.number(VALUES[kind])
        if kind == STRING:
            return self.text()
        if kind != ARRAY:
            raise ValueError(f"there is a value of an unknown type, {kind}, before byte {self.at}")
        inner, count = self.number("I"), self.number("Q")
        if inner in VALUES:
            form = np.dtype(VALUES[inner]).newbyteorder("<")
            values = np.frombuffer(self.take(count * form.itemsize), form)
            return values.tolist() if count <= MAX_LISTED else None
        if inner != STRING or count > MAX_LISTED:
            raise ValueError(f"there is a list of {count} values of type {inner} before byte {self.at}: not a codec's")
        return [self.text() for _ in range(count)]


def read_gguf(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a GGUF file by their names there, floating point ones as float32, and its metadata by key.

    The metadata also have "types": how many tensors are of each type, by its name ("F16"). What belongs to a language
    model in the same file (`lm.*`) is left out.

    Raises:
        ValueError: not a GGUF file, a damaged one, or one with a type that is not known; the message names the file.
        ImportError: quantised tensors, without the extra [gguf].
    """
    size = path.stat().st_size
    if size < 24:
        raise ValueError(f"{path}: not a whole GGUF file ({size} bytes)")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
        data = memoryview(whole)
        try:
            return _read(data)
        except (ValueError, OverflowError, struct.error) as error:
            raise ValueError(f"{path}: not a whole GGUF file that codeczoo can read ({error})") from None
        finally:
            data.release()


def _read(data: memoryview) -> tuple[dict[str, Tensor], dict[str, Any]]:
    metadata, places = _read_table(data)
    types = Counter(_type_name(place.type_code) for place in places.values())
    tensors = {name: _tensor(data, name, place) for name, place in places.items()}
    return tensors, {**metadata, "types": dict(types)}


def _read_table(data: memoryview) -> tuple[dict[str, Any], dict[str, _Place]]:
    cursor = _Cursor(data)
    if bytes(cursor.take(4)) != MAGIC:
        raise ValueError("it does not begin with GGUF")
    version = cursor.number("I")
    if version not in VERSIONS:
        swapped = int.from_bytes(version.to_bytes(4, "little"), "big") in VERSIONS
        raise ValueError(f"it is big endian or of version {version}" if swapped else f"it is of version {version}")
    tensor_count, key_count = cursor.number("Q"), cursor.number("Q")
    metadata: dict[str, Any] = {}
    for _ in range(key_count):
        key = _new(metadata, cursor.text())
        value = cursor.value(cursor.number("I"))
        metadata[key] = value
    infos: dict[str, tuple[tuple[int, ...], int, int]] = {}
    for _ in range(tensor_count):
        name = _new(infos, cursor.text())
        count = cursor.number("I")
        if count > MAX_DIMENSIONS:
            raise ValueError(f"{name} has {count} dimensions")
        shape = tuple(cursor.number("Q") for _ in range(count))[::-1]
        infos[name] = (shape, cursor.number("I"), cursor.number("Q"))
    alignment = metadata.get("general.alignment", ALIGNMENT)
    if not isinstance(alignment, int) or alignment < 1:
        raise ValueError(f"general.alignment is {alignment!r}")
    start = -(-cursor.at // alignment) * alignment
    places = {name: _place(name, *info, start, len(data)) for name, info in infos.items() if not _ignored(name)}
    total = sum(place.nbytes for place in places.values())
    if total > len(data):  # or a small file could stand for any amount of memory
        raise ValueError("its tensors lie on top of each other")
    return {key: value for key, value in metadata.items() if not _ignored(key)}, places


def _new(known: Mapping[str, Any], name: str) -> str:
    if name in known:
        raise ValueError(f"{name} is there twice")
    return name


def _ignored(name: str) -> bool:
    return name.startswith(IGNORED)


def _place(name: str, shape: tuple[int, ...], type_code: int, offset: int, start: int, size: int) -> _Place:
    block, block_bytes = _block(type_code)
    if shape and shape[-1] % block:
        raise ValueError(f"{name} {list(shape)} of type {_type_name(type_code)}: its rows are no whole blocks")
    nbytes = math.prod(shape) // block * block_bytes
    if start + offset + nbytes > size:
        raise ValueError(f"{name} lies behind the end of the file")
    return _Place(shape, type_code, start + offset, nbytes)


def _block(type_code: int) -> tuple[int, int]:
    """Values in a block of a type, and its bytes."""
    if type_code in PLAIN:
        return 1, np.dtype(PLAIN[type_code][1]).itemsize
    constants = package().constants
    return _known(lambda: constants.GGML_QUANT_SIZES[constants.GGMLQuantizationType(type_code)], type_code)


def _type_name(type_code: int) -> str:
    if type_code in PLAIN:
        return PLAIN[type_code][0]
    return _known(lambda: str(package().constants.GGMLQuantizationType(type_code).name), type_code)


def _known(find: Callable[[], Found], type_code: int) -> Found:
    try:
        return find()
    except (ValueError, KeyError):
        raise ValueError(f"there are tensors of type {type_code}, which the package gguf does not know") from None


def _tensor(data: memoryview, name: str, place: _Place) -> Tensor:
    raw = np.frombuffer(data, np.uint8, place.nbytes, place.offset)
    if place.type_code in PLAIN:
        kind, form = PLAIN[place.type_code]
        values = raw.view(form)
        values = (values.astype(np.uint32) << 16).view(np.float32) if kind == "BF16" else values
        values = values.astype(np.float32 if values.dtype.kind == "f" else values.dtype.newbyteorder("="))  # a copy
    else:
        gguf = package()
        kind = gguf.constants.GGMLQuantizationType(place.type_code)
        rows = math.prod(place.shape[:-1])
        try:
            with np.errstate(all="ignore"):  # a scale may be NaN in a damaged file: `convert` finds it
                values = gguf.quants.dequantize(raw.reshape(rows, -1) if rows else raw.reshape(0, 0), kind)
        except NotImplementedError:
            raise ValueError(f"{name} is of type {kind.name}, which the package gguf cannot read") from None
        values = values.astype(np.float32)
    return torch.from_numpy(values.reshape(place.shape))


def package() -> ModuleType:
    """PyPI's gguf.

    Raises:
        ImportError: it is not installed.
    """
    try:
        import gguf.constants
        import gguf.quants
    except ImportError as error:
        raise ImportError(
            'quantised GGUF files, and writing GGUF, need the package gguf: pip install "codeczoo[gguf]"'
        ) from error
    return gguf


def write_gguf(
    path: Path, settings: Mapping[str, Any], tensors: Mapping[str, Tensor], types: Mapping[str, str]
) -> None:
    """Write a GGUF file; one that is there is replaced when the new one is whole.

    Args:
        settings: metadata in their order, "general.architecture" first; whole numbers become UINT32, others FLOAT32.
        types: of each tensor, of `TYPES`.

    Raises:
        ImportError: no extra [gguf].
        ValueError: a value beyond the reach of its tensor's type.
    """
    gguf = package()
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    writer = gguf.GGUFWriter(partial, settings["general.architecture"])
    kinds = gguf.GGUFValueType
    for key, value in settings.items():
        if isinstance(value, str):
            writer.add_string(key, value) if key != "general.architecture" else None
        elif isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        else:
            writer.add_key_value(key, [int(one) for one in value], kinds.ARRAY, kinds.UINT32)
    for name, tensor in tensors.items():
        kind = gguf.GGMLQuantizationType[types[name]]
        values = tensor.detach().cpu().float().contiguous().numpy()
        if types[name] == "F16" and (peak := float(np.abs(values).max(initial=0))) > LARGEST_F16:
            raise ValueError(f"{name} has {peak:.3g}, beyond the {LARGEST_F16:g} of F16: write it as F32 (--type f32)")
        writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        partial.replace(path)
    finally:
        writer.close()
        partial.unlink(missing_ok=True)
