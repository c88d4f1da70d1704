"""S3Tokenizer: golden cases, clips over 30 s, the published ONNX form, and what it cannot do."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from codeczoo.base.variant import find_variant
from codeczoo.base.weights import load_weights
from codeczoo.nn.log_mel import whisper_log_mel
from tests import golden_weights
from tests.helpers import assert_audio_agrees, assert_codes_agree, golden_case, golden_codec, manifest_of

NAMES = ("s3tokenizer_v1", "s3tokenizer_v1_25hz", "s3tokenizer_v2_25hz", "s3tokenizer_v3_25hz")


@pytest.mark.parametrize("name", NAMES)
def test_golden(name: str) -> None:
    codec = golden_codec(name, name)
    case, meta = golden_case(name)
    mel = whisper_log_mel(case["audio"][:, 0])
    assert_audio_agrees(mel, case["mel"])
    assert_audio_agrees(codec.encoder(mel).mT, case["latent"])
    assert_codes_agree(codec.encode(case["audio"], codec.sample_rate).codes, case["codes"], case["codes_stable"])
    if "long_codes" in case:  # over 30 s: in windows
        long = json.loads(meta["settings"])["long"]
        audio = torch.from_numpy(golden_weights.audio(long["audio"], 1, 1, long["samples"], 16000))
        codes = codec.encode(audio, 16000).codes
        assert codes.shape == case["long_codes"].shape
        assert float((codes == case["long_codes"]).double().mean()) == 1.0


def test_it_cannot_decode_and_says_why() -> None:
    codec = golden_codec(NAMES[2], NAMES[2])
    assert not codec.info.supports_decode
    with pytest.raises(NotImplementedError, match="flow model"):
        codec.decode(torch.zeros(1, 1, 4, dtype=torch.long))


def small(name: str):
    network = {"mels": 16, "dim": 24, "num_heads": 2, "hidden_dim": 32, "codebook_size": 20, "num_layers": 2}
    variant = find_variant(name)
    return replace(variant, network={**variant.network, **network}).build()


@pytest.mark.parametrize("seconds", [30.005, 52.0, 52.015, 56.5])
def test_no_token_of_a_long_clip_is_lost(seconds: float) -> None:
    """Upstream opens a window too many at lengths such as 52.01 s and loses 2 s of tokens."""
    codec = small("s3tokenizer_v2_25hz")
    load_weights(codec, "random")
    samples = int(seconds * 16000)
    codes = codec.encode(0.1 * torch.randn(1, samples, generator=torch.Generator().manual_seed(0)), 16000)
    assert abs(codes.codes.shape[-1] - seconds * 25) <= 2


@pytest.mark.parametrize("name", NAMES)
def test_the_published_onnx_form_loads(name: str, tmp_path) -> None:
    """A graph with the published node and initializer names, as the manifest notes them for each tensor."""
    onnx = pytest.importorskip("onnx")
    from onnx import helper, numpy_helper

    source = small(name)
    load_weights(source, "random", seed=3)
    (key_map,) = source.key_maps
    graph = onnx.GraphProto(name="speech_tokenizer")
    nodes: dict[str, dict[int, str]] = {}
    places = {entry["key"]: entry["onnx"] for entry in manifest_of(name)["tensors"]}
    published = _published(source)
    for i, (key, tensor) in enumerate(published.items()):
        place = places[key]
        array = tensor.T.contiguous() if place.get("transpose") else tensor
        initializer = place.get("initializer", f"onnx::{i}")
        graph.initializer.append(numpy_helper.from_array(array.numpy(), initializer))
        if "node" in place:
            node = place["node"] if "contains" not in place["node"] else "/quantizer/project_in/MatMul"
            nodes.setdefault(node, {})[place.get("input", 1)] = initializer
    for node, inputs in nodes.items():
        slots = ["x", *(inputs.get(j, "") for j in range(1, max(inputs) + 1))]
        graph.node.append(helper.make_node(node.rpartition("/")[2].split("_")[0], slots, [f"{node}:0"], name=node))
    path = tmp_path / "speech_tokenizer.onnx"
    path.write_bytes(helper.make_model(graph).SerializeToString())

    target = small(name)
    load_weights(target, path)
    for (key, ours), theirs in zip(source.state_dict().items(), target.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), key

    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match="speech_tokenizer"):
        load_weights(small(name), path)
    assert key_map.name == "s3tokenizer"


def _published(codec) -> dict[str, torch.Tensor]:
    """Our tensors under the s3tokenizer package's keys."""
    out = {}
    for name, tensor in codec.state_dict().items():
        sources, _ = codec.key_maps[0].sources(name)
        if name.endswith("in_proj.weight"):
            out |= dict(zip(sources, tensor.chunk(3), strict=True))
        elif name.endswith("in_proj.bias"):
            tensor.chunk(3)[1].zero_()
            out |= {sources[0]: tensor.chunk(3)[0], sources[1]: tensor.chunk(3)[2]}
        else:
            out[sources[0]] = tensor[0] if name.endswith("codebooks") else tensor
    return out
