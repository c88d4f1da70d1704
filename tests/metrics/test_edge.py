"""What has no value says why; what has one has the right one, however odd the signal."""

from __future__ import annotations

import math

import pytest
import torch

from codeczoo.metrics import DEFAULT_METRICS
from tests.support.metric_cases import edge_cases, score_edges

NAMES = {
    "mel_default": "mel",
    "mel_dac": "mel_dac",
    "stft_default": "stft",
    "l1": "waveform",
    "snr": "snr",
    "si_sdr": "si_sdr",
    "pesq_wb": "pesq_wb",
    "stoi": "stoi",
    "estoi": "estoi",
    "vuv_error": "vuv_error",
    "f0_rmse_cents": "f0_rmse",
    "f0_pearson_log2": "f0_corr",
}


def tolerance(name: str, dtype: torch.dtype, truth: float) -> float:
    if dtype == torch.float64:
        return {"stoi": 1e-9, "estoi": 1e-9, "pesq_wb": 1e-6}.get(name, 1e-8 * max(abs(truth), 1))
    if name in ("mel", "mel_dac"):
        return 2e-5 + 1e-5 * abs(truth)
    if name == "stft":
        return 2e-4  # pure tones and DC, whose bins sit at the clamp
    return 2e-5 if name in ("stoi", "estoi") else 1e-6


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("case", edge_cases())
def test_edge_case(case: str, dtype: torch.dtype) -> None:
    outcome = score_edges(DEFAULT_METRICS, dtype)[case]
    for key, expected in edge_cases()[case]["expect"].items():
        value, reason = outcome[NAMES[key]]
        if "undefined" in expected:
            assert math.isnan(value), key
            assert reason == expected["undefined"], key
            continue
        assert reason is None, key
        if "value" in expected:
            truth = float(expected["value"])
            allowed = expected.get("tolerance", tolerance(NAMES[key], dtype, truth))
            assert value == truth or abs(value - truth) <= allowed, f"{key}: {value}, not {truth}"
        elif "at_least" in expected:
            assert value >= expected["at_least"], key
        elif "at_most" in expected:
            assert value <= expected["at_most"], key
        else:
            assert "not_compared" in expected
            assert math.isfinite(value), key


def test_every_reason_of_the_fact_sheet_occurs() -> None:
    """So that no case above passes because nothing was undefined."""
    reasons = {
        reason
        for outcome in score_edges(DEFAULT_METRICS, torch.float64).values()
        for _, reason in outcome.values()
        if reason
    }
    assert reasons >= {
        "non_finite",
        "silent_reference",
        "silent_estimate",
        "constant_reference",
        "too_short",
        "too_few_frames",
        "unvoiced",
        "too_few_voiced",
        "constant_pitch",
    }
