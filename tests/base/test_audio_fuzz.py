"""Damaged audio files: whatever is wrong with one, reading it ends in a result or an error with its name, in bounded
time and memory."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.audio_files import encoded, mp3, sound, with_flac_length, without_length_frame, written

RATE = 16000
SOUND = sound(5000, RATE, 2)
FILES: dict[str, Callable[[], bytes]] = {
    "wav": lambda: written(SOUND, RATE, "WAV"),
    "flac": lambda: written(SOUND, RATE, "FLAC"),
    "mp3": lambda: mp3(SOUND, RATE),
    "vorbis": lambda: written(SOUND, RATE, "OGG", "VORBIS"),
    "opus": lambda: written(SOUND, RATE, "OGG", "OPUS"),
    "m4a": lambda: encoded(SOUND, RATE, "ipod", "aac"),
}
MORE: dict[str, Callable[[], bytes]] = {
    "flac of no length": lambda: with_flac_length(written(SOUND, RATE, "FLAC"), 0),
    "mp3 of three seconds": lambda: mp3(sound(3 * RATE, RATE), RATE),
    "mp3 of no length frame": lambda: without_length_frame(mp3(SOUND, RATE)),
    "adpcm": lambda: written(SOUND, RATE, "WAV", "IMA_ADPCM"),
    "w64": lambda: written(SOUND, RATE, "W64"),
    "rf64": lambda: written(SOUND, RATE, "RF64"),
    "caf": lambda: written(SOUND, RATE, "CAF"),
    "aiff": lambda: written(SOUND, RATE, "AIFF"),
    "nist": lambda: written(SOUND, RATE, "NIST"),
    "webm": lambda: encoded(SOUND, RATE, "webm", "libopus"),
    "ogg flac": lambda: encoded(SOUND, RATE, "ogg", "flac"),
    "wma": lambda: encoded(SOUND, RATE, "asf", "wmav2"),
    "wavpack": lambda: encoded(SOUND, RATE, "wv", "wavpack"),
    "aac": lambda: encoded(SOUND, RATE, "adts", "aac"),
    "alac": lambda: encoded(SOUND, RATE, "ipod", "alac"),
}
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are bounded as Linux does it")


def outcomes(kind: str, folder: Path, first: int, count: int) -> Counter[str]:
    """How often each outcome came; anything but results and named errors fails the test."""
    path = folder / "whole"
    path.write_bytes((FILES | MORE)[kind]())
    command = [sys.executable, "-m", "tests.support.audio_fuzz_child", str(path), str(first), str(count)]
    root = Path(__file__).parents[2]
    said = subprocess.run(command, capture_output=True, text=True, cwd=root, errors="replace", timeout=3600)
    lines = said.stdout.splitlines()
    assert said.returncode == 0, f"{kind}, seed {lines[-1] if lines else first}: ended by {said.returncode}"
    assert len(lines) == count
    bad = [line for line in lines if line.split(maxsplit=1)[1] not in ("error", "result")]
    assert not bad, bad[:5]
    return Counter(line.split()[1] for line in lines)


@pytest.mark.parametrize("kind", FILES)
def test_a_damaged_file_is_a_result_or_a_named_error(kind: str, tmp_path: Path) -> None:
    found = outcomes(kind, tmp_path, 0, 300)
    assert found["error"] > 30


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*FILES, *MORE])
def test_thousands_of_damaged_files_are_results_or_named_errors(kind: str, tmp_path: Path) -> None:
    outcomes(kind, tmp_path, 1000, 2500)
