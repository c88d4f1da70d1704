"""Where to compute, and how precisely."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

PRECISIONS = ("exact", "fast")


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
        raise ValueError(f"{source}{wanted!r} is no device; choose of: {', '.join(available_devices())}") from error
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


def _has_mps() -> bool:
    return torch.backends.mps.is_available()


@contextmanager
def matmul_precision(precision: str) -> Iterator[None]:
    """TF32 off ("exact": tokens are reproducible) or on ("fast"), restored afterwards.

    "exact" also suspends the caller's autocast, under which tokens would be others. torch keeps its TF32 flags for the
    whole process: while threads want different things, "exact" holds for all, and the last one to leave restores.
    """
    with ExitStack() as stack:
        if precision == "exact":
            for kind in ("cpu", "cuda", "mps"):
                if torch.is_autocast_enabled(kind):
                    stack.enter_context(torch.autocast(kind, enabled=False))
        _tf32.enter(precision)
        stack.callback(_tf32.leave, precision)
        yield


class _Tf32:
    """torch's two TF32 flags, and who wants what of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wanted: Counter[str] = Counter()
        self._before = (False, False)

    def enter(self, precision: str) -> None:
        with self._lock:
            if not self._wanted.total():
                self._before = (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)
            self._wanted[precision] += 1
            self._apply()

    def leave(self, precision: str) -> None:
        with self._lock:
            self._wanted[precision] -= 1
            self._apply()

    def _apply(self) -> None:
        fast = not self._wanted["exact"]
        matmul, convolution = (fast, fast) if self._wanted.total() else self._before
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = matmul, convolution


_tf32 = _Tf32()
