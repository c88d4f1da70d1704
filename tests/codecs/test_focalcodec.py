"""FocalCodec and FocalCodec-Stream: golden cases, clips shorter than a frame, groups of frames, and both namings.

In the default run the golden cases of 12.5 Hz (every block of the three networks without groups) and of the causal
network of 2048 tokens (every block of the three with groups) hold the arithmetic; the others are slow.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from codeczoo import BaseCodec, codec_info, load_codec
from codeczoo.base.catalogue import find_variant
from codeczoo.nn.causal_wavlm import CausalWavLM
from codeczoo.weights.convert import convert, fit
from codeczoo.weights.load import load_weights
from tests.support import golden_weights
from tests.support.golden import assert_audio_agrees, assert_codes_agree, golden_case, manifest_of
from tests.support.packagings import Packaging, Tensors, flat_pickle, flat_safetensors
from tests.support.published import small_checkpoint
from tests.support.small import codec_of, small_variant

WHOLE, CAUSAL = "focalcodec_50hz", "focalcodec_50hz_4k_causal"
SMALL: dict[str, object] = {
    "semantic_layers": 2,
    "semantic_dim": 32,
    "semantic_heads": 2,
    "semantic_hidden": 48,
    "extractor_dim": 16,
    "widths": (24, 20, 16),
    "decoder_dim": 24,
    "decoder_hidden": 32,
    "decoder_layers": 2,
    "attention_window": 14,
    "context_window": 10,
}
LICENCE = "Apache-2.0"
LONG_VARIANTS = (CAUSAL,)


def of_upstream(packaging: Packaging, tensors: Tensors, folder: Path) -> Path:
    """The folder of a hub repository, with the settings of the manifest but for the sizes of the small network."""
    flat_safetensors("model.safetensors")(packaging, tensors, folder)
    settings, config = manifest_of(packaging.folder)["config"], packaging.config()
    sizes = {"num_layers": config.semantic_layers, "dim": config.semantic_dim, "num_heads": config.semantic_heads}
    settings["encoder_config"] |= {**sizes, "ffn_dim": config.semantic_hidden}
    settings["compressor_config"] |= {"hidden_dims": list(config.widths)}
    settings["decompressor_config"] |= {"hidden_dims": list(config.widths[::-1])}
    sizes = {"num_layers": config.decoder_layers, "dim": config.decoder_dim, "ffn_dim": config.decoder_hidden}
    settings["decoder_config"] |= sizes
    if config.group:
        settings["encoder_config"]["window_size"] = config.attention_window
        for part in ("compressor_config", "decompressor_config"):
            settings[part]["window_size"] = config.context_window
    (folder / "config.json").write_text(json.dumps(settings))
    return folder


PACKAGINGS = {
    "focalcodec": Packaging(WHOLE, WHOLE, of_upstream),
    "focalcodec of 12.5 Hz": Packaging("focalcodec_12_5hz", "focalcodec_12_5hz", of_upstream),
    "focalcodec, causal": Packaging(CAUSAL, CAUSAL, of_upstream),
    "focalcodec's pickle": Packaging("focalcodec_25hz", "focalcodec_25hz", flat_pickle("model.pt")),
}


# -- golden cases -----------------------------------------------------------------------------------


def made(name: str) -> Any:
    """A codec with golden weights, which are forgotten with the test."""
    entries = manifest_of(name)["tensors"]
    weights = {entry["key"]: torch.from_numpy(golden_weights.tensor(entry, "public")) for entry in entries}
    return load_codec(name, weights=weights, device="cpu")


def assert_is_golden(codec: Any) -> None:
    truth, _ = golden_case(codec.name)
    with torch.no_grad():
        assert_audio_agrees(codec.encoder(truth["audio"]).mT, truth["features"])
        latent = codec.compress(truth["features"].mT)
        assert_audio_agrees(F.normalize(latent, dim=1), truth["latent"])
    assert_codes_agree(codec.encode(truth["audio"], 16000).codes, truth["codes"], truth["codes_stable"])
    assert_audio_agrees(codec.quantizer.decode(truth["codes"][:, 0]), truth["quantized"])
    audio = codec.decode(truth["codes"])
    assert audio.sample_rate == codec.output_sample_rate
    assert_audio_agrees(audio.waveform, truth["reconstruction"])


def assert_stream_is_golden(codec: Any) -> None:
    """80 ms a step there and back, as upstream streams: each chunk gives its four codes and its samples at once."""
    truth, _ = golden_case(codec.name, "stream")
    stream = codec.stream(batch_size=2)
    steps = [stream.encode(chunk) for chunk in truth["audio"].split(1280, dim=-1)]
    assert [step.lengths.tolist() for step in steps] == [[4, 4]] * 16
    assert stream.flush().codes.shape[-1] == 0
    assert_codes_agree(torch.cat([step.codes for step in steps], dim=-1), truth["codes"], truth["codes_stable"])
    audio = torch.cat([stream.decode(step).waveform for step in steps], dim=-1)
    assert stream.drain().waveform.shape[-1] == 0
    assert_audio_agrees(audio, truth["reconstruction"])


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("focalcodec_50hz", marks=pytest.mark.slow),
        pytest.param("focalcodec_25hz", marks=pytest.mark.slow),
        "focalcodec_12_5hz",
        "focalcodec_50hz_2k_causal",
    ],
)
def test_golden(name: str) -> None:
    assert_is_golden(made(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["focalcodec_50hz_4k_causal", "focalcodec_50hz_65k_causal"])
def test_golden_whole_and_streamed(name: str) -> None:
    codec = made(name)
    assert_is_golden(codec)
    assert_stream_is_golden(codec)
    if name != CAUSAL:
        return
    # 11.9 s: the last 82 frames do not see all of the clip.
    truth, _ = golden_case(name, "long")
    clip = torch.from_numpy(golden_weights.audio(f"long/{name}", 1, 1, 190000, 16000))
    tail = truth["reconstruction_tail"]
    for seconds in (None, 5.0):  # the whole, and through the state of a stream
        codec.max_chunk_seconds = seconds
        assert_codes_agree(codec.encode(clip, 16000).codes, truth["codes"], truth["codes_stable"])
        assert_audio_agrees(codec.decode(truth["codes"]).waveform[..., -tail.shape[-1] :], tail)


# -- lengths ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "strides"), [(WHOLE, 1), ("focalcodec_25hz", 2), ("focalcodec_12_5hz", 4)])
def test_codes_of_a_clip(name: str, strides: int) -> None:
    """A clip shorter than the 400 samples of WavLM's first frame has one, too."""
    codec = codec_of(name, "small", torch.float64)
    samples = [1, 9, 399, 400, 719, 720, 1040, 5000]
    codes = codec.encode([torch.randn(1, n) for n in samples], 16000)
    assert codes.lengths.tolist() == [-(-max((n - 400) // 320 + 1, 1) // strides) for n in samples]
    assert codec.decode(codes).lengths.tolist() == samples
    assert codec.decode(codes.codes[-1:]).lengths.tolist() == [320 * strides * int(codes.lengths[-1])]


def test_codes_of_a_clip_in_groups() -> None:
    codec = codec_of(CAUSAL, "small", torch.float64)
    samples = [1, 320, 321, 1280, 1281, 5000]
    codes = codec.encode([torch.randn(1, n) for n in samples], 16000)
    assert codes.lengths.tolist() == [-(-n // 320) for n in samples]
    audio = codec.decode(codes)
    assert (audio.sample_rate, audio.lengths.tolist()) == (24000, [-(-3 * n // 2) for n in samples])
    assert bool((audio.waveform.abs() <= 1).all())


def test_maps_shorter_than_a_kernel_are_filled_up_with_zeros() -> None:
    extractor: Any = codec_of(WHOLE, "small", torch.float64).encoder.extractor
    x = torch.randn(1, 1, 60, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = x
    for conv, norm in zip(extractor.convs, extractor.norms, strict=True):
        filled = torch.zeros(1, expected.shape[1], max(expected.shape[-1], conv.span), dtype=torch.float64)
        filled[..., : expected.shape[-1]] = expected
        expected = F.gelu(norm(F.conv1d(filled, conv.weight, stride=conv.stride).mT).mT)
    assert expected.shape[-1] == 1
    torch.testing.assert_close(extractor(x), expected)
    beside = torch.cat([F.pad(x, (0, 4000)), torch.randn(1, 1, 4060, dtype=torch.float64)])
    together = extractor(beside.clone(), torch.tensor([60, 4060]))
    torch.testing.assert_close(together[:1, :, :1], expected)


# -- groups -----------------------------------------------------------------------------------------


def test_a_frame_sees_its_group_and_nothing_later() -> None:
    wavlm: Any = codec_of(CAUSAL, "small", torch.float64).encoder
    assert isinstance(wavlm, CausalWavLM)
    x = torch.randn(1, 1, 320 * 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y, moved = wavlm(x), x.clone()
    moved[..., 320 * 9] += 1  # the last sample of frame 9, which is the second of its group
    changed = (wavlm(moved) - y).abs().amax((0, 2)) > 1e-12
    assert changed.nonzero().flatten().tolist() == list(range(8, 16))


@pytest.mark.parametrize("own", [None, 22])
def test_a_short_last_group_sees_a_whole_window(own: int | None) -> None:
    """Frames 20 and 21 of 22 see frames 8 to 21 at a window of 14."""
    wavlm: Any = codec_of(CAUSAL, "small", torch.float64).encoder
    steps = 22 if own is None else 27
    seen = wavlm.group_window(steps, None, None if own is None else torch.tensor([own])).seen(0, steps, 0)[0, 0]
    assert [seen[i].nonzero().flatten().tolist() for i in (20, 21)] == [list(range(8, 22))] * 2
    assert seen[19].nonzero().flatten().tolist() == list(range(6, 20))
    assert bool(seen.any(1).all()), "frames behind an item see something, lest NaN spread"


@pytest.mark.parametrize("hops", [[4, 8, 4, 12], [1] * 28, [3, 5, 2, 4, 7, 1, 6], [28]])
def test_when_a_stream_gives_its_codes(hops: list[int]) -> None:
    """Chunks of whole groups at once; from the first other chunk on, four frames later."""
    codec = codec_of(CAUSAL, "small", torch.float64)
    clip = torch.randn(1, 1, 320 * 28 + 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64) / 10
    whole = codec.encode(clip, 16000).codes
    stream, position, given, late = codec.stream(), 0, 0, False
    for n in hops:
        codes = stream.encode(clip[..., 320 * position : 320 * (position + n)])
        position, late = position + n, late or n % 4 > 0
        count = max(position - 4, 0) - given if late else n
        assert codes.lengths.tolist() == [count]
        assert torch.equal(codes.codes[..., :count], whole[..., given : given + count])
        given += count
    assert torch.equal(stream.flush(clip[..., 320 * 28 :]).codes, whole[..., given:])


def test_chunks_of_whole_groups_become_late_after_another() -> None:
    codec = codec_of(CAUSAL, "small", torch.float64)
    clip = torch.randn(1, 1, 320 * 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64) / 10
    stream = codec.stream()
    codes = [stream.encode(chunk) for chunk in clip.split([1280, 960, 1280, 320, 1280, 1280], dim=-1)]
    assert [int(chunk.lengths) for chunk in codes] == [4, 0, 3, 1, 4, 4]
    parts = [*(chunk.codes[..., : int(chunk.lengths)] for chunk in codes), stream.flush().codes]
    assert torch.equal(torch.cat(parts, dim=-1), codec.encode(clip, 16000).codes)


# -- numbers ----------------------------------------------------------------------------------------


def test_long_clips_are_decoded_exactly() -> None:
    """The means need the whole clip, the samples do not."""
    codec = copy.deepcopy(codec_of("focalcodec_12_5hz", "small", torch.float64))
    codes = torch.randint(0, 8192, (1, 1, 70), generator=torch.Generator().manual_seed(0))
    whole = codec.decode(codes).waveform
    codec.max_chunk_seconds = 0.8
    torch.testing.assert_close(codec.decode(codes).waveform, whole, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", [WHOLE, CAUSAL])
def test_half_precision_runs(name: str, dtype: torch.dtype) -> None:
    half = small_variant(name).build()
    load_weights(half, codec_of(name, "small", torch.float32).state_dict())
    half = half.to(dtype).eval()
    clips = [0.1 * torch.randn(1, n, generator=torch.Generator().manual_seed(n)) for n in (7000, 3000)]
    codes = half.encode(clips, 16000)
    assert torch.equal(codes.lengths, codec_of(name, "small", torch.float32).encode(clips, 16000).lengths)
    audio = half.decode(codes)
    assert audio.waveform.dtype == dtype and bool(audio.waveform.isfinite().all()) and bool(audio.waveform.any())


# -- names and settings -----------------------------------------------------------------------------


def resaved(tensors: Tensors) -> Tensors:
    """What upstream's newer release makes of a checkpoint of 0.0.1, written out."""
    out: Tensors = {}
    for key, tensor in tensors.items():
        part, _, rest = key.partition(".layers.")
        if key.startswith("encoder.encoder.norm.") or key == "quantizer.mask":
            continue
        if ".q_proj." in key:
            three = [tensors[key.replace(".q_proj.", f".{x}_proj.")] for x in "qkv"]
            out[key.replace(".q_proj.", ".qkv_proj.")] = torch.cat(three)
        elif ".k_proj." not in key and ".v_proj." not in key:
            if part in ("compressor", "decompressor"):
                layer, half, rest = rest.split(".", 2)
                names = {"compressor": ("downscale", "focal_block"), "decompressor": ("focal_block", "upscale")}[part]
                key = f"{part}.layers.{layer}.{names[int(half)]}.{rest}"
            out[key] = tensor
    return out


def test_both_namings_are_the_same_network() -> None:
    tensors, _ = small_checkpoint("focalcodec_25hz", "focalcodec_25hz")
    variant = small_variant("focalcodec_25hz")
    wanted, maps = variant.build().state_dict(), variant.codec_type().key_maps
    assert [fit(each, wanted, maps)[1].name for each in (tensors, resaved(tensors))] == [
        "focalcodec 0.0.1",
        "focalcodec 0.0.2",
    ]
    expected = convert(tensors, wanted, maps, "focalcodec")
    for name, tensor in convert(resaved(tensors), wanted, maps, "focalcodec").items():
        assert torch.equal(tensor, expected[name]), name


@pytest.mark.parametrize("name", [WHOLE, "focalcodec_12_5hz", CAUSAL, "focalcodec_50hz_65k_causal"])
def test_published_settings_fit_and_others_do_not(name: str) -> None:
    with torch.device("meta"):
        codec: BaseCodec = find_variant(name).build()
    config = manifest_of(name)["config"]
    codec.check_metadata({"config": config})
    config["compressor_config"]["normalize_modulator"] = True
    config["quantizer_config"]["codebook_size"] = 64
    with pytest.raises(ValueError, match=r"normalize_modulator is True there and False here; .*codebook_size is 64"):
        codec.check_metadata({"config": config})


def test_names_and_rates() -> None:
    assert find_variant("lucadellalib/focalcodec_12_5hz").name == "focalcodec_12_5hz"
    rates = {name: codec_info(f"focalcodec_{name}").bitrate for name in ("50hz", "25hz", "12_5hz", "50hz_2k_causal")}
    assert rates == {"50hz": 650.0, "25hz": 325.0, "12_5hz": 162.5, "50hz_2k_causal": 550.0}
    info = codec_info("lucadellalib/focalcodec_50hz_65k_causal")
    assert (info.bitrate, info.causal, info.latency) == (800.0, True, 0.08)
    assert (info.sample_rate, info.output_sample_rate, info.codebook_sizes) == (16000, 24000, (65536,))
