"""X-Codec 2: the golden case, stage by stage, and the names of transformers."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor

from codeczoo import load_codec
from codeczoo.base.catalogue import find_variant
from codeczoo.nn.rotary import neighbours_to_halves
from codeczoo.weights.convert import fold_weight_norm
from codeczoo.weights.load import load_weights
from tests.support.golden import assert_audio_agrees, assert_codes_agree, golden_case, golden_weights, manifest_of
from tests.support.packagings import Packaging, of_transformers
from tests.support.published import small_checkpoint
from tests.support.small import small_variant

NAME = "xcodec2_16k"

# -- for the tests of all families (tests/support/declarations.py) --------------------------------

SMALL: dict[str, object] = {
    "encoder_dim": 2,
    "dim": 64,
    "digits": (4, 4),
    "semantic_layers": 2,
    "semantic_heads": 2,
    "semantic_hidden": 48,
    "decoder_layers": 2,
    "decoder_heads": 2,
    "decoder_hidden": 48,
}
TRANSFORMERS = ("xcodec2_16k",)

LICENCE_WARNING = "non-commercial use only"
PACKAGINGS = {
    "xcodec2": Packaging("xcodec2", "xcodec2_16k", of_transformers),
}


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
    latent = codec.latents(case["audio"], codec.sample_rate).values
    assert_audio_agrees(latent, case["latent"], 1e-3)
    assert_codes_agree(codec.encode(case["audio"], codec.sample_rate).codes, case["codes"], case["codes_stable"])
    assert_audio_agrees(codec.quantizer.decode(case["codes"][:, 0]), case["quantized"])
    assert_audio_agrees(codec.decode(case["codes"]).waveform, case["reconstruction"])


# The authors' names → those of transformers 5, in this order.
RENAMED = (
    (r"^semantic_model\.", "semantic_encoder."),
    (r"^CodecEnc\.conv_blocks\.0\.", "acoustic_encoder.conv1."),
    (r"^CodecEnc\.conv_final_block\.0\.", "acoustic_encoder.snake1."),
    (r"^CodecEnc\.conv_final_block\.1\.", "acoustic_encoder.conv2."),
    (r"^CodecEnc\.conv_blocks\.(\d+)\.", lambda m: f"acoustic_encoder.block.{int(m[1]) - 1}."),
    (r"(\.block\.\d+)\.block\.([012])\.block\.", lambda m: f"{m[1]}.res_unit{int(m[2]) + 1}."),
    (r"(\.block\.\d+)\.block\.3\.", r"\1.snake1."),
    (r"(\.block\.\d+)\.block\.4\.", r"\1.conv1."),
    (r"(\.res_unit\d)\.([0123])\.", lambda m: f"{m[1]}.{('snake1', 'conv1', 'snake2', 'conv2')[int(m[2])]}."),
    (r"^generator\.(quantizer\.)", r"\1"),
    (r"^generator\.backbone\.final_layer_norm\.", "acoustic_decoder.norm."),
    (r"^generator\.(backbone\.)?", "acoustic_decoder."),
    (r"\.transformers\.", ".layers."),
    (r"\.head\.out\.", ".head.linear."),
    (r"\.att\.c_proj\.", ".self_attn.o_proj."),
    (r"\.att_norm\.", ".input_layernorm."),
    (r"\.ffn_norm\.", ".post_attention_layernorm."),
    (r"^SemanticEncoder_module\.initial_conv\.", "semantic_adapter.conv1."),
    (r"^SemanticEncoder_module\.residual_blocks\.1\.", "semantic_adapter.conv2."),
    (r"^SemanticEncoder_module\.residual_blocks\.3\.", "semantic_adapter.conv3."),
    (r"^SemanticEncoder_module\.final_conv\.", "semantic_adapter.conv4."),
    (r"^fc_prior\.", "fc_encoder."),
    (r"^fc_post_a\.", "acoustic_decoder.fc."),
)
COMPUTED = (r"\.filter$", r"\.window$", r"semantic_model\.encoder\.layers\.(1[6-9]|2\d)\.")  # not stored there


def as_transformers_saves_it(tensors: dict[str, Tensor], heads: int) -> dict[str, Tensor]:
    out = {}
    for key, tensor in tensors.items():
        if any(re.search(pattern, key) for pattern in COMPUTED) or key.endswith(".weight_g"):
            continue
        if key.endswith(".weight_v"):
            key = key.removesuffix("_v")
            tensor = fold_weight_norm(tensor, tensors[f"{key}_g"])
        for pattern, name in RENAMED:
            key = re.sub(pattern, name, key)
        if ".att.c_attn." not in key:
            out[key] = tensor
            continue
        for name, part in zip("qkv", tensor.chunk(3), strict=True):
            halves = part if name == "v" else neighbours_to_halves(part, heads)
            out[key.replace(".att.c_attn.", f".self_attn.{name}_proj.")] = halves
    return out


def test_the_smaller_file_is_the_usual_one_and_the_first_is_a_copy() -> None:
    copy, authors = find_variant("HKUSTAudio/xcodec2-hf"), find_variant("HKUSTAudio/xcodec2")
    assert copy.name == authors.name == NAME
    assert copy.weights == find_variant(NAME).weights and authors.weights in copy.copies
    assert str(copy.weights) == "HKUSTAudio/xcodec2-hf@64bd034d12d441299cdd535b15c33efd6ccdf252/model.safetensors"
    assert str(authors.weights).startswith("HKUSTAudio/xcodec2@")


def test_the_names_of_transformers() -> None:
    """Its rows of q and k are in another order, which nothing notices."""
    tensors, _ = small_checkpoint(NAME, NAME)
    theirs = as_transformers_saves_it(tensors, small_variant(NAME).network["decoder_heads"])
    one, other = small_variant(NAME).build(), small_variant(NAME).build()
    load_weights(one, tensors)
    load_weights(other, theirs)
    clip = 0.1 * torch.randn(1, 7000, generator=torch.Generator().manual_seed(0))
    codes = one.eval().encode(clip, 16000)
    assert torch.equal(other.eval().encode(clip, 16000).codes, codes.codes)
    assert_audio_agrees(other.decode(codes.codes).waveform, one.decode(codes.codes).waveform, 1e-5)
    with pytest.raises(ValueError, match=r"1 missing: acoustic_decoder\.layers\.1\.self_attn\.k_proj\.weight"):
        load_weights(
            other, {k: v for k, v in theirs.items() if k != "acoustic_decoder.layers.1.self_attn.k_proj.weight"}
        )
