"""`evaluate`: every form of input, what it returns, and what it says to bad input."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from codeczoo import Audio
from codeczoo.data import embedded_clips
from codeczoo.metrics import DEFAULT_METRICS, METRICS, Scores, WorkerPool, evaluate, mel, metric_names
from codeczoo.metrics.scores import _say_once
from tests.support.metric_cases import pair

NOISE = torch.Generator().manual_seed(0)
X = 0.1 * torch.randn(2, 1, 16_000, generator=NOISE)
Y = X + 0.01 * torch.randn(2, 1, 16_000, generator=NOISE)
MEASURED = [name for name, metric in METRICS.items() if metric.extra in (None, "pitch")]


def audio(waveform: Tensor, rate: int = 16_000) -> Audio:
    return Audio(waveform, torch.full((len(waveform),), waveform.shape[-1]), rate)


@pytest.mark.parametrize(
    "form",
    [
        pytest.param(lambda side: side, id="[B, C, T]"),
        pytest.param(lambda side: side.numpy(), id="NumPy"),
        pytest.param(lambda side: list(side), id="list of [C, T]"),
        pytest.param(lambda side: [clip[0].numpy() for clip in side], id="list of [T]"),
        pytest.param(audio, id="Audio"),
        pytest.param(lambda side: [audio(side[:1]), audio(side[1:])], id="list of Audio"),
        pytest.param(lambda side: side.numpy().astype(">f4"), id="big-endian"),
        pytest.param(lambda side: np.frombuffer(side.numpy().tobytes(), "f4").reshape(side.shape), id="read-only"),
    ],
)
def test_every_form_of_a_batch(form: Callable[[Tensor], Any]) -> None:
    scores = evaluate(form(X), form(Y), 16_000, ["snr", "mel"])
    expected = evaluate(X, Y, 16_000, ["snr", "mel"])
    for name in expected:
        assert torch.equal(scores[name], expected[name])


@pytest.mark.parametrize("clip", [lambda side: side[0], lambda side: side[0, 0], lambda side: side[0].numpy()])
def test_every_form_of_a_clip(clip: Callable[[Tensor], Any]) -> None:
    scores = evaluate(clip(X), clip(Y), 16_000, "snr")
    assert torch.equal(scores["snr"], evaluate(X, Y, 16_000, "snr")["snr"][:1])


def test_scores_are_a_mapping_to_float64() -> None:
    scores = evaluate(X, Y, 16_000, ["mel", "snr"])
    assert isinstance(scores, Scores)
    assert list(scores) == ["mel", "snr"]
    assert len(scores) == 2
    assert "mel" in scores
    assert all(values.dtype == torch.float64 and values.shape == (2,) for values in scores.values())
    assert scores.reasons == {"mel": [None, None], "snr": [None, None]}
    with pytest.raises(KeyError, match="'stoi' was not computed; these were: mel, snr"):
        scores["stoi"]


def test_defaults_are_what_is_installed_and_cheap() -> None:
    scores = evaluate(X[:1], Y[:1], 16_000)
    assert tuple(scores) == DEFAULT_METRICS
    assert set(DEFAULT_METRICS) >= {"mel", "stft", "pesq_wb", "stoi", "estoi", "f0_corr", "si_sdr", "lsd"}
    # PESQ takes a C compiler: where it is not installed, its columns are NaN with that reason.
    assert {METRICS[name].extra for name in DEFAULT_METRICS} == {None, "pesq", "pitch"}


def test_patterns_choose_metrics() -> None:
    assert list(evaluate(X, Y, 16_000, ["superb/[mw]*", "snr"])) == [
        "superb/mel",
        "superb/waveform",
        "snr",
    ]
    assert metric_names("pesq_*") == ["pesq_wb", "pesq_nb"]


def test_the_longer_side_is_cut_and_the_difference_told() -> None:
    scores = evaluate([X[0], X[1]], [X[0, :, :12_000], torch.cat([X[1], X[1]], -1)], 16_000, ["waveform", "mel"])
    assert scores.cropped.tolist() == [-4_000, 16_000]
    assert scores["waveform"].tolist() == [0, 0]
    assert "lengths differed in 2 of 2" in repr(scores)


def test_an_estimate_at_another_rate_is_resampled_and_it_is_told() -> None:
    original, _, rate = pair("s_en_16k__opus_6")
    reference = audio(original[None].float(), rate)
    scores = evaluate(reference, reference.resample(48_000), metrics=["si_sdr", "pesq_wb"])
    assert scores.resampled == "48000 Hz to 16000 Hz, filter hann"
    assert scores.sample_rate == 16_000
    assert float(scores["si_sdr"]) > 20
    assert "48000 Hz to 16000 Hz" in repr(scores)
    assert evaluate(reference, reference, metrics="mel").resampled is None


def test_float64_stays_float64() -> None:
    """In float32 an error of 1e-10 beside samples of 0.1 would be lost."""
    x = X.double()
    assert float(evaluate(x, x + 1e-10, 16_000, "waveform")["waveform"][0]) == pytest.approx(1e-10, rel=1e-4)
    assert float(evaluate(x, x * (1 + 1e-10), 16_000, "mel_dac")["mel_dac"][0]) == pytest.approx(
        7e-10 / math.log(10), rel=0.1
    )


def test_summary_counts_what_the_mean_is_of() -> None:
    reference = torch.cat([X, torch.zeros_like(X[:1])])
    estimate = torch.cat([X[:1], Y[1:], Y[:1]])
    scores = evaluate(reference, estimate, 16_000, ["snr", "waveform"])
    summary = scores.summary()["snr"]
    assert (summary.defined, summary.infinite, summary.undefined) == (2, 1, {"silent_reference": 1})
    assert summary.mean == scores.mean()["snr"] == float(scores["snr"][1])
    assert "1 infinite, 1 undefined: silent_reference" in repr(scores)
    assert math.isnan(evaluate(reference[2:], estimate[2:], 16_000, "snr").mean()["snr"])


def test_to_dict_is_json() -> None:
    scores = evaluate(torch.cat([X[:1], 0 * X[:1]]), torch.cat([X[:1], Y[:1]]), 16_000, ["snr", "waveform"])
    loaded = json.loads(json.dumps(scores.to_dict(), allow_nan=False))
    assert loaded["values"]["snr"] == ["inf", None]
    assert loaded["reasons"]["snr"] == [None, "silent_reference"]
    assert loaded["values"]["waveform"][0] == 0
    assert loaded["sample_rate"] == 16_000


def test_a_rate_below_16_khz_has_no_wide_band_pesq() -> None:
    reference, estimate, rate = pair("s_en_8k__opus_6")
    scores = evaluate(reference, estimate, rate, ["pesq_wb", "pesq_nb"])
    assert scores.reasons["pesq_wb"] == ["rate_below_16k"]
    assert math.isnan(scores["pesq_wb"][0])
    assert scores.reasons["pesq_nb"] == [None]


def test_a_device_can_be_chosen() -> None:
    assert float(evaluate(X, Y, 16_000, "mel", device="cpu")["mel"][0]) > 0
    with pytest.raises(ValueError, match="is not a device"):
        evaluate(X, Y, 16_000, "mel", device="gpu7")


def test_threads_are_given_back() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        evaluate(X, Y, 16_000, ["mel", "vuv_error"])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_num_workers_are_shared_between_calls() -> None:
    from codeczoo.metrics.pool import shared_pool

    evaluate(X, Y, 16_000, "vuv_error", num_workers=1)
    pids = shared_pool(1).pids
    assert len(pids) == 1
    evaluate(X, Y, 16_000, "vuv_error", num_workers=1)
    assert shared_pool(1).pids == pids


BAD_INPUT: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "unknown metric": (
        lambda: evaluate(X, Y, 16_000, "stoy"),
        KeyError,
        "there is no metric 'stoy'; did you mean .*'stoi'",
    ),
    "in capitals": (lambda: evaluate(X, Y, 16_000, "PESQ"), KeyError, "no metric 'PESQ'; did you mean 'pesq_wb'"),
    "a number as metrics": (lambda: evaluate(X, Y, 16_000, 5), TypeError, "name, names or patterns.*5"),  # type: ignore[arg-type]
    "None among metrics": (lambda: evaluate(X, Y, 16_000, ["mel", None]), KeyError, "no metric None"),  # type: ignore[list-item]
    "unlike any metric": (lambda: evaluate(X, Y, 16_000, ["qqqq"]), KeyError, "there are: mel, mel_dac"),
    "no metric": (lambda: evaluate(X, Y, 16_000, []), ValueError, "no metric was named"),
    "no rate": (lambda: evaluate(X, Y), ValueError, "the reference is a bare array and has no sample rate"),
    "no rate of one": (lambda: evaluate(audio(X), Y), ValueError, "the estimate is a bare array"),
    "rate 0": (lambda: evaluate(X, Y, 0), ValueError, "sample_rate must be a positive whole number of Hz; it is 0"),
    "rate negative": (lambda: evaluate(X, Y, -8000), ValueError, "positive whole number of Hz; it is -8000"),
    "rate of a function as text": (
        lambda: mel(X, Y, "8k"),
        TypeError,
        "sample_rate must be a number of Hz; it is '8k'",
    ),  # type: ignore[arg-type]
    "rate of a function missing": (lambda: mel(X, Y, None), TypeError, "sample_rate must be .* it is None"),  # type: ignore[arg-type]
    "lengths of floats": (lambda: mel(X, Y, 16_000, torch.ones(2)), TypeError, "whole numbers of samples.*float32"),
    "lengths too long": (lambda: mel(X, Y, 16_000, torch.tensor([9, 16_001])), ValueError, "0 to 16000 samples"),
    "lengths too few": (lambda: mel(X, Y, 16_000, torch.tensor([9])), ValueError, r"lengths must be \[2\]"),
    "a function of [C, T]": (
        lambda: mel(X[0], Y[0], 16_000),
        ValueError,
        r"must be \[B, C, T\]; its shape is \(1, 16000",
    ),
    "a function of NumPy": (lambda: mel(X.numpy(), Y, 16_000), TypeError, "reference must be .* tensor.*ndarray"),  # type: ignore[arg-type]
    "None": (lambda: evaluate(None, Y, 16_000), TypeError, "the reference must be an Audio, .* it is NoneType"),  # type: ignore[arg-type]
    "a path and no rate": (lambda: evaluate("a.wav", "b.wav"), TypeError, r"it is str .*Audio.load\(\)"),  # type: ignore[arg-type]
    "complex": (lambda: evaluate(X, Y + 0j, 16_000), TypeError, "the estimate must be floating point.*complex64"),
    "bool": (lambda: evaluate(X > 0, Y, 16_000), TypeError, "the reference must be floating point.*torch.bool"),
    "objects": (lambda: evaluate(np.array([1, None]), Y, 16_000), TypeError, "the reference: an array of objects"),
    "a number": (lambda: evaluate(np.array(0.5), Y, 16_000), ValueError, r"its shape is \(\)"),
    "Audio of different rates": (
        lambda: evaluate([audio(X), audio(X, 8_000)], [audio(X), audio(X)]),
        ValueError,
        r"the clips of the reference differ in sample rate: \[8000, 16000\]",
    ),
    "a list of Audio and tensors": (lambda: evaluate([audio(X), X], Y, 16_000), TypeError, "clip 0 .* it is Audio"),
    "rate as text": (lambda: evaluate(X, Y, "16000"), TypeError, "sample_rate must be a number"),  # type: ignore[arg-type]
    "other rate": (lambda: evaluate(audio(X), audio(Y), 8_000), ValueError, "reference is an Audio at 16000 Hz"),
    "integers": (lambda: evaluate((X * 32768).short(), Y, 16_000), TypeError, "torch.int16.*samples / 32768"),
    "a path": (lambda: evaluate("a.wav", Y, 16_000), TypeError, "the reference must be an Audio, .* it is str"),  # type: ignore[arg-type]
    "four axes": (lambda: evaluate(X[None], Y, 16_000), ValueError, r"\[B, C, T\]; its shape is \(1, 2, 1, 16000\)"),
    "other batch": (lambda: evaluate(X[:1], Y, 16_000), ValueError, "as many items and channels"),
    "other channels": (
        lambda: evaluate(X, Y.tile(1, 2, 1), 16_000),
        ValueError,
        r"\(2, 1, 16000\) and \(2, 2, 16000\)",
    ),
    "axes swapped": (lambda: evaluate(X[:1].mT.tile(9), Y, 16_000), ValueError, "the reference: .*axes look swapped"),
    "axes of one swapped": (
        lambda: evaluate([X[0].mT.tile(9)], Y, 16_000),
        ValueError,
        "clip 0 of the reference: .*look",
    ),
    "a sparse tensor": (lambda: evaluate(X.to_sparse(), Y, 16_000), TypeError, "the reference must be a dense tensor"),
    "impossibly loud": (lambda: evaluate(X, Y + 1e12, 16_000), ValueError, r"the estimate: a sample of 1e\+12 is no"),
    "two rates": (lambda: evaluate((X, 8_000), Y, 16_000), ValueError, "the reference says 8000 Hz"),
    "empty list": (lambda: evaluate([], [], 16_000), ValueError, "the reference is an empty list"),
    "empty batch": (lambda: evaluate(X[:0], Y[:0], 16_000), ValueError, "no clips were given"),
    "mixed channels": (lambda: evaluate([X[0], X[0].tile(2, 1)], list(Y), 16_000), ValueError, "differ in channels"),
    "list of batches": (lambda: evaluate([X], [Y], 16_000), ValueError, r"clip 0 of the reference must be \[T\] or"),
    "list of lists": (lambda: evaluate([[0.0]], [[0.0]], 16_000), TypeError, "clip 0 .* it is list"),  # type: ignore[list-item]
    "no workers": (lambda: evaluate(X, Y, 16_000, "vuv_error", num_workers=-1), ValueError, "num_workers must be"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_named(case: str) -> None:
    call, error, message = BAD_INPUT[case]
    with pytest.raises(error, match=message):
        call()


def test_a_clip_without_samples_is_too_short_for_everything() -> None:
    scores = evaluate(
        [X[0], X[1, :, :0]], [Y[0], Y[1, :, :0]], 16_000, ["mel", "waveform", "stoi", "pesq_wb", "f0_corr"]
    )
    for name, reasons in scores.reasons.items():
        assert reasons[1] == "too_short", name
        assert math.isnan(scores[name][1])
        assert reasons[0] in (None, "unvoiced")
    empty = torch.zeros(1, 1, 0)
    scores = evaluate(empty, empty, 16_000, MEASURED)
    assert {reasons[0] for reasons in scores.reasons.values()} == {"too_short"}


LIBRARIES = {"mcd": "pyworld", "pesq": "pesq", "pitch": "parselmouth", "visqol": "visqol"}  # extra → what it imports
OF_LIBRARIES = [name for name, metric in METRICS.items() if metric.extra in LIBRARIES]


@pytest.mark.parametrize("name", OF_LIBRARIES)
def test_a_metric_whose_package_is_missing_is_nan_and_a_warning_says_what_to_install(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    extra = METRICS[name].extra
    library = LIBRARIES[extra]  # type: ignore[index]
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda module, *rest: None if module == library else find(module))
    broken = Y.clone()
    broken[1, 0, 5] = math.nan
    _say_once.cache_clear()
    for _ in range(2):
        scores = evaluate(X, broken, 16_000, [name, "snr"])
    assert scores[name].isnan().all() and scores.reasons[name] == ["not_installed", "non_finite"]
    assert scores["snr"][0].isfinite()
    said = f"metric '{name}' needs {library}: pip install 'codeczoo[{extra}]'"
    assert [record.getMessage() for record in caplog.records] == [said]  # once a process


@pytest.mark.parametrize("name", ["pesq_nb", "f0_rmse", "vuv_error", "mcd", "visqol", "superb/pesq", "superb/f0corr"])
def test_the_function_of_such_a_metric_alone_is_nan_too(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Also of Codec-SUPERB's, of which what fails has a number."""
    library = LIBRARIES[METRICS[name].extra]  # type: ignore[index]
    absent = f"raise ModuleNotFoundError(\"No module named '{library}'\", name='{library}')"
    (tmp_path / f"{library}.py").write_text(absent)
    monkeypatch.syspath_prepend(tmp_path)
    reference, estimate, rate = pair("s_en_16k__opus_6")
    with WorkerPool(1) as pool:
        result = METRICS[name].function(reference[None].float(), estimate[None].float(), rate, pool=pool)
    assert result.values.isnan().all() and result.reasons == ["not_installed"]


@pytest.mark.parametrize("name", MEASURED)
def test_each_function_gives_what_evaluate_gives(name: str) -> None:
    reference, estimate, rate = pair("r_aishell_16k__opus_12")
    x, y = (torch.stack([side, side.flip(-1)])[..., :40_000].float() for side in (reference, estimate))
    lengths = torch.tensor([40_000, 36_001])
    result = METRICS[name].function(x, y, rate, lengths)
    scores = evaluate(Audio(x, lengths, rate), Audio(y, lengths, rate), metrics=name)
    assert result.values.tolist() == pytest.approx(scores[name].tolist(), abs=1e-12)
    assert result.reasons == scores.reasons[name] == [None, None]


@pytest.mark.parametrize("name", MEASURED)
def test_better_is_better(name: str) -> None:
    """A clip scores better against itself than against a damaged copy, whichever way better is."""
    reference, estimate, rate = pair("r_aishell_16k__noise_5")
    best, worse = evaluate([reference, reference], [reference, estimate], rate, name)[name].tolist()
    assert best > worse if METRICS[name].better == "higher" else best < worse


def test_numpy_arrays_that_are_not_contiguous() -> None:
    stereo = np.stack([X[0, 0].numpy(), Y[0, 0].numpy()], 1)  # [T, C], as soundfile reads it
    assert math.isinf(float(evaluate(stereo.T, stereo.T, 16_000, "snr")["snr"]))


def test_float64_as_torchs_default_changes_no_score() -> None:
    speech = Audio.load(embedded_clips()[0], sample_rate=16_000, channels=1).waveform[..., :32_000]
    reference, estimate = speech, 0.9 * speech + 0.1 * Y[:1].repeat(1, 1, 2)
    absent = ("dnsmos", "utmos", "sim_wavlm", "sim_ecapa", "wer", "cer", "dwer", "dcer")  # slow, or of absent weights
    names = [name for name, metric in METRICS.items() if metric.where == "device" and not name.startswith(absent)]
    expected = evaluate(reference, estimate, 16_000, names)
    torch.set_default_dtype(torch.float64)
    try:
        found = evaluate(reference, estimate, 16_000, names)
    finally:
        torch.set_default_dtype(torch.float32)
    for name in names:
        assert torch.equal(found[name].nan_to_num(-1), expected[name].nan_to_num(-1)), name
