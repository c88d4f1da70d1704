"""DAC's `.dac` files: the codes of one item, or of several of one length, and what takes them back to their loudness.

The form is that of descriptinc/descript-audio-codec: a NumPy `.npy` file with one pickled dict of codes (16 bits each)
and metadata. Its pickle is read by an unpickler that knows four of NumPy's names and runs nothing.

`DAC.compress` and `DAC.decompress` (codecs/dac.py) make such files and decode them.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

VERSION = "1.0.0"  # "dac_version" of the files that are read and written


@dataclass(frozen=True, eq=False)
class DACFile:
    """What a `.dac` file holds.

    Attributes:
        codes: [B · C, K, N] int64; the channels of an item follow each other.
        chunk_length: frames of a window; all frames where the clip was coded whole.
        original_length: samples of the clip, at its own rate.
        input_db: [B] float32, loudness in LUFS of each item before it was normalised.
        channels: C.
        sample_rate: of the clip, in Hz.
        padding: whether the network ran with its padding, that is, over the whole clip at once.
    """

    codes: Tensor
    chunk_length: int
    original_length: int
    input_db: Tensor
    channels: int
    sample_rate: int
    padding: bool

    def __post_init__(self) -> None:
        if self.codes.ndim != 3 or self.codes.is_floating_point():
            raise ValueError(
                f"codes must be integers [B · C, K, N]; they are {self.codes.dtype} {list(self.codes.shape)}"
            )
        for name in ("chunk_length", "original_length", "channels", "sample_rate"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; it is {getattr(self, name)}")
        if len(self.codes) != len(self.input_db) * self.channels:
            raise ValueError(
                f"{len(self.codes)} rows of codes do not make {len(self.input_db)} items of {self.channels} channels"
            )

    def save(self, path: str | Path) -> None:
        """Write it as the published package does: 16 bits a code, in a pickle."""
        metadata = {
            "input_db": self.input_db.cpu().numpy().astype(np.float32),
            "original_length": self.original_length,
            "sample_rate": self.sample_rate,
            "chunk_length": self.chunk_length,
            "channels": self.channels,
            "padding": self.padding,
            "dac_version": VERSION,
        }
        content = np.empty((), dtype=object)
        content[()] = {"codes": self.codes.cpu().numpy().astype(np.uint16), "metadata": metadata}
        with Path(path).open("wb") as file:
            np.save(file, content)

    @classmethod
    def load(cls, path: str | Path) -> DACFile:
        """Read a `.dac` file. Only arrays and plain values are taken from it, whatever its pickle asks for.

        Raises:
            FileNotFoundError: no such file.
            ValueError: not a `.dac` file, one cut short, or one of another version.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"no .dac file at {str(path)!r}")
        try:
            content = _read_object(Path(path))
            metadata = dict(content["metadata"])
            version = metadata.pop("dac_version", None)
            if version != VERSION:
                raise ValueError(f"its version is {version!r}; {VERSION!r} can be read")
            codes = torch.from_numpy(content["codes"].astype(np.int64))
            input_db = torch.from_numpy(np.atleast_1d(metadata.pop("input_db")).astype(np.float32))
            kinds = {"padding": bool, "chunk_length": int, "original_length": int, "channels": int, "sample_rate": int}
            return cls(codes=codes, input_db=input_db, **{name: kind(metadata[name]) for name, kind in kinds.items()})
        except (pickle.UnpicklingError, EOFError, ValueError, TypeError, LookupError, AttributeError, OverflowError,
                MemoryError, RecursionError, SyntaxError, TokenError) as error:  # fmt: skip
            raise ValueError(f"{path}: not a readable .dac file ({type(error).__name__}: {error})") from error


# -- reading ---------------------------------------------------------------------------------------


def _read_object(path: Path) -> Any:
    """The object of a .npy file that holds one object, with NumPy arrays in it."""
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        if version != (1, 0):
            raise ValueError(f"it is of version {version} of the .npy format")
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        if shape != () or not dtype.hasobject:
            raise ValueError(f"it holds an array of {dtype} {list(shape)}, not one object")
        return _plain(_ByteReader(file).load())


class _DType:
    """Stands for a NumPy type while a pickle is read."""

    def __init__(self, code: str, *_: Any) -> None:
        self.code, self.order = code, "="

    def __setstate__(self, state: tuple) -> None:
        self.order = state[1]

    def numpy(self) -> np.dtype:
        if self.code not in ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"):
            raise ValueError(f"it holds values of type {self.code!r}")
        return np.dtype(self.order + self.code)


class _Array:
    """Stands for a NumPy array."""

    def __init__(self, *_: Any) -> None:
        self.content: Any = None

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, fortran, data = state
        if isinstance(data, list):  # an array of objects
            (self.content,) = data
        else:
            flat = np.frombuffer(data, dtype.numpy())
            self.content = flat.reshape(shape, order="F" if fortran else "C")


class _Scalar:
    """Stands for a single NumPy number."""

    def __init__(self, dtype: _DType, data: bytes) -> None:
        self.content = np.frombuffer(data, dtype.numpy())[0]


STAND_INS = {"ndarray": _Array, "_reconstruct": _Array, "dtype": _DType, "scalar": _Scalar}


class _ByteReader(pickle.Unpickler):
    """An unpickler that knows four names and gives a stand-in for each.

    The stand-ins are subclasses made for this one file, because a pickle may set attributes on what it is given.
    """

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.known = {name: type(kind.__name__, (kind,), {}) for name, kind in STAND_INS.items()}

    def find_class(self, module: str, name: str) -> Any:
        if module in ("numpy", "numpy.core.multiarray", "numpy._core.multiarray") and name in self.known:
            return self.known[name]
        raise pickle.UnpicklingError(f"it names {module}.{name}, which no .dac file needs")


def _plain(tree: Any) -> Any:
    """`tree` with NumPy arrays in place of their stand-ins."""
    if isinstance(tree, _Array | _Scalar):
        return _plain(tree.content)
    return {key: _plain(value) for key, value in tree.items()} if isinstance(tree, dict) else tree
