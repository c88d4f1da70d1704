"""X-Codec: the golden cases in both namings, and the rule by which its two encoders give the same number of frames."""

from __future__ import annotations

import copy
import io
import re
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import Tensor

from codeczoo import BaseCodec, load_codec
from codeczoo.codecs import xcodec
from codeczoo.codecs.xcodec import XCodec
from codeczoo.nn.receptive_field import convolutions_of, out_length
from codeczoo.weights.safe_pickle import Opaque, read_pickle
from tests.contract.test_registry import clips_of
from tests.support.golden import (
    assert_audio_agrees,
    assert_codes_agree,
    golden_case,
    golden_codec,
    golden_weights,
    manifest_of,
)
from tests.support.packagings import HF, Packaging, flat_pickle, of_transformers
from tests.support.small import codec_of

SMALL: dict[str, object] = {
    "encoder_dim": 4,
    "decoder_dim": 64,
    "acoustic_dim": 16,
    "codebook_size": 64,
    "semantic_layers": 2,
    "semantic_dim": 32,
    "semantic_heads": 2,
    "semantic_hidden": 48,
    "semantic_extractor": 16,
}

NAMES = {"xcodec_hubert_16k": "xcodec_hubert_librispeech", "xcodec_wavlm_16k": "xcodec_wavlm_mls"}
EDGES = (16000, 16079, 16080, 16311, 16312, 16319)  # where the acoustic encoder begins and ends to be given zeros


def with_a_buffer(packaging: Packaging, tensors: dict[str, Tensor], folder: Path) -> Path:
    """The authors' pickle, in which something else than tensors may lie, and the older names of weight norm."""
    spelled = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    renamed = {re.sub("|".join(spelled), lambda m: spelled[m[0]], key): tensor for key, tensor in tensors.items()}
    torch.save(OrderedDict({**renamed, "config": io.BytesIO(b"D: 256")}), folder / "xcodec_speech_wavlm_mls.pth")
    return folder / "xcodec_speech_wavlm_mls.pth"


PACKAGINGS = {
    "xcodec": Packaging(
        "xcodec_hubert_librispeech", "xcodec_hubert_16k", flat_pickle("xcodec_speech_hubert_librispeech.pth")
    ),
    "xcodec of transformers": Packaging("xcodec_hubert_general", "xcodec_hubert_16k", of_transformers, HF),
    "xcodec with WavLM": Packaging("xcodec_wavlm_mls", "xcodec_wavlm_16k", with_a_buffer),
    "xcodec with WavLM of transformers": Packaging("xcodec_wavlm_more_data", "xcodec_wavlm_16k", of_transformers, HF),
}


def assert_case(codec: BaseCodec, case: dict[str, Tensor]) -> None:
    semantic = codec.semantic_features(codec.speech_input(case["audio"], None)[0])
    assert_audio_agrees(semantic, case["semantic"])
    assert_audio_agrees(codec.latents(case["audio"], codec.sample_rate).values, case["latent"])
    codes = codec.encode(case["audio"], codec.sample_rate).codes
    assert_codes_agree(codes, case["codes"], case["codes_stable"])
    for few in codec.codebook_choices[:-1]:
        fewer = codec.encode(case["audio"], codec.sample_rate, num_codebooks=few).codes
        assert torch.equal(fewer, codes[:, :few])
    assert_audio_agrees(codec.quantizer.decode(case["codes"]), case["quantized"])
    assert_audio_agrees(codec.decode(case["codes"]).waveform, case["reconstruction"])


def assert_edges(codec: BaseCodec, folder: str, lengths: tuple[int, ...]) -> None:
    """Each alone, and all in one batch, where some are padded and some are not."""
    edges, _ = golden_case(folder, "edges")
    rate = codec.sample_rate
    clips = [torch.from_numpy(golden_weights.audio("public/edges", 1, 1, n, rate)) for n in lengths]
    batch = codec.encode([clip[0] for clip in clips], rate)
    for i, (clip, n) in enumerate(zip(clips, lengths, strict=True)):
        assert_audio_agrees(codec.latents(clip, codec.sample_rate).values[..., :4], edges[f"latent_{n}"])
        codes, stable = edges[f"codes_{n}"], edges[f"codes_stable_{n}"]
        assert_codes_agree(codec.encode(clip, rate).codes, codes, stable)
        assert_codes_agree(batch[i].codes, codes, stable)


@pytest.mark.slow  # 170 million weights to be made; the next two tests hold the same but for the speech model
@pytest.mark.parametrize("folder", NAMES)
@pytest.mark.parametrize(("case", "manifest"), [("public", "manifest.json"), ("public_hf", HF)])
def test_golden(folder: str, case: str, manifest: str) -> None:
    codec = golden_codec(NAMES[folder], folder, manifest)
    assert_case(codec, golden_case(folder, case)[0])
    if folder == "xcodec_hubert_16k" and case == "public":
        assert_edges(codec, folder, EDGES)


def but_for_the_speech_model(name: str, folder: str, manifest: str = "manifest.json") -> BaseCodec:
    """The golden weights, and ones in the speech model: it takes longest to make."""
    weights = {}
    for entry in manifest_of(folder, manifest)["tensors"]:
        speech = entry["key"].startswith("semantic_model.")
        ones = torch.ones(()).expand(entry["shape"])
        weights[entry["key"]] = ones if speech else torch.from_numpy(golden_weights.tensor(entry, "public"))
    return load_codec(name, weights=weights, device="cpu")


def assert_case_from_features(codec: BaseCodec, case: dict[str, Tensor]) -> None:
    latent = codec.latent(case["semantic"], codec.acoustic_input(case["audio"], None)[0])
    assert_audio_agrees(latent, case["latent"])
    assert_codes_agree(codec.quantizer.encode(latent), case["codes"], case["codes_stable"])
    assert_audio_agrees(codec.quantizer.decode(case["codes"]), case["quantized"])
    assert_audio_agrees(codec.decode(case["codes"]).waveform, case["reconstruction"])


def test_golden_from_its_features() -> None:
    """What the speech model makes is taken from the case; tests/nn/test_hubert.py looks at that model by itself."""
    folder = "xcodec_wavlm_16k"
    assert_case_from_features(but_for_the_speech_model(NAMES[folder], folder), golden_case(folder)[0])


@pytest.mark.parametrize("name", ["xcodec_hubert_librispeech", "higgs_audio_v2"])
def test_both_encoders_give_the_same_frames(name: str) -> None:
    """For every length from the shortest on, and as the sheet of the rule has it."""
    codec = codec_of(name, "small", torch.float64)
    hop, first, last = {16000: (320, 80, 312), 24000: (960, 119, 632)}[codec.sample_rate]
    samples = torch.arange(codec.shortest, 4 * codec.sample_rate)
    frames, moved, rest = codec.frames(samples), codec.moved(samples), samples % hop
    assert torch.equal(frames, samples // hop + (rest >= first))
    assert torch.equal(moved, (rest >= first) & (rest < last))
    assert torch.equal(out_length(convolutions_of(codec.encoder), samples + 2 * codec.margin * moved), frames)
    assert [codec.frames(n) for n in (codec.shortest - 1, codec.shortest)] == [0, 1]


@pytest.mark.parametrize("name", ["xcodec_hubert_librispeech", "higgs_audio_v2"])
def test_the_shortest_clips_are_filled_up_to_a_frame(name: str) -> None:
    codec = codec_of(name, "small", torch.float64)
    clip = clips_of(codec, [codec.shortest // 2])[0]
    filled = torch.nn.functional.pad(clip, (0, codec.shortest - clip.shape[-1]))
    codes = codec.encode(clip, codec.sample_rate)
    assert codes.codes.shape == (1, 8, 1)
    assert torch.equal(codes.codes, codec.encode(filled, codec.sample_rate).codes)


@pytest.mark.parametrize("name", ["xcodec_wavlm_mls", "higgs_audio_v2"])
@pytest.mark.parametrize("more", [0, 200])
def test_windows_of_a_long_clip_are_aligned_as_the_whole(name: str, more: int, monkeypatch) -> None:
    """Without the speech model, which sees no more than a window, they give the same codes: also where the whole clip
    moves what the acoustic encoder is given."""
    codec = copy.deepcopy(codec_of(name, "small", torch.float64))
    assert isinstance(codec, XCodec)
    codec.semantic_encoder.layers[-1].weight.data.zero_()
    monkeypatch.setattr(xcodec, "CONTEXT_SECONDS", 1.0)  # the acoustic encoders see less
    samples = 6 * codec.sample_rate + more
    assert codec.moved(samples) == (more > 0)
    clips = clips_of(codec, [samples])
    whole = codec.encode(clips, codec.sample_rate).codes
    codec.max_chunk_seconds = 2.6
    assert torch.equal(codec.encode(clips, codec.sample_rate).codes, whole)


def test_what_is_no_tensor_in_the_authors_file_is_let_be(tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(3), "config": io.BytesIO(b"D: 256")}, tmp_path / "x.pth")
    tree = read_pickle(tmp_path / "x.pth")
    assert tree["config"] == Opaque("_io.BytesIO") and torch.equal(tree["weight"], torch.ones(3))
