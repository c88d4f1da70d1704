"""Damaged files, by a seed, and what reading them may come to."""

from __future__ import annotations

import random
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CPU_SECONDS = 5.0  # of one file
MEMORY = 1 << 30  # bytes that reading a file may take

EXTREMES = (b"\x00" * 8, b"\xff" * 8, b"\xff" * 7 + b"\x7f", b"\x00" * 7 + b"\x80", b"\x00\x00\x00\x00\x01\x00\x00\x00")


def damaged(content: bytes, seed: int) -> bytes:
    """`content` with one to three damages: bytes changed, lost, added, moved, or numbers made extreme."""
    dice = random.Random(seed)
    data = bytearray(content)
    for _ in range(dice.choice([1, 1, 2, 3])):
        kind = dice.randrange(10)
        # Headers are short and matter most: half of the damages are in the first 512 bytes.
        end = len(data) if dice.random() < 0.5 else min(len(data), 512)
        at = dice.randrange(max(end, 1))
        size = dice.choice([1, 2, 4, 8, 16, 100, 1000])
        if kind == 0:
            data[at : at + 1] = bytes([dice.randrange(256)])
        elif kind == 1:
            data[at : at + 1] = bytes([(data[at] if at < len(data) else 0) ^ 1 << dice.randrange(8)])
        elif kind == 2:
            del data[at:]
        elif kind == 3:
            del data[at : at + size]
        elif kind == 4:
            data[at:at] = dice.randbytes(size)
        elif kind == 5:
            data[at : at + size] = dice.randbytes(size)
        elif kind == 6:
            data[at : at + size] = bytes(size)
        elif kind == 7:
            data[at:at] = data[at : at + size]
        elif kind == 8:
            data[at : at + 8] = dice.choice(EXTREMES)
        else:  # another number in a text
            digits = [i for i in range(min(len(data), 4096)) if 48 <= data[i] <= 57]
            if digits:
                place = dice.choice(digits)
                data[place : place + 1] = dice.choice([b"0", b"9", b"-", b"99999999", b"1e9", b"null", b'"'])
    return bytes(data)


class Hang(BaseException):
    """A file that took too long."""


@contextmanager
def bounded() -> Iterator[None]:
    """At most `CPU_SECONDS` of this process's computing time, and `MEMORY` more than it has."""

    def ring(*_: Any) -> None:
        raise Hang(f"more than {CPU_SECONDS} s of computing")

    before = signal.signal(signal.SIGPROF, ring)
    limit = resource.getrlimit(resource.RLIMIT_AS)
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    if sys.platform == "linux":
        now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, limit[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limit)
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def outcomes(
    whole: bytes, count: int, folder: Path, name: str, read: Callable[[Path], object], first_seed: int = 0
) -> dict[str, int]:
    """How reading `count` damaged copies of a file came out: "read", or an error's type. Each error must be a
    ValueError or NotImplementedError that names the file; anything else is raised."""
    found: dict[str, int] = {}
    for seed in range(first_seed, first_seed + count):
        path = folder / name
        path.write_bytes(damaged(whole, seed))
        try:
            with bounded():
                read(path)
            outcome = "read"
        except BaseException as error:
            if not isinstance(error, ValueError | NotImplementedError) or name not in str(error):
                error.add_note(f"{name}, seed {seed}: not a named error of the file")
                raise
            outcome = type(error).__name__
        found[outcome] = found.get(outcome, 0) + 1
    return found
