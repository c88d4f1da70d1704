"""What every codec promises, over the whole registry.

Each network runs here in float64 with seeded weights and few channels (`SMALL` in its family's test file), so that
equality means equality; `make test-full` runs the same with the published numbers of channels.

The codecs come from fixtures alone (tests/contract/conftest.py), so that a codec of another package can be held to the
same promises: give the fixtures `size`, `codec`, `single`, and `causal` if it streams (see test_template.py).
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from codeczoo import Audio, BaseCodec, Codes, codec_info, list_codecs
from codeczoo.base.resampling import resampled_length


def sound(samples: int, channels: int, seed: int, sample_rate: int) -> torch.Tensor:
    """[C, T] float64: gliding harmonics and noise under an envelope; never silent, never twice the same."""
    r = np.random.default_rng(seed)
    t = np.arange(samples) / sample_rate
    out = np.empty((channels, samples))
    for c in range(channels):
        phase = (
            2
            * np.pi
            * np.cumsum(r.uniform(80, 300) * (1 + 0.2 * np.sin(2 * np.pi * r.uniform(1, 4) * t)))
            / sample_rate
        )
        tone = sum(np.sin(k * phase + r.uniform(0, 6)) / k for k in range(1, 12))
        out[c] = 0.1 * tone * (1 + np.sin(2 * np.pi * 3 * t)) + 0.05 * r.standard_normal(samples)
    return torch.from_numpy(out)


def clips_of(codec: BaseCodec, lengths: list[int], seed: int = 0) -> list[torch.Tensor]:
    return [sound(n, codec.channels[-1], seed + i, codec.sample_rate) for i, n in enumerate(lengths)]


def ragged_lengths(codec: BaseCodec, seconds: float, count: int, seed: int) -> list[int]:
    """`count` lengths from one sample upward, among them a whole number of frames and one sample more or less."""
    r = np.random.default_rng(seed)
    hop = codec.hop_length or codec.sample_rate // 50
    longest = max(int(seconds * codec.sample_rate), 4 * hop)
    odd = [1, hop, hop + 1, 3 * hop - 1]
    return [*odd, *(int(n) for n in r.integers(2, longest, count - len(odd) - 1)), longest]


def assert_same_audio(one: torch.Tensor, other: torch.Tensor, tolerance: float) -> None:
    assert one.shape == other.shape
    peak = max(float(other.abs().max()), 1e-9)
    assert float((one - other).abs().max()) <= tolerance * peak


@pytest.mark.parametrize("seed", [0, 1])
def test_a_ragged_batch_is_only_a_faster_loop(codec: BaseCodec, size: str, seed: int) -> None:
    clips = clips_of(codec, ragged_lengths(codec, 0.6 if size == "full" else 1.5, 8 if seed else 5, seed), 10 * seed)
    batch = codec.encode(clips, codec.sample_rate)
    audio = codec.decode(batch) if codec.supports_decode else None
    for i, clip in enumerate(clips):
        alone = codec.encode(clip, codec.sample_rate)
        assert torch.equal(batch[i].codes, alone.codes), f"clip {i} of {clip.shape[-1]} samples"
        assert int(batch.num_samples[i]) == clip.shape[-1]
        for name, value in alone.side_info.items():
            torch.testing.assert_close(
                batch.side_info[name][i, ..., : value.shape[-1]], value[0], rtol=1e-9, atol=1e-12
            )
        if audio is not None:
            assert_same_audio(audio.split()[i], codec.decode(alone).waveform[0], 1e-9)


def test_audio_comes_back_at_its_own_length(codec: BaseCodec) -> None:
    if not codec.supports_decode:
        pytest.skip("a tokenizer without a decoder")
    lengths = ragged_lengths(codec, 0.4, 6, seed=2)
    audio = codec.decode(codec.encode(clips_of(codec, lengths), codec.sample_rate))
    assert audio.lengths.tolist() == [resampled_length(n, codec.sample_rate, audio.sample_rate) for n in lengths]
    assert audio.sample_rate == codec.output_sample_rate
    behind = torch.arange(audio.waveform.shape[-1]) >= audio.lengths[:, None, None]
    assert not bool(audio.waveform.masked_select(behind).any()), "samples behind an item's length are zero"


def test_reconstruct_keeps_rate_length_and_channels(codec: BaseCodec) -> None:
    if not codec.supports_decode:
        pytest.skip("a tokenizer without a decoder")
    other_rate = 22050 if codec.sample_rate != 22050 else 16000
    clips = [sound(n, 2, n, other_rate).float() for n in (6001, 3500)]
    back = codec.reconstruct(clips, other_rate)
    assert (back.sample_rate, back.channels, back.lengths.tolist()) == (other_rate, 2, [6001, 3500])
    assert bool(torch.isfinite(back.waveform).all())


def test_decode_needs_the_integers_alone(codec: BaseCodec) -> None:
    """A fresh codec of the same weights, which never saw the audio, decodes them: nothing is remembered."""
    if not codec.supports_decode:
        pytest.skip("a tokenizer without a decoder")
    codes = codec.encode(clips_of(codec, [codec.sample_rate // 3]), codec.sample_rate)
    expected = codec.decode(codes)
    plain = codes.codes.clone().to(torch.int32)
    codec.encode(clips_of(codec, [codec.sample_rate // 4], seed=99), codec.sample_rate)  # would overwrite a cache
    if not codes.side_info:
        from_integers = codec.decode(plain)
        shared = min(from_integers.waveform.shape[-1], expected.waveform.shape[-1])  # some drop what fills no frame
        assert_same_audio(from_integers.waveform[0, :, :shared], expected.waveform[0, :, :shared], 1e-9)
    rebuilt = codec.codes_from_tensor(plain, side_info={name: value.clone() for name, value in codes.side_info.items()})
    again = codec.decode(rebuilt)
    shared = min(again.waveform.shape[-1], expected.waveform.shape[-1])
    assert_same_audio(again.waveform[0, :, :shared], expected.waveform[0, :, :shared], 1e-9)


def test_codes_survive_a_file(codec: BaseCodec, tmp_path) -> None:
    codes = codec.encode(clips_of(codec, ragged_lengths(codec, 0.3, 6, seed=3)), codec.sample_rate)
    codes.save(tmp_path / "codes.safetensors")
    loaded = Codes.load(tmp_path / "codes.safetensors")
    assert torch.equal(loaded.codes, codes.codes) and torch.equal(loaded.lengths, codes.lengths)
    assert (loaded.codec, loaded.frame_rate, loaded.strides) == (codes.codec, codes.frame_rate, codes.strides)
    assert torch.equal(loaded.num_bits, codes.num_bits)
    if codec.supports_decode:
        assert torch.equal(codec.decode(loaded).waveform, codec.decode(codes).waveform)


def test_calls_are_deterministic_and_leave_no_state(codec: BaseCodec) -> None:
    clips = clips_of(codec, [codec.sample_rate // 2, 1000])
    before = {name: value.clone() for name, value in codec.state_dict().items()}
    first = codec.encode(clips, codec.sample_rate)
    audio = codec.decode(first).waveform if codec.supports_decode else None
    codec.encode(clips_of(codec, [777, 4321, 1], seed=5), codec.sample_rate)
    second = codec.encode(clips, codec.sample_rate)
    assert torch.equal(first.codes, second.codes)
    if audio is not None:
        assert torch.equal(audio, codec.decode(second).waveform)
    assert all(torch.equal(value, before[name]) for name, value in codec.state_dict().items())
    assert not any(p.requires_grad for p in codec.parameters())


def test_in_passes_equals_in_one_piece(codec: BaseCodec, size: str) -> None:
    """Exact but where a codec says that it is not (attention over everything); there it must still run."""
    seconds = 3.0
    clips = clips_of(codec, [int(seconds * codec.sample_rate) + 123, codec.sample_rate // 2])
    codes = codec.encode(clips, codec.sample_rate)
    whole = codec.decode(codes) if codec.supports_decode else None
    try:
        codec.max_chunk_seconds = 0.9
        in_chunks = codec.encode(clips, codec.sample_rate)
        assert in_chunks.codes.shape == codes.codes.shape
        if "encode" not in codec.approximate_when_long:
            assert torch.equal(in_chunks.codes, codes.codes)
        if whole is not None:
            audio = codec.decode(codes)
            assert audio.lengths.tolist() == whole.lengths.tolist() and bool(torch.isfinite(audio.waveform).all())
            if "decode" not in codec.approximate_when_long:
                assert_same_audio(audio.waveform, whole.waveform, 1e-9)
    finally:
        codec.max_chunk_seconds = None


def test_float32_agrees_with_float64(codec: BaseCodec, single: BaseCodec) -> None:
    clips = clips_of(codec, [codec.sample_rate // 2 + 77])
    truth, codes = codec.encode(clips, codec.sample_rate), single.encode(clips, codec.sample_rate)
    agreement = float((truth.codes == codes.codes).double().mean())
    assert agreement >= 0.97, f"{agreement:.3f} of the codes agree"
    if codec.supports_decode:
        assert_same_audio(single.decode(truth).waveform.double(), codec.decode(truth).waveform, 1e-4)


# -- streaming ------------------------------------------------------------------------------------


def fed_in_chunks(length: int, unit: int, r: np.random.Generator) -> list[int]:
    """Random multiples of `unit` that add up to `length` (itself one)."""
    sizes = []
    while sum(sizes) < length:
        sizes.append(min(unit * int(r.integers(1, 6)), length - sum(sizes)))
    return sizes


# The steps as CUDA graphs have them: over tensors that stay where they are.
@pytest.mark.parametrize(("seed", "cuda_graph"), [(0, False), (1, False), (2, True)])
def test_a_stream_is_only_a_patient_call(causal: BaseCodec, size: str, seed: int, cuda_graph: bool) -> None:
    r = np.random.default_rng(seed)
    hop = causal.hop_length
    length = hop * int(r.integers(12, 20)) + int(r.integers(0, hop))
    clips = torch.stack(clips_of(causal, [length, length], seed))
    whole = causal.encode(clips, causal.sample_rate)
    stream = causal.stream(batch_size=2, cuda_graph=cuda_graph)
    pieces, position = [], 0
    for n in fed_in_chunks(length // hop * hop, hop, r):
        pieces.append(stream.encode(clips[..., position : position + n]))
        position += n
    pieces.append(stream.flush(clips[..., position:]))
    for i in range(2):
        streamed = torch.cat([piece[i].codes for piece in pieces], dim=-1)
        assert torch.equal(streamed, whole[i].codes)

    expected = causal.decode(causal.codes_from_tensor(whole.codes))
    out, position = [], 0
    for n in fed_in_chunks(whole.codes.shape[-1], 1, r):
        out.append(stream.decode(whole.codes[..., position : position + n]))
        position += n
    out.append(stream.drain())
    for i in range(2):
        streamed = torch.cat([piece.split()[i] for piece in out], dim=-1)
        assert_same_audio(streamed, expected.split()[i], 1e-9)


@pytest.mark.parametrize("cuda_graph", [False, True])
def test_items_of_a_stream_pause_and_start_anew_by_themselves(causal: BaseCodec, cuda_graph: bool) -> None:
    """Three items on timetables of their own: one runs on, one pauses, one is put back to its start halfway."""
    r = np.random.default_rng(7)
    hop, steps = causal.hop_length, 16
    clips = torch.stack(clips_of(causal, [hop * steps] * 3, seed=20))
    stream = causal.stream(batch_size=3, cuda_graph=cuda_graph)
    fed, heard, played = [0, 0, 0], [[], [], []], [[], [], []]
    for tick in range(steps):
        stream.active = torch.tensor([True, bool(r.integers(0, 2)), True])
        if tick == steps // 2:
            stream.reset([2])
            fed[2], heard[2], played[2] = 0, [], []
        chunk = torch.stack([clips[i, :, fed[i] * hop : (fed[i] + 1) * hop] for i in range(3)])
        codes = stream.encode(chunk)
        for i in range(3):
            heard[i].append(codes[i].codes)
            fed[i] += int(stream.active[i])
            assert bool(stream.active[i]) or int(codes.lengths[i]) == 0
    stream.active = torch.ones(3, dtype=torch.bool)
    last = stream.flush()
    for i in range(3):
        alone = causal.encode(clips[i, :, : fed[i] * hop], causal.sample_rate)
        assert torch.equal(torch.cat([*heard[i], last[i].codes], dim=-1), alone.codes), f"item {i}"


@pytest.mark.parametrize("cuda_graph", [False, True])
def test_the_state_of_a_stream_can_be_kept(causal: BaseCodec, cuda_graph: bool, tmp_path) -> None:
    hop = causal.hop_length
    clip = clips_of(causal, [hop * 14], seed=3)[0][None]
    stream = causal.stream(cuda_graph=cuda_graph)
    stream.encode(clip[..., : hop * 9])
    torch.save(stream.state_dict(), tmp_path / "state.pt")
    expected = stream.encode(clip[..., hop * 9 :])
    other = causal.stream(cuda_graph=cuda_graph)
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert torch.equal(other.encode(clip[..., hop * 9 :]).codes, expected.codes)


def test_a_codec_that_looks_ahead_refuses_to_stream(codec: BaseCodec) -> None:
    if codec.causal:
        pytest.skip("causal")
    with pytest.raises(ValueError, match="not causal"):
        codec.stream()


# -- names and facts ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list_codecs())
def test_info_is_known_without_weights(name: str) -> None:
    info = codec_info(name)
    assert info.name == name
    assert info.sample_rate in range(8000, 192001)
    assert info.max_codebooks == len(info.codebook_sizes) >= info.num_codebooks >= 1
    assert info.bitrate is None or info.bitrate > 0
    assert info.code_licence != "" and info.weights_licence != ""


def test_rates_are_chosen_and_refused_by_name(codec: BaseCodec) -> None:
    few = codec.codebook_choices[0]
    clip = clips_of(codec, [codec.sample_rate // 4])
    codes = codec.encode(clip, codec.sample_rate, num_codebooks=few)
    assert codes.num_codebooks == few
    rate = codec.bitrate_of(few)
    if rate is not None and codec.hop_length:
        by_rate = codec.encode(clip, codec.sample_rate, bitrate=rate)
        assert torch.equal(by_rate.codes, codes.codes)
    with pytest.raises(ValueError, match=codec.name):
        codec.encode(clip, codec.sample_rate, num_codebooks=len(codec.codebook_sizes) + 8)
    with pytest.raises(ValueError, match="bitrate"):
        codec.encode(clip, codec.sample_rate, bitrate=1.0)


def test_audio_object_equals_bare_tensor(codec: BaseCodec) -> None:
    clip = clips_of(codec, [codec.sample_rate // 4])[0]
    audio = Audio(clip[None], torch.tensor([clip.shape[-1]]), codec.sample_rate)
    assert torch.equal(codec.encode(audio).codes, codec.encode(clip, codec.sample_rate).codes)
