"""The names that a checkpoint's pickle may mention: what stands for them, and the tables of those that are known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

DTYPES = {
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
NUMBERS = {name: value for name, value in vars(torch).items() if isinstance(value, torch.dtype)}
STORAGE_MODULES = ("torch", "torch.storage", "torch.cuda")

# Modules whose classes and functions occur in published checkpoints beside the tensors. They are never imported: a call
# of one of these, or of one in `OTHER`, gives an Opaque mark.
SETTINGS = (
    "argparse", "pathlib", "numpy", "typing", "enum", "datetime", "omegaconf", "antlr4", "hydra", "jsonargparse",
    "demucs",  # the class beside its tensors
    "pytorch_lightning", "lightning", "lightning_fabric", "lightning_utilities", "torchmetrics", "torch.optim",
)  # fmt: skip
_BUILTINS = ("bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int", "list", "object", "range",
             "set", "slice", "str", "tuple")  # fmt: skip
OTHER = {
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


@dataclass(frozen=True)
class Storage:
    """Flat memory of one type, which tensors are views of. In the legacy format its values follow the pickle."""

    values: Tensor


def dtype_of(name: Any) -> torch.dtype:
    """The type of a storage's values, by the name of the storage's class."""
    if not isinstance(name, Name) or name.module not in STORAGE_MODULES or name.name not in DTYPES:
        raise ValueError(f"a storage of type {name if isinstance(name, Name) else type(name).__name__}")
    return DTYPES[name.name]
