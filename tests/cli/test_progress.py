"""What people see of a command: failures on lines of their own, numbers with their units."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from codeczoo.cli.progress import counted, duration
from tests.support.command_line import COMMAND, ENVIRONMENT, process, write_sound
from tests.support.runs import ROOT

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    for i in range(4):
        write_sound(tmp_path / "in" / f"{i}.wav", 0.2, seed=i)
        (tmp_path / "in" / f"{i}.flac").write_text("no audio\n" * (i + 1))
    return tmp_path / "in"


def on_terminal(command: list[str]) -> list[str]:
    """What a command leaves on the lines of a terminal: text behind a carriage return covers what is there."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    with subprocess.Popen(command, env=ENVIRONMENT, stdout=theirs, stderr=theirs) as child:
        os.close(theirs)
        written = b""
        try:
            while chunk := os.read(ours, 65536):
                written += chunk
        except OSError:  # how Linux says that the other side is closed
            pass
        os.close(ours)
        assert child.wait() == 3
    lines = []
    for line in written.decode().split("\n"):
        shown = ""
        for text in line.split("\r"):
            shown = text + shown[len(text) :]
        lines.append(shown.rstrip())
    return lines


def test_failures_stand_on_lines_of_their_own(recordings: Path, tmp_path: Path) -> None:
    arguments = ["encode", str(recordings), "--codec", "g711_ulaw", "--batch", "1"]
    lines = on_terminal([*COMMAND, *arguments, "-o", str(tmp_path / "terminal")])
    assert sorted(line.split(": ")[1] for line in lines if line.startswith("failed: ")) == [
        f"{i}.flac" for i in range(4)
    ]
    assert sum("failed: " in line for line in lines) == 4
    assert any(line.startswith("100%|") and " 8/8 [" in line for line in lines)
    child = process(*arguments, "-o", tmp_path / "file")
    _, errors = child.communicate(timeout=120)
    assert child.returncode == 3
    words = errors.decode().splitlines()
    assert b"\r" not in errors  # no bar where nobody watches
    assert len(words) == 5 and all(line.startswith("failed: ") for line in words[:4])
    assert words[4] == f"encoded 4 clips, 4 failed; in {tmp_path / 'file'}/"


def test_a_benchmark_counts_codings(recordings: Path, tmp_path: Path) -> None:
    arguments = ["--dataset", str(recordings), "--codecs", "g711_ulaw", "g711_alaw", "--metrics", "mel"]
    lines = on_terminal(
        [sys.executable, str(ROOT / "benchmarking.py"), *arguments, "--workers", "0", "--out", str(tmp_path / "out")]
    )
    assert any("100%" in line and " 16/16 codings [" in line for line in lines)


def test_numbers_with_their_units() -> None:
    assert [counted(n, "clip") for n in (0, 1, 2)] == ["0 clips", "1 clip", "2 clips"]
    assert [duration(s) for s in (0.04, 59.9, 90, 3599, 5400)] == [
        "0.0 seconds", "59.9 seconds", "1.5 minutes", "60.0 minutes", "1.50 hours",
    ]  # fmt: skip
