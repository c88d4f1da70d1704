"""ONNX files: onnxruntime gives the codec's own codes and audio, at lengths and batches that were never recorded."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from codeczoo import BaseCodec, list_codecs, load_codec
from codeczoo.base.catalogue import find_variant
from codeczoo.base.exporting import exporting
from codeczoo.data import embedded_clips
from tests.contract.test_registry import sound
from tests.support.command_line import run
from tests.support.small import OWN, codec_of, seeded, small_variant

onnx = pytest.importorskip("onnx", reason="the extra [onnx] is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
pytest.importorskip("onnxscript", reason="the extra [onnx] is not installed")

LENGTHS = ((1, 8, 0), (3, 15, 1), (2, 47, 77))  # batch, frames, and samples more


def tiny(name: str, **numbers: object) -> BaseCodec:
    """A network of the architecture with fewer layers still: recording takes time by the operation."""
    variant = small_variant(name)
    return seeded(replace(variant, network={**variant.network, **numbers}).build(), torch.float32)


def session(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def clips(codec: BaseCodec, batch: int, frames: int, more: int) -> torch.Tensor:
    """[B, C, T] of whole frames (of the slowest codebook) and `more` samples."""
    samples = frames * codec.hop_length * max(codec.strides or (1,)) + more
    channels = codec.channels[-1]
    return torch.stack([sound(samples, channels, seed, codec.sample_rate) for seed in range(batch)]).float()


def assert_encodes(codec: BaseCodec, path: Path, count: int) -> None:
    engine = session(path)
    for batch, frames, more in LENGTHS:
        waveform = clips(codec, batch, frames, more)
        codes = codec.encode(waveform, codec.sample_rate, count)
        found = engine.run(["codes"], {"waveform": waveform.numpy()})[0]
        assert found.dtype == np.int64 and found.shape == tuple(codes.codes.shape)
        own = (torch.arange(found.shape[-1]) < codes.counts[..., None]).numpy()
        assert np.array_equal(found[own], codes.codes.numpy()[own])


def assert_decodes(codec: BaseCodec, path: Path, count: int) -> None:
    engine = session(path)
    for batch, frames, _ in LENGTHS:
        codes = codec.encode(clips(codec, batch, frames, 0), codec.sample_rate, count)
        audio = codec.decode(codes).waveform.numpy()
        side_info = {name: value.numpy() for name, value in codes.side_info.items()}
        found = engine.run(["waveform"], {"codes": codes.codes.numpy(), **side_info})[0]
        found = found[..., : audio.shape[-1]]
        assert np.abs(found - audio[..., : found.shape[-1]]).max() <= 1e-4 * np.abs(audio).max()


# -- the whole way, with trained weights ---------------------------------------------------------------


@pytest.fixture(scope="module")
def zoo() -> BaseCodec:
    return load_codec("zoo_16k", device="cpu")


@pytest.fixture(scope="module")
def zoo_files(zoo: BaseCodec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Written by the command."""
    folder = tmp_path_factory.mktemp("zoo")
    assert run("export", "zoo_16k", "--format", "onnx", "--num-codebooks", 4, "-o", folder) == 0
    return folder


def test_trained_weights_give_the_same_codes_and_audio(zoo: BaseCodec, zoo_files: Path) -> None:
    assert sorted(file.name for file in zoo_files.iterdir()) == ["decoder.onnx", "encoder.onnx"]
    assert_encodes(zoo, zoo_files / "encoder.onnx", 4)
    assert_decodes(zoo, zoo_files / "decoder.onnx", 4)
    waveform = zoo.prepare(embedded_clips()[0]).waveform
    codes = session(zoo_files / "encoder.onnx").run(None, {"waveform": waveform.numpy()})[0]
    assert np.array_equal(codes, zoo.encode(waveform, zoo.sample_rate, 4).codes.numpy())


def test_the_files_say_what_they_are(zoo: BaseCodec, zoo_files: Path) -> None:
    for side, inputs, outputs in (
        ("encoder", {"waveform": ["batch", 1, "samples"]}, {"codes": ["batch", 4, "frames"]}),
        ("decoder", {"codes": ["batch", 4, "frames"]}, {"waveform": ["batch", 1, "samples"]}),
    ):
        path = zoo_files / f"{side}.onnx"
        onnx.checker.check_model(str(path))
        model = onnx.load(str(path))
        assert [entry.version for entry in model.opset_import if not entry.domain] == [20]
        assert {entry.domain for entry in model.opset_import if entry.domain} == set(), "standard operators alone"
        engine = session(path)
        assert {one.name: one.shape for one in engine.get_inputs()} == inputs
        assert {one.name: one.shape for one in engine.get_outputs()} == outputs
        about = engine.get_modelmeta().custom_metadata_map
        assert (about["codec"], about["side"], about["licence"]) == ("zoo_16k", side, zoo.variant.weights_licence)
        assert about["weights_sha256"] == zoo.weights_hash
        numbers = {name: json.loads(about[name]) for name in ("sample_rate", "hop_length", "frame_rate", "shortest")}
        assert numbers == {"sample_rate": 16000, "hop_length": 320, "frame_rate": 50.0, "shortest": 1}
        assert json.loads(about["codebook_sizes"]) == [1024] * 4 and about["opset"] == "20"


def test_files_that_are_there_are_kept(zoo_files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (zoo_files / "encoder.onnx").read_bytes()
    assert run("export", "zoo_16k", "--format", "onnx", "-o", zoo_files) == 1
    assert "encoder.onnx is there already: --overwrite replaces it" in capsys.readouterr().err
    assert (zoo_files / "encoder.onnx").read_bytes() == before


# -- what is hard about each architecture ---------------------------------------------------------------


def test_reflection_lstm_and_lengths_that_are_rounded_up(tmp_path: Path) -> None:
    codec = tiny("encodec_24k", strides=(4,), lstm_layers=1)
    codec.export_onnx(tmp_path, num_codebooks=2, sides=["encoder"], check=False)
    assert_encodes(codec, tmp_path / "encoder.onnx", 2)


def test_attention_within_a_window(tmp_path: Path) -> None:
    codec = tiny("mimi", strides=(4,), num_layers=1, window=5)
    codec.export_onnx(tmp_path, num_codebooks=2, sides=["decoder"], check=False)
    assert_decodes(codec, tmp_path / "decoder.onnx", 2)


def test_spectra(tmp_path: Path) -> None:
    codec = tiny("wavtokenizer_small_75", strides=(16,), num_layers=1)
    codec.export_onnx(tmp_path, sides=["decoder"], check=False)
    assert_decodes(codec, tmp_path / "decoder.onnx", 1)


def test_codebooks_of_several_rates_and_noise_that_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    codec = tiny("snac_24khz", encoder_rates=(4,), decoder_rates=(4,))
    codec.export_onnx(tmp_path, sides=["decoder"], check=False)
    assert "ONNX leaves out the decoder's noise (as with noise_seed = None)" in caplog.text
    codec.noise_seed = None
    assert_decodes(codec, tmp_path / "decoder.onnx", 3)


# -- what cannot be written -------------------------------------------------------------------------------


def test_a_graph_that_disagrees_is_not_written(tmp_path: Path) -> None:
    """Of a family whose plain way is another one, as one of another package may be."""
    codec = codec_of("zoo_16k", "small", torch.float32)
    kind = type(codec)
    whole = kind._synthesize

    class Worse(kind):  # type: ignore[valid-type, misc]
        def _synthesize(self, frames, num_samples):  # type: ignore[no-untyped-def]
            found = whole(self, frames, num_samples)
            return found._replace(waveform=found.waveform * 1.01) if exporting() else found

    codec = Worse(codec.config, codec.variant).eval()
    with pytest.raises(
        ValueError, match=r"zoo_16k: its decoder as a graph agrees with the codec for no codes of up to"
    ):
        seeded(codec, torch.float32).export_onnx(tmp_path, num_codebooks=1, sides=["decoder"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("opus_12k", "opus_12k's encoder cannot be written as ONNX: its coder is a program of libsndfile"),
        ("g711_ulaw", "g711_ulaw's encoder cannot be written as ONNX: it is a table of 256 levels"),
    ],
)
def test_a_classical_codec_says_why_not(
    name: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("export", name, "--format", "onnx", "-o", tmp_path / "out") == 1
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", sorted({variant.family: name for name, variant in OWN.items()}.values()))
def test_the_reasons_are_of_sides(name: str) -> None:
    reasons = find_variant(name).codec_type().onnx_unsupported
    assert set(reasons) <= {"encoder", "decoder"} and all(reasons.values())


def test_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "zoo_16k" in list_codecs()
    assert run("export", "zoo_16k", "--format", "onnx", "-o", tmp_path / "zoo.onnx") == 1
    assert "ONNX is encoder.onnx and decoder.onnx in a folder" in capsys.readouterr().err
    assert run("export", "zoo_16k", "--format", "safetensors", "--side", "decoder", "-o", tmp_path / "zoo") == 1
    assert "are for --format onnx" in capsys.readouterr().err
    codec = codec_of("zoo_16k", "small", torch.float64)
    with pytest.raises(ValueError, match=r"float64; ONNX is written of a codec in float32 on the CPU"):
        codec.export_onnx(tmp_path)
    with pytest.raises(ValueError, match=r"sides are encoder and decoder; 'middle' was asked for"):
        codec.export_onnx(tmp_path, sides=["middle"])
    assert list(tmp_path.iterdir()) == []
