"""BD-rate: worked by hand, beside SciPy's interpolation, and beside published packages' values."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.interpolate import PchipInterpolator

from codeczoo.benchmark.bd_rate import (
    NO_CLIPS,
    NO_OVERLAP,
    ONE_POINT,
    OUTSIDE,
    UNSURE,
    Curve,
    bd_rate,
    bootstrap_bd_rate,
)
from codeczoo.benchmark.bootstrap import unit_numbers

RATES, SCORES = [6000.0, 12000.0, 24000.0], [1.8, 2.6, 3.4]


def test_half_the_bitrate_for_each_score_is_minus_50_percent() -> None:
    found = bd_rate(RATES, SCORES, [rate / 2 for rate in RATES], SCORES)
    assert found.percent == pytest.approx(-50) and found.overlap == pytest.approx(1)
    assert bd_rate([rate / 2 for rate in RATES], SCORES, RATES, SCORES).percent == pytest.approx(100)
    assert bd_rate(RATES, SCORES, RATES, SCORES).percent == pytest.approx(0, abs=1e-9)


def test_two_bitrates_are_a_line_in_the_logarithm() -> None:
    # By hand: over scores 1 to 2 the test's log rate is 0.5 below at one end and equal at the other: exp(-0.25) - 1.
    e = np.e
    assert bd_rate([1, e], [1, 2], [e**-0.5, e], [1, 2]).percent == pytest.approx(100 * (np.exp(-0.25) - 1))


# pip install bjontegaard==1.3.0: bd_rate(anchor rates, anchor scores, rates, scores, method="pchip",
# require_matching_points=False, min_overlap=0)
PUBLISHED = [
    (
        ([9487.76, 4593.6, 2486.44, 1358.24], [40.037, 38.615, 36.845, 34.851]),
        ([9787.8, 4469.0, 2451.52, 1356.24], [40.121, 38.651, 36.970, 34.987]),
        -4.417485350589045,
    ),
    (([6, 12, 24, 64], [1.5, 2.4, 3.3, 4.1]), ([1.1, 2.2, 4.4, 8.8], [1.7, 2.2, 2.6, 2.8]), -76.37359056635063),
    (([6, 12, 24, 64], [1.5, 2.4, 3.3, 4.1]), ([8, 32, 128], [1.2, 2.9, 4.4]), 75.70999900072088),
    (([6, 12], [1.5, 2.4]), ([8, 32, 128], [1.2, 2.9, 4.4]), 70.19388893424777),
]


@pytest.mark.parametrize(("anchor", "test", "percent"), PUBLISHED)
def test_equals_the_package_bjontegaard(anchor: tuple, test: tuple, percent: float) -> None:
    assert bd_rate(*anchor, *test).percent == pytest.approx(percent, rel=1e-9)
    # Of a distance lower values are better: the same numbers with the sign turned.
    turned = [[-score for score in side] for side in (anchor[1], test[1])]
    assert bd_rate(anchor[0], turned[0], test[0], turned[1], better="lower").percent == pytest.approx(percent, rel=1e-9)


def test_equals_scipys_interpolation_for_random_curves() -> None:
    random = np.random.default_rng(0)
    checked = 0
    for points in (2, 3, 4, 7):
        for _ in range(50):
            rates = np.cumsum(random.uniform(0.1, 5, (2, points)), 1)
            scores = np.cumsum(random.uniform(0.01, 1, (2, points)), 1)
            low, high = scores[:, 0].max(), scores[:, -1].min()
            found = bd_rate(rates[0], scores[0], rates[1], scores[1])
            if low >= high:
                assert found.percent is None and found.reason == NO_OVERLAP
                continue
            areas = [PchipInterpolator(s, np.log(r)).integrate(low, high) for s, r in zip(scores, rates, strict=True)]
            assert found.percent == pytest.approx(100 * np.expm1((areas[1] - areas[0]) / (high - low)), rel=1e-9)
            checked += 1
    assert checked > 100


def test_one_bitrate_is_compared_at_its_own_score() -> None:
    assert bd_rate([1, np.e**2], [1, 3], [np.e], [2]).percent == pytest.approx(0, abs=1e-9)
    assert bd_rate([1, np.e**2], [1, 3], [np.e / 2], [2]).percent == pytest.approx(-50)
    assert bd_rate([1, 2], [1, 3], [1.5], [3]).percent == pytest.approx(-25)  # the anchor's end is its 2


def test_what_has_no_bd_rate_says_why() -> None:
    assert bd_rate(RATES, SCORES, RATES, [4.0, 4.2, 4.4]).reason == NO_OVERLAP
    assert bd_rate(RATES, SCORES, [1000.0], [1.0]).reason == OUTSIDE
    assert bd_rate([6000.0], [1.8], RATES, SCORES).reason == ONE_POINT
    for found in (bd_rate(RATES, SCORES, RATES, [4.0, 4.2, 4.4]), bd_rate([6000.0], [1.8], RATES, SCORES)):
        assert found.percent is None and found.low is None


def test_a_bitrate_that_costs_more_and_is_no_better_is_left_out() -> None:
    with_dent = bd_rate(RATES, SCORES, [3000, 6000, 9000, 12000], [1.8, 2.6, 2.5, 3.4])
    assert with_dent.percent == pytest.approx(-50)
    assert bd_rate(RATES, SCORES, [3000, 6000], [2.0, 1.0]).percent == bd_rate(RATES, SCORES, [3000], [2.0]).percent


def curves(clips: int, noise: float, seed: int = 0) -> tuple[Curve, Curve]:
    """An anchor at three bitrates, and a codec with 20% less: clips differ much, codecs on one clip little."""
    random = np.random.default_rng(seed)
    seconds = random.uniform(1, 9, clips)
    base = random.normal(0, 1, (clips, 1))
    scores = [base + np.array([1.0, 2.0, 3.0]) + random.normal(0, noise, (clips, 3)) for _ in range(2)]
    bits = seconds[:, None] * np.array([6000.0, 12000.0, 24000.0])
    return Curve(bits, seconds, scores[0]), Curve(0.8 * bits, seconds, scores[1])


def test_the_interval_is_of_the_same_clips_and_shrinks_with_their_number() -> None:
    widths = []
    for clips in (20, 500):
        found = bootstrap_bd_rate(*curves(clips, 0.2), "higher")
        assert found.clips == clips and found.low is not None and found.high is not None
        assert found.low < found.percent < found.high  # type: ignore[operator]
        assert found.low < -20 < found.high
        widths.append(found.high - found.low)
    assert widths[1] < widths[0] / 3
    # How hard a clip is cancels out: without noise between codecs there is no uncertainty, though clips differ by far.
    exact = bootstrap_bd_rate(*curves(20, 0.0), "higher")
    assert (exact.percent, exact.low, exact.high) == (pytest.approx(-20),) * 3
    assert bootstrap_bd_rate(*curves(20, 0.2), "higher") == bootstrap_bd_rate(*curves(20, 0.2), "higher")


def test_clips_without_a_value_are_left_out_and_speakers_are_drawn_whole() -> None:
    anchor, test = curves(40, 0.2)
    anchor.scores[3, 1] = np.nan
    test.bits[5] = np.nan
    assert bootstrap_bd_rate(anchor, test, "higher").clips == 38
    # The same clip four times over is no more knowledge when its speaker is drawn.
    repeated = [Curve(*(np.repeat(side, 4, 0) for side in (c.bits, c.seconds, c.scores))) for c in curves(20, 0.2)]
    speakers = unit_numbers([f"s{i}" for i in range(20) for _ in range(4)])
    alone = bootstrap_bd_rate(*curves(20, 0.2), "higher")
    by_speaker = bootstrap_bd_rate(*repeated, "higher", units=speakers)  # type: ignore[misc]
    by_clip = bootstrap_bd_rate(*repeated, "higher")  # type: ignore[misc]
    width = [found.high - found.low for found in (alone, by_speaker, by_clip)]  # type: ignore[operator]
    assert width[1] == pytest.approx(width[0], rel=1e-6) and width[2] < 0.7 * width[1]
    anchor.scores[:] = np.nan
    assert bootstrap_bd_rate(anchor, test, "higher").reason == NO_CLIPS


def test_curves_that_barely_meet_have_no_interval() -> None:
    anchor, test = curves(12, 0.3)
    apart = anchor.scores.mean(0)[-1] - test.scores.mean(0)[0] - 0.001  # the means meet, of many resamples they do not
    found = bootstrap_bd_rate(anchor, Curve(test.bits, test.seconds, test.scores + apart), "higher")
    assert found.percent is not None and found.low is None and found.reason == UNSURE
