"""The equal error rate and the detection cost, against hand counts, brute force, and what must not change them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from codeczoo.metrics.verification import CROP, crops_of, detection_cost, equal_error_rate, speaker_score


def test_hand_counted() -> None:
    assert equal_error_rate([0.9, 0.8, 0.4, 0.1], [1, 1, 0, 0])[:3] == (0.0, 0.8, 2)
    # Of four targets one scores below one of four others: a quarter of each is wrong at a threshold between them.
    found = equal_error_rate([0.9, 0.8, 0.7, 0.3, 0.6, 0.2, 0.1, 0.0], [1, 1, 1, 1, 0, 0, 0, 0])
    assert found.rate == 0.25 and 0.3 < found.threshold <= 0.6
    assert (found.targets, found.others) == (4, 4)
    assert equal_error_rate([1, 1, 1, 1], [1, 0, 1, 0]).rate == 0.5, "one score for all says nothing"
    assert equal_error_rate([0.1, 0.2, 0.8, 0.9], [1, 1, 0, 0]).rate == 1.0, "all wrong"
    # 3 targets and 2 others: from (rejected, accepted) = (1/3, 1/2) to (1/3, 0) the lines cross at 1/3.
    assert equal_error_rate([0.9, 0.8, 0.1, 0.5, 0.0], [1, 1, 1, 0, 0]).rate == pytest.approx(1 / 3)


def brute(scores: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """The bounds of both rates at the thresholds beside the crossing."""
    points = [
        ((scores[labels] < threshold).mean(), (scores[~labels] >= threshold).mean())
        for threshold in [*np.unique(scores), np.inf]
    ]
    nearest = min(points, key=lambda point: abs(point[0] - point[1]))
    return min(nearest), max(nearest)


@pytest.mark.parametrize("seed", range(8))
def test_it_lies_where_both_rates_meet_and_orders_only(seed: int) -> None:
    generator = np.random.default_rng(seed)
    labels = generator.random(400) < 0.3
    scores = np.round(generator.standard_normal(400) + 1.2 * labels, 1 if seed % 2 else 8)  # with ties, and without
    found = equal_error_rate(scores, labels)
    low, high = brute(scores, labels)
    steps = max(np.unique(scores, return_counts=True)[1]) / min(labels.sum(), (~labels).sum())
    assert low - steps <= found.rate <= high + steps
    assert 0.15 < found.rate < 0.45
    assert equal_error_rate(np.exp(3 * scores), labels).rate == pytest.approx(found.rate, abs=1e-12)
    assert equal_error_rate(-scores, ~labels).rate == pytest.approx(found.rate, abs=1e-12)
    shuffled = generator.permutation(400)
    assert equal_error_rate(torch.from_numpy(scores[shuffled]), labels[shuffled].tolist()).rate == found.rate


def test_two_normal_distributions_have_the_rate_that_theory_gives() -> None:
    from scipy.stats import norm

    generator = np.random.default_rng(0)
    scores = np.concatenate([generator.standard_normal(100_000) + 2, generator.standard_normal(50_000)])
    labels = np.repeat([1, 0], [100_000, 50_000])
    found = equal_error_rate(scores, labels)
    assert found.rate == pytest.approx(norm.cdf(-1), abs=0.003)
    assert found.threshold == pytest.approx(1.0, abs=0.03)


def test_detection_cost() -> None:
    scores, labels = [0.9, 0.8, 0.7, 0.3, 0.6, 0.2, 0.1, 0.0], [1, 1, 1, 1, 0, 0, 0, 0]
    assert detection_cost([0.9, 0.1], [1, 0]) == 0.0
    assert detection_cost([0.1, 0.9], [1, 0]) == 1.0, "rejecting all is never worse"
    # Of thresholds the one above 0.6 rejects one target of four and accepts no other: 0.25 of a miss.
    assert detection_cost(scores, labels) == pytest.approx(0.25)
    assert detection_cost(scores, labels, target_share=0.5) == pytest.approx(0.25)
    assert detection_cost(scores, labels, target_share=0.95) == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([0.1, 0.2], [1, 1], "there are 2 and 0"),
        ([], [], "there are 0 and 0"),
        ([0.1, np.nan], [1, 0], "1 of 2 scores are NaN"),
        ([0.1, 0.2], [1, 2], "labels must be"),
        ([0.1, 0.2, 0.3], [1, 0], r"they are \[3\] and \[2\]"),
    ],
)
def test_what_has_no_rate_is_an_error(scores: list[float], labels: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        equal_error_rate(scores, labels)
    with pytest.raises(ValueError, match=message):
        detection_cost(scores, labels)


def test_a_cost_out_of_range_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"they are 1, 1\.0 and 1\.0"):
        detection_cost([0.1, 0.2], [0, 1], target_share=1)


def test_crops_are_spread_and_short_clips_repeat() -> None:
    clip = torch.arange(CROP + 400.0)
    crops = crops_of(clip)
    assert crops[:, 0].tolist() == [0, 100, 200, 300, 400] and crops.shape == (5, CROP)
    short = crops_of(torch.arange(1000.0))
    assert torch.equal(short[0], short[4]) and short[0, 1000] == 0 and short[0, 48_239] == 239


def test_the_score_of_a_trial() -> None:
    generator = torch.Generator().manual_seed(0)
    one, other = torch.randn(2, 6, 16, generator=generator)
    cosine = torch.nn.functional.cosine_similarity
    crops = [cosine(a, b, dim=0) for a in one[1:] for b in other[1:]]
    expected = float(cosine(one[0], other[0], dim=0)) / 2 + float(torch.stack(crops).mean()) / 2
    assert speaker_score(one, other) == pytest.approx(expected, abs=1e-6)
    assert speaker_score(5 * one, other) == pytest.approx(expected, abs=1e-6)
    assert speaker_score(one[:1].repeat(6, 1), one[:1].repeat(6, 1)) == pytest.approx(1)
