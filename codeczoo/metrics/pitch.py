"""Distances between pitch contours: `f0_corr`, `f0_rmse`, `f0_gpe`, `f0_ffe`, `vuv_error`. Praat tracks, in the pool.

Both signals, mixed to one channel, are tracked by Praat's autocorrelation method every 10 ms from 50 to 800 Hz with a
voicing threshold of 0.45, all else at Praat's defaults; frames are paired by index. One analysis serves all of these.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from torch import Tensor

from codeczoo.metrics.pair import Pair, Result
from codeczoo.metrics.pool import PendingMetrics, Reply, WorkerPool, shared_pool

PRAAT = {"step": 0.01, "floor": 50.0, "ceiling": 800.0, "voicing": 0.45}
MIN_VOICED_FRAMES = 10  # frames voiced in both, below which no statistic of them is given
STEADY_CENTS = 0.01  # cents; a contour that varies less has no correlation with anything
GROSS_ERROR_SHARE = 0.2  # a frame further off than this share of the reference's F0 is a gross error

F0_METRICS = ("f0_corr", "f0_rmse", "f0_gpe", "f0_ffe", "vuv_error")


def f0_corr(
    reference: Tensor,
    estimate: Tensor,
    sample_rate: int,
    lengths: Tensor | None = None,
    *,
    pool: WorkerPool | None = None,
) -> Result:
    """Pearson correlation of log2 F0 over frames voiced in both, -1 to 1; higher is better.

    Args:
        reference, estimate: [B, C, T]; channels are mixed to one.
        sample_rate: in Hz; nothing is resampled.
        lengths: [B].
        pool: where Praat runs; None = the shared one.

    Codec-SUPERB's `f0corr` is another quantity (see `superb/f0corr`): it deletes unvoiced frames and warps time, so
    that even unrelated utterances score 0.5 to 0.8 there.
    Undefined: `not_installed` (Praat is the extra `codeczoo[pitch]`), `too_short` (under 60 ms), `unvoiced`
    (one of both throughout), `too_few_voiced` (under 10 frames voiced in both), `constant_pitch`.
    """
    return _measured(Pair.of(reference, estimate, sample_rate, lengths), "f0_corr", pool)


def f0_rmse(
    reference: Tensor,
    estimate: Tensor,
    sample_rate: int,
    lengths: Tensor | None = None,
    *,
    pool: WorkerPool | None = None,
) -> Result:
    """Root mean square difference of F0 in cents over frames voiced in both; 0 is best.

    Arguments and undefined cases as `f0_corr`, but for `constant_pitch`, which is fine here.
    """
    return _measured(Pair.of(reference, estimate, sample_rate, lengths), "f0_rmse", pool)


def f0_gpe(
    reference: Tensor,
    estimate: Tensor,
    sample_rate: int,
    lengths: Tensor | None = None,
    *,
    pool: WorkerPool | None = None,
) -> Result:
    """Gross pitch errors: the share of frames voiced in both whose F0 is off by more than 20 %; 0 is best.

    Arguments and undefined cases as `f0_rmse`.
    """
    return _measured(Pair.of(reference, estimate, sample_rate, lengths), "f0_gpe", pool)


def f0_ffe(
    reference: Tensor,
    estimate: Tensor,
    sample_rate: int,
    lengths: Tensor | None = None,
    *,
    pool: WorkerPool | None = None,
) -> Result:
    """F0 frame error: the share of all frames with a gross pitch error or a voicing error; 0 is best.

    Arguments and undefined cases as `f0_rmse`.
    """
    return _measured(Pair.of(reference, estimate, sample_rate, lengths), "f0_ffe", pool)


def vuv_error(
    reference: Tensor,
    estimate: Tensor,
    sample_rate: int,
    lengths: Tensor | None = None,
    *,
    pool: WorkerPool | None = None,
) -> Result:
    """The share of frames that are voiced in one signal and unvoiced in the other; 0 is best.

    Arguments as `f0_corr`. Undefined: `not_installed` and `too_short` only; silence is unvoiced.
    """
    return _measured(Pair.of(reference, estimate, sample_rate, lengths), "vuv_error", pool)


def start_pitch(pair: Pair, names: Collection[str], pool: WorkerPool) -> PendingMetrics:
    """Begin those of `names` that are of this kind, with one analysis of each signal."""
    mono = pair.mono()
    x, y = (side[:, 0].numpy() for side in (mono.reference, mono.estimate))
    rate = pair.sample_rate
    futures = [
        pool.submit("praat_pitches", (x[item, :end], y[item, :end], rate), PRAAT, seconds=end / rate, reason=reason)
        for item, (end, reason) in enumerate(zip(pair.lengths.tolist(), pair.reasons, strict=True))
    ]

    def finish() -> dict[str, Result]:
        items = [_compare(future.result()) for future in futures]
        return {name: Result.of(item[name] for item in items) for name in F0_METRICS if name in names}

    return PendingMetrics(futures, finish)


def _measured(pair: Pair, name: str, pool: WorkerPool | None) -> Result:
    return start_pitch(pair, [name], pool or shared_pool()).finish()[name]


def _compare(contours: Reply) -> dict[str, Reply]:
    """What Praat found in both signals → every statistic of this kind, or why it is not defined."""
    if contours.reason:
        return dict.fromkeys(F0_METRICS, contours)
    return compare_contours(*contours.value)


def compare_contours(reference: np.ndarray, estimate: np.ndarray) -> dict[str, Reply]:
    """Two contours [N] in Hz, 0 where unvoiced, cut to the shorter → every statistic of this kind."""
    frames = min(len(reference), len(estimate))
    x, y = reference[:frames], estimate[:frames]
    disagree = float(np.mean((x > 0) != (y > 0)))
    both = (x > 0) & (y > 0)
    if not (x > 0).any() or not (y > 0).any():
        return dict.fromkeys(F0_METRICS, Reply(None, "unvoiced")) | {"vuv_error": Reply(disagree, None)}
    if both.sum() < MIN_VOICED_FRAMES:
        return dict.fromkeys(F0_METRICS, Reply(None, "too_few_voiced")) | {"vuv_error": Reply(disagree, None)}
    gross = np.abs(y[both] / x[both] - 1) > GROSS_ERROR_SHARE
    log_x, log_y = np.log2(x[both]), np.log2(y[both])
    steady = 1200 * min(log_x.std(), log_y.std()) < STEADY_CENTS
    return {
        "f0_corr": Reply(None, "constant_pitch") if steady else Reply(_pearson(log_x, log_y), None),
        "f0_rmse": Reply(1200 * float(np.sqrt(np.mean((log_y - log_x) ** 2))), None),
        "f0_gpe": Reply(float(gross.mean()), None),
        "f0_ffe": Reply(float(gross.sum()) / frames + disagree, None),
        "vuv_error": Reply(disagree, None),
    }


def _pearson(x: np.ndarray, y: np.ndarray) -> float:
    x, y = x - x.mean(), y - y.mean()
    return float(x @ y / np.sqrt((x @ x) * (y @ y)))
