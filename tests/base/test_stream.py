"""Streams: what must not enter their state does not, and a state goes back only where it came from."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from torch.utils._pytree import tree_leaves, tree_map

from codeczoo import Audio, BaseCodec, Codes, Stream, load_codec
from codeczoo.base import warn_once
from codeczoo.base.codes import PAD
from codeczoo.base.sample_values import MAX_PEAK
from tests.support.small import CAUSAL, CAUSAL_DECODERS, codec_of
from tests.support.sound import chirp

BAD = {"NaN": torch.nan, "infinity": torch.inf, "minus infinity": -torch.inf, "a number beyond all samples": 1e30}


def chunks_of(codec: BaseCodec, count: int, batch: int = 1) -> list[torch.Tensor]:
    """Chunks of two hops each [B, C, T]."""
    size = 2 * (codec.hop_length or 1)
    whole = chirp(count * size, codec.sample_rate).to(codec.dtype)
    rows = torch.stack([whole * 0.5 ** (b + 1) for b in range(batch)]).expand(-1, codec.channels[0], -1)
    return list(rows.split(size, dim=-1))


def same_state(one: Any, other: Any) -> bool:
    pairs = zip(tree_leaves(one), tree_leaves(other), strict=True)
    return all(torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in pairs)


def spoilt(chunk: torch.Tensor, value: float, item: int = -1) -> torch.Tensor:
    chunk = chunk.clone()
    chunk[item, 0, chunk.shape[-1] // 3] = value
    return chunk


@pytest.mark.parametrize("name", CAUSAL)
def test_what_is_no_audio_never_enters_a_streams_state(name: str) -> None:
    codec = codec_of(name, "small", torch.float32)
    first, bad, *rest = chunks_of(codec, 4, batch=2)
    stream, clean = codec.stream(2), codec.stream(2)
    for chunk in (first, rest[0]):
        assert stream.encode(chunk) == clean.encode(chunk)
    before = copy.deepcopy(stream.state_dict())
    for value in BAD.values():
        with pytest.raises(
            ValueError, match=r"^item 1: (1 of \d+ samples are NaN or infinite|a sample of 1e\+30 is no)"
        ):
            stream.encode(spoilt(bad, value))
        if (codec.hop_length or 1) > 1:
            with pytest.raises(ValueError, match=r"^item 0: .*(NaN or infinite|no audio)"):
                stream.flush(spoilt(bad[..., :-1][..., : codec.hop_length - 1], value, 0))
    assert same_state(before["encoder"], stream.encoder_state)
    assert stream.encode(rest[1]) == clean.encode(rest[1])
    assert stream.flush() == clean.flush()


@pytest.mark.parametrize("name", CAUSAL)
def test_the_loudest_that_is_taken_leaves_a_state_that_goes_on(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warn_once, "_given", set())
    codec = codec_of(name, "small", torch.float32)
    stream = codec.stream()
    loud = [chunk.sign() * MAX_PEAK for chunk in chunks_of(codec, 3)]
    with pytest.warns(UserWarning, match="full scale is 1"):
        stream.encode(loud[0])
    stream.encode(loud[1]), stream.encode(loud[2])
    assert all(bool(leaf.isfinite().all()) for leaf in tree_leaves(stream.encoder_state) if leaf.is_floating_point())


@pytest.mark.parametrize("name", CAUSAL)
def test_the_input_of_paused_items_is_ignored_whatever_it_is(name: str) -> None:
    codec = codec_of(name, "small", torch.float32)
    chunks = chunks_of(codec, 3, batch=2)
    stream, clean = codec.stream(2), codec.stream(2)
    for each in (stream, clean):
        each.encode(chunks[0])
        each.active = [True, False]
    assert stream.encode(spoilt(chunks[1], torch.nan)) == clean.encode(chunks[1])
    stream.active = clean.active = torch.tensor([True, True])
    assert stream.encode(chunks[2]) == clean.encode(chunks[2])


@pytest.mark.parametrize("name", CAUSAL_DECODERS)
def test_what_are_no_codes_never_enters_a_streams_state(name: str) -> None:
    codec = codec_of(name, "small", torch.float32)
    generator = torch.Generator().manual_seed(0)
    sizes = torch.tensor(codec.codebook_sizes[: codec.num_codebooks])[:, None]
    good = (torch.rand(2, codec.num_codebooks, 4, generator=generator) * sizes).long()
    stream, clean = codec.stream(2), codec.stream(2)
    stream.decode(good), clean.decode(good)
    before = copy.deepcopy(stream.state_dict())
    for value in (PAD, int(sizes.max())):
        bad = good.clone()
        bad[1, 0, 2] = value
        with pytest.raises(ValueError, match=rf"code {value} at item 1, codebook 0, frame 2 is out of range"):
            stream.decode(bad)
        assert same_state(before["decoder"], stream.decoder_state)
        stream.active, clean.active = [True, False], [True, False]  # then the codes of item 1 are nobody's
        assert stream.decode(bad) == clean.decode(good)
        assert same_state(stream.decoder_state, clean.decoder_state)
        stream.active = clean.active = torch.tensor([True, True])
        before = copy.deepcopy(stream.state_dict())


@pytest.mark.parametrize("name", CAUSAL)
def test_each_chunk_may_be_decoded_as_it_comes(name: str) -> None:
    """Some codecs hold back the frames of the first chunks; these decode to nothing."""
    codec = codec_of(name, "small", torch.float64)
    chunks = chunks_of(codec, 5)
    stream = codec.stream()
    codes = [stream.encode(chunk) for chunk in chunks]
    audio = [stream.decode(part) for part in codes] + [stream.flush_decoder()]
    whole = codec.stream()
    expected = Audio.concat([whole.decode(Codes.concat(codes)), whole.flush_decoder()])
    torch.testing.assert_close(Audio.concat(audio).waveform, expected.waveform, atol=1e-9, rtol=0)


def test_what_a_paused_item_gave_goes_into_a_paused_item() -> None:
    codec = codec_of("mimi", "small", torch.float32)
    chunk = chunks_of(codec, 1, batch=2)[0]
    encoder, decoder = codec.stream(2), codec.stream(2)
    encoder.active = decoder.active = torch.tensor([True, False])
    codes = encoder.encode(chunk)
    assert codes.lengths.tolist() == [2, 0] and bool((codes.codes[1] == PAD).all())
    assert decoder.decode(codes).lengths.tolist() == [2 * codec.hop_length, 0]


# -- states -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CAUSAL)
def test_a_state_goes_on_in_another_stream_of_the_codec(name: str) -> None:
    codec = codec_of(name, "small", torch.float32)
    chunks = chunks_of(codec, 4)
    stream = codec.stream()
    for chunk in chunks[:2]:
        stream.decode(stream.encode(chunk))
    state = stream.state_dict()
    other = codec.stream()
    other.encode(chunks[3])
    other.load_state_dict(state)
    expected, found = stream.encode(chunks[2]), other.encode(chunks[2])
    assert found == expected
    assert other.decode(found) == stream.decode(expected)
    former = {key: state[key] for key in ("encoder", "decoder", "active")}  # before states said whose they are
    other.load_state_dict(former)
    assert other.encode(chunks[2]) == found
    again = torch.load(saved(state), weights_only=True)
    other.load_state_dict(again)
    assert other.encode(chunks[2]) == found


def saved(state: Any) -> io.BytesIO:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return buffer


def stream_of(name: str, dtype: torch.dtype = torch.float32) -> Stream:
    return codec_of(name, "small", dtype).stream()


def test_a_state_of_another_stream_is_refused() -> None:
    mimi = stream_of("mimi")
    state = mimi.state_dict()
    with pytest.raises(ValueError, match=r"the state of a stream of encodec_24k; the stream is of mimi"):
        mimi.load_state_dict(stream_of("encodec_24k").state_dict())
    nameless = {key: value for key, value in stream_of("encodec_24k").state_dict().items() if key != "codec"}
    with pytest.raises(ValueError, match=r"the encoder's state does not fit mimi"):
        mimi.load_state_dict(nameless)
    with pytest.raises(ValueError, match=r"does not fit mimi in torch\.float32"):
        mimi.load_state_dict({**stream_of("mimi", torch.float64).state_dict()})
    with pytest.raises(ValueError, match=r"other weights \(random, seed 1\) than the codec has \(random, seed 0\)"):
        mimi.load_state_dict({**state, "weights": "random, seed 1"})
    with pytest.raises(ValueError, match=r"has encoder, decoder and active; this has \['a'\]"):
        mimi.load_state_dict({"a": 1})
    with pytest.raises(ValueError, match=r"this has list"):
        mimi.load_state_dict([1])
    with pytest.raises(ValueError, match=r"this stream has 1 items; the state has 2"):
        mimi.load_state_dict(codec_of("mimi", "small", torch.float32).stream(2).state_dict())
    assert same_state(state, mimi.state_dict())


@pytest.mark.parametrize("side", ["encoder", "decoder"])
def test_a_state_with_nan_is_refused(side: str) -> None:
    stream = stream_of("mimi")
    before = copy.deepcopy(stream.state_dict())
    spoil = lambda leaf: leaf * torch.nan if leaf.is_floating_point() else leaf  # noqa: E731
    with pytest.raises(ValueError, match=f"NaNs in the {side}'s state"):
        stream.load_state_dict({**before, side: tree_map(spoil, before[side])})
    assert same_state(before, stream.state_dict())


def test_a_copied_state_is_its_own() -> None:
    stream = load_codec("g711_ulaw", device="cpu").stream()
    state = stream.state_dict()
    tree_map(lambda t: t.zero_() if isinstance(t, torch.Tensor) else t, state)
    assert stream.active.tolist() == [True]
