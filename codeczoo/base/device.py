"""Where to compute, and how precisely."""

from __future__ import annotations

import functools
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch

PRECISIONS = ("exact", "fast", "fastest")
DTYPES = ("float32", "float64", "bfloat16", "float16")


def choose_device(device: str | torch.device | None = None) -> torch.device:
    """`device`, else the environment variable CODECZOO_DEVICE, else CUDA > MPS > CPU.

    Raises:
        ValueError: the device that was asked for by name is unknown or not available on this machine.
    """
    source = "device=" if device is not None else "CODECZOO_DEVICE="
    wanted = device if device is not None else os.environ.get("CODECZOO_DEVICE") or None
    if wanted is None:
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if _has_mps() else "cpu")
    try:
        chosen = torch.device(wanted)
    except RuntimeError as error:
        raise ValueError(f"{source}{wanted!r} is not a device; choose of: {', '.join(available_devices())}") from error
    known = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": _has_mps()}
    if not known.get(chosen.type, False) or (
        chosen.type == "cuda" and chosen.index is not None and chosen.index >= torch.cuda.device_count()
    ):
        raise ValueError(f"{source}{str(wanted)!r} is not available here; choose of: {', '.join(available_devices())}")
    return chosen


def available_devices() -> list[str]:
    """Names that `choose_device` accepts on this machine."""
    names = [f"cuda:{i}" for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    return [*names, *(["mps"] if _has_mps() else []), "cpu"]


def choose_dtype(dtype: torch.dtype | str) -> torch.dtype:
    """A floating point type of torch, by itself or by its name ("float64", "torch.float64").

    Raises:
        TypeError, ValueError: neither; not floating point.
    """
    found = getattr(torch, dtype.removeprefix("torch."), None) if isinstance(dtype, str) else dtype
    if isinstance(dtype, str) and not isinstance(found, torch.dtype):
        raise ValueError(f"dtype={dtype!r} is not a type of torch; choose of: {', '.join(DTYPES)}")
    if not isinstance(found, torch.dtype):
        raise TypeError(f"dtype must be one of torch or its name, for instance torch.float64; it is {dtype!r}")
    if not found.is_floating_point:
        raise ValueError(f"dtype={dtype!r} is not floating point; choose of: {', '.join(DTYPES)}")
    return found


def seconds_now(device: torch.device) -> float:
    """Seconds of a clock, read once the device has finished its queue."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
    return time.perf_counter()


@contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """Compute on so many threads of the CPU (None = as before); the former number is set again at the end."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def torch_defaults() -> Iterator[None]:
    """Make tensors as PyTorch does where nobody has changed its defaults: float32, on the CPU.

    So what a model is built of does not depend on `torch.set_default_dtype` and `torch.set_default_device`.
    """
    before = torch.get_default_dtype()
    with torch.device("cpu"):
        try:
            if before != torch.float32:  # a setting of the whole process: left alone where it need not change
                torch.set_default_dtype(torch.float32)
            yield
        finally:
            if before != torch.float32:
                torch.set_default_dtype(before)


def _has_mps() -> bool:
    return torch.backends.mps.is_available()


@functools.cache
def native_bfloat16() -> bool:
    """Whether this CPU multiplies in bfloat16 (AVX512-BF16, AMX, ARM's BF16), as PyTorch reads off it; emulation is
    slower than float32."""
    asked = getattr(torch.cpu, "get_capabilities", None)  # PyTorch 2.12
    if asked is not None:
        found = asked()
        return any(found.get(name, False) for name in ("avx512_bf16", "amx_bf16", "arm_bf16", "bf16"))
    older = [getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile")]
    return any(function() for function in older if function is not None)


def arithmetic_of(precision: str, device_type: str) -> str:
    """In what "exact", "fast" or "fastest" multiplies on a kind of device: "float32", "tf32" or "bfloat16"."""
    if precision == "exact" or device_type not in ("cpu", "cuda"):
        return "float32"  # float16 on MPS was never measured
    if device_type == "cpu":
        return "bfloat16" if native_bfloat16() else "float32"
    return "tf32" if precision == "fast" else "bfloat16"


@contextmanager
def matmul_precision(precision: str, device_type: str = "") -> Iterator[None]:
    """Compute in float32 ("exact": codes are reproducible), or in TF32 on CUDA; restored afterwards. With `device_type`
    also in bfloat16 where `arithmetic_of` says so: by `torch.autocast`, so that sums, norms and the search in codebooks
    stay in float32.

    Inside, the caller's settings of a lower precision (`allow_tf32`, `set_float32_matmul_precision`, `fp32_precision`;
    for CUDA, or for bfloat16 and TF32 on the CPU) have no effect. "exact" also suspends the caller's autocast. PyTorch
    keeps one setting for the whole process: while threads ask for different ones, "exact" holds for all of them, and
    the last thread to leave restores the caller's.
    """
    with ExitStack() as stack:
        if precision == "exact":
            for kind in ("cpu", "cuda", "mps"):
                if torch.is_autocast_enabled(kind):
                    stack.enter_context(torch.autocast(kind, enabled=False))
        elif device_type and arithmetic_of(precision, device_type) == "bfloat16":
            stack.enter_context(torch.autocast(device_type, dtype=torch.bfloat16))
        _arithmetic.enter(precision)
        stack.callback(_arithmetic.leave, precision)
        yield


class _Switches(NamedTuple):
    """PyTorch's settings of the precision of float32 arithmetic."""

    older: tuple[str, bool] | None  # of matrix products, and whether convolutions may use TF32; None = unreadable
    newer: tuple[str, ...]  # of `_newer_switches`


class _Arithmetic:
    """PyTorch's switches, and how many callers ask for each precision."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wanted: Counter[str] = Counter()
        self._before = _Switches(None, ())

    def enter(self, precision: str) -> None:
        with self._lock:
            if not self._wanted.total():
                self._before = _read_switches()
            self._wanted[precision] += 1
            self._apply()

    def leave(self, precision: str) -> None:
        with self._lock:
            self._wanted[precision] -= 1
            self._apply()

    def _apply(self) -> None:
        before = self._before
        if not self._wanted.total():
            _write_switches(before)
        elif self._wanted["exact"]:
            _write_switches(_Switches(before.older and ("highest", False), ("ieee",) * len(before.newer)))
        else:
            newer = ("tf32",) * CUDA_SWITCHES + before.newer[CUDA_SWITCHES:] if before.newer else ()
            _write_switches(_Switches(before.older and ("high", True), newer))


_arithmetic = _Arithmetic()
CUDA_SWITCHES = 3  # the first ones of `_newer_switches`


def _newer_switches() -> list[Any]:
    """The objects whose `fp32_precision` is the setting; empty before PyTorch 2.9, which has `allow_tf32`."""
    here: Any = torch.backends
    if not hasattr(here.cuda.matmul, "fp32_precision"):
        return []
    return [here.cuda.matmul, here.cudnn.conv, here.cudnn.rnn, here.mkldnn.matmul, here.mkldnn.conv, here.mkldnn.rnn]


def _read_switches() -> _Switches:
    newer = tuple(switch.fp32_precision for switch in _newer_switches())
    try:
        return _Switches((torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32), newer)
    except RuntimeError:  # the caller has set the newer names: the older ones can then not be read
        return _Switches(None, newer)


def _write_switches(wanted: _Switches) -> None:
    found = _read_switches()
    if found == wanted:
        return
    if wanted.older is not None and wanted.older != found.older:
        torch.set_float32_matmul_precision(wanted.older[0])
        torch.backends.cudnn.allow_tf32 = wanted.older[1]
    for switch, value in zip(_newer_switches(), wanted.newer, strict=True):
        if switch.fp32_precision != value:
            switch.fp32_precision = "none"  # inherited, which may be `value` already
            if switch.fp32_precision != value:
                switch.fp32_precision = value


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory of a device or of the machine ran out. On the CPU torch raises a plain RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and "alloc" in str(error) and "memory" in str(error)
    )
