"""What networks are handed: clips at 16 kHz, each resampled once, and not at all where its value is remembered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from codeczoo.base.resampling import resample
from codeczoo.metrics.judged import Memory, Rows
from codeczoo.metrics.pair import Pair

RATE = 24000


def a_pair(seed: int = 0, channels: int = 1) -> Pair:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(3, channels, 6000, generator=generator)
    y = x + 0.1 * torch.randn(3, channels, 6000, generator=generator)
    return Pair.of(x, y, RATE, torch.tensor([6000, 3001, 4500]))


@pytest.fixture
def resamplings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many clips each call of a resampler had."""
    soxr = pytest.importorskip("soxr")
    seen: list[int] = []

    def counted(real: Callable[..., Any], clips: Callable[[Any], int]) -> Callable[..., Any]:
        def call(given: Any, *arguments: Any, **options: Any) -> Any:
            seen.append(clips(given))
            return real(given, *arguments, **options)

        return call

    monkeypatch.setattr(soxr, "resample", counted(soxr.resample, lambda _: 1))
    monkeypatch.setattr("codeczoo.metrics.judged.resample", counted(resample, len))
    return seen


def lengths_of(clips: list[Tensor]) -> list[tuple[int]]:
    return [(len(clip),) for clip in clips]


@pytest.mark.parametrize(("resampler", "calls"), [("soxr", [1, 1, 1]), ("hann", [3])])
def test_two_networks_share_what_was_resampled(resampler: Any, calls: list[int], resamplings: list[int]) -> None:
    pair = a_pair()
    for _ in range(2):
        rows = Rows(pair, "estimate", 1, mono=True, resampler=resampler)
        assert rows.values(lengths_of) == [(4000,), (2001,), (3000,)]
    assert resamplings == calls


@pytest.mark.parametrize("resampler", ["soxr", "hann"])
def test_what_is_remembered_is_not_resampled(resampler: Any, resamplings: list[int]) -> None:
    memory = Memory()
    first = Rows(a_pair(), "reference", 1, resampler=resampler).values(lengths_of, memory, "network")
    before = sum(resamplings)
    again = Rows(a_pair(), "reference", 1, resampler=resampler).values(lengths_of, memory, "network")
    assert again == first and sum(resamplings) == before == 3
    Rows(a_pair(), "reference", 1, resampler=resampler).values(lengths_of, memory, "another network")
    Rows(a_pair(1), "reference", 1, resampler=resampler).values(lengths_of, memory, "network")
    assert sum(resamplings) == 9


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("mono", [False, True])
def test_clips_are_those_of_the_batch_resampled_together(channels: int, mono: bool) -> None:
    """Whichever of them are asked for; the mean of channels is float64."""
    pair = a_pair(channels=channels)
    rows = Rows(pair, "estimate", 1, mono=mono)
    found = rows.values(lambda clips: [tuple(clip.tolist()) for clip in clips])
    whole = (pair.mono() if mono and channels > 1 else pair).resampled(16000, "hann")
    expected = whole.estimate.flatten(0, 1)
    ends = whole.row_lengths.tolist()
    assert len(found) == 3 * (1 if mono else channels)
    for i, values in enumerate(found):
        assert len(values) == ends[i]
        assert torch.allclose(torch.tensor(values, dtype=torch.float64), expected[i, : ends[i]].double(), atol=1e-6)
