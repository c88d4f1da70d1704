"""FunCodec: golden cases, the scale beside the codes, and what windows cost."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from codeczoo import Codes, load_codec
from codeczoo.base.catalogue import find_variant
from codeczoo.codecs import funcodec
from codeczoo.codecs.formats.funcodec_yaml import FunCodecConfig, differences, read_config
from codeczoo.codecs.funcodec import FunCodec
from codeczoo.weights.load import load_weights
from tests.support.golden import (
    assert_audio_agrees,
    assert_codes_agree,
    golden_case,
    golden_codec,
    golden_state_dict,
    manifest_of,
)
from tests.support.packagings import Packaging, Tensors
from tests.support.small import codec_of

TIME = ["funcodec_en_libritts_16k_nq32ds320", "funcodec_en_libritts_16k_nq32ds640"]
FREQUENCY = ["funcodec_en_libritts_16k_gr8nq32ds320", "funcodec_en_libritts_16k_gr1nq32ds320"]
TINY = FREQUENCY[1]  # half a million parameters

# -- for the tests of all families (tests/support/declarations.py) --------------------------------

SMALL: dict[str, object] = {"filters": 8, "dim": 32, "codebook_size": 64}
LICENCE = "MIT"
LONG_VARIANTS = ("funcodec_en_libritts_16k_gr1nq32ds320",)


def espnet(packaging: Packaging, tensors: Tensors, folder: Path) -> Path:
    """With the settings of the manifest, but for the sizes of the small network."""
    torch.save(tensors, folder / "model.pth")
    config = packaging.config()
    settings = manifest_of(packaging.folder)["config"]
    settings["quantizer_conf"] |= {"codebook_size": config.codebook_size}
    settings["encoder_conf"] |= {"n_filters": config.filters, "dimension": config.dim}
    settings["decoder_conf"] |= {"n_filters": config.filters}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    return folder


PACKAGINGS = {
    "funcodec": Packaging("funcodec", "funcodec_en_libritts_16k_nq32ds320", espnet),
    "funcodec of 640": Packaging("funcodec_zh_en_16k_nq32ds640", "funcodec_en_libritts_16k_nq32ds640", espnet),
    "funcodec, frequencies": Packaging(
        "funcodec_en_libritts_16k_gr8nq32ds320", "funcodec_en_libritts_16k_gr8nq32ds320", espnet
    ),
    "funcodec, frequencies, grouped": Packaging(
        "funcodec_en_libritts_16k_gr1nq32ds320", "funcodec_en_libritts_16k_gr1nq32ds320", espnet
    ),
}


@pytest.mark.parametrize("name", TIME + FREQUENCY)
def test_golden(name: str) -> None:
    codec = golden_codec(name, name)
    case, _ = golden_case(name)
    codes = codec.encode(case["audio"], codec.sample_rate)
    assert_codes_agree(codes.codes, case["codes"], case["codes_stable"])
    torch.testing.assert_close(codes.side_info["scale"], case["scale"])

    truth = codec.codes_from_tensor(case["codes"], side_info={"scale": case["scale"]})
    samples = case["reconstruction"].shape[-1]
    assert_audio_agrees(codec.decode(truth).waveform[..., :samples], case["reconstruction"])
    assert_audio_agrees(codec.decode(case["codes"]).waveform, case["decoded_without_scale"])
    assert_audio_agrees(codec.quantizer.decode(case["codes"]), case["quantized"])
    if name in TIME:
        level = funcodec.rms(case["audio"], torch.tensor([case["audio"].shape[-1]]))
        normalised = (case["audio"].double() / level[..., None]).float()
        assert_audio_agrees(codec.encoder(normalised)[0], case["latent"])


@pytest.mark.parametrize("name", [TIME[0], *FREQUENCY])
def test_golden_in_float64(name: str) -> None:
    """All codes, also those that float32 does not settle: in bins that are almost empty, rounding makes the phase."""
    codec = golden_codec(name, name, dtype=torch.float64)
    case, _ = golden_case(name)
    codes = codec.encode(case["audio"], codec.sample_rate)
    assert torch.equal(codes.codes, case["codes"])
    level = funcodec.rms(case["audio"], torch.tensor([case["audio"].shape[-1]]))
    normalised = case["audio"].double() / level[..., None]
    assert_audio_agrees(codec.encoder(normalised)[0], case["latent"], 1e-6)
    assert_audio_agrees(codec.decode(codes).waveform, case["reconstruction"], 1e-6)


@pytest.mark.parametrize("name", [TIME[0], TINY])
def test_fewer_codebooks_are_the_first_of_all(name: str) -> None:
    codec = codec_of(name, "small", torch.float64)
    clip = sound(9000)
    codes = codec.encode(clip, 16000)
    for count in (1, 7, 32):
        few = codec.encode(clip, 16000, num_codebooks=count)
        assert torch.equal(few.codes, codes.codes[:, :count])
        assert torch.equal(codec.decode(few).waveform, codec.decode(codes.first(count)).waveform)
    full = golden_codec(TINY, TINY)
    assert full.choose_codebooks(bitrate=500) == 1 and full.choose_codebooks(bitrate=16000) == 32


# -- the scale ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [TIME[0], TINY])
def test_the_scale_alone_holds_the_loudness(name: str, tmp_path: Path) -> None:
    codec = codec_of(name, "small", torch.float64)
    clip = sound(8000)
    codes, louder = codec.encode(clip, 16000), codec.encode(4 * clip, 16000)
    assert torch.equal(louder.codes, codes.codes)
    torch.testing.assert_close(louder.side_info["scale"], 4 * codes.side_info["scale"], rtol=1e-6, atol=0)
    torch.testing.assert_close(codec.decode(louder).waveform, 4 * codec.decode(codes).waveform, rtol=1e-5, atol=1e-9)
    assert float(codes.num_bits) == codes.codes.numel() * 6 + 32  # 64 entries a codebook, and one number

    codes.save(tmp_path / "codes.safetensors")
    loaded = Codes.load(tmp_path / "codes.safetensors")
    assert torch.equal(codec.decode(loaded).waveform, codec.decode(codes).waveform)


def test_each_clip_of_a_batch_has_the_scale_of_its_own_samples() -> None:
    codec = codec_of(TIME[0], "small", torch.float64)
    clips = [sound(8000), 0.01 * sound(1)[..., :1], torch.zeros(1, 3000, dtype=torch.float64)]
    codes = codec.encode(clips, 16000)
    expected = [[float(clip.square().mean().sqrt()) + 1e-8] for clip in clips]
    torch.testing.assert_close(codes.side_info["scale"], torch.tensor(expected, dtype=torch.float64))
    silence = codec.decode(codes).split()[2]
    assert float(silence.abs().max()) < 1e-6


def test_codes_without_a_scale_are_decoded_and_it_is_said(caplog: pytest.LogCaptureFixture) -> None:
    codec = codec_of(TINY, "small", torch.float64)
    codes = codec.encode(sound(8000), 16000)
    funcodec._say_scale_is_missing.cache_clear()
    with caplog.at_level(logging.WARNING):
        bare = codec.decode(codes.codes)
        codec.decode(codes.codes)
    assert [record.message for record in caplog.records if "without a scale" in record.message] == [caplog.messages[0]]
    scaled = codec.decode(codes).waveform[0] / codes.side_info["scale"]
    assert_audio_agrees(bare.waveform[0, :, : scaled.shape[-1]], scaled, 1e-9)


# -- lengths --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TIME + FREQUENCY)
@pytest.mark.parametrize("samples", [1, 160, 256, 640, 14000, 14080])
def test_frames(name: str, samples: int) -> None:
    codec = codec_of(name, "small", torch.float64)
    codes = codec.encode(sound(samples), 16000)
    columns = samples // 160 + 1
    expected = -(-columns // 2) if name in FREQUENCY else -(-samples // codec.hop_length)
    assert codes.lengths.tolist() == [expected]
    assert codec.decode(codes).lengths.tolist() == [samples]
    alone = codec.decode(codes.codes).lengths.item()
    assert alone == ((2 * expected - 1) * 160 if name in FREQUENCY else expected * codec.hop_length)


def test_the_end_that_a_frequency_model_drops_is_zeros() -> None:
    codec = codec_of(TINY, "small", torch.float64)
    back = codec.decode(codec.encode(sound(14000), 16000)).waveform[0, 0]
    assert len(back) == 14000 and not back[13920:].any() and back[13900:13920].all()


@pytest.mark.parametrize("name", [TIME[0], FREQUENCY[0]])
@pytest.mark.parametrize("samples", [16000 * 7 + 77, 16000 * 7 + 170])  # an odd and an even number of columns
def test_windows_are_nearly_the_whole(name: str, samples: int, monkeypatch: pytest.MonkeyPatch) -> None:
    codec = codec_of(name, "small", torch.float32)
    monkeypatch.setattr(funcodec, "MIN_WINDOW_SECONDS", 3.0)
    monkeypatch.setattr(funcodec, "WINDOW_OVERLAP_SECONDS", 1.0)
    clip = sound(samples)
    codes = codec.encode(clip, 16000)
    whole = codec.decode(codes).waveform
    monkeypatch.setattr(codec, "max_chunk_seconds", 3.0)
    in_windows, audio = codec.encode(clip, 16000), codec.decode(codes).waveform
    assert in_windows.codes.shape == codes.codes.shape
    assert torch.equal(in_windows.side_info["scale"], codes.side_info["scale"])
    assert float((in_windows.codes[:, 0] == codes.codes[:, 0]).double().mean()) > 0.9
    assert float((audio - whole).square().sum() / whole.square().sum()) < 1e-3  # 30 dB


# -- weights --------------------------------------------------------------------------------------


KEY = "decoder.model.3.convtr.convtr.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({KEY: None}, rf"1 missing: {KEY}"),
        ({"decoder.model.99.conv.conv.weight": torch.ones(3)}, r"1 unexpected: decoder\.model\.99"),
        ({KEY: torch.ones(512, 2, 8, 2)}, rf"1 of the wrong shape: {KEY}"),
        ({KEY: torch.full((512, 1, 8, 2), torch.nan)}, rf"1 with NaN or infinity: {KEY}"),
        ({"quantizer.rq.model.inited": torch.zeros(32, 1)}, "never trained"),
    ],
)
def test_a_faulty_checkpoint_is_refused(change: dict[str, Tensor | None], message: str) -> None:
    tensors = {key: value for key, value in {**golden_state_dict(TINY), **change}.items() if value is not None}
    with pytest.raises(ValueError, match=message):
        load_codec(TINY, weights=tensors, device="cpu")


@pytest.mark.parametrize("name", TIME + FREQUENCY)
def test_the_published_settings_are_the_known_network(name: str) -> None:
    config = codec_of(name, "full", torch.float32).config
    assert differences(read_config(manifest_of(name)["config"]), config) == []


def settings_of(config: FunCodecConfig, name: str = TINY) -> dict[str, Any]:
    """A config.yaml of a frequency model, with numbers of another network."""
    settings = manifest_of(name)["config"]
    ratios = [[f, t] for f, t in zip(config.frequency_strides, config.strides, strict=True)][::-1]
    both = {"n_filters": config.filters, "ratios": ratios, "n_residual_layers": config.residual_units}
    settings["encoder_conf"] |= {**both, "dimension": config.dim}
    settings["decoder_conf"] |= both
    settings["quantizer_conf"] |= {"codebook_size": config.codebook_size, "num_quantizers": config.num_codebooks}
    settings["model_conf"]["domain_conf"] = {"n_fft": config.n_fft, "hop_length": config.stft_hop}
    return settings


def test_a_network_of_other_numbers_is_built_as_its_settings_say(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = FunCodecConfig(
        filters=4,
        strides=(1, 1, 2, 2),
        dim=16,
        num_codebooks=4,
        codebook_size=32,
        n_fft=512,
        stft_hop=128,
        residual_units=2,
        group_ratio=1,
        transposed_group_ratio=1,
    )
    truth = FunCodec(config, find_variant(TINY))
    load_weights(truth, "random")
    theirs = {FunCodec.key_maps[-1].sources(key)[0][0]: value for key, value in truth.state_dict().items()}
    torch.save(theirs, tmp_path / "model.pth")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings_of(config)))
    with caplog.at_level(logging.WARNING, "codeczoo"):
        codec = load_codec(TINY, weights=tmp_path, device="cpu", dtype=torch.float64)
    assert "residual_units is 2 there and 3 here" in caplog.text and "stft_hop is 128 there and 160 here" in caplog.text
    truth.eval().double()
    assert (codec.hop_length, codec.codebook_sizes, codec.dtype) == (512, (32,) * 4, torch.float64)
    codes, own = codec.encode(sound(9000), 16000), truth.encode(sound(9000), 16000)
    assert torch.equal(codes.codes, own.codes)
    assert torch.equal(codec.decode(codes).waveform, truth.decode(own).waveform)


@pytest.mark.parametrize(
    ("section", "setting", "value", "said"),
    [
        (None, "model", "soundstream", "model is 'soundstream', not 'encodec'"),
        (None, "quantizer", "grouped", "quantizer is 'grouped', not 'costume_quantizer'"),
        ("encoder_conf", "causal", True, "encoder_conf.causal is True, not False"),
        ("encoder_conf", "kernel_size", 5, "encoder_conf.kernel_size is 5, not 3"),
        ("encoder_conf", "dilation_base", None, "encoder_conf.dilation_base is 2, not 1"),  # what silence means
        ("decoder_conf", "ratios", [[4, 1], [4, 2], [4, 1], [4, 1]], "decoder_conf.ratios is"),
        ("model_conf", "codec_domain", ["mag_angle", "mag_angle"], "model_conf.codec_domain is ['mag_angle'"),
        ("model_conf", "segment_dur", 1.0, "model_conf.segment_dur is 1.0, not None"),
        (None, "encoder_conf", [1, 2], "encoder_conf is [1, 2], not a table"),
    ],
)
def test_settings_of_a_network_that_was_never_published_are_named(
    section: str | None, setting: str, value: Any, said: str, tmp_path: Path
) -> None:
    settings = manifest_of(TINY)["config"]
    table = settings if section is None else settings[section]
    if value is None:
        del table[setting]
    else:
        table[setting] = value
    torch.save(golden_state_dict(TINY), tmp_path / "model.pth")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    with pytest.raises(ValueError, match=re.escape(said)) as caught:
        load_codec(TINY, weights=tmp_path, device="cpu")
    assert str(caught.value).startswith(f"{TINY}: ")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model: [", "not YAML of plain values"),
        ("encodec", "a table of settings was expected; it holds str"),
        ("model: !!python/object/apply:os.mkdir [{folder}/made]", "not YAML of plain values"),
    ],
)
def test_settings_that_are_none_are_refused_and_run_nothing(text: str, said: str, tmp_path: Path) -> None:
    torch.save(golden_state_dict(TINY), tmp_path / "model.pth")
    (tmp_path / "config.yaml").write_text(text.format(folder=tmp_path))
    with pytest.raises(ValueError, match=rf"{TINY}: .*config\.yaml: {said}"):
        load_codec(TINY, weights=tmp_path, device="cpu")
    assert not (tmp_path / "made").exists()


def sound(samples: int) -> Tensor:
    """[1, T] float64: noise whose colour and loudness change."""
    noise = torch.randn(samples, generator=torch.Generator().manual_seed(samples), dtype=torch.float64)
    t = torch.arange(samples) / 16000
    tone = torch.sin(2 * torch.pi * (200 + 50 * torch.sin(3 * t)) * t)
    return (0.1 * (noise + 2 * tone) * (1.2 + torch.sin(5 * t)))[None]
