"""`codeczoo encode --format ecdc` and `codeczoo decode` of such files, with and without the language model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from codeczoo import Audio, Codes, load_codec
from codeczoo.cli.codes_files import language_model, read_codes
from codeczoo.codecs.formats.ecdc import EcdcHeader, read_ecdc
from codeczoo.codecs.formats.encodec_lm import language_models
from tests.support import language_model as support
from tests.support.command_line import files_below, run, write_sound

CODEC = ("--codec", "encodec_24k_1_5kbps", "--weights", "random", "--device", "cpu", "--quiet")


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    folder = tmp_path / "recordings"
    write_sound(folder / "a.wav", 0.1)
    write_sound(folder / "deep" / "b.flac", 0.15, 24000, seed=1)
    return folder


@pytest.fixture
def lm_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a small language model in the published naming."""
    small = {"num_codebooks": 2, "dim": 16, "layers": 1, "heads": 2, "hidden": 32, "past": 5}
    known = language_models()["encodec_24k"]
    variant = replace(known, network={**known.network, **small})
    monkeypatch.setitem(language_models(), "encodec_24k", variant)  # type: ignore[arg-type]
    shapes = support.published_shapes(variant.build())
    path = tmp_path / "lm.safetensors"
    save_file({key: support.values_of(key, shape, 1.0) for key, shape in shapes.items()}, path)
    language_model.cache_clear()
    return path


def decoded(path: Path, codes: Codes) -> bool:
    """Whether a WAV file holds the codes' audio, to a step of 16 bit and what batches change in the last bits."""
    truth = load_codec("encodec_24k", "random", device="cpu").decode(codes)
    return float((Audio.load(path).waveform - truth.waveform.clamp(-1, 1)).abs().max()) <= 1.1 / 32768


def test_a_folder_there_and_back(recordings: Path, tmp_path: Path) -> None:
    assert run("encode", recordings, *CODEC, "--format", "ecdc", "-o", tmp_path / "codes") == 0
    assert files_below(tmp_path / "codes") == ["a.ecdc", "deep/b.ecdc"]
    codec = load_codec("encodec_24k", "random", device="cpu")
    codes = read_ecdc(tmp_path / "codes" / "deep" / "b.ecdc")
    assert torch.equal(codes.codes, codec.encode(recordings / "deep" / "b.flac", num_codebooks=2).codes)
    assert run("decode", tmp_path / "codes", "--weights", "random", "-o", tmp_path / "out", "--quiet") == 0
    assert files_below(tmp_path / "out") == ["a.wav", "deep/b.wav"]
    assert decoded(tmp_path / "out" / "deep" / "b.wav", codes)


def test_entropy_coded_there_and_back(
    recordings: Path,
    lm_weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lm = ("--lm-weights", lm_weights)
    encode = ("encode", recordings / "a.wav", *CODEC, "-o", tmp_path / "a.ecdc", "--lm", *lm)
    assert run(*encode) == 0
    assert EcdcHeader.read(tmp_path / "a.ecdc").entropy_coded
    codes = read_codes(tmp_path / "a.ecdc", str(lm_weights))
    plain = load_codec("encodec_24k", "random", device="cpu").encode(recordings / "a.wav", num_codebooks=2)
    assert torch.equal(codes.codes, plain.codes)
    decode = ("decode", tmp_path / "a.ecdc", "--weights", "random", *lm, "--quiet")
    assert run(*decode, "-o", tmp_path / "a.wav") == 0
    assert decoded(tmp_path / "a.wav", codes)
    assert run(*encode, "--json") == 0  # it is kept, and told of
    kept = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert kept["frames"] == codes.codes.shape[-1]
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "home"))
    language_model.cache_clear()
    assert run("decode", tmp_path / "a.ecdc", "--weights", "random", "--quiet", "-o", tmp_path / "b.wav") == 3
    error = capsys.readouterr().err
    assert "the language model that entropy-codes encodec_24k's codes cannot be had" in error
    assert "the network is off" in error and not (tmp_path / "b.wav").exists()


def test_without_the_language_model_nothing_is_begun(
    recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "home"))
    language_model.cache_clear()
    assert run("encode", recordings, *CODEC, "--format", "ecdc", "--lm", "-o", tmp_path / "codes") == 1
    assert "the network is off" in (error := capsys.readouterr().err) and "--lm-weights in the shell" in error
    assert not (tmp_path / "codes").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--codec", "g711_ulaw", "--format", "ecdc"), "codes of encodec_24k or encodec_48k, not of g711_ulaw"),
        ((*CODEC, "--lm"), "--lm is of .ecdc files; these are safetensors"),
        (
            (*CODEC, "--format", "ecdc", "--lm-weights", "lm.th"),
            "--lm-weights lm.th is of the language model: add --lm",
        ),
        ((*CODEC, "--format", "czt", "-o", "a.ecdc"), "says ecdc and --format says czt"),
    ],
)
def test_wrong_usage(
    arguments: tuple[str, ...], message: str, recordings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("encode", recordings / "a.wav", *arguments) == 1
    assert message in capsys.readouterr().err
