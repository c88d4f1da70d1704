"""Bare arrays as samples: their types, memory layouts, and which axis is time."""

from __future__ import annotations

import os
from tokenize import TokenError
from typing import Any

import numpy as np
import torch
from torch import Tensor

# The most channels that are believed of an array whose axes may be swapped: 7.1 sound has 8.
MOST_CHANNELS = 8


def from_numpy(array: np.ndarray) -> Tensor:
    """An array of any layout, byte order and shape as a tensor; a TypeError if it does not hold numbers.

    The tensor shares the array's memory where it can. `longdouble`, which PyTorch lacks, becomes float64.
    """
    if array.dtype == object:
        raise TypeError("an array of objects is not audio; give a list of arrays for clips of different lengths")
    if array.dtype.kind not in "biufc":
        raise TypeError(f"an array of {array.dtype} is not audio")
    if isinstance(array, np.ma.MaskedArray):
        if np.ma.is_masked(array):
            raise ValueError(f"{np.ma.count_masked(array)} samples are masked: say what they are, array.filled(0)")
        array = array.data
    if (
        array.dtype.kind in "fc"
        and array.dtype.itemsize > np.dtype("c16" if array.dtype.kind == "c" else "f8").itemsize
    ):
        array = array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)
    native = array.astype(array.dtype.newbyteorder("="), order="C", copy=not array.flags.writeable)
    return torch.from_numpy(native)


def samples_of(array: Any, what: str = "audio") -> Tensor:
    """A floating point tensor of 1 to 3 axes, half precision as float32.

    Raises:
        TypeError: integers, whose full scale is not known, or anything else that is not floating point numbers.
        ValueError: another number of axes.
    """
    tensor = from_numpy(array) if isinstance(array, np.ndarray) else array
    if tensor.is_nested or tensor.layout is not torch.strided:
        raise TypeError(
            f"{what} must be a dense tensor; it is {'a nested' if tensor.is_nested else f'a {tensor.layout}'} one: "
            f"{'pass list(x.unbind())' if tensor.is_nested else 'pass x.to_dense()'}"
        )
    if tensor.is_meta:
        raise TypeError(f"{what} must hold samples; a tensor on the device 'meta' has none")
    if not tensor.is_floating_point():
        raise TypeError(
            f"{what} must be floating point with full scale 1; its type is {tensor.dtype}. "
            "For 16-bit integers: samples / 32768"
        )
    if not 1 <= tensor.ndim <= 3:
        raise ValueError(f"{what} is [T], [C, T] or [B, C, T]; its shape is {tuple(tensor.shape)}")
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def channels_first(waveform: Tensor, where: str = "") -> Tensor:
    """[..., C, T], or [..., T, C] where that is unmistakable (as `soundfile.read` gives it) → [..., C, T].

    The axes are swapped where there would be more than 8 channels of at most 8 samples.

    Raises:
        ValueError: more than 8 channels, and fewer samples than channels: either axis may be time.
    """
    channels, samples = waveform.shape[-2:]
    if channels <= max(MOST_CHANNELS, samples) or not samples:
        return waveform
    if samples <= MOST_CHANNELS:
        return waveform.mT
    raise ValueError(
        f"{where}{channels} channels of {samples} samples: the axes look swapped; a clip is [C, T], channels first: "
        "pass x.T if they are (an Audio says that they are not: Audio(x[None], [T], sample_rate))"
    )


def read_npy(path: str | os.PathLike[str]) -> np.ndarray:
    """The array of a `.npy` file, mapped into memory. A pickle in it is refused, and a size beyond the file's.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a `.npy` file, one cut short, or one that holds objects.
    """
    name = os.fspath(path)
    place = os.path.expanduser(name)
    if not os.path.isfile(place):
        raise FileNotFoundError(f"no array at {name!r}")
    try:
        array = np.load(place, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError, SyntaxError, TokenError, TypeError, OverflowError, MemoryError) as error:
        raise ValueError(f"{name}: not a readable .npy file ({error})") from error
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{name}: not a .npy file, but an archive of several: pass one array of it")
    return array
