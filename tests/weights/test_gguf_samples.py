"""GGUF files that codec.cpp's own converters wrote: they load, and hold what their manifests say.

The samples and manifests lie in the folder that the project's sessions share, `../shared/formats`; where it is missing
these tests are skipped. A manifest lists the published tensors that a sample was made of, and tests/support makes them.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from codeczoo import BaseCodec
from codeczoo.base.catalogue import Variant, find_variant
from codeczoo.weights.export import export_gguf
from codeczoo.weights.gguf import read_gguf
from codeczoo.weights.load import load_weights
from tests.support import golden_weights

gguf = pytest.importorskip("gguf", reason="the extra [gguf] is not installed")
SAMPLES = Path(__file__).parents[3] / "shared" / "formats" / "samples"
pytestmark = pytest.mark.skipif(not SAMPLES.is_dir(), reason="the samples of codec.cpp are not here")


@dataclass(frozen=True)
class Sample:
    """A sample, and the network that it was made of."""

    manifest: str
    codec: str
    network: Mapping[str, Any]


MIMI = {"filters": 4, "dim": 32, "num_heads": 8, "hidden_dim": 128, "codebook_size": 128, "codebook_dim": 16}
DAC = {"encoder_dim": 4, "decoder_dim": 96, "codebook_size": 64}
SAMPLE_OF = {
    "mimi_f16": Sample("mimi", "mimi", MIMI),
    "mimi_q8_0": Sample("mimi", "mimi", MIMI),
    "dac_descript_f16": Sample("dac", "dac_24k", DAC),
    "dac_transformers_f16": Sample("dac", "dac_24k", DAC),
    "snac_f16": Sample("snac", "snac_24khz", {"encoder_dim": 6, "decoder_dim": 128, "codebook_size": 512}),
    "wavtokenizer_f16": Sample(
        "wavtokenizer",
        "wavtokenizer_large_speech_75",
        {"filters": 4, "dim": 64, "codebook_size": 512, "decoder_dim": 96, "hidden_dim": 288, "num_layers": 4},
    ),
    "xcodec2_q8_0": Sample(
        "xcodec2",
        "xcodec2_16k",
        {"encoder_dim": 1, "dim": 32, "semantic_hidden": 64, "decoder_hidden": 64},
    ),
    "s3t_f16": Sample("s3t", "s3tokenizer_v2_25hz", {"dim": 80, "hidden_dim": 320}),
    "qwen3_tts_tokenizer_f16": Sample(
        "qwen3_tts_tokenizer",
        "qwen3_tts_tokenizer_12hz",
        {
            "dim": 32,
            "codebook_size": 128,
            "codebook_dim": 16,
            "filters": 4,
            "encoder_hidden": 128,
            "latent_dim": 64,
            "decoder_head_dim": 4,
            "decoder_hidden": 64,
            "decoder_filters": 96,
        },
    ),
    "nemo_nano_codec_f16": Sample("nemo_nano_codec", "nanocodec_0k6bps_12hz", {"encoder_dim": 2, "decoder_dim": 64}),
}


def variant_of(sample: Sample) -> Variant:
    variant = find_variant(sample.codec)
    return replace(variant, network={**variant.network, **sample.network})


@cache
def from_manifest(name: str) -> BaseCodec:
    """With the published tensors that the sample was made of. Tests must not change it."""
    sample = SAMPLE_OF[name]
    manifest = json.loads((SAMPLES / f"{sample.manifest}.manifest.json").read_text())
    tensors = golden_weights.state_dict(manifest, manifest["seed"])
    codec = variant_of(sample).build()
    load_weights(codec, {key: torch.from_numpy(array) for key, array in tensors.items()})
    return codec.eval()


def loaded(name: str, path: Path) -> BaseCodec:
    codec = variant_of(SAMPLE_OF[name]).build()
    load_weights(codec, path)
    return codec.eval()


def rounding(name: str, like: Tensor) -> float:
    """How far a tensor of a sample may be from its source: an F16, or a byte of the largest value's scale."""
    return (0.01 if name.endswith("q8_0") else 1e-3) * max(float(like.abs().max()), 1e-3)


@pytest.mark.parametrize("name", SAMPLE_OF)
def test_a_sample_holds_the_tensors_of_its_manifest(name: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        codec = loaded(name, SAMPLES / f"{name}.gguf")
    assert "may differ from the published weights'" in caplog.text
    for key, truth in from_manifest(name).state_dict().items():
        if SAMPLE_OF[name].codec == "xcodec2_16k" and key.endswith(".beta"):
            truth = torch.zeros_like(truth)  # its converter throws them away
        error = float((codec.state_dict()[key] - truth).abs().max())
        is_logarithm = key.endswith((".alpha", ".beta")) and ("xcodec2" in name or "qwen3" in name)
        assert error <= (1e-3 if is_logarithm else rounding(name, truth)), (key, error)
    assert ("threw away the trained beta" in caplog.text) == (name == "xcodec2_q8_0")


KIND = {"f16": "F16", "q8_0": "Q8_0"}
# Tensors of the converters that no loader of codec.cpp asks for: they are not written.
NOT_WRITTEN = {
    "mimi": r"q\.[sa]\.layers\.\d+\.cb\..+|mimi\..+\.kernel|dec\.transformer\.blocks\..+|up\.r\d\.c\d\.[wb]",
    "dac": "none",
    "snac": "none",
    "wavtokenizer": r"vq\..+\.(embed_avg|cluster_size|inited)|wt\..+\.kernel|dec\.head\.istft\.window",
    "xcodec2": "none",
    "s3t": "none",
    "qwen3_tts_tokenizer": r"q\.[sa]\.layers\.\d+\.cb\.(es|cu|init)|q\.[sa]\.op\.w"
    r"|q\.a\.layers\.(1[5-9]|2\d|30)\.cb\.embed",
    "nemo_nano_codec": "none",
}
WRITTEN = [name for name in SAMPLE_OF if name != "dac_descript_f16"]  # written in the other layout


@pytest.mark.parametrize("name", WRITTEN)
def test_what_is_written_is_what_their_converter_writes(name: str, tmp_path: Path) -> None:
    kind = KIND["q8_0" if name.endswith("q8_0") else "f16"]
    export_gguf(from_manifest(name), tmp_path / "own.gguf", kind)
    own, theirs = (gguf.GGUFReader(path) for path in (tmp_path / "own.gguf", SAMPLES / f"{name}.gguf"))
    unused = NOT_WRITTEN[SAMPLE_OF[name].manifest]
    expected = {
        t.name: (t.tensor_type.name, t.shape.tolist()) for t in theirs.tensors if not re.fullmatch(unused, t.name)
    }
    assert {t.name: (t.tensor_type.name, t.shape.tolist()) for t in own.tensors} == expected
    assert [key for key in own.fields if key != "general.name"] == [k for k in theirs.fields if k != "general.name"]
    for key, field in theirs.fields.items():
        assert own.fields[key].types == field.types, key
    values, truth = read_gguf(tmp_path / "own.gguf")[0], read_gguf(SAMPLES / f"{name}.gguf")[0]
    for key in expected:
        if (key.endswith("inv_beta") and "xcodec2" in name) or key in ("s3t.mel_filters", "s3t.window"):
            continue  # their converter throws the former away, and the latter are noise in the sample
        one_row = re.fullmatch(r"dec\.bb\..*norm\.(scale|shift)\.weight", key)  # the first of them is used
        error = float((values[key] - truth[key])[: 1 if one_row else None].abs().max())
        assert error <= 2 * rounding(name, truth[key]), (key, error)
    assert np.isfinite([float(tensor.abs().max()) for tensor in values.values()]).all()
