"""Higgs Audio v2's tokenizer: the golden cases in both namings, and what it has that X-Codec has not."""

from __future__ import annotations

import pytest
import torch

from codeczoo.codecs.higgs_audio import ProjectedResidualVQ
from tests.codecs.test_xcodec import SMALL as SMALL_XCODEC
from tests.codecs.test_xcodec import (
    assert_case,
    assert_case_from_features,
    assert_edges,
    but_for_the_speech_model,
)
from tests.support.golden import golden_case, golden_codec
from tests.support.packagings import HF, Packaging, flat_pickle, of_transformers

SMALL: dict[str, object] = {**SMALL_XCODEC, "codebook_dim": 8}
PACKAGINGS = {
    "higgs_audio": Packaging("higgs_audio_v2", "higgs_audio_v2_24k", flat_pickle("model.pth")),
    "higgs_audio of transformers": Packaging("higgs_audio_v2", "higgs_audio_v2_24k", of_transformers, HF),
}
NAME, FOLDER = "higgs_audio_v2", "higgs_audio_v2_24k"
EDGES = (24000, 24118, 24119, 24631, 24632, 24959)  # where the acoustic encoder begins and ends to be given zeros


@pytest.mark.slow  # 180 million weights to be made; the next test holds the same but for the speech model
@pytest.mark.parametrize(("case", "manifest"), [("public", "manifest.json"), ("public_hf", HF)])
def test_golden(case: str, manifest: str) -> None:
    codec = golden_codec(NAME, FOLDER, manifest)
    assert_case(codec, golden_case(FOLDER, case)[0])
    if case == "public":
        assert_edges(codec, FOLDER, EDGES)


def test_golden_from_its_features() -> None:
    assert_case_from_features(but_for_the_speech_model(NAME, FOLDER), golden_case(FOLDER)[0])


def test_the_quantiser_is_float32_in_a_network_of_half_precision() -> None:
    generator = torch.Generator().manual_seed(0)
    quantizer = ProjectedResidualVQ(3, 32, 24, 8)
    for parameter in quantizer.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator).bfloat16().float()
    latent = torch.randn(2, 24, 40, generator=generator).bfloat16()
    with torch.inference_mode():
        codes = quantizer.encode(latent.float())
        half = quantizer.bfloat16()
        assert torch.equal(half.encode(latent), codes)
        assert half.decode(codes).dtype == torch.bfloat16
