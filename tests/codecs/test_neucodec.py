"""NeuCodec and DistillNeuCodec: the golden cases, stage by stage; lengths at whole frames; what lies in their files.

NeuCodec's golden cases and the long one of DistillNeuCodec take minutes and are slow. In the default run the case of
DistillNeuCodec holds the quantiser and the decoder of both, that of X-Codec 2 the encoder's blocks of NeuCodec, and
`test_features` what precedes them.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from codeczoo import BaseCodec, load_codec
from codeczoo.base.catalogue import variants
from codeczoo.weights.load import load_weights
from tests.support import golden_weights
from tests.support.golden import assert_audio_agrees, assert_codes_agree, golden_case, manifest_of
from tests.support.packagings import Packaging, Tensors, of_transformers
from tests.support.published import small_checkpoint
from tests.support.small import codec_of, small_variant

BASE, DISTILLED = "neucodec_24k", "distill_neucodec_24k"
SMALL: dict[str, object] = {
    "encoder_dim": 2,
    "dim": 64,
    "adapter_dim": 48,
    "semantic_layers": 2,
    "semantic_heads": 2,
    "semantic_hidden": 48,
    "latent_dim": 24,
    "digits": (4, 4),
    "decoder_dim": 64,
    "decoder_layers": 2,
    "decoder_heads": 2,
    "decoder_hidden": 48,
    "extractor_dim": 32,
    "window": 6,
    "local_dim": 32,
    "local_heads": 2,
    "local_head_dim": 16,
    "distance_hidden": 12,
    "wide_layers": 1,
    "local_layers": 2,
}

LICENCE = "Apache-2.0"


def two_repositories(packaging: Packaging, tensors: Tensors, folder: Path) -> Path:
    """The codec's pickle beside the speech model's safetensors, in one folder."""
    number = {entry["key"]: entry["file"] for entry in manifest_of(packaging.folder)["tensors"]}
    own = [{key: t for key, t in tensors.items() if number[key.removesuffix("_more")] == i} for i in range(2)]
    torch.save(own[0], folder / "pytorch_model.bin")
    save_file({key: tensor.contiguous() for key, tensor in own[1].items()}, folder / "model.safetensors")
    return folder


PACKAGINGS = {
    "neucodec": Packaging("neucodec", BASE, two_repositories),
    "neucodec of transformers": Packaging("neucodec", BASE, of_transformers, "manifest_hf.json"),
    "neucodec, distilled": Packaging("distill_neucodec", DISTILLED, two_repositories),
}


# -- golden cases -----------------------------------------------------------------------------------


def made(name: str, manifest: str = "manifest.json") -> BaseCodec:
    """A codec with golden weights, which are forgotten with the test: NeuCodec has 630 million."""
    entries = manifest_of(name, manifest)["tensors"]
    weights = {entry["key"]: torch.from_numpy(golden_weights.tensor(entry, "public")) for entry in entries}
    return load_codec(name, weights=weights, device="cpu")


def whole_frames(audio: Tensor) -> Tensor:
    return F.pad(audio, (0, 320 - audio.shape[-1] % 320))


def assert_is_golden(codec: BaseCodec, truth: dict[str, Tensor], tolerance: float = 1e-4) -> None:
    """From the waveform on, and from the codes on."""
    audio = truth["audio"]
    latent = codec.latents(audio, codec.sample_rate).values
    assert_audio_agrees(latent, truth["latent"], tolerance)
    assert_codes_agree(codec.encode(audio, 16000).codes, truth["codes"], truth["codes_stable"])
    assert_audio_agrees(codec.quantizer.decode(truth["codes"][:, 0].long()), truth["quantized"])
    decoded = codec.decode(truth["codes"])
    assert decoded.sample_rate == 24000
    assert_audio_agrees(decoded.waveform, truth["reconstruction"])


# The published extractors compute in float32; the logarithm of little energy makes more of their rounding.
FEATURES = 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(("case", "manifest"), [("public", "manifest.json"), ("public_hf", "manifest_hf.json")])
def test_golden(case: str, manifest: str) -> None:
    codec = made("neucodec_24k", manifest)
    truth, _ = golden_case("neucodec_24k", case)
    assert_audio_agrees(codec.encode_semantic(truth["features"]), truth["semantic"])
    assert_is_golden(codec, truth, FEATURES)


@pytest.mark.parametrize("case", ["public", "public_hf"])
def test_features(case: str) -> None:
    truth, _ = golden_case("neucodec_24k", case)
    codec = codec_of("neucodec_24k", "small", torch.float32)
    assert_audio_agrees(codec.features(whole_frames(truth["audio"])), truth["features"], FEATURES)


def test_golden_of_the_distilled() -> None:
    codec = made("distill_neucodec_24k")
    truth, _ = golden_case("distill_neucodec_24k")
    waveform = whole_frames(truth["audio"])
    assert_audio_agrees(codec.encode_semantic(waveform), truth["semantic"])
    assert_audio_agrees(codec.acoustic(waveform), truth["acoustic"])
    assert_is_golden(codec, truth)


@pytest.mark.slow
def test_golden_of_three_windows() -> None:
    """12.6 s: frames from 600 on see two windows of 300, counted from the clip's start, and nothing before them."""
    codec = made("distill_neucodec_24k")
    truth, _ = golden_case("distill_neucodec_24k", "long")
    audio = torch.from_numpy(golden_weights.audio("public/distill_neucodec_24k_long", 1, 1, 201723, 16000))
    assert_audio_agrees(codec.acoustic(whole_frames(audio))[..., -60:], truth["acoustic"])
    assert_codes_agree(codec.encode(audio, 16000).codes, truth["codes"], truth["codes_stable"])
    assert_audio_agrees(codec.decode(truth["codes"]).waveform[..., -48000:], truth["reconstruction_tail"])


# -- lengths and rates ------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "more"), [(BASE, 0), (DISTILLED, 1)])
def test_frames_at_whole_frames_and_beside_them(name: str, more: int) -> None:
    """NeuCodec drops the frame that it adds; its package fails on clips shorter than one."""
    codec = codec_of(name, "small", torch.float64)
    samples = [1, 319, 320, 639, 640, 641, 3200]
    codes = codec.encode([torch.randn(1, n) for n in samples], 16000)
    assert codes.lengths.tolist() == [max(n // 320 + more, 1) for n in samples]
    assert (codes.sample_rate, codes.num_samples.tolist()) == (16000, samples)
    audio = codec.decode(codes)
    assert (audio.sample_rate, audio.lengths.tolist()) == (24000, [-(-3 * n // 2) for n in samples])
    assert codec.decode(codes.codes[-1:, :, :7]).lengths.tolist() == [7 * 480]


def test_what_is_beyond_the_frames_of_the_codes_is_silent() -> None:
    codec = codec_of(BASE, "small", torch.float64)
    audio = codec.decode(codec.encode(torch.randn(1, 3519), 16000)).waveform
    assert audio.shape[-1] == 5279
    assert bool(audio[..., 4790:4800].any()) and not bool(audio[..., 4800:].any())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", [BASE, DISTILLED, "xcodec2_16k"])
def test_half_precision_runs(name: str, dtype: torch.dtype) -> None:
    half = small_variant(name).build()
    load_weights(half, codec_of(name, "small", torch.float32).state_dict())
    half = half.to(dtype).eval()
    clips = [0.1 * torch.randn(1, n, generator=torch.Generator().manual_seed(n)) for n in (7000, 3000)]
    codes = half.encode(clips, 16000)
    truth = codec_of(name, "small", torch.float32).encode(clips, 16000)
    assert torch.equal(codes.lengths, truth.lengths)
    audio = half.decode(codes)
    assert audio.waveform.dtype == dtype and bool(audio.waveform.isfinite().all()) and bool(audio.waveform.any())


# -- files ------------------------------------------------------------------------------------------


def test_of_convolutions_that_stand_twice_the_plain_ones_count() -> None:
    tensors, _ = small_checkpoint(BASE, BASE)
    doubled = [key for key in tensors if key.startswith("generator.backbone") and key.endswith(("_g", "_v"))]
    assert len(doubled) == 18
    one, other = small_variant(BASE).build(), small_variant(BASE).build()
    load_weights(one, tensors)
    load_weights(other, {key: tensor for key, tensor in tensors.items() if key not in doubled})
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_a_folder_of_both_forms_is_read_as_transformers_reads_it(tmp_path: Path, monkeypatch) -> None:
    """neuphonic/neucodec holds pytorch_model.bin and, since 2026, model.safetensors in transformers' form."""
    theirs, _ = small_checkpoint(BASE, BASE, "manifest_hf.json")
    save_file(theirs, tmp_path / "model.safetensors")
    number = {entry["key"]: entry["file"] for entry in manifest_of(BASE)["tensors"]}
    tensors = {key: t for key, t in small_checkpoint(BASE, BASE)[0].items() if number[key] == 0}
    torch.save({**tensors, "fc_post_s.weight": torch.ones(2, 2)}, tmp_path / "pytorch_model.bin")
    monkeypatch.setitem(variants(), BASE, small_variant(BASE))  # type: ignore[arg-type]
    expected = load_codec(BASE, weights=theirs, device="cpu").state_dict()
    for name, value in load_codec(BASE, weights=tmp_path, device="cpu").state_dict().items():
        assert torch.equal(value, expected[name]), name
