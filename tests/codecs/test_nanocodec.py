"""NanoCodec: golden cases, how far each side sees, what pads, its quantiser's order, its archives."""

from __future__ import annotations

import gzip
import re
import shutil
import tarfile
from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor

from codeczoo import BaseCodec, codec_info, load_codec
from codeczoo.base.catalogue import variants
from codeczoo.codecs.nanocodec import HalfSnake
from tests.support.golden import assert_audio_agrees, assert_codes_agree, golden_case, golden_codec
from tests.support.packagings import Packaging, Tensors
from tests.support.published import save_nemo, small_checkpoint, write_tar
from tests.support.small import codec_of, small_variant

SMALL: dict[str, object] = {"encoder_dim": 2, "decoder_dim": 96}  # the decoder ends with 3 channels: an odd number


def nemo_archive(packaging: Packaging, tensors: Tensors, folder: Path) -> Path:
    """With the settings of the small network, and what training left beside it."""
    settings = small_variant(packaging.codec).build()._published_settings()
    return save_nemo({**tensors, "discriminator.discriminators.0.bias": torch.ones(3)}, settings, folder / "codec.nemo")


LICENCE = "NVIDIA Open Model License"
PACKAGINGS = {
    "nanocodec": Packaging("nanocodec_0k6bps_12hz", "nanocodec_0k6bps_12hz", nemo_archive),
    "nanocodec of 13 codebooks": Packaging("nanocodec_1k78bps_12hz", "nanocodec_1k78bps_12hz", nemo_archive),
    "nanocodec of 21 Hz": Packaging("nanocodec_1k89bps_21hz", "nanocodec_1k89bps_21hz", nemo_archive),
}
NAMES = ("nanocodec_0k6bps_12hz", "nanocodec_1k78bps_12hz", "nanocodec_1k89bps_21hz")
NAME = NAMES[0]


@pytest.fixture(params=NAMES)
def small(request: pytest.FixtureRequest) -> BaseCodec:
    return codec_of(request.param, "small", torch.float64)


@pytest.mark.parametrize("name", NAMES)
def test_golden(name: str) -> None:
    codec = golden_codec(name, name)
    case, _ = golden_case(name)
    assert bool(case["codes_stable"].all())
    codes = codec.encode(case["audio"], codec.sample_rate)
    assert_codes_agree(codes.codes, case["codes"], case["codes_stable"])
    assert_audio_agrees(codec.latents(case["audio"], codec.sample_rate).values, case["latent"])
    assert torch.equal(codec.quantizer.decode(case["codes"]), case["quantized"])
    audio = codec.decode(case["codes"]).waveform
    assert_audio_agrees(audio, case["reconstruction"])
    stream = codec.stream()
    streamed = [stream.decode(part).waveform for part in case["codes"].split(5, dim=-1)]
    assert_audio_agrees(torch.cat([*streamed, stream.drain().waveform], dim=-1), case["reconstruction"])


# -- what each side sees --------------------------------------------------------------------------

# Samples before and after the first of a frame, and frames before, of which a code or a sample knows.
REACHES = {
    "nanocodec_0k6bps_12hz": (24290, 25763, 28),
    "nanocodec_1k78bps_12hz": (24290, 25763, 28),
    "nanocodec_1k89bps_21hz": (12722, 13745, 25),
}


def test_how_far_the_encoder_sees(small: BaseCodec) -> None:
    before, after, _ = REACHES[small.name]
    frames, hop = 36, small.hop_length
    audio = torch.zeros(1, 1, frames * hop, dtype=torch.float64)
    starts = torch.arange(frames) * hop
    for place in (17 * hop, 17 * hop + before % hop, 17 * hop + before % hop + 1, 18 * hop - 1):
        audio.zero_()[..., place] = torch.nan
        heard = small._latents(audio, torch.tensor([audio.shape[-1]])).values.isnan().any(1)[0]
        assert torch.equal(heard, (starts - before <= place) & (place <= starts + after))
    assert small.encode_context == (before, after + 1 - hop)
    assert small.latency == (after + 1) / 22050


def test_how_far_the_decoder_sees(small: BaseCodec) -> None:
    frames, hop = 34, small.hop_length
    latent = torch.zeros(1, small.config.latent_dim, frames, dtype=torch.float64)
    latent[..., 2] = torch.nan
    with torch.no_grad():
        sounds = small.decoder(latent)[0, 0].isnan().view(frames, hop)
    assert sounds.any(1).nonzero().flatten().tolist() == list(range(2, 2 + REACHES[small.name][2] + 1))
    assert bool(sounds[2, 0]) and small.decode_context == (REACHES[small.name][2], 0)


def test_only_the_decoder_streams(small: BaseCodec) -> None:
    assert (small.info.causal, small.info.streams) == (False, ("decode",))
    stream = small.stream()
    for call in (lambda: stream.encode(torch.zeros(1, 1, small.hop_length)), lambda: stream.flush()):
        with pytest.raises(ValueError, match=f"{small.name} is not causal: .* so only its decoder streams"):
            call()


# -- what pads ------------------------------------------------------------------------------------


def test_the_encoder_repeats_the_edge_at_every_layer(small: BaseCodec) -> None:
    """So a signal that never changes gives the same latent in every frame; a zero beyond an edge would be heard."""
    audio = torch.full((1, 1, 4 * small.hop_length), 0.3, dtype=torch.float64)
    latent = small._latents(audio, torch.tensor([audio.shape[-1]])).values
    torch.testing.assert_close(latent, latent[..., :1].expand_as(latent), rtol=1e-9, atol=1e-12)


def test_whole_frames_of_zeros_behind_a_clip(small: BaseCodec) -> None:
    hop = small.hop_length
    clip = torch.randn(1, 2 * hop + 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64) / 10
    codes = small.encode(clip, 22050)
    assert codes.codes.shape[-1] == 3
    assert torch.equal(codes.codes, small.encode(torch.nn.functional.pad(clip, (0, hop - 1)), 22050).codes)
    assert small.decode(codes).waveform.shape[-1] == 2 * hop + 1
    assert small.decode(codes.codes).waveform.shape[-1] == 3 * hop


# -- activations, codes, numbers ------------------------------------------------------------------


def test_half_snake_of_an_odd_number_of_channels() -> None:
    act = HalfSnake(27).double()
    assert act.alpha.shape == (1, 13, 1)
    with torch.no_grad():
        act.alpha.copy_(torch.linspace(0.5, 2, 13).view(1, 13, 1))
        x = torch.randn(2, 27, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        y = act(x)
    alpha = act.alpha.detach()
    torch.testing.assert_close(y[:, :13], x[:, :13] + (alpha * x[:, :13]).sin() ** 2 / (alpha + 1e-9))
    torch.testing.assert_close(y[:, 13:], x[:, 13:].clamp(min=0) + 0.01 * x[:, 13:].clamp(max=0))


def test_all_codebooks_or_none(small: BaseCodec) -> None:
    count = small.num_codebooks
    with pytest.raises(ValueError, match=f"codes of all {count} groups are needed"):
        small.decode(torch.zeros(1, count - 1, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match=f"num_codebooks={count - 1}"):
        small.encode(torch.zeros(small.hop_length), 22050, num_codebooks=count - 1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_runs(dtype: torch.dtype) -> None:
    """The quantiser works in float32 all the same, so no index is rounded away."""
    codec = codec_of(NAME, "small", dtype)
    codes = codec.encode(torch.randn(1, 9000, generator=torch.Generator().manual_seed(0)) / 10, 22050)
    assert int(codes.codes.min()) >= 0 and int(codes.codes.max()) < 4032
    assert bool(torch.isfinite(codec.decode(codes).waveform).all())
    z = torch.full((1, 16, 1), 9.0, dtype=dtype)  # the highest digit everywhere: 8, 7, 7, 6
    assert codec.quantizer.encode(z).flatten().tolist() == [8 + 7 * 9 + 7 * 72 + 6 * 576] * 4


@pytest.mark.parametrize(
    ("name", "rate", "codebooks", "size", "bitrate"),
    [
        ("nvidia/nemo-nano-codec-22khz-0.6kbps-12.5fps", 12.5, 4, 4032, 598.9),
        ("nvidia/nemo-nano-codec-22khz-1.78kbps-12.5fps", 12.5, 13, 2016, 1783.8),
        ("nvidia/nemo-nano-codec-22khz-1.89kbps-21.5fps", 21.533203125, 8, 2016, 1891.0),
    ],
)
def test_names_and_facts(name: str, rate: float, codebooks: int, size: int, bitrate: float) -> None:
    info = codec_info(name)
    assert (info.sample_rate, info.frame_rate) == (22050, rate)
    assert info.codebook_sizes == (size,) * codebooks and info.num_codebooks == codebooks
    assert info.bitrate == pytest.approx(bitrate, abs=0.1)
    assert 61e6 < info.parameters < 63e6


# -- archives (what is damaged or hostile is in test_nemo_archive.py) -----------------------------


@pytest.fixture
def tensors() -> dict[str, Tensor]:
    return small_checkpoint(NAME, NAME)[0]


@pytest.fixture
def archive(tensors: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of a small network, which now stands under the codec's name."""
    monkeypatch.setitem(variants(), NAME, small_variant(NAME))  # type: ignore[arg-type]
    return nemo_archive(PACKAGINGS["nanocodec"], tensors, tmp_path)


def assert_same(codec: BaseCodec, tensors: dict[str, Tensor]) -> None:
    expected = load_codec(NAME, weights=tensors, device="cpu").state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in codec.state_dict().items())


def test_an_older_archive_is_gzipped(archive: Path, tensors: dict[str, Tensor]) -> None:
    with archive.open("rb") as source, gzip.open(archive.with_name("older.nemo"), "wb") as target:
        shutil.copyfileobj(source, target)
    assert_same(load_codec(NAME, weights=archive.with_name("older.nemo"), device="cpu"), tensors)


def test_an_archive_that_was_unpacked(archive: Path, tensors: dict[str, Tensor]) -> None:
    shutil.unpack_archive(archive, archive.parent / "unpacked", "tar", filter="data")
    folder = archive.parent / "unpacked"
    assert sorted(path.name for path in folder.iterdir()) == ["model_config.yaml", "model_weights.ckpt"]
    assert_same(load_codec(NAME, weights=folder, device="cpu"), tensors)
    settings = folder / "model_config.yaml"
    settings.write_text(settings.read_text().replace("sample_rate: 22050", "sample_rate: 44100"))
    with pytest.raises(ValueError, match="sample_rate is 44100 there and 22050 here"):
        load_codec(NAME, weights=folder, device="cpu")


def test_the_older_spelling_of_weight_norm(archive: Path, tensors: dict[str, Tensor]) -> None:
    spelled = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    older = {re.sub("|".join(spelled), lambda m: spelled[m[0]], key): tensor for key, tensor in tensors.items()}
    assert older.keys() != tensors.keys()
    assert_same(load_codec(NAME, weights=older, device="cpu"), tensors)


@pytest.mark.parametrize(
    ("part", "setting", "value", "said"),
    [
        ("audio_encoder", "pad_mode", "reflect", "audio_encoder.pad_mode is reflect there and replicate here"),
        ("audio_decoder", "activation", "lrelu", "audio_decoder.activation is lrelu there and half_snake here"),
        ("audio_decoder", "_target_", "nemo.X.HiFiGANDecoder", "is HiFiGANDecoder there and CausalHiFiGANDecoder here"),
        ("vector_quantizer", "num_levels_per_group", [8, 7, 6, 6], r"is \[8, 7, 6, 6\] there and \[9, 8, 8, 7\] here"),
        ("audio_encoder", "encoded_dim", "${latent_dim}", None),  # refers to another setting
    ],
)
def test_settings_of_another_network_are_refused(
    archive: Path, tensors: dict[str, Tensor], part: str, setting: str, value: object, said: str | None
) -> None:
    with tarfile.open(archive) as content:
        members = {m.name: content.extractfile(m).read() for m in content.getmembers() if m.isreg()}
    settings = yaml.safe_load(members["./model_config.yaml"])
    settings[part][setting] = value
    members["./model_config.yaml"] = yaml.safe_dump(settings).encode()
    other = write_tar(archive.with_name("other.nemo"), members)
    if said is None:
        assert_same(load_codec(NAME, weights=other, device="cpu"), tensors)
        return
    with pytest.raises(ValueError, match=f"the checkpoint is of another model: .*{said}"):
        load_codec(NAME, weights=other, device="cpu")


def test_levels_among_the_tensors_of_another_network_are_refused(archive: Path, tensors: dict[str, Tensor]) -> None:
    key = "vector_quantizer.fsqs.2.num_levels"
    changed = {**tensors, key: torch.tensor([8, 7, 6, 6], dtype=torch.int32).view(1, 4, 1)}
    with pytest.raises(ValueError, match=rf"{key} is \[8, 7, 6, 6\] there; {NAME} has \[9, 8, 8, 7\]"):
        load_codec(NAME, weights=changed, device="cpu")
