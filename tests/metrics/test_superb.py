"""`superb/...` reproduces Codec-SUPERB's numbers, and says where they stand for nothing."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from codeczoo.metrics import evaluate, metric_names
from tests.support.metric_cases import edge_cases, golden_pairs, score_edges, score_golden

NAMES = tuple(metric_names("superb/*"))
TOLERANCES = {"mel": 2e-5, "stft": 5e-5, "waveform": 1e-7, "pesq": 1e-6, "stoi": 5e-6, "f0corr": 1e-6}
# Ill-conditioned in float32: pure tones and DC.
LOOSE = {("orthogonal", "stft"): 2e-4, ("sine_vs_sine", "stft"): 2e-4, ("dc_offset", "stft"): 2e-4} | {
    (case, "stoi"): 1e-3 for case in ("dc_only", "dc_estimate", "sine_vs_sine", "orthogonal", "impulse")
}


def test_all_pairs() -> None:
    outcomes = score_golden(NAMES, torch.float32)
    wrong = []
    for entry in golden_pairs():
        for name, truth in entry["values"]["codec_superb"].items():
            value, _ = outcomes[entry["id"]]["superb/" + name.removesuffix("-wb")]
            allowed = TOLERANCES[name.removesuffix("-wb")] + 1e-5 * abs(truth) * (name in ("mel", "stft"))
            if not abs(value - truth) <= allowed:
                wrong.append(f"{entry['id']} {name}: {value}, not {truth}")
    assert not wrong


@pytest.mark.parametrize("case", edge_cases())
def test_edge_case(case: str) -> None:
    outcome = score_edges(NAMES, torch.float32)[case]
    published: dict[str, Any] = edge_cases()[case]["upstream"]["codec_superb.get_metrics"]
    for name, truth in published.items():
        if name == "pesq-wb":
            continue
        value, reason = outcome[f"superb/{name}"]
        truth = float(truth)
        if (
            case == "inf_in_estimate" and name == "waveform"
        ):  # infinite there; a sample that is not finite ends all here
            truth = math.nan
        if math.isnan(truth):
            assert math.isnan(value)
            assert reason is not None
        else:
            assert abs(value - truth) <= LOOSE.get((case, name), TOLERANCES[name] + 1e-5 * abs(truth)), name


def test_stand_ins_are_named() -> None:
    outcomes = score_edges(NAMES, torch.float32)
    assert outcomes["zero_reference"]["superb/pesq"] == (1.0, "silent_reference")
    assert outcomes["identical_noise"]["superb/f0corr"] == (0.0, "unvoiced")
    assert outcomes["short_50ms"]["superb/stoi"] == (0.0, "too_few_frames")
    assert outcomes["identical_speech"]["superb/pesq"][1] is None


def test_they_fill_where_others_cut() -> None:
    (entry,) = [entry for entry in golden_pairs() if entry["id"] == "s_en_16k__shorter_137"]
    outcome = score_golden(("pesq_wb", "superb/pesq"), torch.float32, (entry["id"],))[entry["id"]]
    assert outcome["pesq_wb"][0] == pytest.approx(4.644, abs=1e-3)
    assert outcome["superb/pesq"][0] == pytest.approx(4.068, abs=1e-3)


def test_stand_ins_are_counted_apart() -> None:
    scores = evaluate(torch.zeros(1, 1, 16000), torch.zeros(1, 1, 16000), 16000, ["superb/pesq", "stoi"])
    summary = scores.summary()
    assert summary["superb/pesq"].stand_ins == {"silent_reference": 1}
    assert summary["superb/pesq"].undefined == {}
    assert summary["stoi"].undefined == {"silent_reference": 1}
    assert "stood in for" in repr(scores)
