"""What the app makes of a recording, without the page around it."""

from __future__ import annotations

import html
import os
import re
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from codeczoo import Audio, Codes, load_codec
from codeczoo.app.comparison import Choice, compare, read_recording, remove_old
from codeczoo.data import embedded_manifest
from tests.support.command_line import write_sound

CHOICES = [Choice("zoo_16k"), Choice("g711_ulaw"), Choice("zoo_16k", 1500.0)]


def test_a_page_has_every_codec_at_the_originals_length_with_codes_and_metrics(tmp_path: Path) -> None:
    path = embedded_manifest().parent / "music_band_stereo_44k.flac"
    page = compare(path, CHOICES, tmp_path, max_seconds=30)
    original, *others = (Audio.load(found) for found in re.findall(r'<audio src="([^"]+)"', page))
    assert original == Audio.load(path)
    assert len(others) == 3
    for audio in others:
        assert (audio.sample_rate, audio.channels, audio.lengths.tolist()) == (44100, 2, original.lengths.tolist())
    saved = [Codes.load(found) for found in re.findall(r'href="([^"]+\.safetensors)"', page)]
    assert [codes.codec for codes in saved] == ["zoo_16k", "g711_ulaw", "zoo_16k"]
    assert saved[0] == load_codec("zoo_16k", device="cpu").encode(path)
    assert [codes.num_codebooks for codes in saved] == [12, 1, 3]
    assert all(Path(found).stat().st_size > 100 for found in re.findall(r'<img src="([^"]+)"', page))
    assert page.count("<dt>stoi</dt>") == 3 and "zoo_16k at 1.50 kbit/s" in html.unescape(page.replace("<wbr>", ""))


def test_a_codec_that_cannot_be_had_is_told_in_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "nothing"))
    recording = write_sound(tmp_path / "a.wav", 0.5)
    (tmp_path / "results").mkdir()
    page = compare(recording, [Choice("g711_ulaw"), Choice("bigcodec")], tmp_path / "results", max_seconds=30)
    (failed,) = re.findall(r'<div class="source failed"><p>(.*?)</p>', page, re.DOTALL)
    assert "bigcodec" in failed and "WeightsUnavailableError" in failed
    assert page.count("<audio ") == 2


def test_a_name_that_is_html_stays_text(tmp_path: Path) -> None:
    recording = write_sound(tmp_path / "<img onerror=x>.wav", 0.2)
    page = compare(recording, [Choice("g711_ulaw")], tmp_path, max_seconds=30)
    assert "<img onerror" not in page and "&lt;img onerror=x&gt;.wav" in page


@pytest.mark.parametrize(
    ("seconds", "suffix", "said"),
    [(3600, ".flac", "is 60 minutes long; at most 30 s"), (240, ".mp3", "is 4 minutes long"), (31, ".wav", "31 s")],
)
def test_what_is_too_long_is_refused_before_it_is_read(tmp_path: Path, seconds: int, suffix: str, said: str) -> None:
    path = tmp_path / f"talk{suffix}"
    sf.write(path, np.zeros(seconds * 8000, np.int16), 8000)
    with pytest.raises(ValueError, match=said) as error:
        read_recording(path, 30)
    assert str(error.value).startswith(path.name)


def test_a_file_that_tells_no_length_is_refused_too(tmp_path: Path) -> None:
    """As browsers record WebM: its header has no duration."""
    av = pytest.importorskip("av")
    path = tmp_path / "live.webm"
    with av.open(str(path), "w", format="webm", options={"live": "1"}) as file:
        track = file.add_stream("libopus", rate=48000, layout="mono")
        for _ in range(20):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 48000), np.float32), "fltp", "mono")
            frame.sample_rate = 48000
            file.mux(track.encode(frame))
        file.mux(track.encode(None))
    assert float(read_recording(path, 30).seconds[0]) == pytest.approx(20, abs=0.1)
    with pytest.raises(ValueError, match=r"live\.webm is longer than 10 s"):
        read_recording(path, 10)


def test_what_is_no_recording_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("this is no audio\n" * 50)
    with pytest.raises(ValueError, match="not readable as audio: it is a text"):
        read_recording(tmp_path / "text.wav", 30)
    with pytest.raises(ValueError, match=r"has 160 samples, less than 0\.05 s"):
        read_recording(write_sound(tmp_path / "click.wav", 0.01), 30)
    sf.write(tmp_path / "nan.wav", np.full(8000, np.nan, np.float32), 8000, subtype="FLOAT")
    with pytest.raises(ValueError, match="NaN"):
        read_recording(tmp_path / "nan.wav", 30)
    with pytest.raises(ValueError, match="no codec was chosen"):
        compare(write_sound(tmp_path / "a.wav"), [], tmp_path, max_seconds=30)


def test_what_lies_there_for_more_than_an_hour_goes(tmp_path: Path) -> None:
    results = tmp_path / "results"
    for name, age in (("old", 3700.0), ("young", 100.0)):
        (results / name).mkdir(parents=True)
        os.utime(results / name, (time.time() - age,) * 2)
    remove_old(results)
    assert [path.name for path in results.iterdir()] == ["young"]
    remove_old(tmp_path / "not there yet")
