"""X-Codec 2: the golden case, stage by stage."""

from __future__ import annotations

import torch

from codeczoo import load_codec
from tests.helpers import assert_audio_agrees, assert_codes_agree, golden_case, golden_weights, manifest_of

NAME = "xcodec2_16k"


def test_golden() -> None:
    """630 million parameters: the weights are made here and forgotten with the test."""
    manifest = manifest_of(NAME)
    weights = {entry["key"]: torch.from_numpy(golden_weights.tensor(entry, "public")) for entry in manifest["tensors"]}
    codec = load_codec(NAME, weights=weights, device="cpu")
    del weights
    case, _ = golden_case(NAME)
    audio = torch.nn.functional.pad(case["audio"], (0, 320 - case["audio"].shape[-1] % 320))
    features = codec.features(audio)
    # Upstream's features are float32 with sums in another order; log of little energy makes more of it.
    assert_audio_agrees(features, case["features"], 1e-3)
    assert_audio_agrees(codec.encode_semantic(case["features"]), case["semantic"])
    latent = codec.encode_latent(case["audio"], torch.tensor([case["audio"].shape[-1]]))
    assert_audio_agrees(latent, case["latent"], 1e-3)
    assert_codes_agree(codec.encode(case["audio"], codec.sample_rate).codes, case["codes"], case["codes_stable"])
    assert_audio_agrees(codec.quantizer.decode(case["codes"][:, 0]), case["quantized"])
    assert_audio_agrees(codec.decode(case["codes"]).waveform, case["reconstruction"])
