"""SNAC: golden cases with and without noise, codes at several rates, and noise that can be repeated."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from codeczoo import load_codec
from codeczoo.codecs.snac import seeded_noise
from tests.support import golden_weights
from tests.support.golden import assert_audio_agrees, assert_codes_agree, golden_case, golden_codec, golden_state_dict
from tests.support.packagings import Packaging, numbers_of, with_settings

NAMES = ("snac_24khz", "snac_32khz")

# -- for the tests of all families (tests/support/declarations.py) --------------------------------

SMALL: dict[str, object] = {"encoder_dim": 4, "decoder_dim": 64, "head_dim": 16, "codebook_size": 64}
GAIN = 0.5
LICENCE = "MIT"


def published_settings(config: Any) -> dict[str, Any]:
    own = {"sampling_rate": config.sample_rate, "attn_window_size": config.window, "noise": True, "depthwise": True}
    return {**own, **numbers_of(config, "vq_strides")}


PACKAGINGS = {
    "snac": Packaging(
        "snac",
        "snac_24khz",
        with_settings("pytorch_model.bin", published_settings),
        refused=(("vq_strides", [8, 4, 1], r"vq_strides is \[8, 4, 1\] there and \[4, 2, 1\] here"),),
    ),
    "snac with attention": Packaging(
        "snac_44khz",
        "snac_32khz",
        with_settings("pytorch_model.bin", published_settings),
        refused=(("attn_window_size", 64, "attn_window_size is 64 there and 32 here"),),
    ),
}


@pytest.mark.parametrize("name", NAMES)
def test_golden(name: str) -> None:
    codec = golden_codec(name, name)
    case, meta = golden_case(name)
    codes = codec.encode(case["audio"], codec.sample_rate)
    levels = [case[f"codes_{k}"] for k in range(len(codec.strides))]
    frames = codes.codes.shape[-1]
    for k, level in enumerate(levels):
        assert_codes_agree(codes.codebook(k)[0][None], level, case[f"codes_stable_{k}"])
    assert_audio_agrees(codec.latents(case["audio"], codec.sample_rate).values, case["latent"])
    latent = codec.vectors(torch.stack([F.pad(level, (0, frames - level.shape[-1])) for level in levels], dim=1)).values
    assert_audio_agrees(latent, case["quantized"])
    assert_audio_agrees(codec.decoder(latent.clone()), case["reconstruction"])

    def noise(block: int, first: int, last: int) -> torch.Tensor:
        draw = golden_weights.noise(f"{meta['seed']}/decoder-noise/{block}/0", last) * 3**0.5
        return torch.from_numpy(draw[first:last])

    assert_audio_agrees(codec.decoder(latent.clone(), noise=noise), case["reconstruction_with_noise"])


def test_noise_is_repeatable_and_can_be_switched() -> None:
    codec = load_codec("snac_24khz", weights=golden_state_dict("snac_24khz"), device="cpu")
    case, _ = golden_case("snac_24khz")
    codes = codec.encode(case["audio"], codec.sample_rate)
    first = codec.decode(codes).waveform
    assert torch.equal(first, codec.decode(codes).waveform)
    codec.noise_seed = 1
    assert not torch.allclose(first, codec.decode(codes).waveform, atol=1e-3)
    codec.noise_seed = None
    assert_audio_agrees(codec.decode(codes).waveform, case["reconstruction"][..., : case["audio"].shape[-1]])


def test_noise_depends_on_the_place_alone() -> None:
    whole = seeded_noise(0, 2, 0, 20000)
    assert torch.equal(seeded_noise(0, 2, 5000, 13000), whole[5000:13000])
    assert not torch.equal(seeded_noise(0, 1, 0, 20000), whole)
    assert abs(float(whole.std()) - 1) < 0.05


def test_codes_know_their_rates_and_bits() -> None:
    codec = golden_codec("snac_24khz", "snac_24khz")
    codes = codec.encode(torch.zeros(1, 1, 24000) + 0.1, 24000)  # 12 windows of 2048 samples: 48 frames
    assert codes.strides == (4, 2, 1)
    assert [len(codes.codebook(k)[0]) for k in range(3)] == [12, 24, 48]
    assert float(codes.num_bits) == (12 + 24 + 48) * 12
    assert codec.bitrate_of(3) == pytest.approx(984.375)
