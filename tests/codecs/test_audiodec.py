"""AudioDec: the golden case in each of upstream's three starts, its two decoders, what a frame hears, packaging."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor

from codeczoo import codec_info, load_codec
from tests.support.golden import (
    assert_audio_agrees,
    assert_codes_agree,
    golden_case,
    golden_codec,
    golden_state_dict,
    manifest_of,
)
from tests.support.packagings import Packaging, Tensors

NAME, SYMMETRIC, HOP = "audiodec_24k", "audiodec_24k_symmetric", 300
OURS = (
    "audiodec_48k_v0",
    "audiodec_48k_v2",
    "audiodec_48k_activate_symmetric",
    "audiodec_48k_c16h320_symmetric",
)
FILES = manifest_of(NAME)["checkpoint"]["files"]

# -- for the tests of all families (tests/support/declarations.py) --------------------------------

SMALL: dict[str, object] = {"filters": 4, "dim": 16, "codebook_size": 64, "vocoder_channels": 32}
LICENCE_WARNING = "non-commercial use only"


def two_trainers(packaging: Packaging, tensors: Tensors, folder: Path) -> Path:
    """AudioDec's two files in their folders, with what its trainer writes beside the model."""
    golden = manifest_of(packaging.folder)
    number = {entry["key"]: entry["file"] for entry in golden["tensors"]}
    for i, file in enumerate(golden["checkpoint"]["files"]):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        own = {key: tensor for key, tensor in tensors.items() if number[key.removesuffix("_more")] == i}
        own = {key.removeprefix(f"{Path(file).stem}."): tensor for key, tensor in own.items()}
        model = {"generator": own, "discriminator": {"mpd.0.weight": torch.ones(2, 3)}}
        optimizer = {"generator": {"state": {0: {"step": 1, "exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 1e-4}]}}
        torch.save({"model": model, "optimizer": optimizer, "steps": 500000, "epochs": 7}, folder / file)
        (folder / file).with_name("config.yml").write_text("model_type: symAudioDec\n")
    return folder


def zipped_trainers(packaging: Packaging, tensors: Tensors, folder: Path) -> Path:
    two_trainers(packaging, tensors, folder / "exp")
    with zipfile.ZipFile(folder / "exp.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((folder / "exp").rglob("*")):
            archive.write(path, path.relative_to(folder))
            if path.is_file():
                path.unlink()
    return folder / "exp.zip"


PACKAGINGS = {
    "audiodec": Packaging("audiodec_24k", "audiodec_24k", two_trainers),
    "audiodec in its archive": Packaging("audiodec_24k_320d", "audiodec_24k", zipped_trainers),
    "audiodec of three kernels": Packaging("audiodec_48k_v0", "audiodec_48k_v0", zipped_trainers),
    "audiodec, one autoencoder twice": Packaging(
        "audiodec_48k_activate_symmetric", "audiodec_48k_activate_symmetric", zipped_trainers
    ),
    "audiodec of 16 codebooks": Packaging(
        "audiodec_48k_c16h320_symmetric", "audiodec_48k_c16h320_symmetric", two_trainers
    ),
}


def test_golden() -> None:
    codec = golden_codec(NAME, NAME)
    case, _ = golden_case(NAME)
    codes = codec.encode(case["audio"], codec.sample_rate)
    assert_codes_agree(codes.codes, case["codes"], case["codes_stable"])
    assert_audio_agrees(codec.latents(case["audio"], codec.sample_rate).values, case["latent"])
    assert_audio_agrees(codec.quantizer.decode(case["codes"]), case["quantized"])
    assert_audio_agrees(codec.decode(case["codes"]).waveform, case["reconstruction"])


@pytest.mark.parametrize("name", OURS)
def test_golden_at_48_khz(name: str) -> None:
    """Cases made for this project by the published classes: the other vocoders, and autoencoders of two checkpoints."""
    codec = golden_codec(name, name)
    case, _ = golden_case(name)
    assert_codes_agree(codec.encode(case["audio"], 48000).codes, case["codes"], case["codes_stable"])
    assert_audio_agrees(codec.latents(case["audio"], codec.sample_rate).values, case["latent"])
    assert_audio_agrees(codec.quantizer.decode(case["codes"]), case["quantized"])
    assert_audio_agrees(codec.decode(case["codes"]).waveform, case["reconstruction"])


def test_golden_of_the_symmetric_decoder() -> None:
    codec = golden_codec(SYMMETRIC, NAME)
    case, _ = golden_case(NAME)
    assert_codes_agree(codec.encode(case["audio"], 24000).codes, case["codes"], case["codes_stable"])
    assert_audio_agrees(codec.decode(case["codes"]).waveform, case["symmetric_reconstruction"])


def test_golden_of_the_streaming_starts() -> None:
    """As upstream's streaming class: from cleared buffers, and primed by silence, in chunks of 1500 samples."""
    codec = load_codec(NAME, weights=golden_state_dict(NAME), device="cpu")
    codec.start_from_zeros = True
    case, _ = golden_case(NAME)
    assert_audio_agrees(codec.decode(case["codes"]).waveform, case["zero_state_reconstruction"])

    stream = codec.stream()
    stream.decode(stream.encode(torch.zeros(1, 1, 28 * HOP)))
    audio, whole = case["audio"], case["audio"].shape[-1] // HOP * HOP
    chunks = [stream.encode(chunk).codes for chunk in audio[..., :whole].split(1500, dim=-1)]
    codes = torch.cat([*chunks, stream.flush(audio[..., whole:]).codes], dim=-1)
    assert_codes_agree(codes, case["primed_codes"], case["primed_codes_stable"])
    out = [stream.decode(chunk).waveform for chunk in case["primed_codes"].split(5, dim=-1)]
    assert_audio_agrees(torch.cat(out, dim=-1), case["primed_reconstruction"])


def test_a_stream_begins_as_a_whole_clip_does() -> None:
    codec = golden_codec(NAME, NAME)
    case, _ = golden_case(NAME)
    stream = codec.stream(batch_size=2)
    codes = case["codes"][..., :12].expand(2, -1, -1)
    expected = codec.decode(codes).waveform
    stream.active = torch.tensor([True, False])  # the second clip begins two frames after the first
    first = stream.decode(codes[..., :2]).waveform[0]
    stream.active = torch.tensor([True, True])
    both = stream.decode(torch.stack([codes[0, :, 2:], codes[1, :, :10]])).waveform
    assert_audio_agrees(torch.cat([first, both[0]], dim=-1), expected[0], 1e-5)
    assert_audio_agrees(both[1], expected[1, :, : 10 * HOP], 1e-5)


def test_a_frame_hears_up_to_its_first_sample() -> None:
    codec = golden_codec(NAME, NAME, dtype=torch.float64)
    audio = golden_case(NAME)[0]["audio"].double()[..., : 8 * HOP]
    latent = codec.latents(audio, codec.sample_rate).values
    for sample, frame in ((3 * HOP, 3), (3 * HOP + 1, 4), (4 * HOP, 4)):
        changed = audio.clone()
        changed[..., sample] += 0.1
        difference = (codec.latents(changed, codec.sample_rate).values - latent).abs().amax((0, 1))
        assert not bool(difference[:frame].any()) and bool(difference[frame] > 1e-9)
    assert codec.encode(audio[..., :1], 24000).codes.shape[-1] == 1


def test_the_name_of_codec_superb() -> None:
    assert codec_info("audiodec_24k_320d").hop_length == HOP
    codec = golden_codec(NAME, NAME)
    other = load_codec("audiodec_24k_320d", weights=golden_state_dict(NAME), device="cpu")
    codes = other.encode(golden_case(NAME)[0]["audio"][..., :3000], 24000)
    assert_audio_agrees(codec.decode(codes).waveform, other.decode(codes).waveform, 1e-6)


def published(file: int) -> dict[str, object]:
    """One of the two files as upstream's trainer writes it, with what released ones may lack."""
    state = golden_state_dict(NAME)
    own = {t["key"]: state[t["key"]] for t in manifest_of(NAME)["tensors"] if t["file"] == file}
    model: dict[str, dict[str, Tensor]] = {"generator": own, "discriminator": {"mpd.0.weight": torch.ones(2, 3)}}
    optimizer = {"generator": {"state": {0: {"step": 1, "exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 1e-4}]}}
    return {"model": model, "optimizer": optimizer, "scheduler": {}, "steps": 500000, "epochs": 7}


def test_the_published_files(tmp_path) -> None:
    for number, file in enumerate(FILES):
        (tmp_path / file).parent.mkdir(parents=True)
        torch.save(published(number), tmp_path / file)
    case, _ = golden_case(NAME)
    codec = load_codec(NAME, weights=tmp_path, device="cpu")
    assert_audio_agrees(codec.decode(case["codes"]).waveform, case["reconstruction"])
    assert_codes_agree(codec.encode(case["audio"], 24000).codes, case["codes"], case["codes_stable"])
    codec = load_codec(SYMMETRIC, weights=tmp_path / FILES[0], device="cpu")  # of the autoencoder's file alone
    assert_audio_agrees(codec.decode(case["codes"]).waveform, case["symmetric_reconstruction"])
    with pytest.raises(ValueError, match=r"missing: .*input_conv\.conv\.weight"):
        load_codec(NAME, weights=tmp_path / FILES[0], device="cpu")
    (tmp_path / FILES[1]).unlink()
    with pytest.raises(ValueError, match=r"only checkpoint-500000steps\.pkl"):
        load_codec(NAME, weights=tmp_path, device="cpu")


@pytest.mark.parametrize("key", ["mean", "blocks.3.conv_out.weight_g", "quantizer.codebook.layers.7.embed"])
def test_a_dict_that_lacks_a_tensor(key: str) -> None:
    state = dict(golden_state_dict(NAME))
    del state[key]
    with pytest.raises(ValueError, match=f"1 missing: {key.removesuffix('_g')}"):
        load_codec(NAME, weights=state, device="cpu")


def test_a_dict_with_a_tensor_too_many() -> None:
    state = golden_state_dict(NAME) | {"blocks.4.conv_out.weight": torch.ones(3)}
    with pytest.raises(ValueError, match=r"unexpected: blocks\.4\.conv_out\.weight"):
        load_codec(NAME, weights=state, device="cpu")


def test_info() -> None:
    info = codec_info(NAME)
    assert info.causal and info.latency == pytest.approx(0.0125)
    assert info.bitrate == pytest.approx(6400) and "NC" in info.weights_licence
    assert info.codebook_sizes == (1024,) * 8
