"""Pitch by CREPE: what its package gave, ragged = alone, and agreement with Praat."""

from __future__ import annotations

import functools
import json
import math
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch

from codeczoo import metrics
from codeczoo.metrics import crepe_pitch, judged
from codeczoo.metrics.networks import models
from codeczoo.metrics.networks.crepe import BINS, likeliest_paths
from codeczoo.metrics.pair import Pair
from codeczoo.metrics.pitch import compare_contours
from tests.support.metric_cases import FOLDER, golden_pairs, recording

try:
    models.packaged("crepe_tiny")
except models.NoModelError as error:
    pytest.skip(str(error), allow_module_level=True)

VALUES: dict[str, Any] = json.loads((FOLDER / "models.json").read_text())
SPEECH = "audio/s_en_16k.flac"
NAMES = ["f0_corr_crepe", "f0_rmse_crepe", "vuv_error_crepe", "f0_gpe_crepe", "f0_ffe_crepe"]


@functools.lru_cache(maxsize=64)
def contour(file: str) -> np.ndarray:
    clip = recording(file).float().mean(0)[None, None]
    return crepe_pitch._contours(Pair.of(clip, clip, 16000), "estimate")[0]


def dithered(found: np.ndarray) -> np.ndarray:
    """With the noise that the package had added, from the state of NumPy's generator in which it was called."""
    np.random.seed(0)  # noqa: NPY002
    for _ in range(15):
        np.random.normal(size=(1, 64))  # noqa: NPY002
    noise = scipy.stats.triang.rvs(c=0.5, loc=-20, scale=40, size=(1, len(found)))[0]
    return np.where(found > 0, found * 2 ** (noise / 1200), 0)


@pytest.mark.parametrize("step", [16, pytest.param(1, marks=pytest.mark.slow)])
def test_crepe_equals_its_package(step: int) -> None:
    """At 16 kHz, where nothing is resampled: voicing exactly, and pitch too once the package's dither is added."""
    entries = [entry for entry in golden_pairs() if entry["sample_rate"] == 16000 and entry["id"] in VALUES["pairs"]]
    checked = 0
    for entry in entries[::step]:
        x, y = (contour(entry[key]) for key in ("reference_file", "degraded_file"))
        for key, own in (("reference_file", x), ("degraded_file", y)):
            truth = VALUES["files"][entry[key]]["torchcrepe_tiny"]
            assert (len(own), int((own > 0).sum())) == (truth["frames"], truth["voiced"]), entry[key]
            if truth["voiced"]:
                mean = float(np.log2(dithered(own)[own > 0]).mean())
                assert mean == pytest.approx(truth["mean_log2_f0_voiced"], abs=1e-5), entry[key]
        truth = VALUES["pairs"][entry["id"]]["torchcrepe_tiny"]
        found = compare_contours(dithered(x), dithered(y))
        assert found["vuv_error"].value == pytest.approx(truth["vuv_error"], abs=1e-9)
        if isinstance(truth.get("rmse_cents"), float):
            assert found["f0_rmse"].value == pytest.approx(truth["rmse_cents"], abs=1e-2), entry["id"]
            assert found["f0_corr"].value == pytest.approx(truth["pearson_log2"], abs=1e-5), entry["id"]
            checked += 1
    assert checked * step > 15


def test_a_ragged_batch_gives_each_clip_its_own_value() -> None:
    speech = recording(SPEECH).float()
    clips = [speech[:, :32000], speech[:, 8000:20000], speech[:, :500], speech[:, 30000:50000]]
    noise = torch.Generator().manual_seed(0)
    noisy = [clip + 0.01 * torch.randn(clip.shape, generator=noise) for clip in clips]
    together = metrics.evaluate(clips, noisy, 16000, NAMES)
    for i, (clip, estimate) in enumerate(zip(clips, noisy, strict=True)):
        alone = metrics.evaluate([clip], [estimate], 16000, NAMES)
        for name in NAMES:
            assert together.reasons[name][i] == alone.reasons[name][0]
            assert float(together[name][i]) == pytest.approx(float(alone[name][0]), abs=1e-9, nan_ok=True)
    assert together.reasons["f0_rmse_crepe"][:3] == [None, None, "unvoiced"]


def test_it_agrees_with_praat_where_both_hear_a_voice() -> None:
    speech = recording(SPEECH).float()
    pair = Pair.of(speech[None], speech[None], 16000)
    ours = crepe_pitch._contours(pair, "reference")[0]
    from codeczoo.metrics.pitch import PRAAT
    from codeczoo.metrics.worker import praat_pitch

    praat = praat_pitch(speech[0].double().numpy(), 16000, **PRAAT)
    # Praat's first frame lies 30 ms in (half of three periods of 50 Hz), CREPE's at 0.
    first = round((len(ours) - len(praat)) / 2)
    both = compare_contours(praat, ours[first : first + len(praat)])
    assert both["f0_corr"].value > 0.95 and both["f0_rmse"].value < 60


def test_what_is_undefined_has_a_reason() -> None:
    speech = recording(SPEECH).float()
    broken = speech.clone()
    broken[0, 100] = torch.nan
    scores = metrics.evaluate([speech] * 3, [torch.zeros_like(speech), broken, speech], 16000, NAMES)
    assert scores.reasons["f0_corr_crepe"] == ["unvoiced", "non_finite", None]
    assert 0.5 < float(scores["vuv_error_crepe"][0]) < 1 and scores["vuv_error_crepe"][2] == 0
    assert float(scores["f0_corr_crepe"][2]) == pytest.approx(1) and math.isnan(scores["f0_ffe_crepe"][1])


def test_originals_are_tracked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crepe_pitch, "_memory", judged.Memory())
    seen: list[int] = []
    model = models.network("crepe_tiny", torch.device("cpu")).model
    before = model.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    speech = recording(SPEECH).float()[None]
    try:
        for gain in (0.9, 0.5):
            metrics.evaluate(speech, gain * speech, 16000, NAMES)
    finally:
        before.remove()
    assert sum(seen) == 3, "two estimates and one original"


def test_the_path_is_the_likeliest_one() -> None:
    """Of all paths, by trying each, on few frames; and a jump of an octave is taken where it pays."""
    generator = torch.Generator().manual_seed(0)
    narrow = torch.zeros(3, BINS)
    narrow[:, 100:104] = torch.rand(3, 4, generator=generator) + 0.1
    steps = np.arange(BINS)
    near = np.maximum(12 - abs(steps[:, None] - steps), 0)
    move = near / near.sum(1, keepdims=True)
    paths = [(a, b, c) for a in range(100, 104) for b in range(100, 104) for c in range(100, 104)]
    p = narrow.numpy()
    best = max(paths, key=lambda q: p[0, q[0]] * move[q[0], q[1]] * p[1, q[1]] * move[q[1], q[2]] * p[2, q[2]])
    far = torch.full((8, BINS), 1e-30)
    far[:4, 20], far[4:, 300] = 1.0, 1.0
    found = likeliest_paths([narrow, far])
    assert found[0].tolist() == list(best)
    assert found[1].tolist() == [20] * 4 + [300] * 4
