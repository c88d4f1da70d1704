"""Statistics of codes equal the golden ones, however the codes are split up."""

from __future__ import annotations

import json
import math

import pytest
import torch
from safetensors.torch import load_file

from codeczoo import Codes
from codeczoo.metrics import CodeStatistics, code_statistics
from tests.support.metric_cases import FOLDER

CASES = json.loads((FOLDER / "codes.json").read_text())["cases"]
TENSORS = load_file(FOLDER / "codes.safetensors")


@pytest.mark.parametrize("name", CASES)
def test_golden_case(name: str) -> None:
    case = CASES[name]
    lengths = case["valid_frames"] and torch.tensor(case["valid_frames"])
    summary = code_statistics(TENSORS[name], lengths, case["sizes"], case["frame_rate"]).to_dict()
    levels = summary.pop("levels")
    truth = dict(case["values"])
    for level, expected in zip(levels, truth.pop("levels"), strict=True):
        assert level == pytest.approx(expected, abs=1e-12, rel=1e-12)
    assert summary.pop("reason") is None
    assert summary == pytest.approx(truth, abs=1e-12, rel=1e-12)


def test_counts_do_not_depend_on_how_they_were_collected() -> None:
    codes, case = TENSORS["ragged"], CASES["ragged"]
    lengths = torch.tensor(case["valid_frames"])
    whole = CodeStatistics(case["sizes"], case["frame_rate"])
    whole.update(codes, lengths)
    left, right = (CodeStatistics(case["sizes"], case["frame_rate"]) for _ in range(2))
    left.update(codes[:1], lengths[:1])
    right.update(codes[1:2], lengths[1:2])
    right.update(codes[2:], lengths[2:])
    left.merge(right)
    assert left.summary() == whole.summary()
    assert torch.equal(left.counts[0], whole.counts[0])


def test_padding_is_not_counted() -> None:
    codes = torch.full((2, 1, 10), -1)
    codes[0, 0, :4] = torch.arange(4)
    codes[1, 0, :2] = 7
    summary = code_statistics(codes, torch.tensor([4, 2]), [8], 50)
    assert summary.frames == 6
    assert summary.levels[0].used == 5
    assert summary.levels[0].most_common_share == pytest.approx(1 / 3)


def test_codebooks_of_different_rates() -> None:
    """SNAC's layout: the first codebook has a code for each fourth frame, at the left of its row."""
    codes = torch.full((1, 3, 8), -1)
    codes[0, 0, :2] = torch.tensor([0, 1])
    codes[0, 1, :4] = torch.tensor([0, 1, 2, 3])
    codes[0, 2] = torch.arange(8)
    made = Codes(codes, torch.tensor([8]), torch.tensor([-1]), 24_000, "some", (8, 8, 8), 40.0, (4, 2, 1))
    summary = code_statistics(made)
    assert [level.entropy_bits for level in summary.levels] == [1, 2, 3]
    assert summary.nominal_bitrate == pytest.approx(3 * (10 + 20 + 40))
    assert summary.entropy_bitrate == pytest.approx(1 * 10 + 2 * 20 + 3 * 40)
    assert summary.tokens_per_second == pytest.approx(70)


def test_nothing_counted_says_so() -> None:
    summary = CodeStatistics([16, 16], 12.5).summary()
    assert summary.reason == "no_frames"
    assert math.isnan(summary.entropy_bits_sum)
    assert summary.nominal_bitrate == 100


def test_codes_without_a_clock_have_no_bitrate() -> None:
    summary = code_statistics(torch.zeros(1, 1, 4, dtype=torch.int64), None, [256])
    assert summary.nominal_bitrate is summary.entropy_bitrate is summary.tokens_per_second is None
    assert summary.levels[0].entropy_bits == 0


@pytest.mark.parametrize(
    ("codes", "lengths", "error", "message"),
    [
        (torch.tensor([[[0, 16], [0, 0]]]), None, ValueError, "codebook 0 has 16 entries; the codes hold 16"),
        (torch.tensor([[[0, 1], [0, -1]]]), None, ValueError, "codebook 1 has 16 entries; the codes hold -1"),
        (torch.zeros(1, 3, 2, dtype=torch.int64), None, ValueError, r"\[B, 2, N\]; their shape is \(1, 3, 2\)"),
        (torch.zeros(1, 2, 2), None, TypeError, "whole numbers"),
        (torch.zeros(1, 2, 2, dtype=torch.int64), torch.tensor([3]), ValueError, "0 to 2 frames"),
    ],
)
def test_wrong_codes_are_named(
    codes: torch.Tensor, lengths: torch.Tensor | None, error: type[Exception], message: str
) -> None:
    statistics = CodeStatistics([16, 16], 50)
    with pytest.raises(error, match=message):
        statistics.update(codes, lengths)
    assert statistics.frames == 0
    assert not any(bool(count.any()) for count in statistics.counts)  # a batch counts whole or not at all


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([],), "codebook_sizes"),
        (([16, 0],), "codebook_sizes"),
        (([16], -1), "frame_rate"),
        (([16], math.nan), "frame_rate"),
        (([16], 50, (1, 2)), "strides"),
    ],
)
def test_wrong_settings_are_named(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CodeStatistics(*arguments)


def test_statistics_of_different_codes_do_not_mix() -> None:
    statistics = CodeStatistics([16], 50)
    with pytest.raises(ValueError, match="do not merge"):
        statistics.merge(CodeStatistics([32], 50))
    others = Codes(torch.zeros(1, 1, 4, dtype=torch.int64), torch.tensor([4]), torch.tensor([-1]), 24_000, "some", (8,))
    with pytest.raises(ValueError, match="the codes are of"):
        statistics.update(others)
    with pytest.raises(ValueError, match="codebook_sizes="):
        code_statistics(torch.zeros(1, 1, 4, dtype=torch.int64))
