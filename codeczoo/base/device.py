"""Where to compute, and how precisely."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

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
    """float32 as float32 ("exact": tokens are reproducible), or TF32 on CUDA ("fast"); restored afterwards.

    Whichever of PyTorch's ways the caller has used to allow less (`allow_tf32`, `set_float32_matmul_precision`,
    `fp32_precision`), for CUDA or for the CPU's own bfloat16 and TF32, counts for nothing inside.
    """
    exact = precision != "fast"
    switches = _switches()
    before = [switch.fp32_precision for switch in switches]
    wanted = ["ieee"] * len(switches) if exact else ["tf32"] * ON_CUDA + before[ON_CUDA:]
    older = _older_settings()
    if before == wanted and older in (None, ("highest", False) if exact else ("high", True)):
        yield
        return
    if older is not None:
        _set_older("highest" if exact else "high", not exact)
    _set(switches, wanted)
    try:
        yield
    finally:
        if older is not None:
            _set_older(*older)
        _set(switches, before)


ON_CUDA = 3  # so many of `_switches` come first


def _switches() -> list[Any]:
    """Where PyTorch keeps what float32 arithmetic may be done in; empty before PyTorch 2.9, which has `allow_tf32`."""
    here: Any = torch.backends
    if not hasattr(here.cuda.matmul, "fp32_precision"):
        return []
    return [here.cuda.matmul, here.cudnn.conv, here.cudnn.rnn, here.mkldnn.matmul, here.mkldnn.conv, here.mkldnn.rnn]


def _set(switches: list[Any], values: list[str]) -> None:
    for switch, value in zip(switches, values, strict=True):
        if switch.fp32_precision != value:
            switch.fp32_precision = "none"  # what it inherits, which may be it
            if switch.fp32_precision != value:
                switch.fp32_precision = value


def _older_settings() -> tuple[str, bool] | None:
    """The same by PyTorch's older names; None where it refuses to tell, because the caller used the newer ones."""
    try:
        return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    except RuntimeError:
        return None


def _set_older(matmul: str, convolution: bool) -> None:
    torch.set_float32_matmul_precision(matmul)
    torch.backends.cudnn.allow_tf32 = convolution
