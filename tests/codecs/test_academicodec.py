"""AcademiCodec: golden cases, its group norms in long clips, loudness."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from codeczoo import load_codec
from codeczoo.base.catalogue import variants
from codeczoo.codecs.academicodec import AcademiCodec
from codeczoo.weights.load import load_weights
from tests.support.golden import assert_audio_agrees, assert_codes_agree, golden_case, golden_codec, golden_state_dict
from tests.support.packagings import Packaging, entries

NAMES = ["academicodec_hifi_16k_320d", "academicodec_hifi_24k_320d", "academicodec_hifi_24k_240d"]
NAME = NAMES[0]

# -- for the tests of all families (tests/support/declarations.py) --------------------------------

SMALL: dict[str, object] = {"filters": 8, "block_kernels": (3, 3, 5), "dilations": (2,), "codebook_size": 64}

PACKAGINGS = {
    "academicodec": Packaging(
        "academicodec_hifi_16k_320d_large_uni",
        "academicodec_hifi_16k_320d",
        entries("HiFi-Codec-16k-320d-large-universal"),
    ),
    "academicodec of 240": Packaging(
        "academicodec_hifi_24k_240d", "academicodec_hifi_24k_240d", entries("HiFi-Codec-24k-240d")
    ),
}


def small(dtype: torch.dtype) -> AcademiCodec:
    """A narrow network of the published strides."""
    network = {"filters": 8, "block_kernels": (3, 3, 5), "dilations": (1, 2)}
    codec = replace(variants()[NAME], network={**variants()[NAME].network, **network}).build()
    assert isinstance(codec, AcademiCodec)
    load_weights(codec, "random")
    return codec.to(dtype).eval().requires_grad_(False)


def noise(samples: int, peak: float = 0.3) -> Tensor:
    """[T] float64, louder and quieter in turn, so that no chunk has the statistics of the whole."""
    x = torch.randn(samples, generator=torch.Generator().manual_seed(samples), dtype=torch.float64)
    x *= torch.linspace(0, 40, samples, dtype=torch.float64).sin().exp()
    return x * (peak / x.abs().max())


@pytest.mark.parametrize("name", NAMES)
def test_golden(name: str) -> None:
    codec = golden_codec(name, name)
    case, _ = golden_case(name)
    codes = codec.encode(case["audio"], codec.sample_rate)
    assert_codes_agree(codes.codes, case["codes"], case["codes_stable"])
    assert codes.side_info == {}
    assert_audio_agrees(codec.latents(case["audio"], codec.sample_rate).values, case["latent"])
    assert_audio_agrees(codec.quantizer.decode(case["codes"]), case["quantized"])
    assert_audio_agrees(codec.decode(case["codes"]).waveform, case["reconstruction"])


def test_golden_codes_at_a_peak_of_095() -> None:
    codec = load_codec(NAME, weights=golden_state_dict(NAME), device="cpu")
    case, _ = golden_case(NAME)
    codec.peak_normalise = True
    codes = codec.encode(case["audio"], codec.sample_rate)
    assert_codes_agree(codes.codes, case["peak_normalised_codes"], case["peak_normalised_codes_stable"])
    gain = float(case["audio"].abs().max()) / 0.95
    assert float(codes.side_info["gain"]) == pytest.approx(gain)
    assert float(codes.num_bits) == 46 * 40 + 32, "the gain is a part of the codes and counts"
    as_upstream = codec.decode(codes.codes).waveform  # the integers alone: nothing takes the loudness back
    assert_audio_agrees(codec.decode(codes).waveform[..., : as_upstream.shape[-1]], gain * as_upstream)


def test_a_clip_keeps_its_loudness_when_normalised() -> None:
    codec = small(torch.float64)
    codec.peak_normalise = True
    loud, quiet, silent = noise(4000, 0.9), noise(4000, 0.009), torch.zeros(700, dtype=torch.float64)
    codes = codec.encode([loud, quiet, silent], codec.sample_rate)
    assert torch.equal(codes[0].codes, codes[1].codes), "they differ in their gain alone"
    audio = codec.decode(codes)
    torch.testing.assert_close(audio.waveform[0], 100 * audio.waveform[1])
    assert not bool(audio.waveform[2].any()), "silence stays silence"


@pytest.mark.parametrize("peak_normalise", [False, True])
def test_a_long_clip_has_the_statistics_of_its_whole(peak_normalise: bool) -> None:
    codec = small(torch.float64)
    codec.peak_normalise = peak_normalise
    clip = noise(5 * codec.sample_rate + 77)
    whole = codec.encode(clip, codec.sample_rate)
    codec.max_chunk_seconds = 1.0
    assert len(list(codec._chunks(len(clip), codec.sample_rate))) >= 5
    in_chunks = codec.encode(clip, codec.sample_rate)
    assert torch.equal(in_chunks.codes, whole.codes)
    assert in_chunks.side_info.keys() == whole.side_info.keys()
    codec.max_chunk_seconds = None
    part = codec.encode(clip[: codec.sample_rate], codec.sample_rate)
    assert not torch.equal(part.codes[..., :40], whole.codes[..., :40]), "each code depends on the clip's end too"


def test_what_fills_no_frame_is_not_coded() -> None:
    codec = small(torch.float32)
    codes = codec.encode([noise(n) for n in (1, 319, 320, 639, 640)], codec.sample_rate)
    assert codes.lengths.tolist() == [1, 1, 1, 1, 2]
    audio = codec.decode(codes)
    assert audio.lengths.tolist() == [1, 319, 320, 639, 640]
    assert not bool(audio.waveform[3, :, 320:].any())
    assert bool(audio.waveform[3, :, :320].any())


def test_codes_come_in_whole_levels() -> None:
    codec = small(torch.float32)
    codes = codec.encode(noise(3200), codec.sample_rate)
    few = codec.encode(noise(3200), codec.sample_rate, bitrate=1000)
    assert torch.equal(few.codes, codes.codes[:, :2])
    assert codec.decode(few).waveform.shape[-1] == 3200
    with pytest.raises(ValueError, match=r"encodes with \(2, 4\) of them; num_codebooks=3"):
        codec.encode(noise(3200), codec.sample_rate, num_codebooks=3)
    with pytest.raises(ValueError, match="3 are no whole levels"):
        codec.decode(codes.codes[:, :3])


@pytest.mark.parametrize("rest", [1, 77, 319])
def test_what_is_left_over_after_whole_chunks_makes_no_chunk_of_its_own(rest: int) -> None:
    """It has no frame, and the norms' statistics of no steps would be NaN for the whole clip."""
    codec = small(torch.float64)
    (_, first), *_ = codec._chunks(10 * codec.sample_rate, codec.sample_rate // 2)
    clip = noise(2 * first.stop + rest)[None]
    whole = codec.encode(clip, codec.sample_rate)
    codec.max_chunk_seconds = 0.5
    assert torch.equal(codec.encode(clip, codec.sample_rate).codes, whole.codes)
