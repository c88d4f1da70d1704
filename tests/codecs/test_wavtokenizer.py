"""WavTokenizer: the golden cases of both architectures, its checkpoints, and long clips."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import pytest
import torch
from torch import Tensor

from codeczoo import BaseCodec, codec_info, list_codecs, load_codec
from codeczoo.base.catalogue import find_variant
from tests.support.golden import (
    assert_audio_agrees,
    assert_codes_agree,
    golden_case,
    golden_codec,
    golden_state_dict,
    manifest_of,
)
from tests.support.packagings import HF, Packaging, lightning, of_transformers
from tests.support.small import codec_of

HOPS = {"wavtokenizer_40": 600, "wavtokenizer_75": 320}

# -- for the tests of all families (tests/support/declarations.py) --------------------------------

SMALL: dict[str, object] = {
    "filters": 4,
    "dim": 32,
    "codebook_size": 64,
    "decoder_dim": 64,
    "hidden_dim": 40,
    "num_layers": 2,
}

SIBLING = "MIT by the card of a sibling"
LICENCE = {name: "MIT" if name == "wavtokenizer_large_speech_75" else SIBLING for name in list_codecs("wavtokenizer_*")}

PACKAGINGS = {
    "wavtokenizer": Packaging("wavtokenizer_small_40", "wavtokenizer_40", lightning("WavTokenizer_small_600.ckpt")),
    "wavtokenizer of 75": Packaging("wavtokenizer_small_75", "wavtokenizer_75", lightning("wavtokenizer_320.ckpt")),
    "wavtokenizer of transformers": Packaging("wavtokenizer_large_40", "wavtokenizer_40", of_transformers, HF),
}


@pytest.fixture(params=HOPS, scope="module")
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def codec(name: str) -> BaseCodec:
    return golden_codec(name, name)


def test_golden(codec: BaseCodec, name: str) -> None:
    case, _ = golden_case(name)
    assert_codes_agree(codec.encode(case["audio"], codec.sample_rate).codes, case["codes"], case["codes_stable"])
    assert_audio_agrees(codec.decode(case["codes"]).waveform, case["reconstruction"])
    assert_audio_agrees(codec.latents(case["audio"], codec.sample_rate).values, case["latent"])
    assert_audio_agrees(codec.quantizer.decode(case["codes"]), case["quantized"])


def test_golden_in_a_ragged_batch(codec: BaseCodec, name: str) -> None:
    """The golden clip keeps its codes and its audio beside a longer, a shorter and a tiny one."""
    case, _ = golden_case(name)
    clip = case["audio"][0]
    codes = codec.encode([clip[:, :5000], clip, clip[:, :1], torch.cat([clip, clip[:, :9000]], 1)], codec.sample_rate)
    assert codes.lengths.tolist() == [-(-n // HOPS[name]) for n in (5000, clip.shape[1], 1, clip.shape[1] + 9000)]
    assert_codes_agree(codes[1].codes, case["codes"], case["codes_stable"])
    audio = codec.decode(codes).split()[1]
    assert_audio_agrees(audio[None], case["reconstruction"][..., : clip.shape[1]])


# -- checkpoints ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "hop", "repo", "file"),
    [
        # The names that Codec-SUPERB uses; the third is a misnomer there.
        (
            "wavtokenizer_24k_small_600_4096",
            600,
            "novateur/WavTokenizer",
            "WavTokenizer_small_600_24k_4096.ckpt",
        ),
        (
            "wavtokenizer_24k_large_600_4096",
            600,
            "novateur/WavTokenizer-large-unify-40token",
            "wavtokenizer_large_unify_600_24k.ckpt",
        ),
        (
            "wavtokenizer_24k_medium_600_4096",
            320,
            "novateur/WavTokenizer-medium-speech-75token",
            "wavtokenizer_medium_speech_320_24k_v2.ckpt",
        ),
        (
            "wavtokenizer_24k_large_speech_75token",
            320,
            "novateur/WavTokenizer-large-speech-75token",
            "wavtokenizer_large_speech_320_v2.ckpt",
        ),
        # The other two.
        ("wavtokenizer_small_75", 320, "novateur/WavTokenizer", "WavTokenizer_small_320_24k_4096.ckpt"),
        (
            "novateur/WavTokenizer-medium-music-audio-75token",
            320,
            "novateur/WavTokenizer-medium-music-audio-75token",
            "wavtokenizer_medium_music_audio_320_24k_v2.ckpt",
        ),
    ],
)
def test_every_published_checkpoint_has_its_name(asked: str, hop: int, repo: str, file: str) -> None:
    info, weights = codec_info(asked), find_variant(asked).weights
    assert info.hop_length == hop and info.bitrate == pytest.approx(24000 / hop * 12)
    assert weights is not None and (weights.repo, weights.file) == (repo, file)


def test_a_repository_of_two_checkpoints_is_no_name() -> None:
    with pytest.raises(KeyError, match="novateur"):
        find_variant("novateur/WavTokenizer")


def test_a_training_checkpoint_loads_whatever_else_it_holds() -> None:
    """Discriminators and losses beside the model, Adam's moments beside all, as Lightning saves them."""
    state = dict(golden_state_dict("wavtokenizer_75"))
    state["multiperioddisc.discriminators.0.convs.0.weight_v"] = torch.ones(4, 1, 5)
    state["dac.discriminators.0.bias"] = state["dacdiscriminator.discriminator.discriminators.0.bias"] = torch.ones(3)
    state["melspec_loss.mel_spec.spectrogram.window"] = torch.ones(8)
    checkpoint = {
        "epoch": 24,
        "pytorch-lightning_version": "1.8.6",
        "state_dict": state,
        "optimizer_states": [{"state": {0: {"step": torch.tensor(7), "exp_avg": torch.zeros(5)}}}],
    }
    codec = load_codec("wavtokenizer_75", weights=checkpoint, device="cpu")
    ours, golden = codec.state_dict(), golden_codec("wavtokenizer_75", "wavtokenizer_75").state_dict()
    assert all(torch.equal(value, golden[key]) for key, value in ours.items())


def test_only_the_listed_keys_go_unused(name: str) -> None:
    """What the manifest calls unused is left aside, and nothing that it calls used."""
    key_map = golden_codec(name, name).key_maps[0]
    for tensor in manifest_of(name)["tensors"]:
        assert key_map.is_unused(tensor["key"]) == tensor.get("unused", False), tensor["key"]


@pytest.mark.parametrize("transformers", [False, True], ids=["authors", "transformers"])
def test_a_checkpoint_of_the_other_hop_says_which_it_is(transformers: bool) -> None:
    weights = golden_state_dict("wavtokenizer_75")
    with pytest.raises(ValueError, match=r"wavtokenizer_large_40: .*hop of 320 samples .75 tokens.*this one has 600"):
        load_codec("wavtokenizer_40", weights=renamed(weights) if transformers else weights, device="cpu")


# -- the naming of transformers -------------------------------------------------------------------

DROPPED = r"feature_extractor\.encodec\.decoder\..+|head\.istft\.window"
RENAMED = (
    (r"^feature_extractor\.encodec\.encoder\.model\.", "encoder_model.encoder.layers."),
    (r"^feature_extractor\.encodec\.quantizer\.vq\.layers\.0\._codebook\.", "encoder_model.quantizer.codebook."),
    (r"^head\.out\.", "head.linear."),
    (r"\.conv\.conv\.weight_g$", ".conv.parametrizations.weight.original0"),
    (r"\.conv\.conv\.weight_v$", ".conv.parametrizations.weight.original1"),
    (r"\.conv\.conv\.bias$", ".conv.bias"),
)


def renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' tensors under the names that transformers' conversion gives them."""
    out = {}
    for key, tensor in tensors.items():
        if not re.fullmatch(DROPPED, key):
            for pattern, theirs in RENAMED:
                key = re.sub(pattern, theirs, key)
            out[key] = tensor
    return out


def test_the_renamed_tensors_are_those_that_transformers_has() -> None:
    theirs = {tensor["key"]: tensor["shape"] for tensor in manifest_of("wavtokenizer_40", HF)["tensors"]}
    assert {key: list(tensor.shape) for key, tensor in renamed(golden_state_dict("wavtokenizer_40")).items()} == theirs


def test_the_naming_of_transformers_gives_the_same_network(name: str) -> None:
    ours = load_codec(name, weights=renamed(golden_state_dict(name)), device="cpu").state_dict()
    golden = golden_codec(name, name).state_dict()
    assert ours.keys() == golden.keys() and all(torch.equal(value, golden[key]) for key, value in ours.items())


@pytest.mark.parametrize(
    ("asked", "variant"),
    [
        ("small-speech-40token", "wavtokenizer_small_40"),
        ("large-unify-40token", "wavtokenizer_large_40"),
        ("small-speech-75token", "wavtokenizer_small_75"),
        ("medium-speech-75token-v2", "wavtokenizer_medium_speech_75"),
        ("medium-music-audio-75token-v2", "wavtokenizer_medium_music_audio_75"),
        ("large-speech-75token-v2", "wavtokenizer_large_speech_75"),
    ],
)
def test_a_converted_repository_is_a_copy_of_its_variant(asked: str, variant: str) -> None:
    found = find_variant(f"swiss-ai/wavtokenizer-{asked}")
    assert found.name == variant
    assert str(found.weights) == f"swiss-ai/wavtokenizer-{asked}/model.safetensors"


# -- long clips -----------------------------------------------------------------------------------


@pytest.fixture(params=["wavtokenizer_large_40", "wavtokenizer_large_speech_75"])
def in_windows_of_6_s(request: pytest.FixtureRequest) -> Iterator[BaseCodec]:
    """A small network of the same architecture; 6 s is the shortest window there is."""
    codec = codec_of(request.param, "small", torch.float64)
    codec.max_chunk_seconds = 1.0
    yield codec
    codec.max_chunk_seconds = None


def codes_of(codec: BaseCodec, seconds: float, seed: int = 0) -> Tensor:
    count = int(seconds * codec.frame_rate)
    return torch.randint(0, codec.codebook_sizes[0], (1, 1, count), generator=torch.Generator().manual_seed(seed))


def test_windows_are_decoded_alone_and_faded_into_each_other(in_windows_of_6_s: BaseCodec) -> None:
    """Away from the seam the audio is that of a window of 6 s by itself; on the seam, one gives way to the other."""
    codec = in_windows_of_6_s
    hop, window = codec.hop_length, int(6 * codec.frame_rate)
    codes = codes_of(codec, 9.0)
    total = codes.shape[-1]
    audio = codec.decode(codes).waveform[0, 0]
    assert len(audio) == total * hop
    left, right = torch.zeros(2, total * hop, dtype=torch.float64)
    left[: window * hop] = codec.synthesize_whole(codec.quantizer.decode(codes[..., :window]))[0]
    right[-window * hop :] = codec.synthesize_whole(codec.quantizer.decode(codes[..., -window:]))[0]
    seam = slice((total // 2 - 20) * hop, (total // 2 + 20) * hop)  # the overlap's middle, and more than the fade
    torch.testing.assert_close(audio[: seam.start], left[: seam.start], rtol=0, atol=1e-12)
    torch.testing.assert_close(audio[seam.stop :], right[seam.stop :], rtol=0, atol=1e-12)
    differ = (right - left)[seam].abs() > 1e-3 * left.abs().max()
    share = ((audio - left) / (right - left))[seam][differ]  # of the second window
    assert differ.sum() > 1000 and share[0] == pytest.approx(0) and share[-1] == pytest.approx(1)
    assert bool((share.diff() > -1e-6).all()), "the fade never turns back"
    steepest = (share.diff() / differ.nonzero()[:, 0].diff()).max()
    assert steepest == pytest.approx(1 / (0.4 * codec.sample_rate), rel=0.1), "it takes 0.4 s"


def test_a_clip_no_longer_than_a_window_is_decoded_whole(in_windows_of_6_s: BaseCodec) -> None:
    codes = codes_of(in_windows_of_6_s, 6.0)
    assert torch.equal(
        in_windows_of_6_s.decode(codes).waveform[:, 0],
        in_windows_of_6_s.synthesize_whole(in_windows_of_6_s.quantizer.decode(codes)),
    )


def test_many_windows_cover_a_clip_of_any_length(in_windows_of_6_s: BaseCodec) -> None:
    for seconds in (6.1, 17.3, 30.0):
        codes = codes_of(in_windows_of_6_s, seconds)
        audio = in_windows_of_6_s.decode(codes).waveform[0, 0]
        assert len(audio) == codes.shape[-1] * in_windows_of_6_s.hop_length
        level = audio.unflatten(0, (codes.shape[-1], -1)).square().mean(-1).sqrt()  # of each frame
        assert bool(torch.isfinite(level).all()) and level.min() > 0.05 * level.median()


def test_a_long_clip_beside_a_short_one(in_windows_of_6_s: BaseCodec) -> None:
    """Whether a clip takes windows is its own matter, not its batch's."""
    codec = in_windows_of_6_s
    long, short = codes_of(codec, 7.0), codes_of(codec, 0.5, seed=1)
    batch = torch.zeros(2, 1, long.shape[-1], dtype=torch.int64)
    batch[0], batch[1, :, : short.shape[-1]] = long[0], short[0]
    lengths = torch.tensor([long.shape[-1], short.shape[-1]])
    decoded = codec._decode(batch, lengths, {}, torch.tensor([-1, -1]))
    for i, alone in enumerate((long, short)):
        own = decoded.waveform[i, 0, : int(decoded.lengths[i])]
        torch.testing.assert_close(own, codec.decode(alone).waveform[0, 0], rtol=0, atol=1e-12)


def test_the_encoder_is_exact_in_chunks(codec: BaseCodec, name: str) -> None:
    case, _ = golden_case(name)
    try:
        for seconds in (0.02, 0.3, 1.0):
            codec.max_chunk_seconds = seconds
            codes = codec.encode(case["audio"], codec.sample_rate).codes
            assert_codes_agree(codes, case["codes"], case["codes_stable"])
    finally:
        codec.max_chunk_seconds = None
