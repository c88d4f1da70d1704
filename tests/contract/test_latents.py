"""The inside of every codec: encode and decode are made of it, and gradients go through it.

In float64 with seeded weights and few channels, as test_registry.py.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from codeczoo import Audio, BaseCodec, load_codec
from tests.contract.test_registry import assert_same_audio, clips_of, ragged_lengths


@pytest.fixture
def inside(codec: BaseCodec) -> BaseCodec:
    """The codec, if it has latents."""
    if not codec.latent_dim:
        pytest.skip("no latents")
    return codec


@pytest.fixture
def with_decoder(inside: BaseCodec) -> BaseCodec:
    if not inside.supports_decode:
        pytest.skip("no decoder")
    return inside


def two_clips(codec: BaseCodec) -> Audio:
    """A ragged batch of a few frames."""
    hop = codec.hop_length or 1
    return Audio.of(clips_of(codec, [max(3 * hop + 5, 700), 2 * hop], seed=3), codec.sample_rate)


# -- the parts make the whole ---------------------------------------------------------------------


def test_encode_is_quantize_of_latents(inside: BaseCodec) -> None:
    clips = clips_of(inside, ragged_lengths(inside, 0.4, 5, seed=0))
    latents = inside.latents(clips, inside.sample_rate)
    assert latents.values.shape == (5, inside.latent_dim, int(latents.lengths.max()))
    assert not bool(latents.values[~latents.mask[:, None].expand_as(latents.values)].any())
    assert latents.num_samples.tolist() == [clip.shape[-1] for clip in clips]
    given = latents.values.clone()
    for count in {inside.codebook_choices[0], inside.num_codebooks}:
        codes, expected = inside.quantize(latents, count), inside.encode(clips, inside.sample_rate, count)
        assert torch.equal(codes.codes, expected.codes) and torch.equal(codes.lengths, expected.lengths)
        assert torch.equal(codes.num_samples, expected.num_samples) and codes.weights == expected.weights
        assert codes.side_info.keys() == expected.side_info.keys()
        for name, value in expected.side_info.items():
            torch.testing.assert_close(codes.side_info[name], value, rtol=0, atol=0, equal_nan=True)
    assert torch.equal(latents.values, given)


def test_decode_is_synthesize_of_vectors(with_decoder: BaseCodec) -> None:
    codec = with_decoder
    latents = codec.latents(clips_of(codec, ragged_lengths(codec, 0.4, 5, seed=0)), codec.sample_rate)
    codes = codec.quantize(latents)
    vectors, expected = codec.vectors(codes), codec.decode(codes)
    assert vectors.values.shape == (5, codec.vector_dim, int(vectors.lengths.max()))
    given = vectors.values.clone()
    audio = codec.synthesize(vectors)
    assert torch.equal(audio.waveform, expected.waveform) and torch.equal(audio.lengths, expected.lengths)
    assert torch.equal(vectors.values, given)
    assert torch.equal(codec.straight_through(latents).values, vectors.values)


def test_latents_of_a_ragged_batch_are_those_of_each_clip(inside: BaseCodec) -> None:
    clips = clips_of(inside, ragged_lengths(inside, 0.4, 5, seed=1))
    batch = inside.latents(clips, inside.sample_rate)
    scale = float(batch.values.abs().max())
    for i in (0, 3, 4):
        alone = inside.latents(clips[i], inside.sample_rate)
        assert alone.lengths.tolist() == [int(batch.lengths[i])]
        torch.testing.assert_close(batch[i].values / scale, alone.values / scale, rtol=0, atol=1e-9)


def test_a_long_clip_goes_in_the_same_chunks(inside: BaseCodec) -> None:
    """Codes to the bit. Vectors of a chunk and of a clip are sums in another order, and so audio agrees to rounding."""
    codec, clips = inside, clips_of(inside, [int(1.1 * inside.sample_rate) + 77, inside.sample_rate // 9])
    try:
        codec.max_chunk_seconds = 0.4
        codes = codec.encode(clips, codec.sample_rate)
        assert torch.equal(codec.quantize(codec.latents(clips, codec.sample_rate)).codes, codes.codes)
        if codec.supports_decode:
            audio = codec.synthesize(codec.vectors(codes))
            assert_same_audio(audio.waveform, codec.decode(codes).waveform, 1e-9)
    finally:
        codec.max_chunk_seconds = None


def test_codebooks_are_the_tables_of_the_codes(inside: BaseCodec) -> None:
    tables = inside.codebooks
    assert [len(table) for table in tables] == list(inside.codebook_sizes)
    assert all(table.is_floating_point() and bool(torch.isfinite(table).all()) for table in tables)
    codes = inside.encode(two_clips(inside))
    rows = inside.vectors(codes, per_codebook=True)
    assert rows.values.shape[:3] == (2, codes.num_codebooks, tables[0].shape[1])
    for k, table in enumerate(tables[: codes.num_codebooks]):
        for i, own in enumerate(codes.codebook(k)):
            assert torch.equal(rows.values[i, k, :, : len(own)].T, table[own])
            assert not bool(rows.values[i, k, :, len(own) :].any())


# -- gradients ------------------------------------------------------------------------------------


def agree(function: Callable[[Tensor], Tensor], at: Tensor) -> None:
    """The gradient of `function` with its differences, along a random direction."""
    torch.manual_seed(0)
    at = at.detach().clone().requires_grad_()
    torch.autograd.gradcheck(function, (at,), fast_mode=True, atol=1e-6, rtol=1e-3)


def test_latents_have_a_gradient_for_the_audio(inside: BaseCodec) -> None:
    audio = two_clips(inside)

    def latents(waveform: Tensor) -> Tensor:
        with inside.gradients():
            return inside.latents(Audio(waveform, audio.lengths, audio.sample_rate)).values

    agree(latents, audio.waveform)


def test_audio_has_a_gradient_for_what_the_decoder_takes(with_decoder: BaseCodec) -> None:
    codec = with_decoder
    vectors = codec.vectors(codec.encode(two_clips(codec)))

    def synthesize(values: Tensor) -> Tensor:
        with codec.gradients():
            return codec.synthesize(vectors.with_values(values)).waveform

    noise = torch.randn(vectors.values.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    agree(synthesize, vectors.values + 0.01 * noise)


def test_the_gradient_passes_the_quantiser_of_each_item_and_its_frames(with_decoder: BaseCodec) -> None:
    codec = with_decoder
    latents = codec.latents(two_clips(codec))
    values = latents.values.clone().requires_grad_()
    with codec.gradients():
        vectors = codec.straight_through(latents.with_values(values))
        vectors.values.sin().sum().backward()
    gradient = values.grad
    assert gradient is not None and bool(torch.isfinite(gradient).all())
    assert torch.equal(gradient.abs().amax(1) > 0, latents.mask)
    assert torch.equal(vectors.values, codec.vectors(codec.quantize(latents)).values)


def test_parameters_learn_in_training_mode_and_are_frozen_otherwise(single: BaseCodec) -> None:
    if not single.latent_dim or not single.supports_decode:
        pytest.skip("no latents or no decoder")
    codec, audio = copy.deepcopy(single), two_clips(single).to(torch.float32)
    codes = codec.encode(audio)
    assert not codec.decode(codes).waveform.requires_grad
    with codec.gradients():
        assert not codec.decode(codes).waveform.requires_grad, "nothing asks for a gradient"
    codec.train().requires_grad_()
    with codec.gradients():
        codec.synthesize(codec.straight_through(codec.latents(audio))).waveform.square().sum().backward()
    assert not codec.decode(codes).waveform.requires_grad, "outside nothing is recorded"
    learned = [name for name, one in codec.named_parameters() if one.grad is not None and bool(one.grad.any())]
    assert len(learned) >= 0.5 * len(list(codec.parameters()))
    assert all(bool(torch.isfinite(one.grad).all()) for one in codec.parameters() if one.grad is not None)


# -- where there is none --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "reason"), [("g711_ulaw", "logarithmic scale"), ("opus_12k", "bytes of a compressed file")]
)
def test_a_classical_codec_says_why_it_has_no_latents(name: str, reason: str) -> None:
    codec = load_codec(name, device="cpu")
    audio = clips_of(codec, [2000])[0].float()
    codes = codec.encode(audio, codec.sample_rate)
    for ask in (
        lambda: codec.latents(audio, codec.sample_rate),
        lambda: codec.quantize(torch.zeros(1, 1, 1)),
        lambda: codec.vectors(codes),
        lambda: codec.vectors(codes, per_codebook=True),
        lambda: codec.synthesize(torch.zeros(1, 1, 1)),
        lambda: codec.straight_through(torch.zeros(1, 1, 1)),
        lambda: codec.codebooks,
    ):
        with pytest.raises(NotImplementedError, match=f"{name} has no latents: .*{reason}"):
            ask()
