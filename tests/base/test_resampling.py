"""The resampler equals the published ones, for each clip of a ragged batch, and at any length."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from codeczoo.base import resampling
from codeczoo.base.resampling import FILTERS, Filter, resample, resampled_length

GOLDEN = load_file(Path(__file__).parent.parent / "golden" / "metrics" / "resampling.safetensors")
RATES = sorted({tuple(map(int, key.split(".")[1].split("_"))) for key in GOLDEN if "." in key})


@pytest.mark.parametrize("name", ["hann", "julius", "kaiser", "scipy"])
@pytest.mark.parametrize(("orig", "new"), RATES)
def test_equals_the_published_filter(orig: int, new: int, name: Filter) -> None:
    out = resample(GOLDEN["waveform"], orig, new, filter=name)
    assert out.shape == (2, resampled_length(24_001, orig, new))
    for part, found in (("head", out[:, :300]), ("tail", out[:, -300:])):
        torch.testing.assert_close(found, GOLDEN[f"{name}.{orig}_{new}.{part}"], atol=1e-6, rtol=0)


@pytest.mark.parametrize(("orig", "new"), RATES)
def test_julius_is_equal_to_the_last_bit(orig: int, new: int) -> None:
    """PESQ's alignment can tip over on it. (The filter is made the same way, and so is each sum on the CPU.)"""
    out = resample(GOLDEN["waveform"], orig, new, filter="julius")
    assert torch.equal(out[:, :300], GOLDEN[f"julius.{orig}_{new}.head"])
    assert torch.equal(out[:, -300:], GOLDEN[f"julius.{orig}_{new}.tail"])


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize(("orig", "new"), [(16_000, 10_000), (44_100, 16_000), (8_000, 24_000), (44_056, 16_000)])
def test_a_ragged_batch_equals_each_clip_alone(orig: int, new: int, name: Filter) -> None:
    lengths = torch.tensor([5_000, 3_001, 17, 1, 0])
    waveform = torch.randn(5, 2, 5_000, generator=torch.Generator().manual_seed(0))
    together = resample(waveform, orig, new, filter=name, lengths=lengths)  # noise stands behind the ends
    assert together.shape == (5, 2, resampled_length(5_000, orig, new))
    for clip, length, out in zip(waveform, lengths.tolist(), together, strict=True):
        alone = resample(clip[:, :length], orig, new, filter=name)
        torch.testing.assert_close(out[:, : alone.shape[-1]], alone, atol=1e-6, rtol=0)
        assert not bool(out[:, alone.shape[-1] :].any())


@pytest.mark.parametrize("name", FILTERS)
def test_a_long_clip_is_made_in_pieces(name: Filter, monkeypatch: pytest.MonkeyPatch) -> None:
    waveform = torch.randn(2, 90_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    whole = resample(waveform, 44_100, 16_000, filter=name)
    monkeypatch.setattr(resampling, "MAX_TILE_SAMPLES", 1_000)
    torch.testing.assert_close(resample(waveform, 44_100, 16_000, filter=name), whole, atol=1e-12, rtol=0)


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 32_000, 44_100, 96_000, 192_000])
def test_a_tone_survives_there_and_back(rate: int) -> None:
    time = torch.arange(rate // 2, dtype=torch.float64) / rate
    tone = torch.sin(2 * torch.pi * 1_000 * time)
    there = resample(tone, rate, 24_000)
    expected = torch.sin(2 * torch.pi * 1_000 * torch.arange(len(there), dtype=torch.float64) / 24_000)
    assert float((there - expected)[500:-500].abs().max()) < 0.01
    back = resample(there, 24_000, rate)[: len(tone)]
    assert float((back - tone)[500:-500].abs().max()) < 0.02


def test_sharp_keeps_all_below_and_lets_nothing_through_above() -> None:
    """16 kHz to 48 kHz: flat to 7.3 kHz, images 130 dB down."""
    impulse = torch.zeros(4_001, dtype=torch.float64)
    impulse[2_000] = 1
    response = torch.fft.rfft(resample(impulse, 16_000, 48_000, filter="sharp"), 48_000).abs() / 3
    assert float((response[:7_301] - 1).abs().max()) < 1e-3
    assert float(response[8_000:].max()) < 10 ** (-130 / 20)


def test_length_rounds_up_in_integers() -> None:
    assert resampled_length(10, 3, 2) == 7
    assert resampled_length(172_800_000_000, 48_000, 44_100) == 158_760_000_000
    assert resampled_length(torch.tensor([0, 1, 160]), 16_000, 10_000).tolist() == [0, 1, 100]


def test_type_and_axes_are_kept() -> None:
    for dtype in (torch.float16, torch.float32, torch.float64):
        assert resample(torch.zeros(160, dtype=dtype), 16_000, 10_000).dtype == dtype
    assert resample(torch.zeros(2, 3, 4, 160), 16_000, 10_000).shape == (2, 3, 4, 100)
    waveform = torch.randn(1, 100)
    assert torch.equal(resample(waveform, 16_000, 16_000), waveform)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((torch.zeros(10), 0, 16_000), {}, ValueError, "orig_rate must be"),
        ((torch.zeros(10), 16_000, 44_100.5), {}, ValueError, "new_rate must be"),
        ((torch.zeros(10), 16_000, 8_000), {"filter": "cubic"}, ValueError, "no filter 'cubic'; choose of: hann"),
        ((torch.zeros(10, dtype=torch.int16), 16_000, 8_000), {}, TypeError, "floating point"),
        ((torch.zeros(2, 10), 16_000, 8_000), {"lengths": torch.tensor([11, 3])}, ValueError, "0 to 10 samples"),
    ],
)
def test_bad_input_is_named(arguments: tuple, options: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        resample(*arguments, **options)
