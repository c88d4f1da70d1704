"""BigCodec: the golden case, and the filter that its file holds and we compute."""

from __future__ import annotations

import torch

from codeczoo.nn.alias_free import half_band_filter
from tests.support.golden import (
    assert_audio_agrees,
    assert_codes_agree,
    golden_case,
    golden_codec,
    manifest_of,
)
from tests.support.packagings import Packaging, entries

NAME, FOLDER = "bigcodec_1k", "bigcodec_16k"

# -- for the tests of all families (tests/support/declarations.py) --------------------------------

SMALL: dict[str, object] = {"encoder_dim": 2, "decoder_dim": 64, "latent_dim": 24, "codebook_size": 64}
GAIN = 0.5

PACKAGINGS = {
    "bigcodec": Packaging("bigcodec", "bigcodec_16k", entries("bigcodec.pt")),
}


def test_golden() -> None:
    codec = golden_codec(NAME, FOLDER)
    case, _ = golden_case(FOLDER)
    assert_codes_agree(codec.encode(case["audio"], codec.sample_rate).codes, case["codes"], case["codes_stable"])
    assert_audio_agrees(codec.decode(case["codes"]).waveform, case["reconstruction"])
    assert_audio_agrees(codec.latents(case["audio"], codec.sample_rate).values, case["latent"])
    assert_audio_agrees(codec.quantizer.decode(case["codes"][:, 0]), case["quantized"])


def test_the_filter_is_the_stored_one() -> None:
    stored = [t["values"] for t in manifest_of(FOLDER)["tensors"] if t["key"].endswith(".filter")]
    assert len(stored) > 100
    made = half_band_filter(torch.float64, torch.device("cpu"))
    for values in stored:
        torch.testing.assert_close(made, torch.tensor(values, dtype=torch.float64), rtol=0, atol=1e-7)
