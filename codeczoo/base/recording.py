"""`Recorder`: runs a function so that it can be captured as a CUDA graph, and says why where it cannot.

A graph repeats kernels, with the shapes and the numbers that the host gave them when it was captured. So nothing may be
read from the device meanwhile, and no number may be sent there. The first run is as always, and fills what modules keep
(filters, compiled kernels). The second finds what stands in the way:

- What is read ends it: `ReadsDeviceError` names the operation.
- What is sent (tables, seeded noise, numbers of a list) is kept on the device, and later runs take it from there.

`ragged.dense_or_none` asks the recorder: whether a batch is dense is a fact of the graph, and not read again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

T = TypeVar("T")

aten = torch.ops.aten
COPIES = (aten._to_copy, aten.copy_, aten.copy)
INDEXING = (aten.index, aten.index_put, aten.index_put_, aten._unsafe_index, aten._index_put_impl_)
# They give a value to the host, or a tensor whose shape depends on values.
READS = (
    aten._local_scalar_dense,
    aten._unique2,
    aten.bincount,
    aten.equal,
    aten.is_nonzero,
    aten.masked_select,
    aten.nonzero,
    aten.unique_consecutive,
    aten.unique_dim,
)
FROM_DATA = ("tensor", "as_tensor", "asarray", "new_tensor")  # they make a tensor on the CPU and copy it

_RECORDER: ContextVar[Recorder | None] = ContextVar("recorder", default=None)


class ReadsDeviceError(RuntimeError):
    """A function that cannot be captured: it waits for values of the device."""


def recorder() -> Recorder | None:
    """That of the run the caller is in; None outside of one."""
    return _RECORDER.get()


class Recorder:
    """Runs of one function on tensors of one device.

    Args:
        dense: the batches are dense: each answer of `ragged.dense_or_none` is that of the first run. Otherwise all are
            taken as ragged.

    Attributes:
        kept: memory that was there before the last run, and that it read: a graph of it needs it for as long as it
            lives.
    """

    def __init__(self, dense: bool) -> None:
        self.dense = dense
        self.kept: list[torch.UntypedStorage] = []
        self.runs = 0
        self.reading = False  # `is_full` asks the device
        self._answers: list[bool] = []
        self._sent: list[tuple[Tensor, Tensor]] = []  # from the CPU, and as it is on the device
        self._next_answer = self._next_sent = 0
        self._read_before: set[int] = set()  # addresses of memory that the second run has read and not made

    def __call__(self, function: Callable[..., T], *args: Any) -> T:
        """`function(*args)`. The first two calls may wait for the device; the others do not.

        Raises:
            ReadsDeviceError: in the second call, or where one call differs from another.
        """
        on_device = any(isinstance(x, Tensor) and x.device.type != "cpu" for x in tree_leaves(args))
        self.runs += 1
        self._next_answer = self._next_sent = 0
        self.kept = []
        with ExitStack() as stack:
            # What autocast keeps of a weight is gone when it ends, and a graph would go on reading it.
            stack.enter_context(_autocast_without_cache())
            stack.callback(_RECORDER.reset, _RECORDER.set(self))
            if on_device and self.runs > 1:
                stack.enter_context(_Numbers())
                stack.enter_context(Operations(self))
            return function(*args)

    def is_full(self, lengths: Tensor, longest: int) -> bool:
        """Whether all are `longest`."""
        if not self.dense:
            return False
        if self.runs > 2:
            self._next_answer += 1
            return self._answers[self._next_answer - 1]
        self.reading = True
        try:
            answer = bool((lengths == longest).all())
        finally:
            self.reading = False
        if self.runs == 2:
            self._answers.append(answer)
        return answer

    def send(self, source: Tensor, there: Callable[[], Tensor], copy: Callable[[Tensor], Tensor]) -> Tensor:
        """A tensor of the CPU, on the device.

        Args:
            there: sends it; copy: makes what the function may write into.
        """
        if self.runs == 2:
            result = there()
            self._sent.append((source.clone(), result.clone()))
            return result
        number, self._next_sent = self._next_sent, self._next_sent + 1
        known, on_device = self._sent[number] if number < len(self._sent) else (None, None)
        if known is None or on_device is None or not _same(known, source):
            raise ReadsDeviceError("it sends other numbers to the device in every run")
        return copy(on_device)

    def keep(self, read: Iterable[Tensor], made: set[int]) -> None:
        """Remember memory that an operation reads, unless this run has made it (`made`: addresses)."""
        for tensor in read:
            storage = tensor.untyped_storage()
            address = storage.data_ptr()
            if not address or address in made:
                continue
            if self.runs == 2:
                self._read_before.add(address)
            elif address in self._read_before:  # not so what this run made unseen: graphs have their own memory
                self.kept.append(storage)
                made.add(address)  # once is enough


def _same(a: Tensor, b: Tensor) -> bool:
    """Equal to the last bit that matters: NaN is NaN."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    return bool(((a == b) | ((a != a) & (b != b))).all())


@contextmanager
def _autocast_without_cache() -> Iterator[None]:
    before = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(before)


class Operations(TorchDispatchMode):
    """Sees every operation of a run."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder, self.made = recorder, set[int]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        there = [tensor for tensor in tensors if tensor.device.type != "cpu"]
        if func.overloadpacket in COPIES:
            return self._copy(func, args, kwargs)
        if there and not self.recorder.reading and _reads(func, args, kwargs):
            raise ReadsDeviceError(f"it reads values from the device ({func})")
        result = func(*args, **kwargs)
        self._note(tensors, result)
        return result

    def _copy(self, func: Any, args: Any, kwargs: Mapping[str, Any]) -> Any:
        onto = kwargs.get("device") if func.overloadpacket is aten._to_copy else args[0].device
        source = args[0] if func.overloadpacket is aten._to_copy else args[1]
        to_cpu = torch.device(onto).type == "cpu" if onto is not None else source.device.type == "cpu"
        from_cpu = source.device.type == "cpu"
        if from_cpu and not to_cpu:
            if func.overloadpacket is aten._to_copy:
                return self.recorder.send(source, lambda: func(*args, **kwargs), torch.clone)
            return self.recorder.send(source, lambda: func(*args, **kwargs), lambda kept: func(args[0], kept))
        if to_cpu and not from_cpu and not self.recorder.reading:
            raise ReadsDeviceError("it reads values from the device (a copy to the CPU)")
        result = func(*args, **kwargs)
        self._note([source], result)
        return result

    def _note(self, read: list[Tensor], result: Any) -> None:
        self.recorder.keep(read, self.made)
        self.made.update(x.untyped_storage().data_ptr() for x in tree_leaves(result) if isinstance(x, Tensor))


def _reads(func: Any, args: Any, kwargs: Mapping[str, Any]) -> bool:
    """Whether the host waits for what the operation finds."""
    packet = func.overloadpacket
    if packet is aten.repeat_interleave:
        return kwargs.get("output_size") is None
    if packet in INDEXING:
        indices = [index for index in args[1] if index is not None]
        masks = any(index.dtype in (torch.bool, torch.uint8) for index in indices)
        one = len(args) > 2 and args[2].numel() == 1  # is filled in where the mask says so, without counting
        return any(index.device.type == "cpu" for index in indices) or (masks and not one)
    return packet in READS


class _Numbers(TorchFunctionMode):
    """Numbers of Python that become a tensor of a device do so in two operations, of which `Operations` sees the
    second."""

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if getattr(func, "__name__", "") not in FROM_DATA or any(isinstance(x, Tensor) for x in args[1:]):
            return func(*args, **kwargs)
        device = kwargs.pop("device", None)
        if func is Tensor.new_tensor:
            like, *args = args
            kwargs.setdefault("dtype", like.dtype)
            device, func = like.device if device is None else device, torch.tensor
        elif args and isinstance(args[0], Tensor):
            return func(*args, **kwargs, **({} if device is None else {"device": device}))
        made = func(*args, **kwargs)
        return made if device is None else made.to(device)
