"""XY-Tokenizer: the golden cases in both namings, windows of 30 s, and what stands behind a clip.

The golden cases have 534 million weights and are slow. In the default run `test_features` holds what precedes the
network, and `test_the_encoder_as_upstream_runs_it` and `test_the_decoder_written_plainly` hold the network itself.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from codeczoo import BaseCodec, codec_info, load_codec
from codeczoo.nn.log_mel import whisper_log_mel
from codeczoo.nn.whisper import WhisperEncoder, WhisperTransformer
from codeczoo.weights.load import load_weights
from tests.contract.test_registry import clips_of
from tests.support import golden_weights
from tests.support.golden import assert_audio_agrees, assert_codes_agree, golden_case, manifest_of
from tests.support.packagings import HF, Packaging, Tensors, flat_pickle, of_transformers
from tests.support.published import small_checkpoint
from tests.support.small import codec_of, small_variant

NAME, TTSD = "xy_tokenizer_16k", "xy_tokenizer_ttsd_v0"
HOP, WINDOW, STEP = 1280, 375, 250

SMALL: dict[str, object] = {
    "mels": 16,
    "dim": 24,
    "num_heads": 2,
    "hidden": 32,
    "num_layers": 2,
    "adapter_layers": 1,
    "codebook_size": 32,
    "codebook_dim": 12,
    "vocoder_dim": 20,
    "vocoder_hidden": 28,
    "vocoder_layers": 2,
}
LICENCE = "Apache-2.0"


def in_an_entry(packaging: Packaging, tensors: Tensors, folder: Path) -> Path:
    """MOSS-TTSD's checkpoint."""
    torch.save({"generator": tensors, "step": 3}, folder / "xy_tokenizer.ckpt")
    return folder / "xy_tokenizer.ckpt"


PACKAGINGS = {
    "xy_tokenizer": Packaging(NAME, NAME, flat_pickle("xy_tokenizer.ckpt")),
    "xy_tokenizer of MOSS-TTSD": Packaging(TTSD, TTSD, in_an_entry),
    "xy_tokenizer of transformers": Packaging(TTSD, TTSD, of_transformers, HF),
}


@pytest.fixture(scope="module")
def small() -> BaseCodec:
    return codec_of(NAME, "small", torch.float64)


# -- golden cases -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "case", "manifest"),
    [(NAME, "public", "manifest.json"), (TTSD, "public", "manifest.json"), (TTSD, "public_hf", HF)],
)
def test_golden(name: str, case: str, manifest: str) -> None:
    """20479 samples: 128 mel frames, 15 codes of the 16 that the network makes. The weights go with the test."""
    entries = manifest_of(name, manifest)["tensors"]
    weights = {entry["key"]: torch.from_numpy(golden_weights.tensor(entry, "public")) for entry in entries}
    codec = load_codec(name, weights=weights, device="cpu")
    del weights
    truth, meta = golden_case(name, case)
    assert_audio_agrees(codec.features(truth["audio"]), truth["features"])
    count = truth["codes"].shape[-1]
    assert_audio_agrees(codec.window_latents(truth["audio"])[..., :count], truth["latent"])
    assert_codes_agree(codec.encode(truth["audio"], 16000).codes, truth["codes"], truth["codes_stable"])
    assert_audio_agrees(codec.quantizer.decode(truth["codes"]), truth["quantized"])
    audio = codec.decode(truth["codes"])
    assert audio.sample_rate == int(meta["output_sample_rate"])
    assert_audio_agrees(audio.waveform, truth["reconstruction"])


@pytest.mark.parametrize(("name", "case"), [(NAME, "public"), (TTSD, "public"), (TTSD, "public_hf")])
def test_features(name: str, case: str) -> None:
    truth, _ = golden_case(name, case)
    variant = small_variant(name)
    codec = replace(variant, network={**variant.network, "mels": 80}).build()
    assert_audio_agrees(codec.features(truth["audio"]), truth["features"])


# -- the network written plainly --------------------------------------------------------------------


def attend(body: WhisperTransformer, x: Tensor, count: int) -> Tensor:
    """With keys masked from `count` on, and zeros there afterwards."""
    x = x + body.positions[: x.shape[1]]
    behind = torch.arange(x.shape[1]) >= count
    for layer in body.transformer.layers:
        q, k, v = layer.attention.project(layer.norm1(x))
        weights = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(behind, -torch.inf).softmax(-1)
        x = x + layer.attention.merge(weights @ v)
        x = x + layer.feed_forward(layer.norm2(x))
    return body.norm(x).masked_fill(behind[:, None], 0)


@pytest.mark.parametrize("samples", [1280, 20479, 23040, WINDOW * HOP])
def test_the_encoder_as_upstream_runs_it(small: BaseCodec, samples: int) -> None:
    """A whole window of features, of which nothing is cut."""
    (clip,) = clips_of(small, [samples])
    mel = whisper_log_mel(F.pad(clip, (0, WINDOW * HOP - samples)), mels=small.config.mels)
    assert mel.shape[-1] == 3000
    count = -(-samples // 160) // 2

    def encode(side: WhisperEncoder) -> Tensor:
        x = F.gelu(F.conv1d(mel, side.conv1.weight, side.conv1.bias, padding=1))
        return attend(side.body, F.gelu(F.conv1d(x, side.conv2.weight, side.conv2.bias, 2, 1)).mT, count)

    semantic = attend(small.semantic_adapter, encode(small.semantic), count)
    x = attend(small.join_adapter, small.join(torch.cat([semantic, encode(small.acoustic)], dim=-1)), count)
    down, wide = small.downsample, small.config.latent_dim
    frames = x.reshape(1, 375, wide)  # 4 steps side by side
    gate, up = (frames @ layer.weight.mT.flatten(1).T for layer in (down.gate, down.up))
    y = down.down(F.silu(gate) * up) + frames
    expected = F.layer_norm(y, (wide,), down.norm.weight, down.norm.bias)[:, : count // 4].mT
    torch.testing.assert_close(small.window_latents(clip[None]), expected, rtol=1e-9, atol=1e-9)
    codes = small.encode(clip, 16000).codes
    assert codes.shape[-1] == samples // HOP
    assert torch.equal(codes[..., :STEP], small.quantizer.encode(expected)[..., : min(samples // HOP, STEP)])


def test_the_decoder_written_plainly(small: BaseCodec) -> None:
    codes = torch.randint(0, 32, (1, 8, 9), generator=torch.Generator().manual_seed(0))
    latent = sum(small.quantizer.vq.codebooks[k][codes[:, k]] for k in range(8))  # [1, 9, codebook_dim]
    out = small.quantizer.output_proj
    x = attend(small.decoder_adapter, small.narrow(latent @ out.weight[..., 0].T + out.bias), 9)
    x = F.conv_transpose1d(small.widen(x).mT, small.upsample.weight, stride=4)
    x = attend(small.decoder.body, x.mT, 36).mT
    for layer, stride in ((small.decoder.deconv1, 2), (small.decoder.deconv2, 1)):
        x = F.gelu(F.conv_transpose1d(x, layer.weight, layer.bias, stride))
    assert x.shape[-1] == 75
    vocoder, width = small.vocoder, small.config.vocoder_dim

    def norm(x: Tensor, layer: torch.nn.LayerNorm) -> Tensor:
        return F.layer_norm(x.mT, (width,), layer.weight, layer.bias, 1e-6)

    x = norm(F.conv1d(x[..., :72], vocoder.embed.weight, vocoder.embed.bias, padding=3), vocoder.norm).mT
    for block in vocoder.convnext:
        y = norm(F.conv1d(x, block.dwconv.weight, block.dwconv.bias, padding=3, groups=width), block.norm)
        x = x + (block.gamma * block.pwconv2(F.gelu(block.pwconv1(y)))).mT
    expected = vocoder.head(norm(x, vocoder.final_layer_norm))
    torch.testing.assert_close(small.decode(codes).waveform[0], expected, rtol=1e-9, atol=1e-9)


# -- windows ----------------------------------------------------------------------------------------


def test_a_long_clip_goes_in_windows_that_overlap(small: BaseCodec) -> None:
    """47 s: windows start at 0, 20 and 40 s; 250 codes of each count, though each but the last makes 375."""
    (clip,) = clips_of(small, [47 * 16000 + 777])
    codes = small.encode(clip, 16000)
    assert codes.lengths.tolist() == [588]
    pieces = []
    for start in (0, 250, 500):
        window = clip[None, :, start * HOP : (start + WINDOW) * HOP]
        pieces.append(small.quantizer.encode(small.window_latents(window))[..., :STEP])
    joined = torch.cat(pieces, dim=-1)[..., :588]
    assert torch.equal(codes.codes, joined)

    audio = small.decode(codes)
    pieces = [
        small.synthesize_window(small.quantizer.decode(codes.codes[..., start : start + WINDOW]))[..., : STEP * HOP]
        for start in (0, 250, 500)
    ]
    torch.testing.assert_close(audio.waveform[..., : 588 * HOP], torch.cat(pieces, dim=-1), rtol=1e-9, atol=1e-12)
    assert not bool(audio.waveform[..., 588 * HOP :].any())


def test_a_clip_of_more_than_20_s_is_encoded_twice(small: BaseCodec) -> None:
    """Code 250 is made by a window that begins with it."""
    (clip,) = clips_of(small, [22 * 16000])
    codes = small.encode(clip, 16000).codes
    assert torch.equal(codes[..., STEP:], small.encode(clip[:, STEP * HOP :], 16000).codes)
    (whole,) = small.quantizer.encode(small.window_latents(clip[None]))
    assert torch.equal(codes[0, :, :STEP], whole[:, :STEP]) and not torch.equal(codes[0], whole)


@pytest.mark.parametrize("seconds", [0.5, 200.0])
def test_windows_that_go_together_are_as_if_alone(small: BaseCodec, seconds: float) -> None:
    codec = copy.copy(small)
    codec.max_chunk_seconds = seconds
    clips = clips_of(codec, [22 * 16000, 1000, 31 * 16000 + 5])
    codes = codec.encode(clips, 16000)
    audio = codec.decode(codes).split()
    for i, clip in enumerate(clips):
        alone = small.encode(clip, 16000)
        assert torch.equal(codes[i].codes, alone.codes)
        torch.testing.assert_close(audio[i], small.decode(alone).waveform[0], rtol=1e-9, atol=1e-12)


# -- lengths, rates, numbers ------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "rate"), [(NAME, 16000), (TTSD, 24000), ("xy_tokenizer_ttsd_v0_32k", 32000)])
def test_lengths_and_rates(name: str, rate: int) -> None:
    """What fills no frame is lost; a clip shorter than a frame is filled up to one."""
    codec = codec_of(name, "small", torch.float32)
    samples = [1, 1279, 1280, 2559, 20479]
    codes = codec.encode([0.1 * torch.randn(1, n) for n in samples], 16000)
    assert codes.lengths.tolist() == [1, 1, 1, 1, 15]
    audio = codec.decode(codes)
    assert (audio.sample_rate, codec_info(name).output_sample_rate) == (rate, rate)
    assert audio.lengths.tolist() == [-(-n * rate // 16000) for n in samples]
    assert not bool(audio.waveform[-1, :, 15 * HOP * rate // 16000 :].any())
    assert codec.decode(codes.codes[-1:]).lengths.tolist() == [15 * HOP * rate // 16000]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_runs(dtype: torch.dtype) -> None:
    half = small_variant(TTSD).build()
    single = codec_of(TTSD, "small", torch.float32)
    load_weights(half, single.state_dict())
    half = half.to(dtype).eval()
    clips = [clip.float() for clip in clips_of(single, [20000, 9000])]
    codes = half.encode(clips, 16000)
    assert torch.equal(codes.lengths, single.encode(clips, 16000).lengths)
    audio = half.decode(codes)
    assert audio.waveform.dtype == dtype and bool(audio.waveform.isfinite().all()) and bool(audio.waveform.any())


# -- files ------------------------------------------------------------------------------------------


def test_the_checkpoint_of_32_khz() -> None:
    """No golden case was run of it: its manifest is that of 24 kHz with the head of its published config."""
    name = "xy_tokenizer_ttsd_v0_32k"
    tensors, used = small_checkpoint(name, TTSD, "manifest_32k.json")
    assert tensors["enhanced_vocos.head.out.weight"].shape[0] == 1282
    codec = small_variant(name).build()
    load_weights(codec, {"generator": tensors})
    assert codec.decode(torch.zeros(1, 8, 3, dtype=torch.int64)).waveform.shape == (1, 1, 3 * 2560)
    with pytest.raises(ValueError, match=r"head\.out\.weight \[1282, 20\] instead of \[962, 20\]"):
        load_weights(small_variant(TTSD).build(), tensors)
    assert len(used) < len(tensors)
