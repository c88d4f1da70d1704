"""`Latents`, what the inside of a codec refuses, and a fit through a decoder."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
import torch

from codeczoo import BaseCodec, Latents
from tests.contract.test_registry import clips_of
from tests.support.small import codec_of


@pytest.fixture(scope="module")
def codec() -> BaseCodec:
    return codec_of("mimi", "small", torch.float64)


@pytest.fixture(scope="module")
def latents(codec: BaseCodec) -> Latents:
    return codec.latents(clips_of(codec, [6000, 3000, 4000]), codec.sample_rate)


def test_they_say_what_they_are(codec: BaseCodec, latents: Latents) -> None:
    size = codec.latent_dim
    assert repr(latents) == f"Latents(mimi: 3 x {size} x 2 to 4 frames, 12.5 Hz, torch.float64, cpu)"
    assert (len(latents), latents.lengths.tolist(), latents.weights) == (3, [4, 2, 3], "random, seed 0")
    assert [part.shape for part in latents.split()] == [(size, 4), (size, 2), (size, 3)]


def test_they_index_join_and_move(latents: Latents) -> None:
    assert latents[1].values.shape[-1] == 2 and [item.lengths.item() for item in latents] == [4, 2, 3]
    again = Latents.cat(list(latents))
    assert torch.equal(again.values, latents.values) and torch.equal(again.num_samples, latents.num_samples)
    assert latents.to(torch.float32).values.dtype == torch.float32
    assert latents.cpu().codec == "mimi"
    with pytest.raises(ValueError, match="do not join"):
        Latents.cat([latents, replace(latents, codec="dac_44k")])


def test_values_of_another_shape_are_refused(codec: BaseCodec, latents: Latents) -> None:
    with pytest.raises(ValueError, match=r"values must be \[3, D, 4\]; their shape is \(3, 8, 5\)"):
        latents.with_values(torch.zeros(3, 8, 5))
    with pytest.raises(ValueError, match=rf"mimi: its latents are \[B, {codec.latent_dim}, N\].* \(1, 3, 4\)"):
        codec.quantize(torch.zeros(1, 3, 4))
    with pytest.raises(ValueError, match=rf"mimi: its vectors are \[B, {codec.vector_dim}, N\]"):
        codec.synthesize(torch.zeros(1, 3, 4))
    with pytest.raises(TypeError, match=r"floating point tensor \[B, D, N\]; this is torch.int64"):
        codec.synthesize(torch.zeros(1, 3, 4, dtype=torch.int64))
    with pytest.raises(ValueError, match="no frames in item 0"):
        codec.quantize(torch.zeros(1, codec.latent_dim, 0))


def test_others_are_refused(codec: BaseCodec, latents: Latents) -> None:
    with pytest.raises(ValueError, match="made by dac_44k; mimi cannot take them"):
        codec.quantize(replace(latents, codec="dac_44k"))
    other = replace(latents, weights="random, seed 1")
    with pytest.raises(ValueError, match=r"other weights \(random, seed 1\) than the codec has \(random, seed 0\)"):
        codec.quantize(other)
    insisted = codec.quantize(other, allow_other_weights=True)
    assert torch.equal(insisted.codes, codec.quantize(latents).codes)
    values = latents.values.clone()
    values[1, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="latents of item 1 hold NaN"):
        codec.quantize(latents.with_values(values))


def test_a_bare_tensor_will_do(codec: BaseCodec, latents: Latents) -> None:
    full = latents[0].values
    assert torch.equal(codec.quantize(full).codes, codec.quantize(latents[0]).codes)
    vectors = codec.vectors(codec.quantize(full).codes)
    assert vectors.weights is None and vectors.num_samples.tolist() == [-1]
    assert torch.equal(codec.synthesize(vectors.values).waveform, codec.synthesize(vectors).waveform)


def test_a_side_value_that_is_missing_is_named() -> None:
    codec = codec_of("bicodec", "small", torch.float64)
    latents = codec.latents(clips_of(codec, [8000]), codec.sample_rate)
    with pytest.raises(ValueError, match=r"bicodec: latents need the side value 'voice_latents'.*they have none"):
        codec.quantize(latents.values)
    with pytest.raises(ValueError, match=r"bicodec: vectors need the side value 'voice'.*they have none"):
        codec.synthesize(codec.vectors(codec.quantize(latents)).values)


def test_a_tokenizer_has_latents_and_tables_and_says_why_no_vectors() -> None:
    codec = codec_of("s3tokenizer_v2_25hz", "small", torch.float64)
    codes = codec.encode(clips_of(codec, [8000]), codec.sample_rate)
    assert codec.vectors(codes, per_codebook=True).values.shape[2] == codec.codebooks[0].shape[1]
    for ask in (codec.vectors, codec.synthesize, codec.straight_through):
        with pytest.raises(NotImplementedError, match="cannot decode: it is a tokenizer of content alone"):
            ask(codes)


@pytest.mark.parametrize("name", ["mimi", "dac_44k", "encodec_24k", "wavtokenizer_small_40"])
def test_a_clip_is_fitted_through_the_decoder(name: str) -> None:
    """From the vectors of another clip, ten steps of Adam."""
    codec = codec_of(name, "small", torch.float64)
    target, start = clips_of(codec, [3000, 3000])
    goal = codec.decode(codec.encode(target, codec.sample_rate)).waveform
    vectors = codec.vectors(codec.encode(start, codec.sample_rate))
    values = vectors.values.clone().requires_grad_()
    optimiser, losses = torch.optim.Adam([values], lr=float(values.detach().std()) / 10), []
    for _ in range(10):
        with codec.gradients():
            loss = (codec.synthesize(vectors.with_values(values)).waveform - goal).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


def test_gradients_are_for_the_codec_and_the_thread_that_asked(codec: BaseCodec, latents: Latents) -> None:
    values = latents.values.clone().requires_grad_()
    other, recorded = codec_of("encodec_24k", "small", torch.float64), []

    def work() -> None:
        recorded.append(codec.synthesize(latents.with_values(values)).waveform.requires_grad)

    with codec.gradients():
        assert codec.synthesize(latents.with_values(values)).waveform.requires_grad
        theirs = torch.zeros(1, other.vector_dim, 3, dtype=torch.float64, requires_grad=True)
        assert not other.synthesize(theirs).waveform.requires_grad
        with torch.no_grad():
            assert not codec.synthesize(latents.with_values(values)).waveform.requires_grad
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert recorded == [False]
    assert not codec.synthesize(latents.with_values(values)).waveform.requires_grad
    with torch.no_grad(), codec.gradients():
        assert codec.synthesize(latents.with_values(values)).waveform.requires_grad


def test_nothing_is_recorded_in_inference_mode_and_that_is_said(codec: BaseCodec) -> None:
    with torch.inference_mode(), pytest.raises(RuntimeError, match=r"leave it before codec.gradients\(\)"):
        codec.gradients().__enter__()


def test_constants_of_an_inference_mode_are_no_obstacle() -> None:
    """Windows and filters are made once; made in inference mode they could not be saved for gradients."""
    codec = codec_of("xcodec2_16k", "small", torch.float64)
    (clip,) = clips_of(codec, [4000])
    with torch.inference_mode():
        codec.latents(clip, codec.sample_rate)
    clip.requires_grad_()
    with codec.gradients():
        codec.latents(clip, codec.sample_rate).values.sum().backward()
    assert clip.grad is not None and bool(clip.grad.any())
