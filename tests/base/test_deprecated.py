"""Former names still work, and say once what they are called now."""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from codeczoo import Audio, BaseCodec, Codes, Stream, load_codec
from codeczoo.base import deprecated
from codeczoo.base.catalogue import find_variant
from codeczoo.base.deprecated import Renamed
from tests.support.small import codec_of
from tests.support.sound import chirp


@pytest.fixture(autouse=True)
def nothing_said() -> Iterator[None]:
    deprecated._warn.cache_clear()
    yield
    deprecated._warn.cache_clear()


@pytest.fixture
def codec() -> BaseCodec:
    return load_codec("g711_ulaw", device="cpu")


def once(old: str, new: str, use: Callable[[], Any]) -> Any:
    """The result of `use`, which warns at this file's line when it is called first, and then no more."""
    with pytest.warns(DeprecationWarning, match=rf"^{re.escape(f'{old} is now called {new}')}$") as said:
        result = use()
    assert len(said) == 1
    assert said[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        use()
    return result


def test_methods_of_a_codec(codec: BaseCodec) -> None:
    audio = Audio.of(chirp(900, 16000), 16000)
    codes = torch.zeros(1, 1, 5, dtype=torch.int64)
    assert once("BaseCodec.wrap", "codes_from_tensor", lambda: codec.wrap(codes)).lengths.tolist() == [5]
    back = once("BaseCodec.restore", "match_input", lambda: codec.restore(codec.decode(codec.encode(audio)), audio))
    assert torch.equal(back.waveform, codec.reconstruct(audio).waveform)
    assert once("BaseCodec.accepts_codes_of", "is_compatible_with", lambda: codec.accepts_codes_of("g711_ulaw"))
    assert not codec.accepts_codes_of("g711_alaw")


def test_latents_of_a_codec() -> None:
    mimi = codec_of("mimi", "small", torch.float64)
    audio = chirp(4000, 24000)[None].double()
    latents = once("codec.encode_latent", "codec.latents", lambda: mimi.encode_latent(audio))
    assert torch.equal(latents, mimi.latents(audio, 24000).values)
    sound = once("codec.decode_latent", "codec.synthesize", lambda: mimi.decode_latent(latents))
    assert torch.equal(sound, mimi.synthesize(latents).waveform)


def test_why_a_codec_cannot_decode(codec: BaseCodec) -> None:
    tokenizer = find_variant("s3tokenizer_v1").codec_type()
    old, new = "BaseCodec.refusal_of", "codec.variant.decode_unsupported_reason"
    said = once(old, new, lambda: tokenizer.refusal_of("s3tokenizer_v1"))
    assert said == find_variant("s3tokenizer_v1").decode_unsupported_reason and "cannot decode" in said
    assert codec.refusal_of(codec.name) is None


def test_the_length_of_a_chunk(codec: BaseCodec) -> None:
    loaded = once(
        "load_codec(max_seconds_per_pass=)",
        "max_chunk_seconds=",
        lambda: load_codec("g711_ulaw", device="cpu", max_seconds_per_pass=3.0),  # type: ignore[call-arg]
    )
    assert loaded.max_chunk_seconds == 3.0
    old, new = "CodecNetwork.max_seconds_per_pass", "max_chunk_seconds"
    assert once(old, new, lambda: loaded.max_seconds_per_pass) == 3.0
    loaded.max_seconds_per_pass = 2.0
    assert loaded.max_chunk_seconds == 2.0


def test_audio_like_another() -> None:
    audio, other = Audio.of(chirp(900, 16000), 16000), Audio.of(chirp(500, 8000), 8000)
    matched = once("Audio.like", "matched_to", lambda: audio.like(other))
    assert torch.equal(matched.waveform, audio.matched_to(other).waveform)


def test_side_information_and_codebooks_of_codes() -> None:
    fields = {"codes": torch.zeros(1, 2, 5).long(), "lengths": torch.tensor([5]), "num_samples": torch.tensor([-1])}
    facts = {"sample_rate": 8000, "codec": "made_up", "codebook_sizes": (4, 4)}
    codes = once("Codes(side=)", "side_info=", lambda: Codes(**fields, **facts, side={"gain": torch.ones(1)}))
    assert codes.side_info.keys() == {"gain"}
    assert once("Codes.side", "side_info", lambda: codes.side) is codes.side_info
    assert [row.tolist() for row in once("Codes.level", "codebook", lambda: codes.level(1))] == [[0] * 5]
    assert replace(codes, side={}).side_info == {}


def test_the_end_of_a_decoders_stream_has_two_names() -> None:
    codec = codec_of("encodec_24k", "small", torch.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Stream.drain is Stream.flush_decoder
        assert codec.stream().drain().lengths.tolist() == codec.stream().flush_decoder().lengths.tolist()


def test_all_of_them_are_documented_and_out_of_sight(codec: BaseCodec) -> None:
    shown = {
        BaseCodec: dir(codec),
        Codes: dir(codec.encode(chirp(9, 8000), 8000)),
        Audio: dir(Audio.of(chirp(9, 8000), 8000)),
    }
    found = 0
    for kind, names in shown.items():
        for name in dir(kind):
            if isinstance(inspect.getattr_static(kind, name), Renamed):
                found += 1
                assert name not in names
                assert f"`{kind.__name__}.{name}`" in (deprecated.__doc__ or "")
    assert found == 7
