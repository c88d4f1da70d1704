"""Codec-SUPERB's own variants, `superb/...`, so that its published tables can be reproduced.

They are what its `get_metrics` computes, quirks and all, and differ from the standard metrics of like name:

- The shorter signal is filled with zeros, where all other metrics here cut the longer one: 137 missing samples of
  57 600 take PESQ from 4.64 to 4.07.
- What fails is given a number: PESQ 1.0, STOI 0.0, F0 correlation 0.0. The number is kept, since the published means
  contain it, and the reason is told beside it.
- `superb/pesq` is wide-band PESQ, for clips at 8 kHz too.
- `superb/stoi` and `superb/f0corr` see the signals at 16 kHz, since its PESQ resamples them in place.

Source: https://github.com/voidful/Codec-SUPERB, SoundCodec/metrics.py, 2026-05
"""

from __future__ import annotations

from collections.abc import Collection
from concurrent.futures import Future

import torch
from torch import Tensor

from codeczoo.metrics.intelligibility import RATE, RUN, Recipe, correlations
from codeczoo.metrics.pair import Pair, Result
from codeczoo.metrics.perceptual import BANDS, submit_pesq
from codeczoo.metrics.pool import PendingMetrics, Reply, WorkerPool, channel_means, shared_pool
from codeczoo.metrics.samples import sample_distances
from codeczoo.metrics.spectral import spectral_distances

SPEECH_RATE = 16_000  # Hz
RECIPE = Recipe(early=1, scale=1 / 128.5, energy_floor=16e-10, power_floor=1e-10, norm_floor=1e-10)


def superb_mel(reference: Tensor, estimate: Tensor, sample_rate: int, lengths: Tensor | None = None) -> Result:
    """`mel` in float32, the shorter signal filled with zeros."""
    return superb_distances(Pair.of(reference, estimate, sample_rate, lengths), ["superb/mel"])["superb/mel"]


def superb_stft(reference: Tensor, estimate: Tensor, sample_rate: int, lengths: Tensor | None = None) -> Result:
    """`stft` in float32, the shorter signal filled with zeros."""
    return superb_distances(Pair.of(reference, estimate, sample_rate, lengths), ["superb/stft"])["superb/stft"]


def superb_waveform(reference: Tensor, estimate: Tensor, sample_rate: int, lengths: Tensor | None = None) -> Result:
    """`waveform`, the shorter signal filled with zeros."""
    return superb_distances(Pair.of(reference, estimate, sample_rate, lengths), ["superb/waveform"])["superb/waveform"]


def superb_stoi(reference: Tensor, estimate: Tensor, sample_rate: int, lengths: Tensor | None = None) -> Result:
    """Codec-SUPERB's port of STOI, 0 to 1; higher is better; 0.0 where it fails.

    It resamples to 16 kHz and on to 10 kHz with scipy's default filter, seeks silence one sample early, adds 1e-10 to
    powers and norms of spectra that are 128 times smaller (quiet clips drift: 0.71 for 0.98 at -120 dB), and clips
    each channel to 0 to 1. Against `stoi`: 3e-6 (median), 1.4e-3 (95th percentile), 0.016 at most.
    """
    return superb_distances(Pair.of(reference, estimate, sample_rate, lengths), ["superb/stoi"])["superb/stoi"]


def superb_pesq(
    reference: Tensor,
    estimate: Tensor,
    sample_rate: int,
    lengths: Tensor | None = None,
    *,
    pool: WorkerPool | None = None,
) -> Result:
    """Codec-SUPERB's `pesq` and `pesq-wb`, which are one wide-band call made twice; 1.0 where it fails.

    A clip that kills the C code is NaN (`crashed`): there the published benchmark has no number either. Without the
    package pesq all are NaN (`not_installed`).
    """
    pair = Pair.of(reference, estimate, sample_rate, lengths)
    return start_superb(pair, ["superb/pesq"], pool or shared_pool()).finish()["superb/pesq"]


def superb_f0corr(
    reference: Tensor,
    estimate: Tensor,
    sample_rate: int,
    lengths: Tensor | None = None,
    *,
    pool: WorkerPool | None = None,
) -> Result:
    """Codec-SUPERB's `f0corr`, -1 to 1; higher is better; 0.0 where it fails.

    Signals at 16 kHz are given to Praat as if at 22 050 Hz (so the limits are 36 to 798 Hz and the step 16 ms),
    voicing threshold 0.6. Unvoiced frames are deleted, cents taken relative to the median, and the Pearson correlation
    is that along a freely warped path: two unrelated utterances score 0.48 to 0.80. Without Praat (`codeczoo[pitch]`)
    all are NaN (`not_installed`).
    """
    pair = Pair.of(reference, estimate, sample_rate, lengths)
    return start_superb(pair, ["superb/f0corr"], pool or shared_pool()).finish()["superb/f0corr"]


def superb_distances(pair: Pair, names: Collection[str]) -> dict[str, Result]:
    """Those of `names` that are computed on the device."""
    pair = pair.padded
    wanted = {name.removeprefix("superb/") for name in names if name.startswith("superb/")}
    results: dict[str, Result] = {}
    if spectra := wanted & {"mel", "stft"}:
        results |= spectral_distances(pair.single(), spectra)
    if "waveform" in wanted:
        results |= sample_distances(pair, ["waveform"])
    if "stoi" in wanted:
        results["stoi"] = _stoi(pair)
    return {f"superb/{name}": result for name, result in results.items()}


def start_superb(pair: Pair, names: Collection[str], pool: WorkerPool) -> PendingMetrics:
    """Begin those of `names` that run in the pool."""
    pair = pair.padded
    started: dict[str, list[list[Future[Reply]]]] = {}
    fallbacks = {"superb/pesq": 1.0, "superb/f0corr": 0.0}
    if "superb/pesq" in names:
        started["superb/pesq"] = submit_pesq(pair, BANDS["pesq_wb"], pool, upsample=True)
    if "superb/f0corr" in names:
        view = pair.resampled_for_pesq(SPEECH_RATE)
        x, y = (side.cpu().float().numpy() for side in (view.reference, view.estimate))
        started["superb/f0corr"] = [
            [
                pool.submit(
                    "superb_f0_correlation",
                    (x[item, :, :end], y[item, :, :end]),
                    seconds=end / SPEECH_RATE,
                    reason=reason,
                )
            ]
            for item, (end, reason) in enumerate(zip(view.lengths.tolist(), pair.reasons, strict=True))
        ]
    return PendingMetrics(
        [future for rows in started.values() for row in rows for future in row],
        lambda: {name: _with_fallback(channel_means(rows), fallbacks[name]) for name, rows in started.items()},
    )


def _stoi(pair: Pair) -> Result:
    view = pair.single().resampled_for_pesq(SPEECH_RATE).resampled(RATE, "scipy").double()
    scores, framed, counts = correlations(view, ["stoi"], RECIPE)
    rows = scores["stoi"].clamp(0, 1).view(pair.reference.shape[:2])
    result = pair.result(rows, [("too_short", framed == 0), ("too_few_frames", counts < RUN)])
    return _with_fallback(result, 0.0)


def _with_fallback(result: Result, value: float) -> Result:
    """`value` where there is a reason why there is none, unless that is one that ends the published program."""
    values = result.values.clone()
    fallen = [reason is not None and reason not in ("crashed", "timeout", "not_installed") for reason in result.reasons]
    values[torch.tensor(fallen, dtype=torch.bool)] = value
    return Result(values, result.reasons)
