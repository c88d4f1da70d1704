"""Qwen3-TTS-Tokenizer-12Hz: golden cases, the end of a clip, both attention windows, upstream's chunks."""

from __future__ import annotations

import copy
import re

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._pytree import tree_map

from codeczoo import BaseCodec, codec_info, load_codec
from codeczoo.base.catalogue import find_variant
from codeczoo.codecs.qwen3_tts import Qwen3TTS
from codeczoo.weights.convert import CheckpointError, convert
from tests.support import golden_weights
from tests.support.golden import assert_audio_agrees, assert_codes_agree, golden_case, golden_codec, golden_state_dict
from tests.support.packagings import Packaging, flat_safetensors, of_transformers
from tests.support.small import codec_of

NAME = "qwen3_tts_tokenizer_12hz"
HOP = 1920

SMALL: dict[str, object] = {
    "dim": 32,
    "codebook_size": 64,
    "codebook_dim": 16,
    "filters": 4,
    "encoder_layers": 2,
    "encoder_heads": 4,
    "encoder_hidden": 48,
    "encoder_window": 20,
    "latent_dim": 40,
    "decoder_layers": 2,
    "decoder_heads": 2,
    "decoder_head_dim": 12,
    "decoder_hidden": 36,
    "decoder_window": 7,
    "decoder_filters": 64,
}
GAIN = 0.7  # larger weights let the generator clip, which hides what differs
LICENCE = "Apache-2.0"
PACKAGINGS = {
    "qwen3_tts": Packaging(NAME, NAME, of_transformers),
    "qwen3_tts, the file alone": Packaging(NAME, NAME, flat_safetensors("model.safetensors")),
}


@pytest.fixture(scope="module")
def codec() -> BaseCodec:
    return golden_codec(NAME, NAME)


@pytest.fixture(scope="module")
def small() -> BaseCodec:
    return codec_of(NAME, "small", torch.float64)


@pytest.fixture(scope="module")
def wanted() -> dict[str, Tensor]:
    """Our parameters' names and shapes."""
    with torch.device("meta"):
        return find_variant(NAME).build().state_dict()


def noise(batch: int, samples: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, 1, samples, generator=generator, dtype=torch.float64) / 10


def test_golden(codec: BaseCodec) -> None:
    """27477 samples: no multiple of the hop."""
    case, _ = golden_case(NAME)
    assert_codes_agree(codec.encode(case["audio"], 24000).codes, case["codes"], case["codes_stable"])
    assert_audio_agrees(codec.decode(case["codes"]).waveform, case["reconstruction"], 2e-5)
    assert_audio_agrees(codec.latents(case["audio"], codec.sample_rate).values, case["latent"], 2e-5)
    assert_audio_agrees(codec.decoder_quantizer.decode(case["codes"]), case["quantized"], 2e-5)


# -- encoder --------------------------------------------------------------------------------------


def long_clip() -> Tensor:
    return torch.from_numpy(golden_weights.audio(f"long/{NAME}", 1, 1, 358200, 24000))


def test_golden_beyond_the_encoders_window(codec: BaseCodec) -> None:
    """14.9 s: attention sees 10 s of it."""
    case, _ = golden_case(NAME, "long")
    codes = codec.encode(long_clip(), 24000)
    assert_codes_agree(codes.codes, case["codes"], case["codes_stable"])
    assert not torch.equal(codes.codes, case["codes_full_attention"])
    tail = case["latent_tail"]
    assert_audio_agrees(codec.latents(long_clip(), codec.sample_rate).values[..., -tail.shape[-1] :], tail, 2e-5)


def test_without_its_window_it_gives_what_upstream_gives_without_it(codec: BaseCodec) -> None:
    """Under the attention that drops the window; the weights are shared, the window is the copy's alone."""
    case, _ = golden_case(NAME, "long")
    other = copy.copy(codec)
    other._modules = {**codec._modules, "encoder_transformer": copy.copy(codec.encoder_transformer)}
    other.encoder_transformer.window = None
    codes = other.encode(long_clip(), 24000)
    assert_codes_agree(codes.codes, case["codes_full_attention"], case["codes_full_attention_stable"])
    assert codec.encoder_transformer.window == 250


def test_a_stream_equals_the_golden_whole_beyond_the_window(codec: BaseCodec) -> None:
    case, _ = golden_case(NAME, "long")
    clip, stream = long_clip(), codec.stream()
    codes, frame = [], 0
    for frames in (2, 50, 5, 60, 1, 1, 3, 4, 60):
        codes.append(stream.encode(clip[..., frame * HOP : (frame + frames) * HOP]).codes)
        frame += frames
    assert frame == clip.shape[-1] // HOP == case["codes"].shape[-1] - 1
    codes.append(stream.flush(clip[..., frame * HOP :]).codes)
    assert_codes_agree(torch.cat(codes, dim=-1), case["codes"], case["codes_stable"])


@pytest.mark.parametrize("samples", [1, 959, 960, 961, 1919, 1920, 1921, 3 * HOP + 5, 3 * HOP + 1000])
def test_a_clip_is_not_filled_up_with_zeros(small: BaseCodec, samples: int) -> None:
    """Zeros behind a clip pass through biases and activations, where the clip alone is padded in each layer: only the
    last frame differs, and only where it is not full."""
    clip = noise(1, samples)
    alone = small.latents(clip, small.sample_rate).values
    filled = small.latents(F.pad(clip, (0, -samples % HOP)), small.sample_rate).values
    assert alone.shape == filled.shape == (1, 32, -(-samples // HOP))
    torch.testing.assert_close(alone[..., :-1], filled[..., :-1], rtol=0, atol=1e-12)
    assert torch.allclose(alone[..., -1], filled[..., -1], rtol=0, atol=1e-12) == (samples % HOP == 0)


def test_the_rests_of_a_ragged_stream_are_those_of_each_clip(small: BaseCodec) -> None:
    """Each item of a flush ends within its last frame by itself, or has ended before it."""
    rests = [0, 1, 960, 1000, 1919]
    clips = noise(len(rests), 4 * HOP)
    stream = small.stream(len(rests))
    before = stream.encode(clips[..., : 2 * HOP])
    rest = small.prepare([clip[:, 2 * HOP : 2 * HOP + n] for clip, n in zip(clips, rests, strict=True) if n], 24000)
    waveform, lengths = clips.new_zeros(len(rests), 1, max(rests)), torch.tensor(rests)
    waveform[1:] = rest.waveform
    last = stream.flush(type(rest)(waveform, lengths, 24000))
    for i, n in enumerate(rests):
        whole = small.encode(clips[i, :, : 2 * HOP + n], 24000).codes
        assert torch.equal(torch.cat([before[i].codes, last[i].codes], dim=-1), whole)


def test_each_item_of_a_stream_starts_with_its_own_first_step(small: BaseCodec) -> None:
    """Before it stands that step again, not silence, whenever the item starts."""
    clips = noise(2, 6 * HOP)
    stream = small.stream(2)
    stream.active = torch.tensor([True, False])
    stream.encode(torch.stack([clips[0, :, : 2 * HOP], torch.full_like(clips[1, :, : 2 * HOP], torch.nan)]))
    stream.active = torch.tensor([True, True])
    codes = stream.encode(torch.stack([clips[0, :, 2 * HOP : 5 * HOP], clips[1, :, : 3 * HOP]]))
    for i, frames in enumerate((slice(2, 5), slice(0, 3))):
        assert torch.equal(codes[i].codes, small.encode(clips[i], 24000).codes[..., frames])


# -- decoder --------------------------------------------------------------------------------------

# Convolutions look back less than 20 frames, so that the last 14 frames of a long clip need no more than these.
SEEN = 34


def test_golden_decode_beyond_the_window(codec: BaseCodec) -> None:
    """310 frames in one piece, of which attention sees 72. `test_golden_chunks` decodes all of them."""
    case, _ = golden_case(NAME, "chunked")
    tail = case["whole_reconstruction_tail"]
    with torch.no_grad():
        latent = codec.decoder.attend(codec.decoder_quantizer.decode(case["codes"]))
        waveform = codec.decoder.synthesise(latent[..., -SEEN:])
    assert_audio_agrees(waveform[..., -tail.shape[-1] :], tail, 2e-5)


def test_golden_stream_beyond_the_window(codec: BaseCodec) -> None:
    """The transformer's state over 310 frames, in pieces of many sizes."""
    case, _ = golden_case(NAME, "chunked")
    vectors, decoder = codec.decoder_quantizer.decode(case["codes"]), codec.decoder
    state, latent = decoder.initial_state(1), []
    with torch.no_grad():
        for piece in vectors.split([1, 2, 90, 5, 1, 160, 1, 1, 49], dim=-1):
            x, state["pre_conv"] = decoder.pre_conv.step(piece, state["pre_conv"])
            x, state["transformer"] = decoder.transformer.step(decoder.narrow(x.mT), state["transformer"])
            latent.append(decoder.widen(decoder.norm(x)).mT)
        assert_audio_agrees(torch.cat(latent, dim=-1), decoder.attend(vectors), 2e-5)


@pytest.mark.slow
def test_golden_chunks(codec: BaseCodec) -> None:
    """All 24.8 s, whole and in upstream's chunks."""
    case, _ = golden_case(NAME, "chunked")
    tail = case["reconstruction_tail"]
    chunked = codec.decode_in_chunks(case["codes"])
    assert chunked.shape[-1] == 310 * HOP
    assert_audio_agrees(chunked[..., -tail.shape[-1] :], tail)
    assert_audio_agrees(codec.decode(case["codes"]).waveform[..., -tail.shape[-1] :], case["whole_reconstruction_tail"])


def test_golden_second_chunk(codec: BaseCodec) -> None:
    """The last 10 of 310 frames, decoded by themselves after the 25 before them."""
    case, _ = golden_case(NAME, "chunked")
    tail = case["reconstruction_tail"][..., -10 * HOP :]
    assert_audio_agrees(codec.decode_in_chunks(case["codes"][..., 275:], 35)[..., -10 * HOP :], tail, 2e-5)


def test_chunks_are_decoded_by_themselves(small: BaseCodec) -> None:
    codes = torch.randint(0, 64, (2, 16, 23), generator=torch.Generator().manual_seed(0))
    whole = small.decode(codes).waveform
    assert torch.equal(small.decode_in_chunks(codes), whole)
    chunked = small.decode_in_chunks(codes, chunk=9, context=2)
    pieces = [(0, 0, 9), (7, 9, 18), (16, 18, 23)]
    for first, start, stop in pieces:
        alone = small.decode(codes[..., first:stop]).waveform
        torch.testing.assert_close(chunked[..., start * HOP : stop * HOP], alone[..., (start - first) * HOP :])
    assert chunked.shape == whole.shape
    assert not torch.allclose(chunked, whole, atol=1e-3)


def test_the_two_sides_have_codebooks_of_their_own(codec: BaseCodec) -> None:
    assert not torch.equal(codec.encoder_quantizer.first.vq.codebooks, codec.decoder_quantizer.first.vq.codebooks)
    assert not torch.equal(codec.encoder_quantizer.rest.vq.codebooks, codec.decoder_quantizer.rest.vq.codebooks)


def test_all_codebooks_or_none(small: BaseCodec) -> None:
    with pytest.raises(ValueError, match=r"16 codebooks .*num_codebooks=8"):
        small.encode(torch.zeros(HOP), 24000, num_codebooks=8)
    few = torch.zeros(1, 8, 2, dtype=torch.int64)
    for decode in (small.decode, small.stream().decode, small.decode_in_chunks):
        with pytest.raises(ValueError, match="decodes 16 codebooks; these codes have 8"):
            decode(few)


def test_a_step_has_fixed_shapes_and_reads_nothing_back() -> None:
    """On the meta device there is nothing to read, so a step that looked at a value would fail here."""
    with torch.device("meta"):
        codec = find_variant(NAME).build().requires_grad_(False)
        chunk, codes = torch.empty(3, 1, HOP), torch.zeros(3, 16, 1, dtype=torch.int64)
    shapes = lambda tree: tree_map(lambda tensor: (tensor.shape, tensor.dtype), tree)  # noqa: E731
    state = codec._stream_encode_start(3)
    out, counts, after = codec._stream_encode_warmup(chunk, state, 16)
    assert (out.shape, counts, shapes(after)) == ((3, 16, 1), None, shapes(state))
    state = codec._stream_decode_start(3)
    out, counts, after = codec._stream_decode_warmup(codes, state)
    assert (out.shape, counts, shapes(after)) == ((3, 1, HOP), None, shapes(state))


# -- checkpoints ----------------------------------------------------------------------------------


def test_a_codebook_is_the_mean_of_what_fell_to_it(wanted: dict[str, Tensor]) -> None:
    """The sum over the count, which is kept from being nothing; in float32 whatever the file is in."""
    published = dict(golden_state_dict(NAME))
    prefix = "decoder.quantizer.rvq_rest.vq.layers.4._codebook."
    usage, total = published[prefix + "cluster_usage"].bfloat16(), published[prefix + "embedding_sum"].bfloat16()
    usage[7] = 0
    published |= {prefix + "cluster_usage": usage, prefix + "embedding_sum": total}
    book = convert(published, wanted, Qwen3TTS.key_maps, NAME)["decoder_quantizer.rest.vq.codebooks"][4]
    assert torch.equal(book[3], total[3].float() / usage[3].float())
    assert torch.equal(book[7], total[7].float() / 1e-5)


@pytest.mark.parametrize(
    "key",
    [
        "encoder.quantizer.acoustic_residual_vector_quantizer.layers.14.codebook.embed_sum",
        "encoder.encoder_transformer.layers.5.self_attn.k_proj.weight",
        "decoder.pre_transformer.layers.7.mlp.gate_proj.weight",
        "decoder.decoder.4.block.4.act2.beta",
    ],
)
def test_a_missing_tensor_is_named_as_its_authors_name_it(key: str, wanted: dict[str, Tensor]) -> None:
    published = {name: value for name, value in golden_state_dict(NAME).items() if name != key}
    with pytest.raises(CheckpointError, match=rf"1 missing: {re.escape(key)}"):
        convert(published, wanted, Qwen3TTS.key_maps, NAME)


def test_the_encoders_other_codebooks_may_be_left_out(wanted: dict[str, Tensor]) -> None:
    """Of the 31 acoustic ones of the file 15 are used."""
    unused = re.compile(r"encoder\..*acoustic.*\.layers\.(\d+)\.codebook")
    published = {
        key: value
        for key, value in golden_state_dict(NAME).items()
        if not ((found := unused.match(key)) and int(found[1]) >= 15)
    }
    assert len(golden_state_dict(NAME)) - len(published) == 16 * 3
    assert convert(published, wanted, Qwen3TTS.key_maps, NAME).keys() == wanted.keys()


@pytest.mark.parametrize("name", ["Qwen/Qwen3-TTS-Tokenizer-12Hz", "Qwen/Qwen3-TTS-12Hz-1.7B-Base", "qwen3_tts"])
def test_names(name: str) -> None:
    info = codec_info(name)
    assert (info.name, info.num_codebooks, info.max_codebooks) == (NAME, 16, 16)
    assert (info.sample_rate, info.frame_rate, info.bitrate) == (24000, 12.5, 2200.0)
    assert (info.causal, info.latency) == (True, 0.08)
    assert (info.code_licence, info.weights_licence) == ("Apache-2.0", "Apache-2.0")


def test_random_weights_run_without_a_checkpoint() -> None:
    codec = load_codec("Qwen/Qwen3-TTS-Tokenizer-12Hz", weights="random", device="cpu")
    codes = codec.encode(torch.zeros(HOP + 1), 24000)
    assert codes.codes.shape == (1, 16, 2)
    assert codec.decode(codes).waveform.shape == (1, 1, HOP + 1)
