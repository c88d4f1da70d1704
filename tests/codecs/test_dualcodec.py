"""DualCodec: the golden cases, stage by stage, and what its frames, its rows and its three files are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from codeczoo import BaseCodec, load_codec
from codeczoo.base.catalogue import find_variant
from codeczoo.weights.load import load_weights
from tests.support.golden import assert_audio_agrees, assert_codes_agree, golden_case, golden_weights, manifest_of
from tests.support.packagings import Packaging, Tensors
from tests.support.published import by_entry
from tests.support.small import codec_of, small_variant

NAMES = ("dualcodec_12hz_v1", "dualcodec_25hz_v1")

# -- for the tests of all families ----------------------------------------------------------------

SMALL: dict[str, object] = {
    "encoder_dim": 4,
    "decoder_dim": 64,
    "acoustic_size": 64,
    "semantic_size": 96,
    "semantic_layers": 2,
    "semantic_dim": 64,
    "semantic_heads": 2,
    "semantic_hidden": 48,
    "convnext_dim": 24,
    "convnext_hidden": 40,
}
GAIN = 0.5


class ThreeFiles(Packaging):
    """Tensors under the keys that they have in their files, which the manifest puts behind the name of an entry."""

    def tensors(self) -> tuple[Tensors, list[str]]:
        tensors, used = super().tensors()
        return {own(key): tensor for key, tensor in tensors.items()}, [own(key) for key in used]


def own(key: str) -> str:
    return key.partition(".")[2]


def three_files(packaging: Packaging, tensors: Tensors, folder: Path) -> Path:
    source = find_variant(packaging.codec).weights
    assert source is not None
    w2v_bert = {key for key in tensors if key.startswith(("feature_projection.", "encoder.", "masked_spec_embed"))}
    stats = {key for key in tensors if key.startswith(("mean", "var"))}
    codec = tensors.keys() - w2v_bert - stats
    first, second, third = (folder / name for name in (source.file, *(entry["file"] for entry in source.more)))
    save_file({key: tensors[key].contiguous() for key in codec}, first, {"format": "pt"})
    save_file({key: tensors[key].contiguous() for key in w2v_bert}, second, {"format": "pt"})
    torch.save({key: tensors[key] for key in stats}, third)
    return folder


def entries_of_a_dict(packaging: Packaging, tensors: Tensors, folder: Path) -> Path:
    torch.save(by_entry(tensors), folder / "dualcodec.pt")
    return folder / "dualcodec.pt"


PACKAGINGS = {
    "dualcodec at 12.5 Hz": ThreeFiles("dualcodec", "dualcodec_12hz_v1", three_files),
    "dualcodec at 25 Hz": ThreeFiles("dualcodec_25hz_v1", "dualcodec_25hz_v1", three_files),
    "dualcodec, entries of one file": Packaging("dualcodec", "dualcodec_12hz_v1", entries_of_a_dict),
}

# -- golden cases ---------------------------------------------------------------------------------


def weights_of(name: str, *, w2v_bert: bool) -> dict[str, Tensor]:
    """The tensors of the manifest, with the layers of w2v-BERT (411 million values) or without."""
    kept = [e for e in manifest_of(name)["tensors"] if w2v_bert or not e["key"].startswith("w2v_bert.encoder.")]
    return {entry["key"]: torch.from_numpy(golden_weights.tensor(entry, "public")) for entry in kept}


def check_features(codec: BaseCodec, case: dict[str, Tensor], lengths: Tensor) -> None:
    """Upstream's features are float32 with sums in another order; log of little energy makes more of it."""
    features, frames = codec.features(case["audio"], lengths)
    whole = case["features_mask"]  # the second half of a masked vector is padding, which nothing reads
    assert int(frames // 2) == int(whole.sum())
    assert features.shape == case["features"].shape
    assert_audio_agrees(features[whole], case["features"][whole], 1e-3)


def check_decoder(codec: BaseCodec, case: dict[str, Tensor]) -> None:
    assert_audio_agrees(codec.vectors(case["codes"]).values, case["quantized"])
    assert_audio_agrees(codec.decode(case["codes"]).waveform, case["reconstruction"])


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_golden(name: str) -> None:
    """500 million values: the weights are made here and forgotten with the test."""
    codec = load_codec(name, weights=weights_of(name, w2v_bert=True), device="cpu")
    case, _ = golden_case(name)
    lengths = torch.tensor([case["audio"].shape[-1]])
    check_features(codec, case, lengths)
    semantic, _ = codec.encode_semantic(case["audio"], lengths)
    assert_audio_agrees(semantic, case["semantic"], 1e-3)
    codes = codec.encode(case["audio"], codec.sample_rate, num_codebooks=case["codes"].shape[1])
    assert_codes_agree(codes.codes, case["codes"], case["codes_stable"])
    check_decoder(codec, case)


@pytest.mark.parametrize("name", NAMES)
def test_golden_from_the_features_of_w2v_bert(name: str) -> None:
    """All but the layers of w2v-BERT, which tests/nn/test_w2v_bert.py holds to their definition."""
    variant = find_variant(name)
    codec = replace(variant, network={**variant.network, "semantic_layers": 0}).build().eval().requires_grad_(False)
    load_weights(codec, weights_of(name, w2v_bert=False))
    case, _ = golden_case(name)
    lengths = torch.tensor([case["audio"].shape[-1]])
    check_features(codec, case, lengths)
    frames = case["latent"].shape[-1]
    assert_audio_agrees(codec.acoustic_latent(case["audio"], lengths)[..., :frames], case["latent"])
    acoustic = codec.acoustic_latent(case["audio"], lengths)[..., : case["semantic"].shape[-1]]
    latents = torch.cat([codec.semantic_latent(case["semantic"]), acoustic], dim=1)
    codes = codec.quantize(latents, case["codes"].shape[1]).codes
    assert_codes_agree(codes, case["codes"], case["codes_stable"])
    check_decoder(codec, case)


# -- what only this family has --------------------------------------------------------------------


@pytest.fixture(params=NAMES, scope="module")
def codec(request: pytest.FixtureRequest) -> BaseCodec:
    return codec_of(request.param, "small", torch.float64)


def clip_of(samples: int, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(1, samples, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_frames_are_counted_by_the_features(codec: BaseCodec) -> None:
    """One less than whole hops fill, sometimes two less; a clip that is too short for one is filled up to it."""
    hop, pooling = codec.hop_length, codec.config.pooling
    lacking = set()
    for samples in [1, hop, codec.min_samples, 3 * hop + 1, 3 * hop + 119, *range(2 * hop, 4 * hop, hop // 5)]:
        frames = int(codec.encode(clip_of(samples), 24000, num_codebooks=1).lengths)
        mel = (-(-2 * max(samples, codec.min_samples) // 3) - 400) // 160 + 1
        assert frames == -(-mel // 2) // pooling >= 1
        if samples > codec.min_samples:
            lacking.add(-(-samples // hop) - frames)
    assert lacking == {1, 2}


def test_the_shortest_clip_fills_one_frame(codec: BaseCodec) -> None:
    exact, one_less = clip_of(codec.min_samples), clip_of(codec.min_samples)[:, :-1]
    assert codec.encode(exact, 24000).lengths.tolist() == [1]
    filled = torch.nn.functional.pad(one_less, (0, 1))
    assert torch.equal(codec.encode(one_less, 24000).codes, codec.encode(filled, 24000).codes)


def test_a_masked_vector_is_its_own_items(codec: BaseCodec) -> None:
    """Clips with an odd and an even number of filter bank frames, each beside longer ones and alone."""
    hop = codec.hop_length
    clips = [clip_of(3 * hop + 240 * k, seed=k) for k in range(6)] + [clip_of(9 * hop, seed=9)]
    lengths = torch.tensor([clip.shape[-1] for clip in clips])
    waveform = torch.stack([torch.nn.functional.pad(clip, (0, 9 * hop - clip.shape[-1])) for clip in clips])
    features, vectors = codec.encode_semantic(waveform, lengths)
    odd = 0
    for i, clip in enumerate(clips):
        alone, count = codec.encode_semantic(clip[None], lengths[i : i + 1])
        odd += int(codec.features(clip[None], lengths[i : i + 1])[1]) % 2
        assert int(count) == int(vectors[i])
        torch.testing.assert_close(features[i : i + 1, :, : alone.shape[-1]], alone, rtol=1e-9, atol=1e-11)
    assert 0 < odd < len(clips)


def test_the_first_rows_are_what_fewer_codebooks_give(codec: BaseCodec) -> None:
    clip = clip_of(20000)
    every = codec.encode(clip, 24000, num_codebooks=len(codec.codebook_sizes)).codes
    for count in (1, 2, 5):
        assert torch.equal(codec.encode(clip, 24000, num_codebooks=count).codes, every[:, :count])
    semantic = codec.decode(every[:, :1])
    assert semantic.lengths.tolist() == [every.shape[-1] * codec.hop_length - 4]
    assert not torch.allclose(semantic.waveform, codec.decode(every[:, :2]).waveform)


def test_upstreams_number_of_codebooks_is_the_default(codec: BaseCodec) -> None:
    assert codec.encode(clip_of(8000), 24000).num_codebooks == 8


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_runs_on_features_in_float32(dtype: torch.dtype) -> None:
    codec = small_variant(NAMES[0]).build()
    load_weights(codec, "random")
    codec = codec.to(dtype).eval().requires_grad_(False)
    codes = codec.encode(clip_of(12000).float(), 24000)
    audio = codec.decode(codes)
    assert audio.lengths.tolist() == [12000] and bool(torch.isfinite(audio.waveform).all())
