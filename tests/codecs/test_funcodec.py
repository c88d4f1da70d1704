"""FunCodec: golden cases, the scale beside the codes, and what windows cost."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from torch import Tensor

from codeczoo import Codes, load_codec
from codeczoo.codecs import funcodec
from tests.helpers import assert_audio_agrees, assert_codes_agree, golden_case, golden_codec, golden_state_dict
from tests.small import codec_of

TIME = ["funcodec_en_libritts_16k_nq32ds320", "funcodec_en_libritts_16k_nq32ds640"]
FREQUENCY = ["funcodec_en_libritts_16k_gr8nq32ds320", "funcodec_en_libritts_16k_gr1nq32ds320"]
TINY = FREQUENCY[1]  # half a million parameters


@pytest.mark.parametrize("name", TIME + FREQUENCY)
def test_golden(name: str) -> None:
    codec = golden_codec(name, name)
    case, _ = golden_case(name)
    codes = codec.encode(case["audio"], codec.sample_rate)
    assert_codes_agree(codes.codes, case["codes"], case["codes_stable"])
    torch.testing.assert_close(codes.side["scale"], case["scale"])

    truth = codec.wrap(case["codes"], side={"scale": case["scale"]})
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
    torch.testing.assert_close(louder.side["scale"], 4 * codes.side["scale"], rtol=1e-6, atol=0)
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
    torch.testing.assert_close(codes.side["scale"], torch.tensor(expected, dtype=torch.float64))
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
    scaled = codec.decode(codes).waveform[0] / codes.side["scale"]
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
    monkeypatch.setattr(funcodec, "LEAST_SECONDS", 3.0)
    monkeypatch.setattr(funcodec, "OVERLAP_SECONDS", 1.0)
    clip = sound(samples)
    codes = codec.encode(clip, 16000)
    whole = codec.decode(codes).waveform
    monkeypatch.setattr(codec, "max_seconds_per_pass", 3.0)
    in_windows, audio = codec.encode(clip, 16000), codec.decode(codes).waveform
    assert in_windows.codes.shape == codes.codes.shape
    assert torch.equal(in_windows.side["scale"], codes.side["scale"])
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


def sound(samples: int) -> Tensor:
    """[1, T] float64: noise whose colour and loudness change."""
    noise = torch.randn(samples, generator=torch.Generator().manual_seed(samples), dtype=torch.float64)
    t = torch.arange(samples) / 16000
    tone = torch.sin(2 * torch.pi * (200 + 50 * torch.sin(3 * t)) * t)
    return (0.1 * (noise + 2 * tone) * (1.2 + torch.sin(5 * t)))[None]
