"""`codeczoo decode`: the audio that the library gives, of any mixture of codecs, in any form."""

from __future__ import annotations

import io
import json
import logging
from pathlib import Path

import pytest
import soundfile as sf
import torch

from codeczoo import Audio, Codes, load_codec
from codeczoo.cli.arguments import FORMATS
from tests.support.command_line import files_below, run, write_sound

CODECS = ("opus_12k", "g711_ulaw", "g711_alaw")


@pytest.fixture
def codes(tmp_path: Path) -> Path:
    """Codes of two clips by each of three codecs."""
    sounds = [write_sound(tmp_path / f"{i}.wav", 0.2 + 0.1 * i, 16000, seed=i) for i in range(2)]
    folder = tmp_path / "codes"
    for name in CODECS:
        (folder / name).mkdir(parents=True)
        for sound in sounds:
            load_codec(name, device="cpu").encode(sound).save(folder / name / f"{sound.stem}.codes.safetensors")
    return folder


def assert_is(path: Path, codes: Path) -> None:
    """A WAV file holds what the library decodes, to half a step of 16 bit."""
    item = Codes.load(codes)
    truth = load_codec(item.codec, device="cpu").decode(item)
    found = Audio.load(path)
    assert found.sample_rate == truth.sample_rate and found.waveform.shape == truth.waveform.shape
    assert float((found.waveform - truth.waveform.clamp(-1, 1)).abs().max()) <= 1 / 32768


def test_codes_of_several_codecs_load_each_of_them_once(
    codes: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "out"
    with caplog.at_level(logging.INFO, "codeczoo.weights.load"):
        assert run("decode", codes, "-o", out, "--batch", "1", "--quiet") == 0
    loads = [record.getMessage().split()[0] for record in caplog.records if record.name == "codeczoo.weights.load"]
    assert sorted(loads) == sorted(CODECS)
    assert files_below(out) == sorted(f"{name}/{i}.wav" for name in CODECS for i in range(2))
    for name in CODECS:
        for i in range(2):
            assert_is(out / name / f"{i}.wav", codes / name / f"{i}.codes.safetensors")


@pytest.mark.parametrize("form", FORMATS)
def test_every_form(form: str, codes: Path, tmp_path: Path) -> None:
    source = codes / "opus_12k" / "1.codes.safetensors"
    assert run("decode", source, "--format", form, "-o", tmp_path / "folder", "--quiet") == 0
    assert run("decode", source, "-o", tmp_path / f"one.{form}", "--quiet") == 0
    for path in (tmp_path / "folder" / f"1.{form}", tmp_path / f"one.{form}"):
        info = sf.info(path)
        wanted = {"wav": "WAV/PCM_16", "flac": "FLAC/PCM_16", "ogg": "OGG/VORBIS", "opus": "OGG/OPUS"}
        assert f"{info.format}/{info.subtype}" == wanted.get(form, "MP3/MPEG_LAYER_III")
        assert info.samplerate == 16000 and abs(info.duration - 0.3) < 0.08


def test_a_rate_of_choice(codes: Path, tmp_path: Path) -> None:
    assert run("decode", codes / "g711_ulaw", "-o", tmp_path / "out", "--sample-rate", "48000", "--quiet") == 0
    assert [sf.info(path).samplerate for path in sorted((tmp_path / "out").iterdir())] == [48000, 48000]
    assert sf.info(tmp_path / "out" / "1.wav").frames == round(0.3 * 48000)


def test_a_batch_in_one_file_becomes_numbered_clips(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    sounds = [write_sound(tmp_path / f"{i}.wav", 0.2 + 0.1 * i) for i in range(3)]
    codec = load_codec("g711_ulaw", device="cpu")
    codec.encode(sounds).save(tmp_path / "all.codes.safetensors")
    out = tmp_path / "out"
    assert run("decode", tmp_path / "all.codes.safetensors", "-o", out, "--quiet") == 0
    assert files_below(out) == ["all.0.wav", "all.1.wav", "all.2.wav"]
    for i, sound in enumerate(sounds):
        truth = codec.decode(codec.encode(sound)).waveform
        assert float((Audio.load(out / f"all.{i}.wav").waveform - truth).abs().max()) <= 1 / 32768
    (out / "all.1.wav").unlink()
    assert run("decode", tmp_path / "all.codes.safetensors", "-o", out) == 0
    assert "decoded 1 clip, 2 clips there already" in capsys.readouterr().err
    assert files_below(out) == ["all.0.wav", "all.1.wav", "all.2.wav"]
    assert run("decode", tmp_path / "all.codes.safetensors", "-o", tmp_path / "one.wav") == 1
    assert "takes one clip and there are 3" in capsys.readouterr().err


def test_what_cannot_be_decoded_is_named_and_the_rest_goes_on(
    codes: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    whole = (codes / "opus_12k" / "0.codes.safetensors").read_bytes()
    (codes / "cut.codes.safetensors").write_bytes(whole[:-10])
    item = Codes.load(whole)
    for field, value in (("codec", "made_up"), ("codec", "s3tokenizer_v1"), ("codes", item.codes * 0 + 300)):
        Codes(**{**vars(item), field: value}).save(codes / f"{field}_{len(list(codes.iterdir()))}.codes.safetensors")
    out = tmp_path / "out"
    assert run("decode", codes, "-o", out, "--json") == 3
    captured = capsys.readouterr()
    rows = [json.loads(line) for line in captured.out.splitlines()]
    failed = {row["id"]: row["reason"] for row in rows if row["status"] == "failed"}
    assert len(rows) == 10 and len(failed) == 4 and len(files_below(out)) == 6
    reasons = " ".join(failed.values())
    for message in ("not a whole safetensors file", "no codec is called 'made_up'", "s3tokenizer_v1 cannot decode"):
        assert message in reasons
    assert "code 300 at item 0, codebook 0, frame 0 is out of range" in reasons
    assert all(f"failed: {name}: {reason}" in captured.err for name, reason in failed.items())
    good = next(row for row in rows if row["id"] == "g711_ulaw/1.codes.safetensors")
    assert (good["codec"], good["seconds"], good["sample_rate"], good["channels"]) == ("g711_ulaw", 0.3, 8000, 1)


def test_another_codec_than_the_one_that_is_named(codes: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    source = codes / "g711_ulaw" / "0.codes.safetensors"
    assert run("decode", source, "--codec", "g711_alaw", "-o", tmp_path / "x.wav") == 3
    assert "made by g711_ulaw; g711_alaw cannot decode them" in capsys.readouterr().err
    assert run("decode", source, "--codec", "G711_ULAW", "-o", tmp_path / "x.wav", "--quiet") == 0


def test_weights_for_all_and_for_one(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    sound = write_sound(tmp_path / "a.wav", 0.3, 24000)
    codec = load_codec("encodec_24k", "random", device="cpu")
    codes = codec.encode(sound, bitrate=1500)
    codes.save(tmp_path / "a.codes.safetensors")
    truth = codec.decode(codes).waveform.clamp(-1, 1)
    for i, weights in enumerate((["random"], ["g711_ulaw=nowhere", "encodec_24k=random"], ["nowhere", "mimi=random"])):
        arguments = ("--weights", *weights, "--device", "cpu", "-o", tmp_path / f"{i}.wav", "--quiet")
        code = run("decode", tmp_path / "a.codes.safetensors", *arguments)
        assert code == (1 if "nowhere" in weights else 0)
        if code == 0:
            assert float((Audio.load(tmp_path / f"{i}.wav").waveform - truth).abs().max()) <= 1 / 32768
    assert "weights='nowhere'" in capsys.readouterr().err


def test_through_standard_input_and_output(
    codes: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    source = codes / "opus_12k" / "1.codes.safetensors"
    assert run("decode", "-", stdin=source.read_bytes(), monkeypatch=monkeypatch) == 0
    captured = capfdbinary.readouterr()
    samples, rate = sf.read(io.BytesIO(captured.out), dtype="float32")
    truth = load_codec("opus_12k", device="cpu").decode(Codes.load(source))
    assert rate == 16000 and captured.err == b""
    assert float((torch.from_numpy(samples) - truth.waveform[0, 0]).abs().max()) <= 1 / 32768
    assert run("decode", "-", "--format", "flac", stdin=source.read_bytes(), monkeypatch=monkeypatch) == 0
    assert capfdbinary.readouterr().out.startswith(b"fLaC")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere: no codes there"),
        (["{codes}", "-o", "-"], "takes one clip and there are 6"),
        (["{codes}/opus_12k/0.codes.safetensors", "-o", "x.wav", "--format", "mp3"], "says .wav and --format says mp3"),
        (["{codes}", "--codec", "mimmi"], "did you mean 'mimi'"),
        (["{codes}", "--weights", "mimmi=x"], "did you mean 'mimi'"),
    ],
)
def test_wrong_usage(
    arguments: list[str], message: str, codes: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(codes)
    before = files_below(codes)
    assert run("decode", *(argument.format(codes=codes) for argument in arguments)) == 1
    assert message in capsys.readouterr().err
    assert files_below(codes) == before


def test_weights_of_a_codec_are_those_of_all_its_names(tmp_path: Path) -> None:
    sound, codes, out = write_sound(tmp_path / "a.wav"), tmp_path / "codes", tmp_path / "out"
    assert run("encode", sound, "--codec", "encodec_24k_1_5kbps", "--weights", "random", "-o", codes, "--quiet") == 0
    assert run("decode", codes, "--weights", "encodec_24k=random", "-o", out, "--quiet") == 0
    assert files_below(out) == ["a.wav"]
