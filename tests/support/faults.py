"""Whatever can go wrong with one clip: errors of every kind, raised by a codec, by a source of clips, by a metric.

A clip of fault number k is silence but for a constant level that only this number has, so that a codec knows it again
wherever it meets it: in a batch, in its half, as codes.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf
import torch
from torch import Tensor

from codeczoo import register_codec
from codeczoo.base.network import Decoded, Encoded
from codeczoo.codecs.g711 import G711, magnitudes
from codeczoo.data.files import FileSource
from codeczoo.data.open import Content, Entry
from tests.support.command_line import write_sound
from tests.support.registering import registered_for_a_while

RATE = 8000
LEVELS = magnitudes("mu")[1]  # on the 16-bit scale


class Panic(BaseException):
    """As libraries in Rust raise them."""


class Mute(Exception):  # noqa: N818
    """An error that cannot say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


class Unpicklable(Exception):  # noqa: N818
    """An error that cannot be sent to another process."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(first)
        self.hold = lambda: second


def recurse(depth: int = 0) -> int:
    return recurse(depth + 1) + 1


def raising(error: BaseException) -> Callable[[], Any]:
    def fault() -> None:
        raise error

    return fault


# Each as a clip meets it in life; several are not raised but happen.
FAULTS: Mapping[str, Callable[[], Any]] = {
    "MemoryError": lambda: bytearray(1 << 62),
    "MemoryError of NumPy": lambda: np.empty(1 << 58),
    "RuntimeError": lambda: torch.empty(1 << 60),  # torch's allocator
    "AssertionError": raising(AssertionError()),
    "RecursionError": recurse,
    "ZeroDivisionError": lambda: 1 // 0,
    "AttributeError": lambda: None.shape,  # type: ignore[attr-defined]
    "ModuleNotFoundError": lambda: __import__("no_such_module_of_codeczoo"),
    "KeyError": lambda: {}["x"],
    "StopIteration": lambda: next(iter(())),
    "NotImplementedError": raising(NotImplementedError("not for this clip")),
    "UnicodeDecodeError": lambda: b"\xff".decode(),
    "OSError": raising(OSError(5, "Input/output error")),
    "EOFError": raising(EOFError()),
    "OutOfMemoryError": raising(torch.OutOfMemoryError("CUDA out of memory")),
    "Panic": raising(Panic("index out of bounds")),
    "Mute": raising(Mute()),
    "Unpicklable": lambda: raising(Unpicklable("a", "b"))(),
}
NAMES = list(FAULTS)


def write_clips(folder: Path, good: int = 6) -> tuple[list[str], list[str]]:
    """`good` clips that are sound, and one for each fault; their names."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(NAMES):
        level = np.full(800 + 7 * number, LEVELS[number + 3] / 32768, np.float32)
        sf.write(folder / f"{name}.wav", level, RATE, "FLOAT")
    sound = [write_sound(folder / f"good{i}.wav", 0.1 + i / 100, RATE, seed=i).name for i in range(good)]
    return sound, [f"{name}.wav" for name in NAMES]


class FaultyEncoder(G711):
    """G.711, until a clip of a fault comes."""

    def _encode(self, waveform: Tensor, lengths: Tensor, num_codebooks: int) -> Encoded:
        for clip, length in zip(waveform, lengths.tolist(), strict=True):
            meet(clip[0, :length] * 32768)
        return super()._encode(waveform, lengths, num_codebooks)


class FaultyDecoder(G711):
    """G.711, until the codes of a clip of a fault come."""

    def _decode(self, codes: Tensor, lengths: Tensor, side_info: Mapping[str, Tensor], num_samples: Tensor) -> Decoded:
        for clip, length in zip(codes, lengths.tolist(), strict=True):
            meet(self.levels[clip[0, :length]])
        return super()._decode(codes, lengths, side_info, num_samples)


def meet(levels: Tensor) -> None:
    """The fault of a clip [T] of samples on the 16-bit scale, if it is one's."""
    first = round(float(levels[0]))
    if bool((levels == levels[0]).all()) and first in LEVELS[3 : 3 + len(NAMES)]:
        FAULTS[NAMES[LEVELS.index(first) - 3]]()


@contextmanager
def faulty_codecs() -> Iterator[None]:
    """The codecs `faulty_encoder` and `faulty_decoder`, as their author registers them."""
    with registered_for_a_while():
        for kind in (FaultyEncoder, FaultyDecoder):
            name = "faulty_encoder" if kind is FaultyEncoder else "faulty_decoder"
            toml = f'[family]\nclass = "{kind.__name__}"\nnetwork = {{ law = "mu" }}\n\n[variants.{name}]\n'
            register_codec(toml, kind)
        yield


class FaultySource(FileSource):
    """Files, of which those of the faults in `names` raise them when they are read; and one kills every process but
    `main_process`."""

    names = tuple(NAMES)
    deadly = ""
    main_process = 0

    def read(self, entry: Entry) -> Content:
        if entry.id == self.deadly and os.getpid() != self.main_process:
            os.kill(os.getpid(), signal.SIGKILL)
        name = entry.id.removesuffix(".wav")
        if name in self.names:
            FAULTS[name]()
        return super().read(entry)
