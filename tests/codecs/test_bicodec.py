"""BiCodec: the golden case, the volume, the voice beside the semantic tokens."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor

from codeczoo import BaseCodec, Codes, load_codec
from codeczoo.codecs.bicodec import BiCodec, normalise_volume, standardise
from tests.contract.test_registry import clips_of
from tests.support.golden import (
    assert_audio_agrees,
    assert_codes_agree,
    golden_case,
    golden_codec,
    golden_weights,
    manifest_of,
)
from tests.support.packagings import Packaging, Tensors
from tests.support.small import codec_of

NAME = "bicodec"

SMALL: dict[str, object] = {
    "reference_seconds": 0.5,
    "semantic_states": [1, 2],
    "semantic_dim": 32,
    "semantic_heads": 2,
    "semantic_hidden": 48,
    "semantic_extractor": 16,
    "dim": 24,
    "vocos_dim": 20,
    "vocos_hidden": 28,
    "vocos_layers": 2,
    "codebook_size": 64,
    "speaker_channels": 16,
    "speaker_dim": 24,
    "decoder_dim": 64,
}
GAIN = 0.75  # larger weights let the decoder clip, which hides what differs
LICENCE_WARNING = "non-commercial use only"


def two_files(packaging: Packaging, tensors: Tensors, folder: Path) -> Path:
    """The codec in one file, and in another all of wav2vec 2.0 with what its training needed."""
    speech = {key: tensor for key, tensor in tensors.items() if key.startswith("wav2vec2.")}
    voice = {key: tensor.contiguous() for key, tensor in tensors.items() if key not in speech}
    layers = "wav2vec2.encoder.layers."
    heads = ("quantizer.codevectors", "quantizer.weight_proj.weight", "project_q.bias", "project_hid.weight",
             f"{layers}16.final_layer_norm.bias", f"{layers}23.attention.k_proj.bias")  # fmt: skip
    (folder / "BiCodec").mkdir()
    (folder / "wav2vec2-large-xlsr-53").mkdir()
    save_file(voice, folder / "BiCodec" / "model.safetensors", {"format": "pt"})
    torch.save({**speech, **{key: torch.ones(3) for key in heads}}, folder / "wav2vec2-large-xlsr-53/pytorch_model.bin")
    (folder / "BiCodec" / "config.yaml").write_text(yaml.safe_dump({"audio_tokenizer": published_settings()}))
    (folder / "config.yaml").write_text("sample_rate: 16000\nvolume_normalize: true\n")
    return folder


def published_settings() -> dict[str, dict[str, object]]:
    return json.loads(json.dumps(manifest_of(NAME)["config"]["audio_tokenizer"]))


PACKAGINGS = {"bicodec": Packaging(NAME, NAME, two_files)}


@pytest.fixture(scope="module")
def small() -> BaseCodec:
    return codec_of(NAME, "small", torch.float64)


def assert_case(codec: BaseCodec, case: dict[str, Tensor]) -> None:
    """From the features on."""
    latent = codec.encoder(case["features"])
    assert_audio_agrees(latent, case["latent"], 2e-5)
    assert_codes_agree(codec.quantizer.encode(latent)[:, None], case["codes"], case["codes_stable"])
    _, reference, _ = codec.prepared(case["audio"], torch.tensor([case["audio"].shape[-1]]))
    found = codec.encode_voice(reference)
    assert_codes_agree(found, case["global_codes"], case["global_codes_stable"])
    assert_audio_agrees(codec.speaker.decode(found[:, 0]), case["d_vector"], 2e-5)
    assert_audio_agrees(codec.quantizer.decode(case["codes"][:, 0]), case["quantized"], 2e-5)
    codes = codec.codes_from_tensor(case["codes"], side_info={"global_codes": case["global_codes"]})
    assert_audio_agrees(codec.decode(codes).waveform, case["reconstruction"], 5e-5)


@pytest.mark.slow  # 350 million weights to be made; the next test holds the same but for wav2vec 2.0
def test_golden() -> None:
    codec = golden_codec(NAME, NAME)
    case, _ = golden_case(NAME)
    speech, _, _ = codec.prepared(case["audio"], torch.tensor([case["audio"].shape[-1]]))
    assert_audio_agrees(codec.semantic_features(speech), case["features"])
    codes = codec.encode(case["audio"], 16000)
    assert_codes_agree(codes.codes, case["codes"], case["codes_stable"])
    assert_codes_agree(codes.side_info["global_codes"], case["global_codes"], case["global_codes_stable"])
    assert_case(codec, case)


def test_golden_from_its_features() -> None:
    """Ones in wav2vec 2.0, which takes longest to make; tests/nn/test_hubert.py looks at that network by itself."""
    weights = {}
    for entry in manifest_of(NAME)["tensors"]:
        if not entry.get("unused"):
            made = entry["file"] == 0
            ones = torch.ones(()).expand(entry["shape"])
            weights[entry["key"]] = torch.from_numpy(golden_weights.tensor(entry, "public")) if made else ones
    assert_case(load_codec(NAME, weights=weights, device="cpu"), golden_case(NAME)[0])


# -- what the networks are given ------------------------------------------------------------------


def test_the_volume_is_the_golden_one() -> None:
    case, _ = golden_case(NAME)
    assert_audio_agrees(normalise_volume(case["audio"][0].double())[None], case["normalized"], 1e-7)


def plain_volume(x: np.ndarray) -> np.ndarray:
    """One clip, as the sheet of upstream's function says it."""
    sizes = np.sort(np.abs(x))
    if sizes[-1] < 0.1:
        x = x / max(sizes[-1], 1e-3) * 0.1
    sizes = sizes[sizes > 0.01]
    n = len(sizes)
    if n <= 10:
        return x
    x = x * np.clip(0.2 / sizes[int(0.9 * n) : int(0.99 * n)].mean(), 0.1, 10)
    return x / max(np.abs(x).max(), 1)


def test_the_volume_of_each_clip_of_a_batch_is_its_own() -> None:
    """Silence, whispers, ten and eleven loud samples, peaks beyond 1, a clip louder than the factor's range."""
    r = np.random.default_rng(0)
    clips = [
        scale * r.standard_normal(n) for n, scale in ((3000, 0.1), (500, 1e-4), (800, 0.02), (1000, 5.0), (77, 0.3))
    ]
    few = [np.where(np.arange(400) < n, 0.05 + 0.01 * np.arange(400), 0) for n in (10, 11)]
    spike = np.where(np.arange(2000) == 7, 1.0, 0.02 * r.standard_normal(2000))
    clips += [*few, spike, np.zeros(400), np.full(400, 2e-4)]
    batch = torch.zeros(len(clips), 3000, dtype=torch.float64)
    for row, clip in zip(batch, clips, strict=True):
        row[: len(clip)] = torch.from_numpy(clip)
    found = normalise_volume(batch)
    for row, clip in zip(found, clips, strict=True):
        torch.testing.assert_close(row[: len(clip)], torch.from_numpy(plain_volume(clip)), rtol=1e-12, atol=1e-15)
        assert not bool(row[len(clip) :].any())
    spoken = standardise(found, torch.tensor([len(clip) for clip in clips]))
    for row, clip in zip(spoken, clips, strict=True):
        x = plain_volume(clip)
        truth = (x - x.mean()) / np.sqrt(x.var() + 1e-7)
        torch.testing.assert_close(row[: len(clip)], torch.from_numpy(truth), rtol=1e-10, atol=1e-10)


def test_a_short_clip_is_repeated_for_its_voice(small: BaseCodec) -> None:
    (clip,) = clips_of(small, [3000])
    _, reference, _ = small.prepared(clip[None], torch.tensor([3000]))
    assert reference.shape == (1, 8000)
    assert torch.equal(reference[0], reference[0, :3000].repeat(3)[:8000])


def test_only_the_start_of_a_long_clip_is_its_voice(small: BaseCodec) -> None:
    """As far as its volume stays: here the rest is the start again."""
    (start,) = clips_of(small, [8000])
    (tail,) = clips_of(small, [8000], seed=5)
    longer = torch.cat([start, start], dim=-1)
    one, two = (small.encode(clip, 16000).side_info["global_codes"] for clip in (start, longer))
    assert torch.equal(one, two)
    _, reference, _ = small.prepared(torch.cat([start, tail], dim=-1)[None], torch.tensor([16000]))
    ratio = reference[0] / start[0]
    torch.testing.assert_close(ratio, ratio[:1].expand(8000))


@pytest.mark.parametrize(("samples", "frames"), [(1, 1), (399, 1), (400, 1), (719, 1), (720, 2), (15900, 49)])
def test_frames_are_those_of_wav2vec(small: BaseCodec, samples: int, frames: int) -> None:
    codes = small.encode(clips_of(small, [samples]), 16000)
    assert codes.codes.shape == (1, 1, frames)
    audio = small.decode(codes)
    assert audio.lengths.tolist() == [samples]
    assert not bool(audio.waveform[..., frames * 320 :].any()), "the last frame ends before the clip"


# -- the voice beside the codes -------------------------------------------------------------------


def test_a_voice_is_counted_saved_and_joined(small: BaseCodec, tmp_path: Path) -> None:
    clips = clips_of(small, [9000, 4000, 12000])
    codes = small.encode(clips, 16000)
    voice = codes.side_info["global_codes"]
    assert voice.shape == (3, 1, 32) and voice.dtype == torch.int64
    assert codes.num_bits.tolist() == [n * 6 + 32 * 12 for n in codes.lengths.tolist()], "64 and 4096 entries"
    codes.save(tmp_path / "codes.safetensors")
    joined = Codes.cat([Codes.load(tmp_path / "codes.safetensors")[[2, 1]], codes[0]])
    assert torch.equal(joined.side_info["global_codes"], voice[[2, 1, 0]])
    assert joined.num_bits.tolist() == codes.num_bits[[2, 1, 0]].tolist()
    assert_audio_agrees(small.decode(joined)[2].waveform, small.decode(codes[0]).waveform, 1e-9)


def test_the_voice_of_one_clip_goes_with_the_codes_of_another(small: BaseCodec) -> None:
    one, other = (small.encode(clip, 16000) for clip in clips_of(small, [9000, 12000]))
    mixed = small.codes_from_tensor(one.codes, side_info=other.side_info)
    assert not torch.equal(one.side_info["global_codes"], other.side_info["global_codes"])
    audio, own = small.decode(mixed).waveform, small.decode(small.codes_from_tensor(one.codes, side_info=one.side_info))
    assert audio.shape == own.waveform.shape == (1, 1, 27 * 320)
    assert float((audio - own.waveform).abs().max()) > 0.01


@pytest.mark.parametrize(
    ("side", "said"),
    [
        ({}, r"need the side value 'global_codes' \[1, 1, 32\], which holds the voice; they have none"),
        ({"global_codes": torch.zeros(1, 32, dtype=torch.int64)}, r"its shape is \[1, 32\]"),
        ({"global_codes": torch.full((1, 1, 32), 4096)}, r"'global_codes' has entries 0 to 4095.* 4096"),
        ({"global_codes": torch.full((1, 1, 32), -1)}, r"'global_codes' has entries 0 to 4095.* -1"),
    ],
)
def test_codes_without_a_voice_are_told(small: BaseCodec, side: dict[str, Tensor], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        small.decode(small.codes_from_tensor(torch.zeros(1, 1, 9, dtype=torch.int64), side_info=side))
    with pytest.raises(TypeError, match="must be integers"):
        small.codes_from_tensor(
            torch.zeros(1, 1, 9, dtype=torch.int64), side_info={"global_codes": torch.ones(1, 1, 32)}
        )


# -- long clips, other types ----------------------------------------------------------------------


def test_windows_of_a_long_clip_differ_in_attention_alone(small: BaseCodec, monkeypatch) -> None:
    """With layers that add nothing, windows give the codes of the whole, and its voice. The convolution that stands for
    positions sees 64 frames to a side, the encoder 27."""
    codec = copy.deepcopy(small)
    assert isinstance(codec, BiCodec)
    for layer in codec.semantic.layers:
        layer.attention.out_proj.weight.data.zero_()
    monkeypatch.setattr("codeczoo.codecs.bicodec.CONTEXT_SECONDS", 2.0)
    (clip,) = clips_of(codec, [7 * 16000 + 321])
    whole = codec.encode(clip, 16000)
    codec.max_chunk_seconds = 5.0
    windows = codec.encode(clip, 16000)
    assert torch.equal(windows.codes, whole.codes)
    assert torch.equal(windows.side_info["global_codes"], whole.side_info["global_codes"])


def test_it_runs_in_half_precision(small: BaseCodec) -> None:
    half = copy.deepcopy(small).to(torch.bfloat16)
    codes = half.encode(clips_of(half, [9000, 3000]), 16000)
    audio = half.decode(codes)
    assert audio.waveform.dtype == torch.bfloat16 and bool(torch.isfinite(audio.waveform).all())


# -- weights --------------------------------------------------------------------------------------


def test_settings_of_another_network_are_refused(tmp_path: Path, small: BaseCodec) -> None:
    settings = published_settings()
    small.check_metadata({"config": {"audio_tokenizer": settings}})
    small.check_metadata({})
    settings["mel_params"]["mel_fmin"] = 20
    settings["decoder"]["rates"] = [8, 5, 2, 4]
    with pytest.raises(ValueError, match=r"mel_fmin is 20 there and 10.* here; decoder\.rates is \[8, 5, 2, 4\] there"):
        small.check_metadata({"config": {"audio_tokenizer": settings}})
