"""Read pickled checkpoints without running anything that they name.

A pickle is a program: unpickled, it calls whatever it can import. This reader imports nothing. It steps through the
pickle's instructions itself; a name that they mention stays a pair of strings, and a call is looked up in a small
table, whose entries build tensors and plain containers and are written here. Classes that training frameworks leave
in checkpoints beside the tensors (settings, paths, NumPy scalars) become inert `Opaque` marks. Any other name is an
error as soon as it is mentioned.

The files are those of `torch.save`, in the zip format and in the legacy format before it. Tensors are views of the
memory-mapped file, so an optimiser's moments beside the model take no memory. (Python's `pickletools` describes the
instructions, torch/serialization.py the files.)
"""

from __future__ import annotations

import errno
import math
import mmap
import pickletools
import struct
import sys
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from codeczoo.weights.zip_archive import MOST_GROWTH, ZIP_ERRORS

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # begins a file in torch's legacy format
LEGACY_PROTOCOL = 1001
MOST_COPIED = 10_000_000  # items that a pickle's calls may copy: by copies of copies a few bytes fill any memory
MOST_REPEATS = 1 << 24  # values of a tensor that its storage does not have, as an expanded one may

_DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
    "UntypedStorage": torch.uint8,
}
_NUMBERS = {name: value for name, value in vars(torch).items() if isinstance(value, torch.dtype)}
_STORAGE_MODULES = ("torch", "torch.storage", "torch.cuda")

# Modules whose classes and functions occur in published checkpoints beside the tensors. They are never imported: a call
# of one of these, or of one in `_OTHER`, gives an Opaque mark.
_SETTINGS = (
    "argparse", "pathlib", "numpy", "typing", "enum", "datetime", "omegaconf", "antlr4", "hydra", "jsonargparse",
    "demucs",  # the class beside its tensors
    "pytorch_lightning", "lightning", "lightning_fabric", "lightning_utilities", "torchmetrics", "torch.optim",
)  # fmt: skip
_BUILTINS = ("bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int", "list", "object", "range",
             "set", "slice", "str", "tuple")  # fmt: skip
_OTHER = {
    *(("builtins", name) for name in _BUILTINS),
    *(("__builtin__", name) for name in _BUILTINS),  # as Python 2 called the module
    ("_codecs", "encode"),
    ("_io", "BytesIO"),
    ("copyreg", "_reconstructor"),
    ("copy_reg", "_reconstructor"),
    ("collections", "deque"),
    ("functools", "partial"),
    ("torch", "Tensor"),
    ("torch", "device"),
    ("torch.nn.parameter", "Buffer"),
    ("torch.nn.parameter", "Parameter"),
    ("torch.serialization", "_get_layout"),
    ("torch.torch_version", "TorchVersion"),
}


MOST_PARTS = 64  # of a tuple that is a key


# What reading a damaged file may end in.
_BROKEN: tuple[type[Exception], ...] = (
    ValueError, TypeError, LookupError, AttributeError, OverflowError, MemoryError, RuntimeError, EOFError,
    struct.error, *ZIP_ERRORS,
)  # fmt: skip


class UnsafeCheckpointError(ValueError):
    """A pickle that names something which is neither a tensor, nor a plain container, nor known settings."""


@dataclass(frozen=True)
class Opaque:
    """In place of an object of another library; only the name of what made the object is kept."""

    name: str


@dataclass(frozen=True)
class Name:
    """A name that a pickle mentions: of something in a module."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


_PLAIN = (str, bytes, int, float, complex, type(None), torch.dtype, Name, Opaque)  # what a key may be


@dataclass(frozen=True)
class Storage:
    """Flat memory of one type, which tensors are views of. In the legacy format its values follow the pickle."""

    values: Tensor


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
                dtype, data = _dtype(type_name), content(f"data/{key}")
                if size * dtype.itemsize > len(data):
                    raise ValueError(f"storage {key} should have {size} values; {len(data)} bytes of it are there")
                storages[key] = Storage(torch.frombuffer(data, dtype=dtype, count=size) if size else _empty(dtype))
            return storages[key]

        return _Machine(storage).run(bytes(content("data.pkl")))


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
        dtype = _dtype(type_name)
        if key not in storages:
            together = size * dtype.itemsize + sum(known.values.nbytes for known in storages.values())
            if together > len(memory):
                raise ValueError(f"storage {key} should have {size} values; the file has {len(memory)} bytes")
            storages[key] = Storage(torch.empty(size, dtype=dtype))
        return storages[key]

    plain = _Machine()
    if plain.run(memory) != LEGACY_MAGIC or plain.run(memory) != LEGACY_PROTOCOL:
        raise ValueError("it does not begin as torch's files do")
    _check_byteorder("little" if plain.run(memory)["little_endian"] else "big")
    tree = _Machine(storage).run(memory)
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


def _dtype(name: Any) -> torch.dtype:
    if not isinstance(name, Name) or name.module not in _STORAGE_MODULES or name.name not in _DTYPES:
        raise ValueError(f"a storage of type {name if isinstance(name, Name) else type(name).__name__}")
    return _DTYPES[name.name]


# -- what may be called ---------------------------------------------------------------------------


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_ignored: Any) -> Tensor:
    """A view of a storage; torch checks its bounds. Gradients and hooks are ignored."""
    if not isinstance(storage, Storage):
        raise ValueError(f"a tensor of {type(storage).__name__}")
    if len(_ignored) > 2 and _ignored[2]:
        raise ValueError("a tensor with a conjugate or negative bit")
    return _view(storage.values, offset, size, stride)


def _typed_tensor(storage: Any, offset: Any, size: Any, stride: Any, _grad: Any, _hooks: Any, dtype: Any) -> Tensor:
    """As `_tensor`, of a storage of bytes."""
    if not isinstance(storage, Storage) or not isinstance(dtype, torch.dtype):
        raise ValueError(f"a tensor of {type(storage).__name__} and {dtype}")
    return _view(storage.values.view(dtype), offset, size, stride)


def _view(values: Tensor, offset: Any, size: Any, stride: Any) -> Tensor:
    """Strides may give a value many places. No tensor of a model has more of those than that."""
    if math.prod(size) > len(values) + MOST_REPEATS:
        raise ValueError(f"a tensor of {math.prod(size)} values in a storage of {len(values)}")
    return torch.as_strided(values, size, stride, offset)


def _parameter(data: Any, *_ignored: Any) -> Tensor:
    if not isinstance(data, Tensor):
        raise ValueError(f"a parameter of {type(data).__name__}")
    return data


def _with_attributes(function: Any, _kind: Any, arguments: Any, _attributes: Any) -> Tensor:
    """A tensor that carried attributes, which are dropped."""
    return _parameter(_call(function, arguments))


def _fraction(*numbers: Any) -> str:
    """A `fractions.Fraction` as text: plain values stand for what is neither a tensor nor a container."""
    return "/".join(str(number) if isinstance(number, int | float | str) else "?" for number in numbers)


def _dict(*pairs: Any) -> dict:
    """Of pairs in a list, or a copy of a dict."""
    made = dict(*pairs) if not pairs or isinstance(pairs[0], dict) else _keyed(*zip(*pairs[0], strict=True))
    return made if not pairs or pairs[0] else {}


def _empty_dict(*_factory: Any) -> dict:
    return {}


_CALLS: Mapping[Name, Callable[..., Any]] = {
    Name("torch._utils", "_rebuild_tensor"): _tensor,
    Name("torch._utils", "_rebuild_tensor_v2"): _tensor,
    Name("torch._utils", "_rebuild_tensor_v3"): _typed_tensor,
    Name("torch._utils", "_rebuild_parameter"): _parameter,
    Name("torch._utils", "_rebuild_parameter_with_state"): _parameter,
    Name("torch._tensor", "_rebuild_from_type_v2"): _with_attributes,
    Name("collections", "OrderedDict"): _dict,
    Name("collections", "Counter"): _dict,
    Name("collections", "defaultdict"): _empty_dict,
    Name("fractions", "Fraction"): _fraction,
    Name("torch", "Size"): tuple,
}


def _mention(module: Any, name: Any) -> Any:
    """A mentioned name as a `Name`, or as the `torch.dtype` that it names.

    Raises:
        UnsafeCheckpointError: no table above has the name.
    """
    if not isinstance(module, str) or not isinstance(name, str):
        raise ValueError(f"a name of {type(module).__name__} and {type(name).__name__}")
    mentioned = Name(module, name)
    if mentioned in _CALLS or (module, name) in _OTHER:
        return mentioned
    if module in _STORAGE_MODULES and name in _DTYPES:
        return mentioned
    if module == "torch" and name in _NUMBERS:
        return _NUMBERS[name]
    if any(mentioned.module == known or mentioned.module.startswith(f"{known}.") for known in _SETTINGS):
        return mentioned
    raise UnsafeCheckpointError(f"it names {mentioned}, which is neither a tensor nor a plain container")


def _keyed(keys: Sequence[Any], values: Sequence[Any]) -> dict[Any, Any]:
    """A dict. Its keys are plain: a tuple of tuples of tuples ... can take for ever to hash."""
    for key in keys:
        parts = key if isinstance(key, tuple) else (key,)
        if len(parts) > MOST_PARTS or not all(isinstance(part, _PLAIN) for part in parts):
            raise ValueError(f"a dict with a key of type {type(key).__name__}")
    return dict(zip(keys, values, strict=True))


def _call(what: Any, arguments: Any) -> Any:
    if isinstance(what, Opaque):
        return what
    if not isinstance(what, Name) or not isinstance(arguments, tuple):
        raise ValueError(f"a call of {type(what).__name__}")
    if what in _CALLS:
        return _CALLS[what](*arguments)
    if what.name in ("set", "frozenset", "list", "tuple") and what.module in ("builtins", "__builtin__"):
        return list(*arguments)
    return Opaque(str(what))


# -- the instructions -----------------------------------------------------------------------------


class _Mark:
    """On the stack, in front of the arguments of an instruction."""


_MARK = _Mark()
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": list,
}
_LITERALS = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip


class _Machine:
    """Runs the instructions of one pickle on a stack. Calls go through `_call` alone."""

    def __init__(self, storage: Callable[[Any], Storage] | None = None) -> None:
        self.storage = storage
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.copied = 0

    def run(self, program: Any) -> Any:
        """The object that a pickle describes. A file is then at the position behind the pickle."""
        self.stack, self.memo = [], {}
        for opcode, argument, _ in pickletools.genops(program):
            if opcode.name == "STOP":
                return self.stack.pop()
            self._step(opcode.name, argument)
        raise ValueError("the pickle has no end")

    def _step(self, code: str, argument: Any) -> None:
        stack = self.stack
        match code:
            case "PROTO" | "FRAME":
                pass
            case _ if code in _LITERALS:
                stack.append(argument)
            case _ if code in _CONSTANTS:
                stack.append(_CONSTANTS[code]())
            case "MARK":
                stack.append(_MARK)
            case "TUPLE" | "LIST" | "FROZENSET":
                items = self._to_mark()
                stack.append(tuple(items) if code == "TUPLE" else items)
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                count = int(code[-1])
                if len(stack) < count:
                    raise ValueError("too few items on the stack")
                stack[-count:] = [tuple(stack[-count:])]
            case "DICT":
                items = self._to_mark()
                stack.append(_keyed(items[::2], items[1::2]))
            case "APPEND":
                value = stack.pop()
                self._extend([value])
            case "APPENDS" | "ADDITEMS":
                self._extend(self._to_mark())
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                self._update(_keyed([key], [value]))
            case "SETITEMS":
                items = self._to_mark()
                self._update(_keyed(items[::2], items[1::2]))
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self.memo[argument] = stack[-1]
            case "MEMOIZE":
                self.memo[len(self.memo)] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(self.memo[argument])
            case "POP":
                stack.pop()
            case "POP_MARK":
                self._to_mark()
            case "DUP":
                stack.append(stack[-1])
            case "GLOBAL":
                stack.append(_mention(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                name, module = stack.pop(), stack.pop()
                stack.append(_mention(module, name))
            case "REDUCE" | "NEWOBJ":
                arguments = stack.pop()
                stack.append(self._call(stack.pop(), arguments))
            case "NEWOBJ_EX":
                _keywords, arguments = stack.pop(), stack.pop()
                stack.append(self._call(stack.pop(), arguments))
            case "OBJ":
                what, *rest = self._to_mark()
                stack.append(self._call(what, tuple(rest)))
            case "INST":
                stack.append(self._call(_mention(*argument.split(" ", 1)), tuple(self._to_mark())))
            case "BUILD":  # attributes, which only settings and the metadata of state dicts have: dropped
                stack.pop()
                if not isinstance(stack[-1], Opaque | dict):
                    raise ValueError(f"attributes for {type(stack[-1]).__name__}")
            case "BINPERSID":
                if self.storage is None:
                    raise ValueError("a reference out of place")
                stack.append(self.storage(stack.pop()))
            case _:
                raise ValueError(f"the instruction {code}")

    def _call(self, what: Any, arguments: Any) -> Any:
        """As the function `_call`, within what one pickle may copy."""
        if isinstance(arguments, tuple):
            self.copied += sum(len(one) for one in arguments if isinstance(one, list | tuple | dict | str | bytes))
        if self.copied > MOST_COPIED:
            raise ValueError(f"its calls copy more than {MOST_COPIED} items")
        return _call(what, arguments)

    def _to_mark(self) -> list[Any]:
        """Take the items above the last mark, and the mark, off the stack; returns the items."""
        place = len(self.stack) - 1
        while self.stack[place] is not _MARK:
            place -= 1
            if place < 0:
                raise ValueError("no mark on the stack")
        items = self.stack[place + 1 :]
        del self.stack[place:]
        return items

    def _extend(self, values: list[Any]) -> None:
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(values)
        elif not isinstance(self.stack[-1], Opaque):
            raise ValueError(f"items for {type(self.stack[-1]).__name__}")

    def _update(self, values: dict[Any, Any]) -> None:
        if isinstance(self.stack[-1], dict):
            self.stack[-1].update(values)
        elif not isinstance(self.stack[-1], Opaque):
            raise ValueError(f"entries for {type(self.stack[-1]).__name__}")
