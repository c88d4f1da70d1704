"""Where to compute, and how precisely."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

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
    """TF32 off ("exact": tokens are reproducible) or on ("fast"), restored afterwards."""
    allow = precision == "fast"
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allow
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
