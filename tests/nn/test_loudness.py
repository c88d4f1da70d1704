"""Loudness against the reference signals of EBU Tech 3341, and what must hold for any signal."""

from __future__ import annotations

import math

import pytest
import torch

from codeczoo.nn import loudness as module
from codeczoo.nn.loudness import loudness


def tone(decibels: float, seconds: float, rate: int = 16000, channels: int = 2) -> torch.Tensor:
    """1 kHz at so many dBFS in every channel, [1, C, T]."""
    t = torch.arange(round(seconds * rate), dtype=torch.float64) / rate
    return 10 ** (decibels / 20) * torch.sin(2 * math.pi * 1000 * t).expand(1, channels, -1)


# EBU Tech 3341, table 1: chunks of (dBFS, seconds) that must read as the last number within 0.1.
REFERENCES = [
    ([(-23, 20)], -23),
    ([(-33, 20)], -33),
    ([(-36, 10), (-23, 60), (-36, 10)], -23),
    ([(-72, 10), (-36, 10), (-23, 60), (-36, 10), (-72, 10)], -23),
    ([(-26, 20), (-20, 20.1), (-26, 20)], -23),
]


@pytest.mark.parametrize(("chunks", "expected"), REFERENCES)
def test_reference_signals_read_as_the_standard_says(chunks, expected):
    signal = torch.cat([tone(*chunk) for chunk in chunks], dim=-1)
    assert float(loudness(signal, 16000)) == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize("rate", [16000, 24000, 44100])
def test_a_tone_is_as_loud_at_any_rate(rate):
    assert float(loudness(tone(-23, 5, rate), rate)) == pytest.approx(-23, abs=0.1)


def test_gain_is_gain_and_items_are_measured_alone():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 1, 30000, generator=generator, dtype=torch.float64)
    levels = loudness(torch.cat([x, 0.1 * x, torch.zeros_like(x)]), 16000)
    assert float(levels[0] - levels[1]) == pytest.approx(20, abs=1e-9)
    assert float(levels[0]) == pytest.approx(float(loudness(x, 16000)), abs=1e-12)
    assert float(levels[2]) == -70


@pytest.mark.parametrize("samples", [1, 100, 7999])
def test_a_short_item_is_measured_with_zeros_behind_it(samples):
    x = tone(-6, 1, 16000, 1)[..., :samples]
    padded = torch.nn.functional.pad(x, (0, 8000 - samples))
    assert float(loudness(x, 16000)) == pytest.approx(float(loudness(padded, 16000)), abs=1e-9)


def test_filtering_in_pieces_changes_nothing(monkeypatch):
    x = torch.randn(1, 2, 20000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    whole = loudness(x, 8000)
    monkeypatch.setattr(module, "CHUNK_SAMPLES", 3001)
    assert float(loudness(x, 8000)) == pytest.approx(float(whole), abs=1e-9)


def test_six_channels_are_refused():
    with pytest.raises(ValueError, match="up to 5 channels; there are 6"):
        loudness(torch.zeros(1, 6, 100), 16000)
