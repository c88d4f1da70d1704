"""Distance between spectral envelopes: `mcd`, mel-cepstral distortion by WORLD. It runs in the pool."""

from __future__ import annotations

from collections.abc import Collection

from torch import Tensor

from codeczoo.metrics.pair import Pair, Result
from codeczoo.metrics.pool import PendingMetrics, WorkerPool, channel_means, shared_pool


def mcd(
    reference: Tensor,
    estimate: Tensor,
    sample_rate: int,
    lengths: Tensor | None = None,
    *,
    pool: WorkerPool | None = None,
) -> Result:
    """Mel-cepstral distortion in dB; 0 is best. Needs `codeczoo[mcd]`. VERSA's `mcd` with its defaults.

    After a 70 Hz high-pass, F0 by Harvest (40 to 800 Hz, every 5 ms), envelope by CheapTrick (FFT of 1024 up to
    24 kHz, 2048 up to 48 kHz), 40 mel-cepstral coefficients (alpha 0.466); the mean over frames of
    10 / ln 10 · sqrt(2 Σ d²). The energy coefficient c0 counts: 6 dB of gain are 4.4 dB of MCD. Frames are not
    aligned in time.

    Args:
        reference, estimate: [B, C, T]; channels are mixed to one.
        sample_rate: in Hz; nothing is resampled.
        lengths: [B].
        pool: where it runs; None = the shared one.

    Undefined: `not_installed`, `silent_reference`, `silent_estimate` (it would measure WORLD's own floor), `timeout`.
    """
    return start_mcd(Pair.of(reference, estimate, sample_rate, lengths), ["mcd"], pool or shared_pool()).finish()["mcd"]


def start_mcd(pair: Pair, names: Collection[str], pool: WorkerPool) -> PendingMetrics:
    """Begin `mcd`."""
    del names
    mono = pair.mono()
    x, y = (side[:, 0].numpy() for side in (mono.reference, mono.estimate))
    rate = pair.sample_rate
    reasons = mono.row_reasons([("silent_reference", mono.silent_reference), ("silent_estimate", mono.silent_estimate)])
    futures = [
        pool.submit("mel_cepstral_distortion", (x[item, :end], y[item, :end], rate), seconds=end / rate, reason=reason)
        for item, (end, (reason,)) in enumerate(zip(pair.lengths.tolist(), reasons, strict=True))
    ]
    return PendingMetrics(futures, lambda: {"mcd": channel_means([[future] for future in futures])})
