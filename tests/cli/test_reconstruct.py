"""`codeczoo reconstruct`: what the library's `reconstruct` gives, at each clip's own rate, length and channels."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import soundfile as sf

from codeczoo import Audio, load_codec
from tests.support.command_line import files_below, run, write_sound


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    folder = tmp_path / "recordings"
    write_sound(folder / "a.wav", 0.31, 22050)
    write_sound(folder / "deep" / "b.flac", 0.52, 44100, 2, seed=1)
    write_sound(folder / "c.wav", 0.2, 8000, seed=2)
    return folder


@pytest.mark.parametrize("codec", ["opus_12k", "g711_ulaw", "encodec_24k"])
def test_rate_length_and_channels_are_the_inputs(
    codec: str, recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    weights = ["--weights", "random"] if codec == "encodec_24k" else []
    out = tmp_path / "out"
    common = [recordings, "--codec", codec, *weights, "--device", "cpu", "-o", out, "--format", "flac", "--json"]
    assert run("reconstruct", *common) == 0
    rows = {row["id"]: row for row in map(json.loads, capsys.readouterr().out.splitlines())}
    assert files_below(out) == ["a.flac", "c.flac", "deep/b.flac"]
    loaded = load_codec(codec, "random" if weights else None, device="cpu")
    for name in ("a.wav", "deep/b.flac", "c.wav"):
        path = (out / name).with_suffix(".flac")
        before, after = sf.info(recordings / name), sf.info(path)
        assert (after.samplerate, after.frames, after.channels) == (before.samplerate, before.frames, before.channels)
        truth = loaded.reconstruct(recordings / name).waveform.clamp(-1, 1)
        assert float((Audio.load(path).waveform - truth).abs().max()) <= 1 / 32768 + 1e-4
        assert rows[name]["bits"] == float(loaded.encode(recordings / name).num_bits[0])
        assert (rows[name]["sample_rate"], rows[name]["channels"]) == (before.samplerate, before.channels)


def test_inputs_are_not_written_over(recordings: Path, capsys: pytest.CaptureFixture) -> None:
    before = (recordings / "a.wav").read_bytes()
    for more in ([], ["--overwrite"]):
        assert run("reconstruct", recordings, "--codec", "opus_12k", "-o", recordings, *more) == 1
        assert "is an input, and would be written over" in capsys.readouterr().err
    assert (recordings / "a.wav").read_bytes() == before


def test_a_rate_that_the_form_lacks_fails_that_clip_alone(
    recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "out"
    assert run("reconstruct", recordings, "--codec", "g711_alaw", "-o", out, "--format", "opus") == 3
    error = capsys.readouterr().err
    assert "failed: a.wav: ValueError: Opus knows" in error and "failed: deep/b.flac" in error
    assert files_below(out) == ["c.opus"]


def test_a_tokenizer_without_a_decoder_says_so(recordings: Path, capsys: pytest.CaptureFixture) -> None:
    assert run("reconstruct", recordings, "--codec", "s3tokenizer_v1") == 1
    assert "s3tokenizer_v1 cannot decode" in capsys.readouterr().err
