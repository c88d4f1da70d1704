"""Pickles of values with tensors, for other processes of a run.

torch pickles a tensor by saving its whole storage in a file format of its own: some 40 microseconds a tensor, several
copies of long ones, and all of a batch for each view of it. Here tensors travel as NumPy arrays. `pickle.loads` reads
them.
"""

from __future__ import annotations

import io
import pickle
from typing import Any

import torch


class _Pickler(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        if type(value) is not torch.Tensor or value.requires_grad or value.device.type != "cpu":
            return NotImplemented
        try:
            return torch.from_numpy, (value.numpy(),)
        except (TypeError, RuntimeError):  # of a kind that NumPy has not: bfloat16, sparse
            return NotImplemented


def dumps(value: Any) -> bytes:
    """`pickle.dumps`; tensors on the CPU as arrays. They are equal when they come back, in memory of their own."""
    file = io.BytesIO()
    _Pickler(file, protocol=5).dump(value)
    return file.getvalue()
