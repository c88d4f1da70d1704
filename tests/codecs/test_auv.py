"""AUV and LLM-Codec: golden cases, and the ends of clips."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from codeczoo import load_codec
from codeczoo.codecs.auv import ROWS_BY_WAV_TYPE
from tests.support.golden import assert_audio_agrees, assert_codes_agree, golden_case, golden_codec, golden_state_dict
from tests.support.packagings import Packaging, Tensors, flat_pickle

NAMES = ("auv", "llmcodec")

# -- for the tests of all families (tests/support/declarations.py) --------------------------------

SMALL: dict[str, object] = {
    "dim": 32,
    "num_heads": 2,
    "hidden_dim": 48,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "codebook_size": 96,
}


def older_weight_norm(packaging: Packaging, tensors: Tensors, folder: Path) -> Path:
    spelled = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    renamed = {re.sub("|".join(spelled), lambda m: spelled[m[0]], key): tensor for key, tensor in tensors.items()}
    return flat_pickle("auv.pt")(packaging, renamed, folder)


PACKAGINGS = {
    "auv": Packaging("auv", "auv", flat_pickle("auv.pt")),
    "auv with the older weight norm": Packaging("auv", "auv", older_weight_norm),
    "llmcodec": Packaging("llmcodec_abl_k3", "llmcodec", flat_pickle("llm-codec.pt")),
}


@pytest.mark.parametrize("name", NAMES)
def test_golden(name: str) -> None:
    codec = golden_codec(name, name)
    case, _ = golden_case(name)
    assert_codes_agree(codec.encode(case["audio"], codec.sample_rate).codes, case["codes"], case["codes_stable"])
    assert_audio_agrees(codec.decode(case["codes"]).waveform, case["reconstruction"])
    assert_audio_agrees(codec.quantizer.decode(case["codes"][:, 0]), case["quantized"])
    # Phase is rounding noise in bins without energy, and upstream's own float32 latents are off by up to 0.05 there.
    latent = codec.latents(case["audio"], codec.sample_rate).values
    assert float((latent - case["latent"]).abs().max()) < 0.1
    assert float((latent - case["latent"]).abs().median()) < 1e-4


def test_what_is_left_over_comes_back_as_zeros() -> None:
    """Upstream gives floor(T / 320) frames; the clip still comes back at its own length."""
    codec = golden_codec("auv", "auv")
    clip = 0.1 * torch.sin(torch.arange(1000.0))[None]
    codes = codec.encode([clip, clip[:, :100]], 16000)
    assert codes.lengths.tolist() == [3, 1]
    audio = codec.decode(codes)
    assert audio.lengths.tolist() == [1000, 100]
    assert not bool(audio.waveform[0, 0, 960:].any())


@pytest.mark.parametrize("name", NAMES)
def test_a_kind_of_sound_has_rows_of_its_own(name: str) -> None:
    """Against a search by squared distance over those rows alone, in float64."""
    codec = load_codec(name, weights=golden_state_dict(name), device="cpu")
    case, _ = golden_case(name)
    clip = case["audio"]
    free = codec.encode(clip, 16000).codes
    projected = codec.quantizer.in_proj(codec.latents(clip, codec.sample_rate).values)[0].T.double()
    table = torch.nn.functional.normalize(codec.quantizer.codebook.double(), dim=1)
    distance = torch.cdist(torch.nn.functional.normalize(projected, dim=1), table)
    for kind, (first, end) in ROWS_BY_WAV_TYPE.items():
        codec.wav_type = kind
        codes = codec.encode(clip, 16000).codes
        assert torch.equal(codes[0, 0], distance[:, first:end].argmin(1) + first)
        inside = (free >= first) & (free < end)
        assert torch.equal(codes[inside], free[inside])
    assert not bool(inside.all())  # "other": some had to give way
    codec.wav_type = None
    assert torch.equal(codec.encode(clip, 16000).codes, free)
    with pytest.raises(ValueError, match=rf"{name} has the wav_types speech, vocal, .* it was given 'bird'"):
        codec.wav_type = "bird"
