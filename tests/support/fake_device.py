"""A device that is not the CPU, on a machine that has none: what code does wrong on CUDA goes wrong here too.

Inside `FakeDevice()` tensors can be moved to `DEVICE` and made there. They say that they are CUDA tensors, and their
values lie in tensors on the CPU that nobody can reach. Every operation on them is checked and then done on those:

- Tensors of two devices do not meet in an operation, but for what CUDA allows: a 0-dim tensor of the CPU among the
  operands of an elementwise one, indices on the CPU, and copies.
- NumPy cannot see them, nor a random generator of the CPU fill them.
- Each wait for the device is written down in `waits`: a value that is read, a copy to or from the CPU, a result whose
  shape depends on values. They cost time, and none may happen while a CUDA graph is captured.

Code that asks for the device's type takes the paths that it takes on CUDA. What CUDA computes in kernels of its own
(cuDNN's LSTM, fused attention) is computed by the CPU's.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Self
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from codeczoo.base.recording import COPIES, FROM_DATA, INDEXING, READS  # what waits for the device is listed once

DEVICE = torch.device("cuda", 0)
CPU, META = torch.device("cpu"), torch.device("meta")

aten = torch.ops.aten

TAKE_A_CPU_SCALAR = (aten.fill_, aten.fill, aten.masked_fill, aten.masked_fill_, aten.where)
KERNELS = ("lstm", "scaled_dot_product_attention", "stft")


class DeviceTensor(torch.Tensor):
    """A tensor that says that it is on `DEVICE`.

    To PyTorch's C++ it is a meta tensor, because a build without CUDA has no guard for CUDA's devices.
    """

    inner: Tensor

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner: Tensor) -> DeviceTensor:
        assert type(inner) is Tensor and inner.device == CPU
        tensor = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=META,
        )
        tensor.inner = inner
        return tensor

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{func}: there is a {DEVICE} only inside of FakeDevice()")

    @property
    def device(self) -> torch.device:
        return DEVICE

    @property
    def is_cuda(self) -> bool:
        return True

    @property
    def is_meta(self) -> bool:
        return False

    def numpy(self, **_: Any) -> Any:
        raise TypeError(f"can't convert {DEVICE} device type tensor to numpy. Use Tensor.cpu() first.")

    def __array__(self, *_: Any) -> Any:
        return self.numpy()

    def tolist(self) -> Any:
        return self.cpu().tolist()  # PyTorch refuses this to subclasses

    def __deepcopy__(self, memo: dict[int, Any]) -> DeviceTensor:
        return memo.setdefault(id(self), DeviceTensor(self.inner.clone()))

    def __repr__(self, **_: Any) -> str:
        return f"DeviceTensor({self.inner!r})"


def _is_here(device: object) -> bool:
    """Whether that is how code, or PyTorch, calls `DEVICE`."""
    if isinstance(device, str) and device.partition(":")[0] in (DEVICE.type, META.type):
        device = torch.device(device)
    return isinstance(device, torch.device) and device.type in (DEVICE.type, META.type)


class FakeDevice(TorchDispatchMode):
    """While it is entered, `DEVICE` exists.

    Attributes:
        waits: the operations so far in which the CPU had to wait for the device.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.enter_context(_Calls())
        # Calls from within PyTorch's own functions use the name that it would look for a driver for.
        self._stack.enter_context(mock.patch.object(torch.cuda, "_lazy_init"))
        # Kernels for a real one, should there be one too, cannot reach the values.
        self._stack.enter_context(mock.patch.object(torch.cuda, "is_available", return_value=False))
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._stack.close()

    @contextmanager
    def no_wait(self) -> Iterator[None]:
        """An AssertionError if the CPU waits for the device inside."""
        before = len(self.waits)
        yield
        assert self.waits[before:] == [], f"the CPU waited for the device: {self.waits[before:]}"

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        tensors = _tensors(args, kwargs)
        if any(type(tensor) is Tensor and tensor.is_meta for tensor in tensors):
            raise NotImplementedError(f"{func}: PyTorch has made a tensor on {DEVICE} behind this module's back")
        here = any(isinstance(tensor, DeviceTensor) for tensor in tensors)
        asked = kwargs.get("device")
        asked = None if asked is None else torch.device(asked)
        if not here and not _is_here(asked):
            return func(*args, **kwargs)
        if asked not in (None, CPU) and not _is_here(asked):
            raise NotImplementedError(f"{func}: from or to {asked}")
        onto = here if asked is None else _is_here(asked)
        if asked is not None:
            kwargs["device"] = CPU
        self._check(func, args, kwargs, tensors, here, onto)
        result = func(*_inner(args), **_inner(kwargs))
        result = _change(result, Tensor, DeviceTensor) if onto else result
        return _written(func, args, kwargs, result)

    def _check(
        self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], tensors: list[Tensor], here: bool, onto: bool
    ) -> None:
        """Raises what CUDA would raise; writes down a wait."""
        packet = func.overloadpacket
        foreign = [tensor for tensor in tensors if not isinstance(tensor, DeviceTensor)]
        if packet in COPIES:
            if foreign or here != onto:
                self.waits.append(f"{func} {'to' if onto else 'from'} the device")
            return
        if packet in READS:
            self.waits.append(str(func))
        if packet is aten.repeat_interleave and kwargs.get("output_size") is None:
            self.waits.append(f"{func} without output_size")
        generator = kwargs.get("generator")
        if generator is not None and not _is_here(generator.device) and onto:
            raise RuntimeError(f"{func}: a generator of the CPU for a tensor on {DEVICE}")
        if packet in INDEXING:
            self._check_indexing(func, args, kwargs)
            return
        scalars = torch.Tag.pointwise in func.tags or packet in TAKE_A_CPU_SCALAR
        for tensor in foreign if here else ():
            if tensor.ndim or not scalars or tensor is args[0]:
                raise RuntimeError(
                    f"{func}: all tensors must be on one device; here are {DEVICE} and cpu {tuple(tensor.shape)}"
                )

    def _check_indexing(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        source, indices = args[:2]
        values = [value for value in (*args[2:], *kwargs.values()) if isinstance(value, Tensor)]
        given = [index for index in indices if index is not None]
        if not isinstance(source, DeviceTensor):
            raise RuntimeError(f"{func}: a tensor on the CPU indexed or filled from {DEVICE}")
        if any(not isinstance(value, DeviceTensor) and value.ndim for value in values):
            raise RuntimeError(f"{func}: values of the CPU into a tensor on {DEVICE}")
        if any(not isinstance(index, DeviceTensor) for index in given):
            self.waits.append(f"{func} with indices of the CPU")
        masks = [index for index in given if index.dtype in (torch.bool, torch.uint8)]
        if masks and not (values and values[0].numel() == 1):  # one value under a mask is filled in without counting
            self.waits.append(f"{func} with a mask")


class _Calls(TorchFunctionMode):
    """Calls of PyTorch's functions before C++ sees them.

    `DEVICE` goes by its other name, and what is one kernel on CUDA, and on a CPU too, stays one operation.
    """

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args = tuple(META if _is_here(value) else value for value in args)
        kwargs = {name: META if _is_here(value) else value for name, value in (kwargs or {}).items()}
        name = getattr(func, "__name__", "")
        if name in FROM_DATA:
            return _from_data(func, args, kwargs)
        if name in ("__getitem__", "__setitem__"):
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            index = tuple(torch.tensor(part) if isinstance(part, list) else part for part in index)
            return func(args[0], index, *args[2:], **kwargs)
        if name not in KERNELS:
            return func(*args, **kwargs)
        on_device = [isinstance(tensor, DeviceTensor) for tensor in _tensors(args, kwargs)]
        if not any(on_device):
            return func(*args, **kwargs)
        if not all(on_device):
            raise RuntimeError(f"{name}: all tensors must be on one device")
        return _change(func(*_inner(args), **_inner(kwargs)), Tensor, DeviceTensor)


def _from_data(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """A tensor of numbers is made on the CPU and copied, on CUDA as here."""
    device = kwargs.pop("device", None)
    if func is Tensor.new_tensor:
        like, *args = args
        kwargs.setdefault("dtype", like.dtype)
        device = like.device if device is None else device
        func = torch.tensor
    made = func(*args, **kwargs)
    return made if device is None else made.to(META if _is_here(device) else device)


def _change(tree: Any, kind: type, change: Callable[[Any], Any]) -> Any:
    """Everything of a kind in tuples, lists and dicts, changed. (PyTorch's own `tree_map` takes most of the time.)"""
    if isinstance(tree, kind):
        return change(tree)
    if type(tree) in (tuple, list):
        return type(tree)(_change(branch, kind, change) for branch in tree)
    if type(tree) is dict:
        return {name: _change(branch, kind, change) for name, branch in tree.items()}
    return tree_map_only(kind, change, tree) if isinstance(tree, tuple) else tree


def _tensors(*trees: Any) -> list[Tensor]:
    found: list[Tensor] = []
    _change(trees, Tensor, found.append)
    return found


def _inner(tree: Any) -> Any:
    return _change(tree, DeviceTensor, lambda tensor: tensor.inner)


def _written(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> Any:
    """An operation that writes into a tensor gives that very tensor back."""
    schema = func._schema
    if not schema.is_mutable:
        return result
    names = [argument.name for argument in schema.arguments]
    given = dict(itertools.chain(zip(names, args, strict=False), kwargs.items()))
    into = {
        next(iter(argument.alias_info.before_set)): given[argument.name]
        for argument in schema.arguments
        if argument.alias_info is not None and argument.alias_info.is_write and argument.name in given
    }
    for tensor in into.values():
        if isinstance(tensor, DeviceTensor) and tensor.shape != tensor.inner.shape:
            raise NotImplementedError(f"{func} changes the shape of a tensor in place")
    results = result if isinstance(result, tuple | list) else [result]
    out = (
        [
            into.get(next(iter(returned.alias_info.before_set)), value) if returned.alias_info is not None else value
            for returned, value in zip(schema.returns, results, strict=True)
        ]
        if schema.returns
        else []
    )
    return out[0] if len(out) == 1 else tuple(out) if out else result
