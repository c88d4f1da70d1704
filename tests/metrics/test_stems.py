"""`separation_sdr` against museval's values (scripts/make_separation_cases.py), and where it is undefined."""

from __future__ import annotations

import json

import pytest
import torch

from codeczoo import Audio
from codeczoo.metrics import separation_sdr
from tests.support.golden import GOLDEN
from tests.support.separation import SDR_CASES, SDR_RATE, sdr_stems

TRUTH = json.loads((GOLDEN / "separation" / "sdr.json").read_text())["sdr"]
NAMES = ("drums", "bass", "vocals")


def stems(kind: str) -> tuple[dict[str, Audio], dict[str, Audio]]:
    x, y = (
        {name: Audio.of(torch.from_numpy(one)[None], SDR_RATE) for name, one in zip(NAMES, side, strict=True)}
        for side in sdr_stems(kind)
    )
    return x, y


@pytest.mark.parametrize("kind", SDR_CASES)
def test_it_equals_museval(kind: str) -> None:
    found = separation_sdr(*stems(kind))
    assert {name: result.reasons for name, result in found.items()} == {name: [None] for name in NAMES}
    for name, truth in zip(NAMES, TRUTH[kind], strict=True):
        assert float(found[name].values[0]) == pytest.approx(truth, abs=1e-9)


def test_a_ragged_batch_is_its_clips_alone() -> None:
    (x1, y1), (x2, y2) = stems("plain"), stems("short")

    def batch(a: Audio, b: Audio) -> Audio:
        return Audio.of([a, b])

    x, y = ({name: batch(one[name], two[name]) for name in NAMES} for one, two in ((x1, x2), (y1, y2)))
    found = separation_sdr(x, y)
    for i, kind in enumerate(("plain", "short")):
        assert [float(found[name].values[i]) for name in NAMES] == pytest.approx(TRUTH[kind], abs=1e-9)


def test_a_shorter_estimate_is_filled_with_zeros_and_a_longer_one_cut() -> None:
    x, y = stems("shorter estimate")
    cut = {name: Audio.of(one.waveform[..., :20000], SDR_RATE) for name, one in y.items()}
    longer = {name: Audio.of(torch.nn.functional.pad(one.waveform, (0, 9)), SDR_RATE) for name, one in y.items()}
    for estimate in (cut, longer):
        found = separation_sdr(x, estimate)
        assert [float(found[name].values[0]) for name in NAMES] == pytest.approx(TRUTH["shorter estimate"], abs=1e-9)


def changed(side: dict[str, Audio], value: float) -> dict[str, Audio]:
    waveform = torch.full_like(side["bass"].waveform, value)
    return {**side, "bass": Audio(waveform, side["bass"].lengths, SDR_RATE)}


def test_where_it_is_undefined() -> None:
    x, y = stems("plain")
    for reason, pair in {
        "silent_reference": (changed(x, 0.0), y),
        "silent_estimate": (x, changed(y, 0.0)),
        "non_finite": (x, changed(y, torch.nan)),
    }.items():
        found = separation_sdr(*pair)
        assert all(result.reasons == [reason] and bool(result.values.isnan().all()) for result in found.values())
    found = separation_sdr(x, x)
    assert all(bool(result.values.isinf().all()) for result in found.values())


def test_stems_that_do_not_agree_are_refused() -> None:
    x, y = stems("plain")
    with pytest.raises(ValueError, match="of the same stems"):
        separation_sdr(x, {"drums": y["drums"]})
    with pytest.raises(ValueError, match="one rate"):
        separation_sdr(x, {**y, "bass": y["bass"].resample(16000)})
