"""MOSS-Audio-Tokenizer: golden cases of the Nano, windows, streams, settings, and what the large files hold."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from codeczoo import BaseCodec
from codeczoo.base.catalogue import find_variant
from codeczoo.codecs.moss_audio_tokenizer import Patch, Stage, Unpatch, stages_of
from codeczoo.weights.load import load_weights
from tests.contract.test_registry import clips_of
from tests.support import golden_weights
from tests.support.golden import assert_audio_agrees, assert_codes_agree, golden_case, golden_codec, manifest_of
from tests.support.packagings import Packaging, Tensors
from tests.support.small import codec_of, small_variant

NANO, MONO, V2 = "moss_audio_tokenizer_nano", "moss_audio_tokenizer_24k", "moss_audio_tokenizer_v2"
MANIFESTS = {NANO: "manifest.json", MONO: "manifest_24k.json", V2: "manifest_v2.json"}
HOP = 3840

SMALL: dict[str, object] = {
    "dims": [64, 128],
    "widths": [64, 128],
    "layers": [1],
    "contexts": [0.4],
    "code_dim": 32,
    "vq_dim": 24,
    "num_codebooks": 4,
    "codebook_size": 32,
    "codebook_dim": 4,
}
LICENCE = "Apache-2.0"
SMALL_ONLY = (MONO, V2)  # 14 and 17 GB in float64


def settings_of(config: Any) -> dict[str, Any]:
    """What lies in config.json."""
    patches = [{"module_type": "PatchedPretransform", "patch_size": patch} for patch in config.patches]
    stages = [
        {"module_type": "Transformer", "d_model": s.width, "num_layers": s.layers, "context_duration": s.context}
        for s in stages_of(config)
    ]
    modules = [module for pair in zip(patches, stages, strict=False) for module in pair] + patches[-1:]
    modules = [module for module in modules if module.get("patch_size") != 1]
    return {
        "model_type": "moss-audio-tokenizer",
        "sampling_rate": config.sample_rate,
        "downsample_rate": math.prod(config.patches) // config.channels,
        "number_channels": config.channels,
        "encoder_kwargs": modules,
        "decoder_kwargs": modules[::-1],
        "quantizer_kwargs": {"num_quantizers": config.num_codebooks, "rvq_dim": config.vq_dim},
    }


def shards(count: int) -> Callable[[Packaging, Tensors, Path], Path]:
    """The folder of a repository: `count` files, their index and the settings."""

    def write(packaging: Packaging, tensors: Tensors, folder: Path) -> Path:
        keys, index = list(tensors), {}
        for i in range(count):
            file = f"model-{i + 1:05}-of-{count:05}.safetensors"
            own = keys[i * len(keys) // count : (i + 1) * len(keys) // count]
            save_file({key: tensors[key].contiguous() for key in own}, folder / file, {"format": "pt"})
            index |= dict.fromkeys(own, file)
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
        (folder / "config.json").write_text(json.dumps(settings_of(packaging.config())))
        return folder

    return write


def the_index(packaging: Packaging, tensors: Tensors, folder: Path) -> Path:
    return shards(2)(packaging, tensors, folder) / "model.safetensors.index.json"


OTHER_WINDOWS = [{"module_type": "Transformer", "context_duration": 9.0}]
REFUSED = (
    ("downsample_rate", 1920, "downsample_rate is 1920 there and 3840 here"),
    ("decoder_kwargs", OTHER_WINDOWS, r"decoder's context_duration is \[9\.0\] there and \[0\.4, "),
    ("quantizer_kwargs", {"num_quantizers": 7}, "num_quantizers is 7 there and 4 here"),
)
PACKAGINGS = {
    "moss_audio_tokenizer of 48 kHz": Packaging(NANO, NANO, shards(1), refused=REFUSED),
    "moss_audio_tokenizer of 24 kHz": Packaging(MONO, NANO, shards(2), MANIFESTS[MONO]),
    "moss_audio_tokenizer v2": Packaging(V2, NANO, shards(3), MANIFESTS[V2]),
}


@pytest.fixture(scope="module")
def codec() -> BaseCodec:
    return golden_codec(NANO, NANO)


@pytest.fixture(scope="module")
def small() -> BaseCodec:
    return codec_of(NANO, "small", torch.float64)


# -- golden cases -----------------------------------------------------------------------------------


def test_golden(codec: BaseCodec) -> None:
    """50000 samples of stereo: 13 frames and a rest, which is dropped."""
    case, _ = golden_case(NANO)
    codes = codec.encode(case["audio"], 48000).codes
    assert_codes_agree(codes, case["codes"], case["codes_stable"])
    assert_audio_agrees(codec.latents(case["audio"], codec.sample_rate).values, case["latent"], 2e-5)
    assert_audio_agrees(codec.quantizer.decode(case["codes"]), case["quantized"], 2e-5)
    assert_audio_agrees(codec.decode(case["codes"]).waveform, case["reconstruction"], 2e-5)
    assert_audio_agrees(codec.decode(case["codes"][:, :8]).waveform, case["reconstruction_8"], 2e-5)
    assert torch.equal(codec.encode(case["audio"], 48000, num_codebooks=8).codes, codes[:, :8])


def test_golden_beyond_every_window(codec: BaseCodec) -> None:
    """10.64 s: the stages see 4, 6, 8 and 10 s of it. Without windows 727 codes would be others."""
    case, _ = golden_case(NANO, "long")
    audio = torch.from_numpy(golden_weights.audio(f"long/{NANO}", 1, 2, 510720, 48000))
    assert_codes_agree(codec.encode(audio, 48000).codes, case["codes"], case["codes_stable"])
    tail = case["reconstruction_tail"]
    assert_audio_agrees(codec.decode(case["codes"]).waveform[..., -tail.shape[-1] :], tail, 5e-5)


def test_golden_stream(codec: BaseCodec) -> None:
    """A frame of 80 ms a step, there and back."""
    case, _ = golden_case(NANO, "stream")
    stream = codec.stream(batch_size=2)
    steps = case["audio"].split(HOP, dim=-1)
    codes = torch.cat([stream.encode(step).codes for step in steps], dim=-1)
    assert_codes_agree(codes, case["codes"], case["codes_stable"])
    assert stream.flush().codes.shape[-1] == 0
    audio = torch.cat([stream.decode(case["codes"][..., n : n + 1]).waveform for n in range(10)], dim=-1)
    assert_audio_agrees(audio, case["reconstruction"], 2e-5)


# -- lengths ----------------------------------------------------------------------------------------


def test_what_fills_no_frame_is_dropped_but_for_a_clip_that_is_shorter(small: BaseCodec) -> None:
    samples = [1, HOP - 1, HOP, 2 * HOP - 1, 2 * HOP]
    clips = clips_of(small, samples)
    codes = small.encode(clips, 48000)
    assert codes.lengths.tolist() == [1, 1, 1, 1, 2]
    assert torch.equal(codes[3].codes, small.encode(clips[3][:, :HOP], 48000).codes)
    audio = small.decode(codes)
    assert audio.lengths.tolist() == samples
    assert bool(audio.waveform[3, :, HOP - 9 : HOP].any()) and not bool(audio.waveform[3, :, HOP:].any())


@pytest.mark.parametrize("samples", [7, HOP - 1, HOP + 7])
def test_a_stream_ends_as_a_whole_clip_does(small: BaseCodec, samples: int) -> None:
    (clip,) = clips_of(small, [samples])
    stream = small.stream()
    whole = samples // HOP * HOP
    codes = [stream.encode(clip[None, :, :whole]).codes] if whole else []
    codes.append(stream.flush(clip[None, :, whole:])[0].codes)
    assert torch.equal(torch.cat(codes, dim=-1), small.encode(clip, 48000).codes)


# -- the network --------------------------------------------------------------------------------------


def test_patches() -> None:
    """Channel by channel, the steps of a patch next to each other; and back."""
    x = torch.arange(24.0).view(1, 6, 4)
    patched = Patch(3)(x)
    assert patched.shape == (1, 2, 12)
    assert patched[0, 1].tolist() == [x[0, 3 + step, channel] for channel in range(4) for step in range(3)]
    assert torch.equal(Unpatch(3)(patched), x)


def test_stereo_is_interleaved(small: BaseCodec) -> None:
    """The first patch holds 120 samples of each channel, left and right in turn."""
    (clip,) = clips_of(small, [HOP])
    seen = []
    hook = small.encoder[0].register_forward_hook(lambda _, inputs, output: seen.append(output))
    small.encode(clip, 48000)
    hook.remove()
    assert torch.equal(seen[0][0, 1, 0::2], clip[0, 120:240]) and torch.equal(seen[0][0, 1, 1::2], clip[1, 120:240])


@pytest.mark.parametrize("name", MANIFESTS)
def test_it_is_the_published_network(name: str) -> None:
    """Its modules, number by number; and the count of values in the real files, where weight norm adds magnitudes."""
    manifest = manifest_of(NANO, MANIFESTS[name])
    with torch.device("meta"):
        codec = find_variant(name).build()
    settings = manifest["config"]
    codec.check_metadata({"config": settings})
    for side in ("encoder", "decoder"):
        modules = getattr(codec, side)
        assert len(modules) == len(settings[f"{side}_kwargs"])
        for module, wanted in zip(modules, settings[f"{side}_kwargs"], strict=True):
            if isinstance(module, Patch):
                assert wanted == {"module_type": "PatchedPretransform", "patch_size": module.size}
                continue
            assert isinstance(module, Stage)
            layer = module.transformer.layers[0]
            width = layer.norm1.normalized_shape[0]
            assert getattr(module.input_proj, "in_features", width) == wanted["input_dimension"]
            assert getattr(module.output_proj, "out_features", width) == wanted["output_dimension"]
            assert (width, len(module.transformer.layers)) == (wanted["d_model"], wanted["num_layers"])
            hidden = layer.feed_forward.linear1.out_features
            assert (layer.attention.num_heads, hidden) == (wanted["num_heads"], wanted["dim_feedforward"])
    magnitudes = 512 + 768 + codec.config.num_codebooks * (8 + 512)
    count = {NANO: 21_969_664, MONO: 1_774_566_400, V2: 2_123_701_248}[name]
    assert codec.info.parameters + magnitudes == count
    assert sum(math.prod(entry["shape"]) for entry in manifest["tensors"]) == count


@pytest.mark.parametrize(
    ("name", "windows"),
    [(NANO, [1600, 1200, 800, 500]), (MONO, [1000, 500, 250, 125]), (V2, [400, 400, 400, 400, 250, 125])],
)
def test_windows(name: str, windows: list[int]) -> None:
    with torch.device("meta"):
        codec = find_variant(name).build()
    for side, expected in ((codec.encoder, windows), (codec.decoder, windows[::-1])):
        assert [module.transformer.window for module in side if isinstance(module, Stage)] == expected


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_runs(dtype: torch.dtype) -> None:
    half, single = small_variant(NANO).build(), codec_of(NANO, "small", torch.float32)
    load_weights(half, single.state_dict())
    half = half.to(dtype).eval()
    clips = [clip.float() for clip in clips_of(single, [20000, 9000])]
    codes = half.encode(clips, 48000)
    assert torch.equal(codes.lengths, single.encode(clips, 48000).lengths)
    audio = half.decode(codes)
    assert audio.waveform.dtype == dtype and bool(audio.waveform.isfinite().all()) and bool(audio.waveform.any())


# -- files --------------------------------------------------------------------------------------------


def test_an_index_is_read(tmp_path: Path) -> None:
    packaging = PACKAGINGS["moss_audio_tokenizer of 24 kHz"]
    tensors, _ = packaging.tensors()
    one, other = small_variant(MONO).build(), small_variant(MONO).build()
    load_weights(one, the_index(packaging, tensors, tmp_path))
    load_weights(other, tensors)
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


@pytest.mark.parametrize("settings", [None, "text", {}, {"encoder_kwargs": 3}, {"encoder_kwargs": ["x"]}, {"x": {}}])
def test_settings_of_another_form_are_let_be(small: BaseCodec, settings: Any) -> None:
    small.check_metadata({"config": settings})
