"""`precision="fast"` and `"fastest"`: what they mean on a CPU, and what they keep."""

from __future__ import annotations

import dataclasses
import pickle

import pytest
import torch

from codeczoo import Audio, BaseCodec, codec_info, load_codec
from codeczoo.base.catalogue import variants
from codeczoo.base.device import arithmetic_of, native_bfloat16
from codeczoo.data import embedded_clips
from tests.support.small import codec_of

with_bfloat16 = pytest.mark.skipif(not native_bfloat16(), reason="this CPU has no bfloat16")


@pytest.fixture
def speech() -> Audio:
    return Audio.load(embedded_clips()[0])


def under(codec: BaseCodec, precision: str) -> BaseCodec:
    codec.precision = precision
    return codec


@with_bfloat16
def test_fast_keeps_every_code_where_no_part_may_be_in_bfloat16(speech: Audio) -> None:
    exact, fast = (load_codec("zoo_16k", device="cpu", precision=kind) for kind in ("exact", "fast"))
    codes = exact.encode(speech)
    assert torch.equal(fast.encode(speech).codes, codes.codes)
    audio, expected = fast.decode(codes), exact.decode(codes)
    difference = (audio.waveform - expected.waveform).square().mean().sqrt() / expected.waveform.square().mean().sqrt()
    assert 0 < difference < 0.01, "the decoder is in bfloat16"
    assert audio.waveform.dtype == torch.float32
    assert fast.arithmetic == "bfloat16; float32 in all that leads to codes" and exact.arithmetic == "float32"
    assert (fast.info.arithmetic, exact.info.arithmetic) == (fast.arithmetic, "float32")
    assert "arithmetic" in fast.info.rows() and codec_info("zoo_16k").arithmetic is None
    assert load_codec("g711_ulaw").info.arithmetic is None  # no network


@with_bfloat16
def test_fastest_is_bfloat16_on_both_sides(speech: Audio) -> None:
    codec = load_codec("zoo_16k", device="cpu", precision="fastest")
    codes, found = under(codec, "exact").encode(speech), under(codec, "fastest").encode(speech)
    kept = (codes.codes == found.codes).double().mean(-1)[0]
    assert kept[0] > 0.95 and kept.mean() > 0.7, "of the first codebook, and of all twelve"
    assert not torch.equal(codes.codes, found.codes)
    assert codec.arithmetic == "bfloat16"


@with_bfloat16
def test_parts_named_by_the_variant_stay_in_float32(speech: Audio) -> None:
    """With all parts that lead to codes in float32 the codes are exact, by whichever call they are reached."""
    codec = load_codec("zoo_16k", device="cpu", precision="fast")
    exact = under(codec, "exact").encode(speech)
    under(codec, "fast").variant = dataclasses.replace(codec.variant, float32_parts=())
    assert not torch.equal(codec.encode(speech).codes, exact.codes)
    codec.variant = dataclasses.replace(codec.variant, float32_parts=("encoder",))
    codec.keep_parts_in_float32()
    assert torch.equal(codec.encode(speech).codes, exact.codes)
    assert torch.equal(codec.quantize(codec.latents(speech)).codes, exact.codes)
    whole = codec.prepare(speech)
    stream, hop = codec.stream(), codec.hop_length or 1
    samples = whole.waveform.shape[-1] // hop * hop
    streamed = stream.encode(whole.waveform[..., :samples])
    assert torch.equal(streamed.codes, exact.codes[..., : streamed.codes.shape[-1]])
    assert torch.equal(pickle.loads(pickle.dumps(codec)).encode(speech).codes, exact.codes)
    assert codec.arithmetic == "bfloat16; float32 in encoder"


@pytest.mark.parametrize("name", ["mimi", "encodec_24k", "dac_24k", "snac_24khz", "focalcodec_50hz"])
@pytest.mark.parametrize("precision", ["fast", "fastest"])
def test_the_inside_agrees_with_the_outside(name: str, precision: str, speech: Audio) -> None:
    codec = under(codec_of(name, "small", torch.float32), precision)
    try:
        codes = codec.encode(speech)
        latents = codec.latents(speech)
        assert latents.values.dtype == torch.float32
        assert torch.equal(codec.quantize(latents).codes, codes.codes)
        assert torch.equal(codec.synthesize(codec.vectors(codes)).waveform, codec.decode(codes).waveform)
    finally:
        codec.precision = "exact"  # the network is shared


def test_every_part_that_a_family_names_is_there() -> None:
    for variant in variants().values():
        if variant.float32_parts:
            with torch.device("meta"):
                variant.build().keep_parts_in_float32()


def test_what_each_precision_means() -> None:
    here = "bfloat16" if native_bfloat16() else "float32"
    assert [arithmetic_of(kind, "cpu") for kind in ("exact", "fast", "fastest")] == ["float32", here, here]
    assert [arithmetic_of(kind, "cuda") for kind in ("exact", "fast", "fastest")] == ["float32", "tf32", "bfloat16"]
    assert [arithmetic_of(kind, "mps") for kind in ("exact", "fast", "fastest")] == ["float32"] * 3


def test_an_unknown_precision_is_named() -> None:
    with pytest.raises(ValueError, match=r"'exact', 'fast', 'fastest'.*'quick'"):
        load_codec("zoo_16k", precision="quick")
