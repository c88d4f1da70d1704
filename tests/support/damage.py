"""Damaged files, from a seed, and the bounds that reading one must keep."""

from __future__ import annotations

import contextlib
import random
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

HEAD = 4096  # bytes in which a file says what it is
NUMBERS = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 40, (1 << 63) - 1, (1 << 64) - 1)


def damaged(data: bytes, r: random.Random) -> bytes:
    """`data` with one to four faults of the kinds that disks, networks and editors make, most of them at its ends."""
    out = bytearray(data)
    for _ in range(r.randint(1, 4)):
        if out:
            _fault(out, r)
    return bytes(out)


def _fault(out: bytearray, r: random.Random) -> None:
    size = len(out)
    start = r.choice((r.randrange(min(size, HEAD)), r.randrange(size), size - 1 - r.randrange(min(size, HEAD))))
    run = slice(start, start + r.choice((1, 1, 4, 64, 512)))
    match r.randrange(9):
        case 0 | 1:
            out[start] ^= 1 << r.randrange(8)
        case 2:
            out[start] = r.randrange(256)
        case 3:
            out[run] = bytes(len(out[run]))
        case 4:
            out[run] = b"\xff" * len(out[run])
        case 5:
            number = r.choice(NUMBERS).to_bytes(8, r.choice(("little", "big")))  # a size, or a place
            out[start : start + 8] = number[: len(out[start : start + 8])]
        case 6:
            del out[run]
        case 7:
            out[start:start] = out[run]
        case 8:
            del out[start:]


class TooSlowError(BaseException):
    """What was read took more than its time. (No `except Exception` of ours may take it for a fault of the file.)"""


@contextlib.contextmanager
def bounded(seconds: float, memory: int) -> Iterator[None]:
    """Fail if the block takes more processor time than that, or more bytes of resident memory (where Linux tells)."""
    before = _resident("VmRSS", reset=True)
    timed = threading.current_thread() is threading.main_thread()

    def late(number: int, frame: FrameType | None) -> None:
        raise TooSlowError(f"more than {seconds} s of processor time")

    if timed:
        kept = signal.signal(signal.SIGVTALRM, late)
        signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        if timed:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            signal.signal(signal.SIGVTALRM, kept)
    grown = _resident("VmHWM") - before
    assert grown < memory, f"it took {grown >> 20} MiB"


def _resident(what: str, reset: bool = False) -> int:
    """Bytes of resident memory: now, or at most since the last `reset`. 0 where that is not known."""
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith(f"{what}:")), 0)
