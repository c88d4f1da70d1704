"""`codeczoo separate`: stems as the library's `separate` gives them, a folder a clip."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import soundfile as sf

from codeczoo import Audio
from codeczoo.separation import registry
from codeczoo.weights.load import load_model
from tests.support.command_line import files_below, run, write_sound
from tests.support.separation import RATE, small_variant

STEMS = ("bass", "drums", "other", "vocals")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small network under the name of the default one."""
    monkeypatch.setitem(registry.separators(), "htdemucs", small_variant("small_htdemucs"))  # type: ignore[arg-type]


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    folder = tmp_path / "recordings"
    write_sound(folder / "a.wav", 0.31, 22050)
    write_sound(folder / "deep" / "b.flac", 0.52, 44100, 2, seed=1)
    return folder


def separate(*arguments: object) -> int:
    return run("separate", *arguments, "--weights", "random", "--device", "cpu")


def test_a_folder_is_mirrored(recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "stems"
    assert separate(recordings, "-o", out, "--json", "--shifts", 1, "--seed", 3) == 0
    assert files_below(out) == sorted(f"{clip}/{stem}.wav" for clip in ("a", "deep/b") for stem in STEMS)
    rows = {row["id"]: row for row in map(json.loads, capsys.readouterr().out.splitlines())}
    assert rows["a.wav"]["output"]["bass"] == str(out / "a" / "bass.wav")
    assert rows["a.wav"]["seconds"] == pytest.approx(0.31, abs=1e-3)
    separator = load_model(small_variant("small_htdemucs"), "random", device="cpu")
    for stem, audio in separator.separate(recordings / "deep" / "b.flac", shifts=1, seed=3).items():
        path = out / "deep" / "b" / f"{stem}.wav"
        assert (sf.info(path).samplerate, sf.info(path).channels, sf.info(path).frames) == (RATE, 2, int(0.52 * RATE))
        assert float((Audio.load(path).waveform - audio.waveform.clamp(-1, 1)).abs().max()) <= 1 / 32768 + 1e-4


def test_what_is_there_is_kept_and_some_stems_may_be_asked_for(
    recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out, clip = tmp_path / "stems", recordings / "a.wav"
    assert separate(clip, "-o", out, "--stems", "vocals", "--format", "flac") == 0
    assert files_below(out) == ["a/vocals.flac"]
    assert "separated 1 clip" in capsys.readouterr().err
    assert separate(clip, "-o", out, "--stems", "vocals", "--format", "flac") == 0
    assert "1 clip there already" in capsys.readouterr().err


def test_a_clip_that_fails_is_named_and_the_others_go_on(
    recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (recordings / "broken.wav").write_bytes(b"RIFF....")
    assert separate(recordings, "-o", tmp_path / "stems", "--quiet") == 3
    assert "failed: broken.wav: " in capsys.readouterr().err
    assert len(files_below(tmp_path / "stems")) == 8


@pytest.mark.parametrize(
    ("more", "said"),
    [(("--model", "htdemuc"), "did you mean 'htdemucs'"), (("--stems", "violin"), "has the stems drums"),
     (("--overlap", "1"), "overlap must be")],
)  # fmt: skip
def test_wrong_usage(
    more: tuple[str, ...], said: str, recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert separate(recordings / "a.wav", "-o", tmp_path / "stems", *more) in (1, 3)
    assert said in capsys.readouterr().err


def test_an_input_is_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write_sound(tmp_path / "x.wav", 0.1, 44100)
    write_sound(tmp_path / "x" / "bass.wav", 0.1, 44100)
    before = (tmp_path / "x" / "bass.wav").read_bytes()
    assert separate(tmp_path / "x.wav", tmp_path / "x" / "bass.wav", "-o", tmp_path, "--overwrite") == 1
    assert "is an input, and would be written over" in capsys.readouterr().err
    assert (tmp_path / "x" / "bass.wav").read_bytes() == before
