"""Mimi: golden cases in both namings and every spelling, its split quantiser, and its stream beyond the window."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from codeczoo import BaseCodec, codec_info, load_codec
from codeczoo.base.catalogue import find_variant
from codeczoo.codecs.mimi import Mimi
from codeczoo.weights.convert import CheckpointError, convert
from tests.support import golden_weights
from tests.support.golden import assert_audio_agrees, assert_codes_agree, golden_case, golden_codec, golden_state_dict
from tests.support.packagings import HF, Packaging, flat_safetensors, of_transformers
from tests.support.small import codec_of

HOP = 1920
CASES = [("public", "manifest.json"), ("public_hf", "manifest_hf.json")]

# -- for the tests of all families (tests/support/declarations.py) --------------------------------

SMALL: dict[str, object] = {
    "filters": 4,
    "dim": 32,
    "num_layers": 2,
    "num_heads": 4,
    "hidden_dim": 48,
    "window": 20,
    "codebook_dim": 16,
}
LICENCE = "CC-BY-4.0"

PACKAGINGS = {
    "mimi": Packaging("mimi", "mimi", flat_safetensors("tokenizer-e351c8d8-checkpoint125.safetensors")),
    "mimi of transformers": Packaging("mimi", "mimi", of_transformers, HF),
}


@pytest.fixture(scope="module")
def codec() -> BaseCodec:
    return golden_codec("mimi", "mimi")


@pytest.fixture(scope="module")
def small() -> BaseCodec:
    return codec_of("mimi", "small", torch.float64)


@pytest.fixture(scope="module")
def wanted() -> dict[str, Tensor]:
    """Our parameters' names and shapes."""
    with torch.device("meta"):
        return find_variant("mimi").build().state_dict()


@pytest.mark.parametrize(("name", "manifest"), CASES)
def test_golden(name: str, manifest: str) -> None:
    codec = golden_codec("mimi", "mimi", manifest)
    case, _ = golden_case("mimi", name)
    codes = codec.encode(case["audio"], 24000, num_codebooks=32)
    assert_codes_agree(codes.codes, case["codes"], case["codes_stable"])
    assert_audio_agrees(codec.decode(case["codes"]).waveform, case["reconstruction"])
    assert_audio_agrees(codec.latents(case["audio"], codec.sample_rate).values, case["latent"])
    assert_audio_agrees(codec.quantizer.decode(case["codes"]), case["quantized"])


def long_clip() -> Tensor:
    return torch.from_numpy(golden_weights.audio("long/mimi", 1, 1, 268200, 24000))


def test_golden_beyond_the_window(codec: BaseCodec) -> None:
    """11.2 s: attention sees 10 s of it."""
    case, _ = golden_case("mimi", "long")
    assert_codes_agree(codec.encode(long_clip(), 24000).codes, case["codes"], case["codes_stable"])
    tail = case["reconstruction_tail"]
    assert_audio_agrees(codec.decode(case["codes"]).waveform[..., -tail.shape[-1] :], tail)


def test_a_stream_equals_the_golden_whole_beyond_the_window(codec: BaseCodec) -> None:
    """Frames one by one where upstream's ring buffer would forget, larger chunks before."""
    case, _ = golden_case("mimi", "long")
    clip, stream = long_clip(), codec.stream()
    sizes = [2, 50, 5, 60, 1, 1, 1, 3, 4, *[1] * 6, 6]
    codes, audio, frame = [], [], 0
    for frames in sizes:
        codes.append(stream.encode(clip[..., frame * HOP : (frame + frames) * HOP]).codes)
        audio.append(stream.decode(case["codes"][..., frame : frame + frames]).waveform)
        frame += frames
    assert frame == case["codes"].shape[-1] - 1 == clip.shape[-1] // HOP
    codes.append(stream.flush(clip[..., frame * HOP :]).codes)
    audio.append(stream.decode(case["codes"][..., frame:]).waveform)
    assert_codes_agree(torch.cat(codes, dim=-1), case["codes"], case["codes_stable"])
    tail = case["reconstruction_tail"]
    assert_audio_agrees(torch.cat(audio, dim=-1)[..., -tail.shape[-1] :], tail)


def test_fewer_codebooks_are_the_first_of_all(codec: BaseCodec) -> None:
    case, _ = golden_case("mimi")
    assert codec.encode(case["audio"], 24000).num_codebooks == 8
    for count in (1, 2, 20):
        codes = codec.encode(case["audio"], 24000, num_codebooks=count)
        assert_codes_agree(codes.codes, case["codes"][:, :count], case["codes_stable"][:, :count])
        assert codec.decode(codes).waveform.shape == case["audio"].shape
    assert codec.encode(case["audio"], 24000, bitrate=4400).num_codebooks == 32


def test_semantic_and_acoustic_codes_add_up(codec: BaseCodec) -> None:
    """Both quantise the same latent, so neither branch knows of the other."""
    codes = golden_case("mimi")[0]["codes"]
    first, rest = codec.quantizer.first.decode(codes[:, :1]), codec.quantizer.rest.decode(codes[:, 1:])
    torch.testing.assert_close(codec.quantizer.decode(codes), first + rest)
    torch.testing.assert_close(codec.quantizer.decode(codes[:, :1]), first)


def test_rates_that_it_lacks(codec: BaseCodec) -> None:
    with pytest.raises(ValueError, match=r"mimi has 32 codebooks .* 1 to 32 of them; num_codebooks=40"):
        codec.encode(torch.zeros(HOP), 24000, num_codebooks=40)
    with pytest.raises(ValueError, match=r"bitrates 137\.5, 275, .*bitrate=1000"):
        codec.encode(torch.zeros(HOP), 24000, bitrate=1000)
    with pytest.raises(ValueError, match="at most 32"):
        codec.decode(torch.zeros(1, 33, 2, dtype=torch.int64))


# -- checkpoints ----------------------------------------------------------------------------------

SPELLINGS = {
    "lists of projections": [(r"in_proj_weight$", "in_projs.0.weight"), (r"out_proj\.weight$", "out_projs.0.weight")],
    "old quantiser": [("_initialized$", "inited"), ("cluster_usage$", "cluster_size"), ("embedding_sum$", "embed_avg")],
    "embed_sum": [(r"_codebook\.embedding_sum$", "_codebook.embed_sum")],
}
SPELLINGS["both"] = SPELLINGS["lists of projections"] + SPELLINGS["old quantiser"]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_of_the_authors(spelling: str, codec: BaseCodec, wanted: dict[str, Tensor]) -> None:
    assert_same_network("manifest.json", SPELLINGS[spelling], codec, wanted)


def test_the_names_of_a_model_of_transformers_in_memory(wanted: dict[str, Tensor]) -> None:
    """Its modules are nested since version 5, its files are not."""
    nested = [
        (r"^(en|de)coder\.layers", r"\1coder.\1coder_seanet.layers"),
        (r"^(en|de)coder_transformer", r"\1coder.\1coder_transformer"),
        ("^downsample", "encoder.downsample"),
        ("^upsample", "decoder.upsample"),
    ]
    manifest = "manifest_hf.json"
    assert_same_network(manifest, nested, golden_codec("mimi", "mimi", manifest), wanted)


def assert_same_network(
    manifest: str, renaming: list[tuple[str, str]], codec: BaseCodec, wanted: dict[str, Tensor]
) -> None:
    """The tensors of a manifest, renamed, are read as what `codec` has read from them."""
    published = {}
    for key, value in golden_state_dict("mimi", manifest).items():
        for pattern, replacement in renaming:
            key = re.sub(pattern, replacement, key)
        published[key] = value
    assert published.keys() != golden_state_dict("mimi", manifest).keys()
    ours = codec.state_dict()
    for name, tensor in convert(published, wanted, Mimi.key_maps, "mimi").items():
        assert torch.equal(tensor, ours[name]), name


def test_a_codebook_is_the_mean_of_what_fell_to_it(wanted: dict[str, Tensor]) -> None:
    """The sum over the count, which is kept from being nothing."""
    published = dict(golden_state_dict("mimi"))
    prefix = "quantizer.rvq_rest.vq.layers.4._codebook."
    usage = published[prefix + "cluster_usage"].clone()
    usage[7] = 0
    published[prefix + "cluster_usage"] = usage
    book = convert(published, wanted, Mimi.key_maps, "mimi")["quantizer.rest.vq.codebooks"][4]
    total = published[prefix + "embedding_sum"]
    assert torch.equal(book[3], total[3] / usage[3])
    assert torch.equal(book[7], total[7] / 1e-5)


@pytest.mark.parametrize(
    ("manifest", "key"),
    [
        ("manifest.json", "decoder_transformer.transformer.layers.3.linear1.weight"),
        ("manifest.json", "quantizer.rvq_rest.vq.layers.30._codebook.cluster_usage"),
        ("manifest_hf.json", "encoder_transformer.layers.5.self_attn.k_proj.weight"),
    ],
)
def test_a_missing_tensor_is_named_as_its_authors_name_it(manifest: str, key: str, wanted: dict[str, Tensor]) -> None:
    published = {name: value for name, value in golden_state_dict("mimi", manifest).items() if name != key}
    with pytest.raises(CheckpointError, match=rf"1 missing: {re.escape(key)}"):
        convert(published, wanted, Mimi.key_maps, "mimi")


@pytest.mark.parametrize("name", ["kyutai/mimi", "kyutai/moshiko-pytorch-bf16", "Mimi"])
def test_names(name: str) -> None:
    info = codec_info(name)
    assert (info.name, info.num_codebooks, info.max_codebooks) == ("mimi", 8, 32)
    assert (info.sample_rate, info.frame_rate, info.bitrate) == (24000, 12.5, 1100.0)
    assert (info.causal, info.latency) == (True, 0.08)


# -- streaming ------------------------------------------------------------------------------------


def test_a_step_has_fixed_shapes_and_reads_nothing_back() -> None:
    """On the meta device there is nothing to read, so a step that looked at a value would fail here."""
    with torch.device("meta"):
        codec = find_variant("mimi").build()
        chunk, codes = torch.empty(3, 1, HOP), torch.zeros(3, 8, 1, dtype=torch.int64)
    shapes = lambda tree: tree_map(lambda tensor: (tensor.shape, tensor.dtype), tree)  # noqa: E731
    state = codec._stream_encode_start(3)
    out, counts, after = codec._stream_encode_warmup(chunk, state, 8)
    assert out.shape == (3, 8, 1)
    assert counts is None
    assert shapes(after) == shapes(state)
    state = codec._stream_decode_start(3)
    out, counts, after = codec._stream_decode_warmup(codes, state)
    assert out.shape == (3, 1, HOP)
    assert counts is None
    assert shapes(after) == shapes(state)


def test_each_item_of_a_stream_starts_with_its_own_first_frame(small: BaseCodec) -> None:
    """Before it stands that frame again, not silence, whenever the item starts."""
    r = torch.Generator().manual_seed(0)
    clips = torch.randn(2, 1, 6 * HOP, generator=r, dtype=torch.float64) / 10
    stream = small.stream(2)
    stream.active = torch.tensor([True, False])
    stream.encode(
        torch.full_like(clips[..., : 2 * HOP], torch.nan).index_copy(0, torch.tensor([0]), clips[:1, :, : 2 * HOP])
    )
    stream.active = torch.tensor([True, True])
    codes = stream.encode(torch.stack([clips[0, :, 2 * HOP : 5 * HOP], clips[1, :, : 3 * HOP]]))
    for i, frames in enumerate((slice(2, 5), slice(0, 3))):
        whole = small.encode(clips[i], 24000)
        assert torch.equal(codes[i].codes, whole.codes[..., frames])


def test_random_weights_run_without_a_checkpoint() -> None:
    codec = load_codec("kyutai/mimi", weights="random", device="cpu", num_codebooks=3)
    codes = codec.encode(torch.zeros(HOP + 1), 24000)
    assert codes.codes.shape == (1, 3, 2)
    assert codec.decode(codes).waveform.shape == (1, 1, HOP + 1)
