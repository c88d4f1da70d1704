"""What a checkpoint's pickle may call: functions written here that build tensors and plain containers, nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from codeczoo.weights.pickle_names import (
    DTYPES,
    NUMBERS,
    OTHER,
    SETTINGS,
    STORAGE_MODULES,
    Name,
    Opaque,
    Storage,
    UnsafeCheckpointError,
)

MOST_REPEATS = 1 << 24  # values of a tensor that its storage does not have, as an expanded one may
MOST_PARTS = 64  # of a tuple that is a key

_PLAIN = (str, bytes, int, float, complex, type(None), torch.dtype, Name, Opaque)  # what a key may be


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
    return _parameter(call(function, arguments))


def _fraction(*numbers: Any) -> str:
    """A `fractions.Fraction` as text: plain values stand for what is neither a tensor nor a container."""
    return "/".join(str(number) if isinstance(number, int | float | str) else "?" for number in numbers)


def _dict(*pairs: Any) -> dict:
    """Of pairs in a list, or a copy of a dict."""
    made = dict(*pairs) if not pairs or isinstance(pairs[0], dict) else keyed(*zip(*pairs[0], strict=True))
    return made if not pairs or pairs[0] else {}


def _empty_dict(*_factory: Any) -> dict:
    return {}


CALLS: Mapping[Name, Callable[..., Any]] = {
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


def mention(module: Any, name: Any) -> Any:
    """A mentioned name as a `Name`, or as the `torch.dtype` that it names.

    Raises:
        UnsafeCheckpointError: no table has the name.
    """
    if not isinstance(module, str) or not isinstance(name, str):
        raise ValueError(f"a name of {type(module).__name__} and {type(name).__name__}")
    mentioned = Name(module, name)
    if mentioned in CALLS or (module, name) in OTHER:
        return mentioned
    if module in STORAGE_MODULES and name in DTYPES:
        return mentioned
    if module == "torch" and name in NUMBERS:
        return NUMBERS[name]
    if any(mentioned.module == known or mentioned.module.startswith(f"{known}.") for known in SETTINGS):
        return mentioned
    raise UnsafeCheckpointError(f"it names {mentioned}, which is neither a tensor nor a plain container")


def keyed(keys: Sequence[Any], values: Sequence[Any]) -> dict[Any, Any]:
    """A dict. Its keys are plain: a tuple of tuples of tuples ... can take for ever to hash."""
    for key in keys:
        parts = key if isinstance(key, tuple) else (key,)
        if len(parts) > MOST_PARTS or not all(isinstance(part, _PLAIN) for part in parts):
            raise ValueError(f"a dict with a key of type {type(key).__name__}")
    return dict(zip(keys, values, strict=True))


def call(what: Any, arguments: Any) -> Any:
    """What a call of a mentioned name gives."""
    if isinstance(what, Opaque):
        return what
    if not isinstance(what, Name) or not isinstance(arguments, tuple):
        raise ValueError(f"a call of {type(what).__name__}")
    if what in CALLS:
        return CALLS[what](*arguments)
    if what.name in ("set", "frozenset", "list", "tuple") and what.module in ("builtins", "__builtin__"):
        return list(*arguments)
    return Opaque(str(what))
