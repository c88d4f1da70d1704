"""Fréchet distances of sets of embeddings: what is known exactly, what scipy says, and how sets add up."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.linalg
import torch

from codeczoo.metrics import Moments, evaluate, frechet_distance
from codeczoo.metrics.table import RUN_METRICS, find_all, known_metric

NOISE = torch.Generator().manual_seed(0)


def frames(count: int, size: int, mean: float = 0.0) -> torch.Tensor:
    mix = torch.randn(size, size, generator=NOISE, dtype=torch.float64)
    return torch.randn(count, size, generator=NOISE, dtype=torch.float64) @ mix + mean


def test_two_gaussians_of_one_dimension() -> None:
    """(m1 - m2)² + (s1 - s2)²."""
    x = torch.tensor([[0.0], [2.0], [4.0]])  # mean 2, deviation 2
    y = torch.tensor([[5.0], [6.0], [7.0]])  # mean 6, deviation 1
    assert frechet_distance(x, y) == pytest.approx(16 + 1, abs=1e-12)


def test_equal_sets_are_0_and_a_shift_adds_its_square() -> None:
    x = frames(400, 16)
    shift = torch.arange(16, dtype=torch.float64)
    assert frechet_distance(x, x) < 1e-6 * float(torch.cov(x.T).trace())
    assert frechet_distance(x, x + shift) == pytest.approx(float(shift @ shift), rel=1e-9)


@pytest.mark.parametrize(("count", "mean"), [(500, 0.0), (500, 1e5), (9, 0.0)], ids=["many", "far from 0", "few"])
def test_equals_the_formula_as_scipy_computes_it(count: int, mean: float) -> None:
    """Also where raw sums of squares would lose ten digits, and for fewer frames than dimensions."""
    x, y = frames(count, 12, mean), frames(count + 50, 12, mean)
    c1, c2 = (np.cov(side.numpy(), rowvar=False) for side in (x, y))
    apart = x.mean(0) - y.mean(0)
    root = np.real(scipy.linalg.sqrtm(c1 @ c2 if count > 12 else c1 @ c2 + 1e-12 * np.eye(12)))
    expected = float(apart @ apart) + np.trace(c1) + np.trace(c2) - 2 * np.trace(root)
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-6 if count > 12 else 1e-4)


def test_sets_add_up_in_any_order() -> None:
    x = frames(300, 8, mean=50.0)
    whole, parts = Moments.of(x), [Moments.of(part) for part in x.split([1, 100, 0, 199])]
    for order in (parts, parts[::-1]):
        first, *others = order
        joined = sum(others, start=first)
        assert joined.count == 300
        np.testing.assert_allclose(joined.mean, whole.mean, rtol=1e-12)
        np.testing.assert_allclose(joined.covariance, whole.covariance, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(whole.covariance, np.cov(x.numpy(), rowvar=False), rtol=1e-10)


def test_what_has_no_distance() -> None:
    assert math.isnan(frechet_distance(frames(1, 4), frames(9, 4)))
    with pytest.raises(ValueError, match="embeddings of 4 and of 5 values do not compare"):
        frechet_distance(frames(9, 4), frames(9, 5))
    with pytest.raises(ValueError, match=r"must be \[N, D\]; their shape is \(9,\)"):
        frechet_distance(torch.zeros(9), torch.zeros(9))


def test_metrics_of_a_run_are_found_by_name_and_are_none_of_a_clip() -> None:
    assert find_all(["snr", "fad_*"]) == ("snr", *RUN_METRICS)
    assert find_all("fad_zoo") == ("fad_zoo",)
    with pytest.raises(KeyError, match="no metric 'fad_'"):
        find_all(["fad_"])
    with pytest.raises(ValueError, match="no metric was named"):
        find_all([])
    metric = known_metric("fad_encodec")
    assert metric is not None and metric.better == "lower" and "encodec_24k" in metric.summary
    x = torch.zeros(1, 1, 16000)
    with pytest.raises(ValueError, match="'fad_zoo' is a metric of a whole run: `codeczoo benchmark` computes it"):
        evaluate(x, x, 16000, ["fad_zoo"])
