"""S3Tokenizer: golden cases, clips over 30 s, what its ONNX graph may hold besides, and what it cannot do."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import soundfile as sf
import torch
from torch import Tensor

from codeczoo import codec_info
from codeczoo.base.catalogue import variants
from codeczoo.cli.benchmark import main
from codeczoo.codecs.formats.s3tokenizer_onnx import read_onnx
from codeczoo.nn.log_mel import whisper_log_mel
from tests.support import golden_weights
from tests.support.golden import assert_audio_agrees, assert_codes_agree, golden_case, golden_codec, manifest_of
from tests.support.packagings import Packaging, Tensors, flat_pickle, flat_safetensors
from tests.support.published import small_checkpoint
from tests.support.small import codec_of, small_variant

NAMES = ("s3tokenizer_v1", "s3tokenizer_v1_25hz", "s3tokenizer_v2_25hz", "s3tokenizer_v3_25hz")

# -- for the tests of all families (tests/support/declarations.py) --------------------------------

SMALL: dict[str, object] = {
    "mels": 16,
    "dim": 24,
    "num_heads": 2,
    "hidden_dim": 32,
    "codebook_size": 20,
    "num_layers": 2,
}
LONG_VARIANTS = ("s3tokenizer_v3_25hz",)


def save_onnx(tensors: Mapping[str, Tensor], folder: str, path: Path) -> None:
    """A graph with the node and initializer names that the manifest of `folder` notes for each tensor; of a block that
    it does not know, those of block 0."""
    from onnx import GraphProto, helper, numpy_helper

    places = {entry["key"]: entry["onnx"] for entry in manifest_of(folder)["tensors"]}
    graph = GraphProto(name="speech_tokenizer")
    nodes: dict[str, dict[int, str]] = {}
    for i, (key, tensor) in enumerate(tensors.items()):
        place = places[key] if key in places else _in_block(key, places)
        array = tensor.T.contiguous() if place.get("transpose") else tensor
        initializer = place.get("initializer", f"onnx::{i}")
        graph.initializer.append(numpy_helper.from_array(array.numpy(), initializer))
        if "node" in place:
            node = place["node"] if "contains" not in place["node"] else "/quantizer/project_in/MatMul"
            nodes.setdefault(node, {})[place.get("input", 1)] = initializer
    for node, inputs in nodes.items():
        slots = ["x", *(inputs.get(j, "") for j in range(1, max(inputs) + 1))]
        graph.node.append(helper.make_node(node.rpartition("/")[2].split("_")[0], slots, [f"{node}:0"], name=node))
    path.write_bytes(helper.make_model(graph).SerializeToString())


def _in_block(key: str, places: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    block, _, rest = key.removeprefix("encoder.blocks.").partition(".")
    first = dict(places[f"encoder.blocks.0.{rest}"])
    return {name: v.replace("blocks.0", f"blocks.{block}") if isinstance(v, str) else v for name, v in first.items()}


def onnx_graph(packaging: Packaging, tensors: Tensors, folder: Path) -> Path:
    pytest.importorskip("onnx")
    save_onnx(tensors, packaging.folder, folder / "speech_tokenizer.onnx")
    return folder / "speech_tokenizer.onnx"


def chatterbox(packaging: Packaging, tensors: Tensors, folder: Path) -> Path:
    others = ("flow.encoder.embed.out.0.weight", "mel2wav.conv_pre.bias", "speaker_encoder.head.bn1.bias",
              "tokenizer._mel_filters", "tokenizer.window")  # fmt: skip
    own = {f"tokenizer.{key}": tensor for key, tensor in tensors.items()}
    return flat_safetensors("s3gen.safetensors")(packaging, {**own, **{key: torch.ones(3) for key in others}}, folder)


LICENCE = {"s3tokenizer_v3_25hz": "Apache-2.0"}

PACKAGINGS = {
    **{
        name: Packaging(name, name, onnx_graph)
        for name in ("s3tokenizer_v1", "s3tokenizer_v1_25hz", "s3tokenizer_v2_25hz", "s3tokenizer_v3_25hz")
    },
    "s3tokenizer, converted": Packaging("s3tokenizer_v1", "s3tokenizer_v1", flat_pickle("speech_tokenizer_v1.pt")),
    "s3tokenizer in chatterbox": Packaging("s3tokenizer_v2_25hz", "s3tokenizer_v2_25hz", chatterbox),
}


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


@pytest.mark.parametrize("name", NAMES)
def test_it_cannot_decode_and_says_why(name: str) -> None:
    codec = codec_of(name, "small", torch.float32)
    assert not codec_info(name).supports_decode and not codec.supports_decode
    clip = 0.1 * torch.ones(1, 3200)
    codes = codec.encode(clip, 16000)
    for call in (
        lambda: codec.decode(codes),
        lambda: codec.decode(codes.codes),
        lambda: codec.reconstruct(clip, 16000),
    ):
        with pytest.raises(NotImplementedError, match=f"{name} cannot decode: .*flow model"):
            call()


def test_the_benchmark_reports_its_codes_and_its_speed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(variants(), NAMES[0], small_variant(NAMES[0]))  # type: ignore[arg-type]
    for number, seconds in enumerate((0.5, 1.2)):
        noise = 0.1 * torch.randn(int(seconds * 16000), generator=torch.Generator().manual_seed(number))
        sf.write(tmp_path / f"{number}.wav", noise.numpy(), 16000)
    out = tmp_path / "out"
    arguments = ["--dataset", str(tmp_path), "--codecs", NAMES[0], "--weights", f"{NAMES[0]}=random", "--out", str(out)]
    assert main([*arguments, "--metrics", "stoi", "mel", "--device", "cpu"]) == 0
    entry = json.loads((out / "summary.json").read_text())["codecs"][NAMES[0]]
    assert (entry["clips"], entry["ok"], entry["failed"]) == (2, 2, [])
    assert entry["codes"]["levels"][0]["size"] == 20 and entry["codes"]["levels"][0]["used"] > 1
    assert entry["bitrate"] == pytest.approx(50 * math.log2(20), rel=0.05)
    rows = [json.loads(line) for line in (out / "clips.jsonl").read_text().splitlines()]
    assert [(row["tokens"], row["metrics"]) for row in rows] == [(25, {}), (60, {})]
    timing = json.loads((out / "timing.json").read_text())["codecs"][NAMES[0]]
    assert timing["encode_rtf"] > 0 and timing["decode_rtf"] is None
    assert f"{NAMES[0]} cannot decode: " in caplog.text


@pytest.mark.parametrize("seconds", [30.005, 52.0, 52.015, 56.5])
def test_no_token_of_a_long_clip_is_lost(seconds: float) -> None:
    """At 52.01 s, for example, upstream opens one window too many and loses 2 s of tokens."""
    codec = codec_of("s3tokenizer_v2_25hz", "small", torch.float32)
    samples = int(seconds * 16000)
    codes = codec.encode(0.1 * torch.randn(1, samples, generator=torch.Generator().manual_seed(0)), 16000)
    assert abs(codes.codes.shape[-1] - seconds * 25) <= 2


def test_what_belongs_to_no_part_of_the_network_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Constants of the graph may be anything, so it is no error."""
    onnx = pytest.importorskip("onnx")
    tensors, _ = small_checkpoint(NAMES[0], NAMES[0])
    save_onnx(tensors, NAMES[0], tmp_path / "plain.onnx")
    model = onnx.load(str(tmp_path / "plain.onnx"))
    model.graph.initializer.append(onnx.numpy_helper.from_array(torch.ones(3, 4).numpy(), "onnx::MatMul_9999"))
    onnx.save(model, str(tmp_path / "more.onnx"))
    for name, said in (("plain", 0), ("more", 1)):
        caplog.clear()
        assert read_onnx(tmp_path / f"{name}.onnx").keys() == tensors.keys()
        assert ["1 tensors belong to no known part" in m and "MatMul_9999" in m for m in caplog.messages] == [
            True
        ] * said
