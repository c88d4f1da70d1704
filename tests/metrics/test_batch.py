"""A batch is only a faster loop: nothing that stands beside a clip, or behind its end, changes its value."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from codeczoo import Audio
from codeczoo.metrics import DEFAULT_METRICS, evaluate, metric_names
from tests.support.metric_cases import pair

NAMES = (*DEFAULT_METRICS, "f0_gpe", "f0_ffe", *metric_names("superb/*"))
CLIPS = (
    ("s_en_16k__opus_6", 57_600),
    ("r_aishell_16k__opus_12", 67_200),
    ("s_de_f_16k__reverb_0p3", 30_001),
    ("r_aishell_16k__other_s_zh_16k", 44_000),
    ("n_pink_16k__noise_3", 9_000),
    ("s_zh_16k__noise_0", 700),
)


def clips(dtype: torch.dtype) -> tuple[list[Tensor], list[Tensor]]:
    """References and estimates of different lengths, two of them too short for some metric."""
    sides: tuple[list[Tensor], list[Tensor]] = ([], [])
    for name, samples in CLIPS:
        reference, estimate, _ = pair(name)
        sides[0].append(reference[:, :samples].to(dtype))
        sides[1].append(estimate[:, :samples].to(dtype))
    return sides


def same(together: float, alone: float, tolerance: float) -> bool:
    return together == alone or (math.isnan(together) and math.isnan(alone)) or abs(together - alone) <= tolerance


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_a_ragged_batch_equals_each_clip_alone(dtype: torch.dtype) -> None:
    references, estimates = clips(dtype)
    together = evaluate(references, estimates, 16_000, NAMES)
    for i, (x, y) in enumerate(zip(references, estimates, strict=True)):
        alone = evaluate(x, y, 16_000, NAMES)
        for name in NAMES:
            values = float(together[name][i]), float(alone[name][0])
            assert same(*values, 1e-6), f"{name} of {CLIPS[i][0]}: {values[0]} in a batch, {values[1]} alone"
            assert together.reasons[name][i] == alone.reasons[name][0]


def test_nothing_behind_an_end_is_looked_at() -> None:
    references, estimates = clips(torch.float32)
    names = [name for name in NAMES if name not in ("pesq_nb", "superb/pesq", "superb/f0corr")]
    lengths = torch.tensor([clip.shape[-1] for clip in references])
    sides = []
    for side, filling in ((references, torch.nan), (estimates, 1e6)):
        filled = torch.full((len(side), 1, int(lengths.max()) + 500), filling)
        for row, clip in zip(filled, side, strict=True):
            row[:, : clip.shape[-1]] = clip
        sides.append(Audio(filled, lengths, 16_000))
    dirty, clean = evaluate(*sides, metrics=names), evaluate(references, estimates, 16_000, names)
    for name in names:
        assert dirty.reasons[name] == clean.reasons[name]
        for a, b in zip(dirty[name].tolist(), clean[name].tolist(), strict=True):
            assert same(a, b, 1e-6), name


def test_a_clip_that_is_not_finite_leaves_its_neighbours_alone() -> None:
    references, estimates = clips(torch.float32)
    names = ["mel", "stft", "si_sdr", "stoi", "lsd", "pesq_wb", "f0_rmse"]
    clean = evaluate(references, estimates, 16_000, names)
    estimates[1] = estimates[1].clone()
    estimates[1][0, 100] = torch.inf
    dirty = evaluate(references, estimates, 16_000, names)
    for name in names:
        assert dirty.reasons[name][1] == "non_finite"
        assert math.isnan(dirty[name][1])
        for i in (0, 2, 3, 4, 5):
            assert same(float(dirty[name][i]), float(clean[name][i]), 1e-6)


def test_channels_are_averaged_and_an_undefined_one_undefines_the_clip() -> None:
    reference, estimate, rate = pair("m_poly_44k_st__opus_32")
    names = ["mel", "si_sdr", "stoi", "pesq_nb", "lsd"]
    both = evaluate(reference, estimate, rate, names)
    each = [evaluate(reference[c], estimate[c], rate, names) for c in range(2)]
    for name in names:
        assert float(both[name]) == pytest.approx((float(each[0][name]) + float(each[1][name])) / 2, abs=1e-6)
    left_only = reference * torch.tensor([[1.0], [0.0]])
    scores = evaluate(left_only, estimate, rate, ["si_sdr", "stoi", "waveform"])
    assert scores.reasons["si_sdr"] == ["silent_reference"]
    assert scores.reasons["stoi"] == ["silent_reference"]
    assert scores.reasons["waveform"] == [None]


def test_long_clips_are_measured_piece_by_piece_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    from codeczoo.base import resampling
    from codeczoo.metrics import intelligibility, spectral

    reference, estimate, rate = pair("s_es_44k__opus_10")
    names = ["mel", "mel_dac", "stft", "lsd", "stoi", "estoi"]
    whole = evaluate(reference, estimate, rate, names)
    monkeypatch.setattr(spectral, "CHUNK_VALUES_CPU", 5_000)
    monkeypatch.setattr(intelligibility, "CHUNK_VALUES_CPU", 5_000)
    monkeypatch.setattr(resampling, "PIECE", 5_000)
    pieces = evaluate(reference, estimate, rate, names)
    for name in names:
        assert float(pieces[name]) == pytest.approx(float(whole[name]), abs=1e-9)


def test_half_precision_is_measured_in_float32() -> None:
    reference, estimate, rate = pair("s_en_16k__noise_5_pink")
    halves = [side.half() for side in (reference, estimate)]
    half = evaluate(*halves, rate, ["mel", "si_sdr", "stoi"])
    single = evaluate(*(side.float() for side in halves), rate, ["mel", "si_sdr", "stoi"])
    for name in half:
        assert float(half[name]) == float(single[name])
