"""GGUF files: written and read again, of another model, of every type, and damaged."""

from __future__ import annotations

import logging
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from codeczoo import BaseCodec
from codeczoo.weights.export import export_gguf
from codeczoo.weights.gguf import read_gguf, write_gguf
from codeczoo.weights.gguf_layout import to_gguf
from codeczoo.weights.load import load_weights
from tests.support.small import codec_of, small_variant
from tests.support.tiny_codec import tiny

gguf = pytest.importorskip("gguf", reason="the extra [gguf] is not installed")

# One variant of each architecture. Mimi and Qwen3 have as many codebooks as published, whatever their size.
LAID_OUT = (
    "mimi",
    "dac_44k",
    "snac_24khz",
    "wavtokenizer_large_40",
    "xcodec2_16k",
    "s3tokenizer_v2_25hz",
    "qwen3_tts_tokenizer_12hz",
    "nanocodec_0k6bps_12hz",
)


@cache
def source(name: str) -> BaseCodec:
    """A codec of the small network, with as many layers as its loader asks for. Tests must not change it."""
    codec = small(name)
    load_weights(codec, "random")
    if name.startswith("s3"):
        for layer in codec.encoder.layers:  # no checkpoint has a bias of keys
            layer.attention.in_proj.bias.data.chunk(3)[1].zero_()
    return codec.eval()


def small(name: str) -> BaseCodec:
    variant = small_variant(name)
    own = {"num_layers": 6, "mels": 128} if name.startswith("s3") else {}
    return replace(variant, network={**variant.network, **own}).build()


def clip(codec: BaseCodec) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(1, codec.channels[0], codec.sample_rate // 2, generator=generator) * 0.1


@pytest.mark.parametrize("name", LAID_OUT)
def test_f32_gives_the_same_codes(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    codec, again = source(name), small(name)
    export_gguf(codec, tmp_path / "own.gguf", "F32")
    with caplog.at_level(logging.WARNING):
        load_weights(again, tmp_path / "own.gguf")
    assert "types" not in caplog.text, "nothing was rounded"
    for key, tensor in codec.state_dict().items():
        assert torch.allclose(again.state_dict()[key], tensor, rtol=1e-5, atol=1e-6), key
    codes = codec.encode(clip(codec), codec.sample_rate)
    assert torch.equal(again.eval().encode(clip(codec), codec.sample_rate).codes, codes.codes)


@pytest.mark.parametrize("kind", ["F16", "Q8_0"])
@pytest.mark.parametrize("name", LAID_OUT)
def test_other_types_load_and_say_so(name: str, kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    codec, again = source(name), small(name)
    with caplog.at_level(logging.WARNING):
        export_gguf(codec, tmp_path / "own.gguf", kind)
        of_convolutions_alone = name.startswith(("dac", "snac", "nanocodec"))
        assert ("no tensor of it can be Q8_0" in caplog.text) == (kind == "Q8_0" and of_convolutions_alone)
        load_weights(again, tmp_path / "own.gguf")
    assert re.search(r"tensors of .*F16.*rounded to these types", caplog.text)
    for key, tensor in codec.state_dict().items():
        bound = (1e-3 if kind == "F16" else 0.01) * max(float(tensor.abs().max()), 1.0)
        assert float((again.state_dict()[key] - tensor).abs().max()) <= bound, key


def test_the_kept_beta_of_x_codec_2_is_not_told_as_lost(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    export_gguf(source("xcodec2_16k"), tmp_path / "own.gguf", "F16")
    with caplog.at_level(logging.WARNING):
        load_weights(small("xcodec2_16k"), tmp_path / "own.gguf")
    assert "trained beta" not in caplog.text


REFUSED = {
    "encodec_24k": "encodec_24k has no layout in GGUF",
    "unicodec_24k": "unicodec_24k has no layout in GGUF",  # of WavTokenizer's network, and another one
    "snac_32khz": "snac_32khz cannot be written as GGUF: codec.cpp knows SNAC of 24 kHz only",
    "s3tokenizer_v1": "knows version 2 only",
    "nanocodec_1k89bps_21hz": "has the strides of the variants of 12.5 frames a second built in",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_codec_cpp_could_not_run_is_not_written(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=REFUSED[name]):
        export_gguf(codec_of(name, "small", torch.float32), tmp_path / "own.gguf")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "encodes"), [("wavtokenizer_large_40", False), ("wavtokenizer_small_75", True)])
def test_a_file_says_whether_codec_cpp_can_encode_with_it(
    name: str, encodes: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It has the strides of 75 tokens a second built in; files of its own converter say yes of all."""
    path = tmp_path / "own.gguf"
    codec = source(name)
    with caplog.at_level(logging.WARNING):
        export_gguf(codec, path, "F32")
    assert ("can decode with it and not encode" in caplog.text) == (not encodes)
    assert read_gguf(path)[1]["codec.has_encoder"] is encodes
    settings, tensors, types = to_gguf(codec, "F32")
    write_gguf(path, {**settings, "codec.has_encoder": True}, tensors, types)
    load_weights(small(name), path)


def test_a_bias_that_the_format_has_no_place_for_is_not_dropped(tmp_path: Path) -> None:
    codec = small("s3tokenizer_v2_25hz")
    load_weights(codec, "random")
    with pytest.raises(ValueError, match="a bias of keys"):
        export_gguf(codec, tmp_path / "own.gguf")


def test_types_that_are_not_written_and_values_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'Q4_K' was asked for"):
        export_gguf(source("mimi"), tmp_path / "own.gguf", "Q4_K")
    large = small("dac_44k")
    load_weights(large, "random")
    with torch.no_grad():
        large.encoder.first.bias.fill_(1e5)
    with pytest.raises(ValueError, match=r"enc\.block\.0\.bias has 1e\+05, beyond the 65504 of F16: .*--type f32"):
        export_gguf(large, tmp_path / "own.gguf")
    assert list(tmp_path.iterdir()) == []


# -- of another model -----------------------------------------------------------------------------


def test_a_file_of_another_family_network_or_of_none(tmp_path: Path) -> None:
    export_gguf(source("dac_44k"), tmp_path / "dac.gguf", "F32")
    with pytest.raises(ValueError, match=r"mimi: .*dac\.gguf: it is a GGUF file of 'dac'; mimi would be of 'mimi'"):
        load_weights(small("mimi"), tmp_path / "dac.gguf")
    with pytest.raises(ValueError, match=r"of another model: .*codec\.sample_rate is 44100 there and 24000 here"):
        load_weights(small("dac_24k"), tmp_path / "dac.gguf")
    with pytest.raises(ValueError, match=r"it is a GGUF file \(dac\), and tiny has no layout in GGUF"):
        load_weights(tiny(), tmp_path / "dac.gguf")


def rewritten(path: Path, name: str, change: Callable[[dict[str, Tensor]], None]) -> Path:
    settings, tensors, types = to_gguf(source(name), "F32")
    change(tensors)
    write_gguf(path, settings, tensors, {key: types.get(key, "F32") for key in tensors})
    return path


def test_missing_left_over_and_misshapen_tensors_are_named_as_in_the_file(tmp_path: Path) -> None:
    def without(tensors: dict[str, Tensor]) -> None:
        del tensors["etr.l0.mlp.fc1.w"]
        tensors["enc.more.w"] = torch.ones(3)
        tensors["dn.cv.w"] = torch.ones(2, 2)

    path = rewritten(tmp_path / "mimi.gguf", "mimi", without)
    with pytest.raises(ValueError, match=r"naming 'mimi of codec\.cpp'") as caught:
        load_weights(small("mimi"), path)
    for part in (r"1 missing: etr\.l0\.mlp\.fc1\.w", r"1 unexpected: enc\.more\.w", r"wrong shape: dn\.cv\.w \[2, 2\]"):
        assert re.search(part, str(caught.value))


def test_what_belongs_to_a_language_model_is_left_out(tmp_path: Path) -> None:
    path = rewritten(tmp_path / "mimi.gguf", "mimi", lambda tensors: tensors.update({"lm.head.w": torch.ones(4, 4)}))
    assert "lm.head.w" not in read_gguf(path)[0]
    load_weights(small("mimi"), path)


def test_a_folder_with_one_gguf_file_will_do(tmp_path: Path) -> None:
    export_gguf(source("mimi"), tmp_path / "mine.gguf", "F32")
    again = small("mimi")
    load_weights(again, tmp_path)
    assert again.weights_source == str(tmp_path / "mine.gguf")


# -- types ----------------------------------------------------------------------------------------

QUANTISED = ("Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "BF16")


@pytest.mark.parametrize("kind", QUANTISED)
def test_tensors_of_types_that_the_package_reads(kind: str, tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal((6, 64)).astype(np.float32)
    code = gguf.GGMLQuantizationType[kind]
    writer = gguf.GGUFWriter(tmp_path / "own.gguf", "mimi")
    packed = gguf.quants.quantize(values, code)
    writer.add_tensor("w", packed, raw_dtype=code)
    finish(writer)
    tensors, metadata = read_gguf(tmp_path / "own.gguf")
    assert metadata["types"] == {kind: 1}
    assert np.array_equal(tensors["w"].numpy(), gguf.quants.dequantize(packed, code))


def finish(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


# -- damaged --------------------------------------------------------------------------------------


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def file_of(
    *, version: int = 3, keys: Mapping[str, bytes] | None = None, infos: tuple[bytes, ...] = (), data: int = 64
) -> bytes:
    keys = {"general.architecture": struct.pack("<I", 8) + text("mimi"), **(keys or {})}
    head = b"GGUF" + struct.pack("<IQQ", version, len(infos), len(keys))
    table = head + b"".join(text(key) + value for key, value in keys.items()) + b"".join(infos)
    return table + bytes(-len(table) % 32 + data)


def info(name: str, shape: tuple[int, ...], kind: int = 0, offset: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


DAMAGED = {
    "it is of version 1": file_of(version=1),
    "it is big endian": file_of(version=3 << 24),
    "w lies behind the end": file_of(infos=(info("w", (1 << 40,)),)),
    "w lies behind the end ": file_of(infos=(info("w", (1 << 63, 1 << 63)),)),
    "w has 4000000000 dimensions": file_of(infos=(text("w") + struct.pack("<I", 4000000000),)),
    "w is there twice": file_of(infos=(info("w", (4,)), info("w", (4,)))),
    "on top of each other": file_of(infos=tuple(info(f"w{i}", (16,)) for i in range(40))),
    "rows are no whole blocks": file_of(infos=(info("w", (33,), 8),)),
    "type 77, which the package gguf does not know": file_of(infos=(info("w", (4,), 77),)),
    "in the middle of its table": file_of(keys={"long": struct.pack("<IIQ", 9, 0, 1 << 50)}),
    "list of 1152921504606846976 values of type 8": file_of(keys={"long": struct.pack("<IIQ", 9, 8, 1 << 60)}),
    "values of type 9": file_of(keys={"nested": struct.pack("<IIQ", 9, 9, 3)}),
    "unknown type, 99": file_of(keys={"odd": struct.pack("<I", 99)}),
    "not UTF-8": file_of(keys={"odd": struct.pack("<IQ", 8, 2) + b"\xff\xff"}),
    "alignment is 0": file_of(keys={"general.alignment": struct.pack("<II", 4, 0)}),
}


@pytest.mark.parametrize("said", DAMAGED)
def test_what_is_wrong_is_named(said: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(DAMAGED[said])
    with pytest.raises(ValueError, match=rf"tiny: .*broken\.gguf: not a whole GGUF file .*{said.strip()}"):
        load_weights(tiny(), path)


def test_hundreds_of_damaged_files_are_read_or_refused_in_bounded_memory(tmp_path: Path) -> None:
    """Cut short, or with a few bytes changed in the table or behind it."""
    whole = file_of(
        keys={"rates": struct.pack("<IIQIII", 9, 4, 3, 2, 4, 8), "name": struct.pack("<I", 8) + text("a codec")},
        infos=(info("a", (8, 2)), info("b", (32, 2), 8, 64), info("c", (4, 2), 1, 160)),
        data=192,
    )
    path, random = tmp_path / "damaged.gguf", np.random.default_rng(1)
    path.write_bytes(whole)
    assert {name: tuple(t.shape) for name, t in read_gguf(path)[0].items()} == {"a": (2, 8), "b": (2, 32), "c": (2, 4)}
    refused = 0
    for number in range(400):
        data = bytearray(whole)
        if number % 4 == 0:
            del data[random.integers(len(whole)) :]
        else:
            for place in random.integers(len(data) - 192 * (number % 2), size=1 + number % 3):
                data[place] = random.integers(256)
        path.write_bytes(data)
        try:
            tensors, _ = read_gguf(path)
        except ValueError as error:
            refused += str(path) in str(error)
            continue
        assert sum(tensor.nbytes for tensor in tensors.values()) < 64 * len(whole)
    assert refused > 100
