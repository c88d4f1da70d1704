"""SpeechTokenizer: golden cases, levels decoded alone, and what a window of its encoder costs."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.support.golden import assert_audio_agrees, assert_codes_agree, golden_case, golden_codec
from tests.support.packagings import Packaging, with_settings

CASES = [("speech_tokenizer_16k", "speechtokenizer_16k"), ("speechtokenizer_snake_16k", "speechtokenizer_snake_16k")]

# -- for the tests of all families (tests/support/declarations.py) --------------------------------

SMALL: dict[str, object] = {"filters": 4, "dim": 48}


def published_settings(config: Any) -> dict[str, Any]:
    return {
        "sample_rate": 16000,
        "sampling_rate": 16000,
        "n_filters": config.filters,
        "strides": [8, 5, 4, 2],
        "dimension": config.dim,
        "semantic_dimension": 768,
        "codebook_size": 1024,
        "n_q": 8,
        "lstm_layers": 2,
        "bidirectional": True,
        "dilation_base": 2,
        "residual_kernel_size": 3,
        "n_residual_layers": 1,
        "activation": {"elu": "ELU", "snake": "Snake"}[config.activation],
    }


LICENCE = {"speechtokenizer_16k": "Apache-2.0"}

PACKAGINGS = {
    "speechtokenizer": Packaging(
        "speechtokenizer",
        "speechtokenizer_16k",
        with_settings("SpeechTokenizer.pt", published_settings),
        refused=(("activation", "Snake", "activation is snake there and elu here"),),
    ),
    "speechtokenizer, snake": Packaging(
        "speechtokenizer_snake",
        "speechtokenizer_snake_16k",
        with_settings("ckpt.dev", published_settings),
        refused=(("bidirectional", False, "bidirectional is False there and True here"),),
    ),
}


@pytest.mark.parametrize(("name", "folder"), CASES)
def test_golden(name: str, folder: str) -> None:
    codec = golden_codec(name, folder)
    case, _ = golden_case(folder)
    codes = codec.encode(case["audio"], codec.sample_rate)
    assert_codes_agree(codes.codes, case["codes"], case["codes_stable"])
    assert_audio_agrees(codec.decode(case["codes"]).waveform, case["reconstruction"])
    assert_audio_agrees(codec.latents(case["audio"], codec.sample_rate).values, case["latent"])
    assert_audio_agrees(codec.quantizer.decode(case["codes"]), case["quantized"])


def test_fewer_codebooks_are_the_first_of_all() -> None:
    codec = golden_codec(*CASES[0])
    case, _ = golden_case(CASES[0][1])
    codes = codec.encode(case["audio"], codec.sample_rate)
    few = codec.encode(case["audio"], codec.sample_rate, bitrate=2000)
    assert torch.equal(few.codes, codes.codes[:, :4])


def test_levels_decoded_alone_add_up_before_the_decoder() -> None:
    codec = golden_codec(*CASES[0])
    case, _ = golden_case(CASES[0][1])
    codes = case["codes"]
    content, voice = codec.quantizer.decode(codes[:, :1]), codec.quantizer.decode(codes[:, 1:], first=1)
    torch.testing.assert_close(content + voice, codec.quantizer.decode(codes))
    assert_audio_agrees(codec.decode_levels(codes, 0), case["reconstruction"])
    alone = codec.decode_levels(codes[:, 1:], first=1)
    assert alone.shape == case["reconstruction"].shape
    assert not torch.allclose(alone, codec.decode_levels(codes[:, :1], first=0), atol=1e-3)
    with pytest.raises(ValueError, match="codebooks 0 to 7; 4 to 11 given"):
        codec.decode_levels(codes, first=4)
