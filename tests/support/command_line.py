"""Running the command line as people do, and sound to run it on."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import soundfile as sf

from codeczoo.cli import main
from tests.support.sound import chirp

ROOT = Path(__file__).parent.parent.parent
COMMAND = [sys.executable, "-m", "codeczoo"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CODECZOO_DEVICE": "cpu"}


def write_sound(path: Path, seconds: float = 0.3, rate: int = 16000, channels: int = 1, seed: int = 0) -> Path:
    """A chirp as a file of the form that the suffix names; each channel is another one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = int(seconds * rate)
    waveform = [chirp(samples, rate, seed * 10 + channel)[0].numpy() for channel in range(channels)]
    sf.write(path, list(zip(*waveform, strict=True)), rate)
    return path


def run(*arguments: object, stdin: bytes | None = None, monkeypatch: pytest.MonkeyPatch | None = None) -> int:
    """`main` in this process."""
    if stdin is not None:
        assert monkeypatch is not None
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
    return main([str(argument) for argument in arguments])


@contextmanager
def hearing_ctrl_c() -> Iterator[None]:
    """Inside, Ctrl-C reaches this process, and those that it starts, even where the tests run in a shell's background:
    there programs are told to ignore it, and so are those that they start."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def process(*arguments: object, **options: object) -> subprocess.Popen[bytes]:
    """`python -m codeczoo` in a process of its own, which hears Ctrl-C."""
    command = [*COMMAND, *map(str, arguments)]
    with hearing_ctrl_c():
        return subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE, **options)  # type: ignore[call-overload]


def files_below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
