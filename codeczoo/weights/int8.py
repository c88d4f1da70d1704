"""Weights stored as 8 bit integers: a quarter of the size, and not quite the same weights.

Each row of a matrix or kernel (its first axis) has a scale of its own: its largest magnitude is 127. Codebooks, norms,
biases and small tensors stay as they are. In a file the scales lie beside the integers, and the metadata say so; when
loaded, the weights are float32 again: this saves space on disk, not in memory. How many codes stay the same, and how
much the audio changes, was measured a family: docs/formats.md.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping

import torch
from torch import Tensor

log = logging.getLogger(__name__)

STORAGE = {"storage": "int8, a scale a row"}  # in the metadata of a file
SCALE = ".scale_of_row"
LARGEST = 127
MIN_VALUES = 4096  # of a tensor: smaller ones save nothing
KEPT = r"codebook"


def quantised(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors with int8 and scales in place of those that qualify.

    Raises:
        ValueError: a weight that is not finite.
    """
    out: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if not qualifies(name, tensor):
            out[name] = tensor
            continue
        rows = tensor.flatten(1).double()
        peak = rows.abs().amax(1)
        if not bool(peak.isfinite().all()):
            raise ValueError(f"{name} has values that are not finite: they cannot be stored as int8")
        scale = (peak / LARGEST).float()
        steps = torch.where(scale[:, None] > 0, rows / scale[:, None].double(), 0).round().clamp(-LARGEST, LARGEST)
        out[name] = steps.to(torch.int8).view(tensor.shape)
        out[name + SCALE] = scale
    return out


def qualifies(name: str, tensor: Tensor) -> bool:
    """Whether a tensor is stored as int8."""
    large = tensor.is_floating_point() and tensor.ndim >= 2 and tensor.shape[0] > 1 and tensor.numel() >= MIN_VALUES
    return large and not re.search(KEPT, name)


def restored(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> dict[str, Tensor]:
    """The tensors of a file, those that are int8 there as float32; others as they are.

    Raises:
        ValueError: a scale that is missing or does not fit.
    """
    if metadata.get("storage") != STORAGE["storage"]:
        return dict(tensors)
    out = {}
    for name, tensor in tensors.items():
        if name.endswith(SCALE) and name.removesuffix(SCALE) in tensors:
            continue
        scale = tensors.get(name + SCALE)
        if tensor.dtype != torch.int8:
            out[name] = tensor
        elif scale is None or scale.shape != tensor.shape[:1]:
            raise ValueError(f"{name} is stored as int8, and its scales are missing or not one a row")
        else:
            out[name] = tensor.float() * scale.view(-1, *[1] * (tensor.ndim - 1))
    log.warning("these weights were stored as int8 a row: codes may differ from those of the original weights")
    return out
