"""UniCodec: the golden case, its domains."""

from __future__ import annotations

import pytest

from codeczoo import load_codec
from tests.support.golden import assert_audio_agrees, assert_codes_agree, golden_case, golden_codec, golden_state_dict
from tests.support.packagings import Packaging, lightning

NAME = "unicodec_24k"

# -- for the tests of all families (tests/support/declarations.py) --------------------------------

SMALL: dict[str, object] = {
    "filters": 4,
    "dim": 32,
    "codebook_size": 64,
    "decoder_dim": 64,
    "hidden_dim": 40,
    "num_layers": 2,
    "encoder_layers": 2,
    "num_heads": 2,
    "expert_dim": 24,
}

PACKAGINGS = {
    "unicodec": Packaging("unicodec", "unicodec_24k", lightning("unicode.ckpt")),
}


def test_golden() -> None:
    codec = golden_codec(NAME, NAME)
    case, _ = golden_case(NAME)
    latent = codec.latents(case["audio"], codec.sample_rate).values
    assert_audio_agrees(latent, case["latent"])
    assert_codes_agree(codec.encode(case["audio"], codec.sample_rate).codes, case["codes"], case["codes_stable"])
    assert_audio_agrees(codec.quantizer.decode(case["codes"]), case["quantized"])
    assert_audio_agrees(codec.decode(case["codes"]).waveform, case["reconstruction"])


def test_domains() -> None:
    codec = load_codec(NAME, weights=golden_state_dict(NAME), device="cpu")
    case, _ = golden_case(NAME)
    for domain, number in (("speech", 0), ("music", 1), ("audio", 2)):
        codec.domain = domain
        codes = codec.encode(case["audio"], codec.sample_rate).codes
        assert bool((codec.domains_of(codes) == number).all())
    codec.domain = None
    codes = codec.encode(case["audio"], codec.sample_rate).codes
    assert_codes_agree(codes, case["undivided_codes"], case["undivided_codes_stable"])
    codec.domain = "opera"
    with pytest.raises(ValueError, match="'speech', 'music', 'audio', None; it is 'opera'"):
        codec.encode(case["audio"], codec.sample_rate)
