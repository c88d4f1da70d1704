"""Hooks of a codec by size of batch: all of `compile=True` but the capture itself, which takes CUDA. What a graph may
not do is tested on the fake device (tests/contract/test_graph_devices.py)."""

from __future__ import annotations

import copy
import pickle
import warnings

import pytest
import torch

from codeczoo import Audio, BaseCodec, Codes, load_codec
from codeczoo.base.buckets import frames_above, rows_above
from codeczoo.base.graphs import MAX_SECONDS, SIGHTINGS, Graphs
from tests.contract.test_registry import assert_same_audio, clips_of
from tests.support.command_line import run
from tests.support.small import codec_of

FAMILIES = ["mimi", "dac_44k", "encodec_24k", "wavtokenizer_small_40", "snac_24khz", "audiodec_24k"]


def with_graphs(name: str, dtype: torch.dtype = torch.float64, most: int = 32) -> BaseCodec:
    codec = copy.deepcopy(codec_of(name, "small", dtype))
    codec.graphs = Graphs(most, everywhere=True)
    return codec


def graphs_of(codec: BaseCodec) -> Graphs:
    assert codec.graphs is not None
    return codec.graphs


@pytest.mark.parametrize("name", FAMILIES)
def test_batches_through_buckets_are_what_they_are_without(name: str) -> None:
    """Ragged, dense, alone, in every bucket twice and once more."""
    plain, codec = codec_of(name, "small", torch.float64), with_graphs(name)
    hop = codec.hop_length or 1
    for lengths in ([13 * hop + 7, 9 * hop, 4 * hop + 1], [7 * hop - 3], [16 * hop] * 2, [15 * hop + 1, 16 * hop]):
        for turn in range(SIGHTINGS + 1):
            clips = clips_of(codec, lengths, seed=turn)
            codes, expected = codec.encode(clips, codec.sample_rate), plain.encode(clips, codec.sample_rate)
            assert torch.equal(codes.codes, expected.codes), f"{lengths}, turn {turn}"
            assert torch.equal(codes.lengths, expected.lengths)
            audio, truth = codec.decode(codes), plain.decode(expected)
            assert torch.equal(audio.lengths, truth.lengths)
            assert_same_audio(audio.waveform, truth.waveform, 1e-9)
    assert {bucket.side for bucket in graphs_of(codec).buckets} == {"encode", "decode"}
    assert not graphs_of(codec).refused


def test_side_values_go_along() -> None:
    """FunCodec's levels, and fewer codebooks than all."""
    name = "funcodec_en_libritts_16k_nq32ds320"
    plain, codec = codec_of(name, "small", torch.float64), with_graphs(name)
    hop, count = codec.hop_length or 1, codec.codebook_choices[1]
    for seed in range(SIGHTINGS + 1):
        clips = clips_of(codec, [9 * hop, 5 * hop], seed=seed)
        codes = codec.encode(clips, codec.sample_rate, num_codebooks=count)
        expected = plain.encode(clips, codec.sample_rate, num_codebooks=count)
        assert torch.equal(codes.codes, expected.codes)
        assert codes.side_info.keys() == expected.side_info.keys() != set()
        for key, value in codes.side_info.items():
            torch.testing.assert_close(value, expected.side_info[key], rtol=1e-12, atol=0)
        assert_same_audio(codec.decode(codes).waveform, plain.decode(expected).waveform, 1e-9)
    assert len(graphs_of(codec)) == 2


def test_buckets_are_few_and_not_much_larger_than_what_goes_into_them() -> None:
    for n in range(1, 5000):
        assert n <= frames_above(n) < 1.19 * n + 1
        assert n <= rows_above(n) <= 1.5 * n
        assert frames_above(frames_above(n)) == frames_above(n)
        assert rows_above(rows_above(n)) == rows_above(n)
    assert len({frames_above(n) for n in range(1, 5000)}) < 50
    assert [rows_above(n) for n in (1, 2, 3, 4, 5, 6, 7, 8, 9, 200)] == [1, 2, 3, 4, 6, 6, 8, 8, 12, 256]


def test_a_bucket_is_captured_when_it_comes_again() -> None:
    codec = with_graphs("encodec_24k")
    hop, graphs = codec.hop_length or 1, graphs_of(codec)
    codec.encode(clips_of(codec, [9 * hop]), codec.sample_rate)
    assert len(graphs) == 0
    codec.encode(clips_of(codec, [9 * hop + 1]), codec.sample_rate)
    assert [str(bucket) for bucket in graphs.buckets] == ["encode 1 x 3200 samples, 8 codebooks, ragged"]


def test_no_more_graphs_than_asked_for_and_the_oldest_goes_first() -> None:
    codec = with_graphs("encodec_24k", most=2)
    hop, graphs = codec.hop_length or 1, graphs_of(codec)
    for frames in (9, 9, 15, 15, 9, 30, 30):
        codec.encode(clips_of(codec, [frames * hop]), codec.sample_rate)
        assert len(graphs) <= 2
    assert [bucket.steps // hop for bucket in graphs.buckets] == [10, 32]
    with pytest.raises(ValueError, match="most must be one graph or more; it is 0"):
        Graphs(0)


def test_after_a_warm_up_no_graph_is_made() -> None:
    codec = with_graphs("encodec_24k")
    hop, graphs = codec.hop_length or 1, graphs_of(codec)
    seconds = 12.5 * hop / codec.sample_rate
    assert codec.warm_up(seconds, batch_size=4) == 2
    before = graphs.buckets
    for lengths in ([12 * hop, 13 * hop, 3 * hop, hop], [13 * hop] * 4, [12 * hop + 1, 1, hop]):
        codes = codec.encode(clips_of(codec, (lengths * 2)[:4]), codec.sample_rate)
        codec.decode(codes)
    assert set(graphs.buckets) == set(before)
    assert codec.warm_up(seconds, batch_size=4) == 0
    assert codec.warm_up(16 * hop / codec.sample_rate, batch_size=4) == 4  # that long fills its bucket
    assert codec.warm_up(seconds, 4, num_codebooks=2) == 2


def test_a_warm_up_needs_no_graphs_and_refuses_nonsense() -> None:
    codec = codec_of("encodec_24k", "small", torch.float64)
    assert codec.warm_up(0.05, batch_size=1) == 0
    with pytest.raises(ValueError, match="seconds must be greater than zero; they are 0"):
        codec.warm_up(0)
    with pytest.raises(ValueError, match="batch_size must be 1 or more; it is 0"):
        codec.warm_up(1, batch_size=0)


def test_what_a_graph_gives_is_the_callers_own() -> None:
    codec = with_graphs("encodec_24k")
    hop = codec.hop_length or 1
    for seed in range(SIGHTINGS):
        codes = codec.encode(clips_of(codec, [9 * hop], seed=seed), codec.sample_rate)
        audio = codec.decode(codes)
    kept = codes.codes.clone(), codes.lengths.clone(), audio.waveform.clone()
    codec.decode(codec.encode(clips_of(codec, [9 * hop - 3], seed=7), codec.sample_rate))
    assert len(graphs_of(codec)) == 2
    for value, before in zip((codes.codes, codes.lengths, audio.waveform), kept, strict=True):
        assert torch.equal(value, before)


def test_another_arithmetic_has_graphs_of_its_own() -> None:
    codec = with_graphs("encodec_24k", torch.float32)
    hop, graphs = codec.hop_length or 1, graphs_of(codec)
    clips = clips_of(codec, [9 * hop])
    for precision in ("exact", "fast", "fastest"):
        codec.precision = precision
        for _ in range(SIGHTINGS):
            codec.encode(clips, codec.sample_rate)
    assert len(graphs) == 3
    codec.double()
    assert len(graphs) == 0
    codec.precision = "exact"
    for _ in range(SIGHTINGS + 1):
        codes = codec.encode(clips, codec.sample_rate)
    assert torch.equal(codes.codes, codec_of("encodec_24k", "small", torch.float64).encode(clips, 24000).codes)


def test_new_weights_do_not_run_in_old_graphs() -> None:
    """Neither those that are written over the old ones, nor those that take their place."""
    codec, donor = with_graphs("encodec_24k"), copy.deepcopy(codec_of("encodec_24k", "small", torch.float64))
    clips = clips_of(codec, [9 * (codec.hop_length or 1)])
    for scale, assign in ((1.0, False), (1.1, False), (1.2, True)):
        for parameter in donor.parameters():
            parameter.mul_(scale)
        codec.load_state_dict(copy.deepcopy(donor.state_dict()), assign=assign)
        for _ in range(SIGHTINGS + 1):
            codes = codec.encode(clips, codec.sample_rate)
        assert torch.equal(codes.codes, donor.encode(clips, codec.sample_rate).codes)


def test_a_users_settings_count() -> None:
    plain, codec = copy.deepcopy(codec_of("snac_24khz", "small", torch.float64)), with_graphs("snac_24khz")
    codes = plain.encode(clips_of(codec, [9 * (codec.hop_length or 1)]), codec.sample_rate)
    for seed in (0, 1, None):
        plain.noise_seed = codec.noise_seed = seed
        for _ in range(SIGHTINGS + 1):
            assert_same_audio(codec.decode(codes).waveform, plain.decode(codes).waveform, 1e-9)


def test_a_copy_has_no_graphs_yet_and_shares_none() -> None:
    codec = with_graphs("encodec_24k", most=5)
    codec.warm_up(0.05, batch_size=1)
    for other in (copy.deepcopy(codec), pickle.loads(pickle.dumps(codec))):
        assert (len(graphs_of(other)), graphs_of(other).most) == (0, 5)
    assert len(graphs_of(codec)) >= 2


def test_gradients_latents_and_long_clips_go_without() -> None:
    codec, plain = with_graphs("encodec_24k"), codec_of("encodec_24k", "small", torch.float64)
    hop = codec.hop_length or 1
    clips = clips_of(codec, [9 * hop])
    for _ in range(SIGHTINGS):
        latents = codec.latents(clips, codec.sample_rate)
        with codec.gradients():
            values = latents.values.clone().requires_grad_()
            codec.synthesize(latents.with_values(values)).waveform.sum().backward()
        assert values.grad is not None
        assert torch.equal(latents.values, plain.latents(clips, codec.sample_rate).values)
    codec.max_chunk_seconds = 20 * hop / codec.sample_rate
    long = clips_of(codec, [33 * hop])
    for _ in range(SIGHTINGS):
        assert torch.equal(codec.encode(long, 24000).codes, plain.encode(long, 24000).codes)
    assert len(graphs_of(codec)) == 0


def test_a_batch_larger_than_gains_goes_without(monkeypatch) -> None:
    codec = with_graphs("encodec_24k")
    hop = codec.hop_length or 1
    assert MAX_SECONDS > 8 * 11.5, "8 clips of 10 s have a graph"
    monkeypatch.setattr("codeczoo.base.graphs.MAX_SECONDS", 30 * hop / codec.sample_rate)
    assert codec.warm_up(9 * hop / codec.sample_rate, batch_size=4) == 0
    assert codec.warm_up(9 * hop / codec.sample_rate, batch_size=3) == 2


def test_in_inference_mode_and_outside() -> None:
    codec = with_graphs("encodec_24k")
    clips = clips_of(codec, [9 * (codec.hop_length or 1)])
    with torch.inference_mode():
        codec.warm_up(0.1, batch_size=1)
        found = [codec.encode(clips, codec.sample_rate).codes for _ in range(SIGHTINGS + 1)]
    found += [codec.encode(clips, codec.sample_rate).codes]
    assert all(torch.equal(codes, found[0]) for codes in found)


def test_what_cannot_be_captured_runs_as_it_is_and_is_told_once() -> None:
    codec = with_graphs("encodec_24k")
    truth = codec_of("encodec_24k", "small", torch.float64)
    hook = codec._encode

    def breaks(waveform: torch.Tensor, lengths: torch.Tensor, num_codebooks: int) -> object:
        if waveform.shape[-1] == 10 * hop:  # its bucket
            raise RuntimeError("operation not permitted when stream is capturing")
        return hook(waveform, lengths, num_codebooks)

    hop = codec.hop_length or 1
    codec._encode = breaks  # type: ignore[method-assign,assignment]
    clips = clips_of(codec, [9 * hop])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(SIGHTINGS + 2):
            assert torch.equal(codec.encode(clips, 24000).codes, truth.encode(clips, 24000).codes)
    told = [str(warning.message) for warning in caught if "without a graph" in str(warning.message)]
    assert len(told) == 1
    assert "encode of ragged batches runs without a graph: RuntimeError: operation not permitted" in told[0]
    assert graphs_of(codec).refused == {
        "encode ragged": "RuntimeError: operation not permitted when stream is capturing"
    }
    assert "without a graph: encode ragged: RuntimeError" in repr(graphs_of(codec))


@pytest.mark.filterwarnings("ignore:.*runs without a graph")
def test_what_has_another_shape_for_other_lengths_runs_as_it_is() -> None:
    """FunCodec's groups of frequencies run clip by clip."""
    name = "funcodec_en_libritts_16k_gr1nq32ds320"
    plain, codec = codec_of(name, "small", torch.float64), with_graphs(name)
    hop = codec.hop_length or 1
    for lengths in ([5 * hop, 3 * hop], [5 * hop, 5 * hop - 1], [6 * hop - 1, 6 * hop - 2], [5 * hop, 2 * hop]):
        clips = clips_of(codec, lengths)
        assert torch.equal(codec.encode(clips, 16000).codes, plain.encode(clips, 16000).codes)
    codec = with_graphs(name)
    for lengths in ([10 * hop, 3 * hop], [10 * hop, 9 * hop], [9 * hop, 9 * hop - 1]):
        clips = clips_of(codec, lengths)
        assert torch.equal(codec.encode(clips, 16000).codes, plain.encode(clips, 16000).codes)
    assert graphs_of(codec).refused == {
        "encode ragged": "the shape of what it gives depends on the lengths of the clips"
    }


def test_on_a_cpu_compile_changes_nothing_and_says_so(monkeypatch) -> None:
    monkeypatch.setattr("codeczoo.base.warn_once._given", set())
    with pytest.warns(UserWarning, match="compile=True captures CUDA graphs: g711_ulaw is on cpu, where it changes"):
        codec = load_codec("g711_ulaw", device="cpu", compile=True)
    assert codec.warm_up(0.1) == 0
    assert len(graphs_of(codec)) == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_codec("g711_ulaw", device="cpu", compile=True)
    assert load_codec("g711_ulaw", device="cpu").graphs is None


def test_commands_take_it(tmp_path, monkeypatch) -> None:
    """On a CPU each says that it changes nothing there; codes are those without."""
    Audio(torch.rand(1, 1, 8000) - 0.5, torch.tensor([8000]), 8000).save(tmp_path / "a.wav")
    arguments = ["--codec", "g711_ulaw", "--device", "cpu", "--quiet", "-o"]
    assert run("encode", tmp_path / "a.wav", *arguments, tmp_path / "a.codes.safetensors") == 0
    monkeypatch.setattr("codeczoo.base.warn_once._given", set())
    with pytest.warns(UserWarning, match="compile=True captures CUDA graphs"):
        assert run("encode", tmp_path / "a.wav", *arguments, tmp_path / "b.codes.safetensors", "--compile") == 0
    plain, compiled = (Codes.load(tmp_path / f"{name}.codes.safetensors") for name in "ab")
    assert torch.equal(plain.codes, compiled.codes)
    monkeypatch.setattr("codeczoo.base.warn_once._given", set())
    with pytest.warns(UserWarning, match="compile=True captures CUDA graphs"):
        assert (
            run("decode", tmp_path / "a.codes.safetensors", "--device", "cpu", "-o", tmp_path / "c.wav", "--compile")
            == 0
        )
    assert Audio.load(tmp_path / "c.wav").lengths.tolist() == [8000]
