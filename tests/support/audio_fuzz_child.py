"""Reads damaged files in a process of its own, which dies where a reader crashes, hangs or asks for too much memory.

Started with a whole file, a first seed and a number of files; prints a line for each: its seed, and what came of it.
"""

from __future__ import annotations

import resource
import signal
import sys
import warnings
from pathlib import Path

from codeczoo.base.audio_files.reading import read_samples
from codeczoo.base.audio_files.stretch import Stretch
from tests.support.damaged_audio import damaged

SECONDS = 5  # of processor time that a file may take
MEMORY = 1 << 30  # bytes that may be asked for beyond what the process has


def main(path: str, first: int, count: int) -> None:
    warnings.simplefilter("ignore")
    whole = Path(path).read_bytes()
    samples, rate = read_samples(whole, Stretch())
    seconds = samples.shape[1] / rate
    stretch = Stretch(0.8 * seconds, 0.1 * seconds)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # which ends the process
    for seed in range(first, first + count):
        sys.stdout.write(f"{seed} ")
        sys.stdout.flush()
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        sys.stdout.write(f"{outcome(damaged(whole, seed), stretch if seed % 4 == 3 else Stretch())}\n")
        signal.setitimer(signal.ITIMER_PROF, 0)


def outcome(data: bytes, stretch: Stretch) -> str:
    try:
        samples, _ = read_samples(data, stretch)
    except (ValueError, OSError) as error:
        return "error" if str(error).startswith("<bytes>: ") else f"unnamed {error!r}"
    except BaseException as error:  # noqa: BLE001 – the test is about these
        return f"other {error!r}"
    return "result" if samples.dtype == "float32" and samples.shape[0] > 0 < samples.shape[1] else "nothing"


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
