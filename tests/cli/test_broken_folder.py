"""A folder of 200 files, of which 40 are broken in 20 ways: 160 are scored, coded and tokenised, and 40 are named."""

from __future__ import annotations

import json
import resource
import subprocess
from pathlib import Path

import pytest

from codeczoo.cli import main
from codeczoo.tokens import TokenSet
from tests.support.broken_files import BROKEN, flac_that_announces, wav, write_broken, write_sounds
from tests.support.command_line import COMMAND, ENVIRONMENT, files_below, write_sound
from tests.support.runs import rows_of

CODEC = "g711_ulaw"


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    assert len(write_sounds(folder, 160)) == 160
    assert len(BROKEN) == 20
    assert len(write_broken(folder, 2)) == 40
    return folder


def sound(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("good*"))


def broken(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("good"))


def test_benchmark(recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["benchmark", "--dataset", str(recordings), "--codecs", CODEC, "opus_12k", "--metrics", "waveform"]
    assert main([*common, "--out", str(tmp_path), "--batch", "32"]) == 3
    rows = rows_of(tmp_path)
    for codec in (CODEC, "opus_12k"):
        of_codec = {row["id"]: row for row in rows if row["codec"] == codec}
        assert len(of_codec) == 200
        failed = {id: row for id, row in of_codec.items() if row["status"] == "failed"}
        assert sorted(failed) == broken(recordings)
        assert all(row["stage"] == "read" and row["reason"] for row in failed.values())
        scored = {id: row for id, row in of_codec.items() if row["status"] == "ok"}
        assert sorted(scored) == sound(recordings)
        assert all(row["metrics"]["waveform"] > 0 for row in scored.values())
    said = capsys.readouterr().out
    assert all(f"{CODEC}: {name}: read: " in said for name in broken(recordings))
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert len(summary["codecs"][CODEC]["failed"]) == 40


def test_encode(recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["encode", str(recordings), "--codec", CODEC, "-o", str(tmp_path)]) == 3
    said = capsys.readouterr().err.splitlines()
    assert sorted(line.split(": ")[1] for line in said if line.startswith("failed: ")) == broken(recordings)
    assert said[-1] == f"encoded 160 clips, 40 failed; in {tmp_path}/"
    assert len(files_below(tmp_path)) == 160


def test_tokenize(recordings: Path, tmp_path: Path) -> None:
    arguments = ["tokenize", str(recordings), "--codec", CODEC, "--out", str(tmp_path), "--shard-clips", "64"]
    assert main(arguments) == 3
    tokens = TokenSet(tmp_path)
    assert sorted(one["id"] for one in tokens.index["failed"]) == broken(recordings)
    assert sorted(clip.id for clip in tokens) == sound(recordings)


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_header_that_announces_more_than_there_is_memory(tmp_path: Path, workers: str) -> None:
    """In a process that may have 6 GiB: torch takes most of them before it does anything."""
    folder = tmp_path / "in"
    for i in range(9):
        write_sound(folder / f"good{i}.wav", seed=i)
    (folder / "huge.flac").write_bytes(flac_that_announces(2**36 - 1))
    (folder / "large.flac").write_bytes(flac_that_announces(3 << 30))
    (folder / "rate.wav").write_bytes(wav(bytes(3200), rate=2_000_000_011))
    command = [*COMMAND, "encode", str(folder), "--codec", CODEC, "-o", str(tmp_path / "out"), "--workers", workers]
    limit = lambda: resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))  # noqa: E731
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, preexec_fn=limit, check=False)
    assert done.returncode == 3, done.stderr
    failed = sorted(line.split(": ")[1] for line in done.stderr.splitlines() if line.startswith("failed: "))
    assert failed == ["huge.flac", "large.flac", "rate.wav"], done.stderr
    assert len(files_below(tmp_path / "out")) == 9
