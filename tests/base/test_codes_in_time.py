"""Codes as people handle them: cut and joined in time, compared, as arrays and lists, and all of it back again."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from codeczoo import Audio, Codes, load_codec
from codeczoo.base.codes import PAD
from tests.base.test_codes import multiscale, plain, voiced
from tests.support.small import CAUSAL, codec_of
from tests.support.sound import chirp


def of_snac(*frames: int, seed: int = 0) -> Codes:
    """Codes [B, 3, N] of SNAC's strides, at 10 frames a second of 100 samples."""
    generator = torch.Generator().manual_seed(seed)
    codes = torch.full((len(frames), 3, max(frames)), PAD)
    for b, length in enumerate(frames):
        for k, stride in enumerate((4, 2, 1)):
            count = -(-length // stride)
            codes[b, k, :count] = torch.randint(0, 4096, (count,), generator=generator)
    samples = torch.tensor(frames) * 100 - 30
    return Codes(codes, torch.tensor(frames), samples, 1000, "made_up", (4096,) * 3, 10.0, (4, 2, 1))


# -- in time ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codes", [of_snac(24, 12, 7), of_snac(8), of_snac(5)], ids=["ragged", "whole", "short"])
@pytest.mark.parametrize("at", [0, 4, 8, 16, 40])
def test_stretches_join_to_what_they_were_cut_from(codes: Codes, at: int) -> None:
    parts = [codes.frames(0, at), codes.frames(at)]
    assert Codes.concat(parts) == codes
    assert Codes.concat([*parts, codes.frames(99)]) == codes


def test_a_stretch_has_the_samples_of_its_frames() -> None:
    codes = of_snac(24, 12, 7)
    assert codes.frames(4, 12).num_samples.tolist() == [800, 770, 270]
    assert codes.frames(4, 12).lengths.tolist() == [8, 8, 3]
    assert codes.frames(8, 12).num_samples.tolist() == [400, 370, 0]


def test_negative_frames_count_from_each_clips_own_end() -> None:
    codes = plain(10, 6)
    tail = codes[..., -4:]
    assert tail.lengths.tolist() == [4, 4]
    assert torch.equal(tail.codes[1, 0], codes.codes[1, 0, 2:6])
    assert codes.frames(stop=-2).lengths.tolist() == [8, 4]


def test_unknown_samples_stay_unknown() -> None:
    codes = dataclasses.replace(of_snac(8, 4), num_samples=torch.tensor([-1, 370]))
    assert codes.frames(0, 4).num_samples.tolist() == [-1, 370]
    assert Codes.concat([codes, codes]).num_samples.tolist() == [-1, 770]
    assert Codes.concat([codes, codes], num_samples=torch.tensor([1570, 750])).num_samples.tolist() == [1570, 750]
    assert Codes.concat([codes]) == codes


@pytest.mark.parametrize("rest", [0, 1, 2], ids=["no rest", "half a hop", "a hop but one"])
@pytest.mark.parametrize("name", CAUSAL)
def test_a_streams_chunks_join_to_the_whole_clip(name: str, rest: int) -> None:
    codec = codec_of(name, "small", torch.float64)
    hop = codec.hop_length or 1
    clip = chirp(7 * hop + (0, hop // 2, hop - 1)[rest], codec.sample_rate).double().expand(codec.channels[0], -1)
    stream = codec.stream()
    for _ in range(2):  # the second clip counts from its own start
        chunks = [stream.encode(clip[None, :, start : start + 2 * hop]) for start in range(0, 6 * hop, 2 * hop)]
        chunks += [stream.encode(clip[None, :, 6 * hop : 7 * hop]), stream.flush(clip[None, :, 7 * hop :])]
        assert Codes.concat(chunks) == codec.encode(clip, codec.sample_rate)


def test_a_streams_items_have_lengths_of_their_own() -> None:
    codec = codec_of("mimi", "small", torch.float64)
    hop = codec.hop_length
    clips = [chirp(n, 24000, seed=n).double() for n in (3 * hop + 5, 2 * hop)]
    stream = codec.stream(2)
    chunks = []
    for i in range(3):
        stream.active = torch.tensor([True, i < 2])
        ends = slice(i * hop, (i + 1) * hop)
        chunks.append(
            stream.encode(torch.stack([clips[0][:, ends], clips[1][:, ends] if i < 2 else torch.zeros(1, hop)]))
        )
        if i == 1:  # in the middle of it, all goes on elsewhere
            state, stream = stream.state_dict(), codec.stream(2)
            stream.load_state_dict(state)
    stream.active = torch.tensor([True, True])
    rest = Audio(torch.stack([clips[0][:, 3 * hop :], torch.zeros(1, 5)]), torch.tensor([5, 0]), 24000)
    assert Codes.concat([*chunks, stream.flush(rest)]) == codec.encode(clips, 24000)
    stream.load_state_dict({key: state[key] for key in ("encoder", "decoder", "active")})
    assert stream.flush().num_samples.tolist() == [-1, -1], "a state of old does not say how much came before it"


def test_the_first_seconds_are_a_prompt_that_decodes() -> None:
    codec = codec_of("snac_24khz", "small", torch.float64)
    codes = codec.encode([chirp(30000, 24000).double(), chirp(11000, 24000).double()], 24000)
    prompt = codes.frames(0, 8)
    assert codec.decode(prompt).lengths.tolist() == [min(8 * codec.hop_length, n) for n in (30000, 11000)]
    assert Codes.concat([prompt, codes.frames(8)]) == codes


def test_side_values_of_a_clip_stay_with_its_stretches() -> None:
    codes = voiced()
    cut = codes.frames(1, 3)
    assert cut.codes.tolist() == [[[6, 7]], [[2, PAD]]]
    assert torch.equal(cut.side_info["voice"], codes.side_info["voice"])
    assert Codes.concat([codes.frames(0, 1), codes.frames(1)]) == codes
    other = dataclasses.replace(codes, side_info={"voice": codes.side_info["voice"] + 1})
    with pytest.raises(ValueError, match=r"different side values 'voice' do not join in time"):
        Codes.concat([codes, other])
    for use in (lambda: multiscale().frames(0, 4), lambda: Codes.concat([multiscale()] * 2)):
        with pytest.raises(ValueError, match=r"side value 'scale' \[2, 4\] follows time"):
            use()


def test_a_part_that_ends_within_a_slow_frame_is_the_last() -> None:
    whole, cut = of_snac(8), of_snac(7)
    assert Codes.concat([whole, cut]).lengths.tolist() == [15]
    with pytest.raises(
        ValueError,
        match=r"part 0 ends within a frame of the slowest codebook, which spans 4: it has 7 frames of item 0",
    ):
        Codes.concat([cut, whole])


def test_audio_joins_as_codes_do() -> None:
    one, other = Audio.of([chirp(30, 8000), chirp(20, 8000)], 8000), Audio.of([chirp(5, 8000), chirp(9, 8000)], 8000)
    assert Audio.cat([one, other]).lengths.tolist() == [30, 20, 5, 9]
    joined = Audio.concat([one, other])
    assert joined.lengths.tolist() == [35, 29]
    assert torch.equal(joined.split()[1], torch.cat([one.split()[1], other.split()[1]], -1))
    for join in (Audio.cat, Audio.concat):
        with pytest.raises(ValueError, match=r"differs in sample rate \(\[8000, 16000\]\)"):
            join([one, other.resample(16000)])
        with pytest.raises(ValueError, match=r"differs in channel count \(\[1, 2\]\)"):
            join([one, other.mix(2)])
        with pytest.raises(ValueError, match="no audio"):
            join([])
    with pytest.raises(ValueError, match=r"of \[1, 2\] clips does not join in time"):
        Audio.concat([one, other[0]])


# -- indices ------------------------------------------------------------------------------------------


def test_an_index_goes_along_the_axes_of_the_tensor() -> None:
    codes = of_snac(24, 12, 7)
    assert codes[:, :2] == codes.first(2)
    assert codes[..., 4:8] == codes[:, :, 4:8] == codes.frames(4, 8)
    assert codes[1, :, 4:8] == codes[1].frames(4, 8)
    assert codes[1:, :1, :4] == codes[1:].first(1).frames(0, 4)
    assert codes[[2, 0], ...] == codes[[2, 0]]
    assert codes[...] == codes[:, :] == codes
    assert codes[2, 0] == codes[[2, 0]], "a tuple of numbers is items, as ever"


def test_the_bare_tensor_has_a_second_name() -> None:
    codes = of_snac(8)
    assert codes.tensor is codes.codes


# -- comparing ----------------------------------------------------------------------------------------


def changed(of: Codes, /, **changes: Any) -> Codes:
    return dataclasses.replace(of, **changes)


def test_equal_is_what_holds_the_same() -> None:
    codes = multiscale()
    wider = torch.nn.functional.pad(codes.codes, (0, 3), value=7)
    assert codes == multiscale() and codes.equal(multiscale()) and hash(codes) == hash(multiscale())
    assert codes == changed(codes, codes=wider), "what fills the end is nobody's"
    assert Codes.load(_saved(codes)) == codes
    assert {codes: 1}[multiscale()] == 1
    assert codes != 3 and codes != [codes] and codes is not None


def _saved(codes: Codes) -> bytes:
    buffer = io.BytesIO()
    codes.save(buffer)
    return buffer.getvalue()


CHANGES: dict[str, Callable[[Codes], Codes]] = {
    "a code": lambda c: changed(c, codes=c.codes.index_fill(2, torch.tensor([0]), 3)),
    "a length": lambda c: changed(c, lengths=c.lengths - 1),
    "samples": lambda c: changed(c, num_samples=c.num_samples - 1),
    "the rate": lambda c: changed(c, sample_rate=2000),
    "the codec": lambda c: changed(c, codec="another"),
    "a size": lambda c: changed(c, codebook_sizes=(4096, 1024, 1001)),
    "the frame rate": lambda c: changed(c, frame_rate=None),
    "a stride": lambda c: changed(c, strides=(4, 1, 1)),
    "the weights": lambda c: changed(c, weights="random, seed 0"),
    "a side value": lambda c: changed(c, side_info={**c.side_info, "gain": c.side_info["gain"] * 2}),
    "no side value": lambda c: changed(c, side_info={"gain": c.side_info["gain"]}),
    "items": lambda c: c[:1],
    "codebooks": lambda c: c.first(2),
}


@pytest.mark.parametrize("what", CHANGES)
def test_whatever_differs_makes_a_difference(what: str) -> None:
    assert CHANGES[what](multiscale()) != multiscale()


def test_audio_is_equal_if_its_clips_are() -> None:
    audio = Audio.of([chirp(30, 8000), chirp(20, 8000)], 8000)
    wider = Audio(torch.nn.functional.pad(audio.waveform, (0, 5)), audio.lengths, 8000)
    assert audio == wider and audio.equal(wider) and hash(audio) == hash(wider)
    finer = audio.to(torch.float64)
    finer.waveform[0, 0, 3] += 1e-12
    assert audio == audio.to(torch.float64) and audio != finer and finer != audio
    others = [
        audio[0],
        audio.mix(2),
        Audio(audio.waveform, audio.lengths, 16000),
        Audio(audio.waveform * 2, audio.lengths, 8000),
    ]
    assert all(audio != other for other in [*others, Audio(audio.waveform, audio.lengths - 1, 8000), None])


# -- arrays and lists ---------------------------------------------------------------------------------

FORMS: dict[str, Callable[[Codes], Any]] = {
    "numpy": lambda codes: codes.numpy(),
    "numpy, int32": lambda codes: codes.numpy().astype(np.int32),
    "numpy, uint16": lambda codes: codes.numpy().astype(np.uint16),
    "numpy, big-endian": lambda codes: codes.numpy().astype(">i4"),
    "numpy, read-only": lambda codes: np.frombuffer(codes.numpy().tobytes(), np.int64).reshape(codes.codes.shape),
    "torch, int32": lambda codes: codes.tensor.int(),
    "torch, uint16": lambda codes: codes.tensor.to(torch.uint16),
    "lists of numbers": lambda codes: json.loads(json.dumps(codes.tensor.tolist())),
    "a list of arrays": lambda codes: list(codes.numpy()),
    "a list of tensors": lambda codes: list(codes.tensor),
    "a tuple of tensors": lambda codes: tuple(codes.tensor),
}


@pytest.mark.parametrize("form", FORMS)
def test_decode_takes_integers_in_any_form(form: str) -> None:
    codec = codec_of("mimi", "small", torch.float64)
    codes = codec.encode([chirp(8000, 24000).double()] * 2, 24000)
    expected = codec.decode(codes.tensor)
    assert codec.decode(FORMS[form](codes)) == expected
    stream = codec.stream(2)
    assert stream.decode(FORMS[form](codes)) == codec.stream(2).decode(codes)


def test_a_list_of_clips_is_a_ragged_batch() -> None:
    codec = codec_of("mimi", "small", torch.float64)
    codes = codec.encode([chirp(8000, 24000).double(), chirp(3000, 24000).double()], 24000)
    rows = [codes.numpy(0), codes.numpy(1)]
    assert [row.shape for row in rows] == [(codes.num_codebooks, n) for n in codes.lengths.tolist()]
    bare = codec.codes_from_tensor(rows)
    assert torch.equal(bare.lengths, codes.lengths) and torch.equal(bare.codes, codes.codes)
    bytes_free = codec.decode(rows)
    assert bytes_free.lengths.tolist() == (codes.lengths * codec.hop_length).tolist()
    assert codec.decode(json.loads(json.dumps([row.tolist() for row in rows]))) == bytes_free


def test_levels_are_taken_as_snacs_package_gives_them() -> None:
    codec = codec_of("snac_24khz", "small", torch.float64)
    codes = codec.encode([chirp(20480, 24000).double()] * 2, 24000)
    levels = [torch.stack(codes.codebook(k)) for k in range(3)]
    assert [level.shape[-1] for level in levels] == [10, 20, 40]
    for form in (levels, [level.numpy() for level in levels], [level.tolist() for level in levels]):
        bare = codec.codes_from_tensor(form)
        assert torch.equal(bare.codes, codes.codes) and torch.equal(bare.lengths, codes.lengths)
        assert codec.decode(form) == codec.decode(bare)
    two = codec.codes_from_tensor(levels[:2])
    assert torch.equal(two.codes[..., : two.codes.shape[-1]], codes.first(2).codes[..., : two.codes.shape[-1]])


def test_numpy_shows_all_or_one() -> None:
    codes = plain(5, 3)
    assert codes.numpy().tolist() == codes.tensor.tolist() and codes.numpy().dtype == np.int64
    assert codes.numpy(1).tolist() == [[1, 2, 3]] and codes.numpy(-1).shape == (1, 3)


# -- memory -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["array", "tensor", "pair", "dict", "list"])
def test_an_audio_is_not_changed_by_a_buffer_that_is_filled_again(form: str) -> None:
    buffer = np.ones((1, 50), "float32")
    tensor = torch.from_numpy(buffer)
    forms = {"array": buffer, "tensor": tensor, "pair": (buffer, 8000), "list": [buffer]}
    audio = Audio.of(
        forms.get(form, {"array": buffer, "sampling_rate": 8000}), None if form in ("pair", "dict") else 8000
    )
    buffer[:] = 0
    assert bool((audio.waveform == 1).all())


def test_codes_move_whole() -> None:
    codes = load_codec("g711_ulaw", device="cpu").encode(chirp(50, 8000), 8000)
    assert codes.to("cpu", non_blocking=True) == codes.to(torch.device("cpu")) == codes
