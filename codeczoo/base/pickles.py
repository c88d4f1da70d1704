"""Reading pickled checkpoints without running anything that they name.

A pickle is a program: it may call whatever it can import. This reader lets it name only the few functions that build
tensors and plain containers. Classes that training frameworks leave in checkpoints beside the tensors (settings,
paths, version strings) become inert `Opaque` objects; anything else is refused before it can be called.
"""

from __future__ import annotations

import collections
import pickle
import types
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_REBUILDERS = {
    "_rebuild_tensor",
    "_rebuild_tensor_v2",
    "_rebuild_parameter",
    "_rebuild_parameter_with_state",
}
_PLAIN = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("collections", "defaultdict"): collections.defaultdict,
    ("builtins", "set"): set,
    ("builtins", "frozenset"): frozenset,
    ("builtins", "slice"): slice,
    ("builtins", "complex"): complex,
    ("builtins", "bytearray"): bytearray,
    ("builtins", "dict"): dict,
    ("builtins", "list"): list,
    ("builtins", "tuple"): tuple,
    ("builtins", "int"): int,
    ("builtins", "float"): float,
    ("builtins", "str"): str,
    ("builtins", "bool"): bool,
    ("torch", "Size"): torch.Size,
    ("torch", "device"): torch.device,
}
# Modules whose classes occur in published checkpoints as settings; they are never imported here.
_SETTINGS = (
    "argparse", "omegaconf", "pathlib", "numpy", "typing", "enum", "datetime", "antlr4", "hydra",
    "pytorch_lightning", "lightning", "lightning_fabric", "lightning_utilities", "torch.optim", "torchmetrics",
)  # fmt: skip


class UnsafeCheckpointError(ValueError):
    """A pickle that names something which is neither a tensor nor a plain container."""


class Opaque:
    """Stands where a settings object stood. It takes whatever the pickle gives it, and keeps nothing."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Opaque:
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...

    def __setitem__(self, key: Any, value: Any) -> None: ...

    def append(self, value: Any) -> None: ...

    def extend(self, values: Any) -> None: ...

    def __hash__(self) -> int:
        return id(self)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _PLAIN:
            return _PLAIN[module, name]
        if module == "torch._utils" and name in _REBUILDERS:
            return getattr(torch._utils, name)
        if module in ("torch", "torch.storage") and name.endswith("Storage"):
            return getattr(torch.storage if name in ("TypedStorage", "UntypedStorage") else torch, name)
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        if module == "torch.serialization" and name == "_get_layout":
            return torch.serialization._get_layout
        if module.split(".")[0] in _SETTINGS or module in _SETTINGS:
            return type(name, (Opaque,), {"__module__": "codeczoo.opaque"})
        raise UnsafeCheckpointError(f"it names {module}.{name}, which is neither a tensor nor a plain container")


def _load(file: Any, **options: Any) -> Any:
    return _Unpickler(file, **{k: v for k, v in options.items() if k == "encoding"}).load()


# What torch.load asks of a pickle module.
_READER = types.SimpleNamespace(
    Unpickler=_Unpickler, load=_load, UnpicklingError=pickle.UnpicklingError, __name__="codeczoo.base.pickles"
)


def read_pickle(path: str | Path) -> Any:
    """The object of a torch checkpoint (zip or legacy form), tensors on the CPU.

    Raises:
        UnsafeCheckpointError: it names code.
        ValueError: not a torch checkpoint, or one cut short.
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if any(name.rpartition("/")[2] == "constants.pkl" for name in archive.namelist()):
                    raise UnsafeCheckpointError("it is a TorchScript archive, which holds a program")
        return torch.load(path, map_location="cpu", pickle_module=_READER, weights_only=False)
    except UnsafeCheckpointError as error:
        raise UnsafeCheckpointError(f"{path}: refused: {error}") from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, KeyError, AttributeError, zipfile.BadZipFile,
            TypeError, ValueError, IndexError, UnicodeDecodeError) as error:  # fmt: skip
        raise ValueError(f"{path}: not a whole torch checkpoint ({type(error).__name__}: {error})") from error


def tensors_of(tree: Any, prefix: str = "") -> dict[str, Tensor]:
    """All tensors of nested dicts and lists, keys joined by dots."""
    if isinstance(tree, Tensor):
        return {prefix: tree}
    if isinstance(tree, dict):
        items = tree.items()
    elif isinstance(tree, list | tuple):
        items = enumerate(tree)  # type: ignore[assignment]
    else:
        return {}
    out: dict[str, Tensor] = {}
    for key, value in items:
        out |= tensors_of(value, f"{prefix}.{key}" if prefix else str(key))
    return out
