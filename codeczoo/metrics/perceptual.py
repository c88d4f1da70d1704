"""Models of listening that only exist as libraries: `pesq_wb`, `pesq_nb`, `visqol`. They run in the pool."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from concurrent.futures import Future
from typing import NamedTuple

import torch
from torch import Tensor

from codeczoo.metrics.pair import Pair, Result
from codeczoo.metrics.pool import PendingMetrics, Reply, WorkerPool, channel_means, shared_pool

# The C code has room for 50 utterances and writes on behind it. One takes at least 0.2 s of speech and 0.2 s of
# pause, so that shorter clips than this are safe; after a longer one the worker is replaced, whether it died or not.
PESQ_SAFE_SECONDS = 20.0


class Band(NamedTuple):
    """One of PESQ's two standards."""

    mode: str
    rate: int  # Hz
    shortest: int  # samples at that rate, a quarter of a second


BANDS: Mapping[str, Band] = {"pesq_wb": Band("wb", 16_000, 4_000), "pesq_nb": Band("nb", 8_000, 2_000)}

VISQOL_RATE = 48_000


def pesq_wb(
    reference: Tensor,
    estimate: Tensor,
    sample_rate: int,
    lengths: Tensor | None = None,
    *,
    pool: WorkerPool | None = None,
) -> Result:
    """Wide-band PESQ, ITU-T P.862.2 at 16 kHz, about 1 to 4.644; higher is better.

    Args:
        reference, estimate: [B, C, T].
        sample_rate: in Hz; resampled to 16 kHz with julius' filter, as audiotools and Codec-SUPERB do. The resampler
            is part of the value: others differ by 0.008 on speech (median) and by up to 1.7 on music.
        lengths: [B].
        pool: where the C code runs; None = the shared one.

    Undefined: `not_installed` (its package is the extra `codeczoo[pesq]`), `rate_below_16k` (nothing above 4 kHz
    to judge), `too_short` (under 0.25 s), `silent_reference`, `silent_estimate`, `no_utterance`
    (steady music, mostly), `crashed` (it dies of more than 50 utterances), `timeout`.
    """
    pair = Pair.of(reference, estimate, sample_rate, lengths)
    return start_pesq(pair, ["pesq_wb"], pool or shared_pool()).finish()["pesq_wb"]


def pesq_nb(
    reference: Tensor,
    estimate: Tensor,
    sample_rate: int,
    lengths: Tensor | None = None,
    *,
    pool: WorkerPool | None = None,
) -> Result:
    """Narrow-band PESQ, ITU-T P.862 with P.862.1's mapping at 8 kHz, about 1 to 4.549; higher is better.

    Otherwise as `pesq_wb`, resampled to 8 kHz; `rate_below_8k` in place of `rate_below_16k`.
    """
    pair = Pair.of(reference, estimate, sample_rate, lengths)
    return start_pesq(pair, ["pesq_nb"], pool or shared_pool()).finish()["pesq_nb"]


def visqol(
    reference: Tensor,
    estimate: Tensor,
    sample_rate: int,
    lengths: Tensor | None = None,
    *,
    pool: WorkerPool | None = None,
) -> Result:
    """ViSQOL's mean opinion score in audio mode, 1 to 4.732; higher is better. Needs `codeczoo[visqol]`.

    Args:
        reference, estimate: [B, C, T]; channels are mixed to one.
        sample_rate: in Hz; resampled to 48 kHz with the `sharp` filter: it looks into the empty band above, so that
            shorter filters change its value by 0.1 and more.
        lengths: [B].
        pool: where it runs; None = the shared one.

    By visqol-python with the support vector model that comes with it. Undefined: `not_installed`, `too_short` (under
    about a second: no patch fits), `silent_reference`, `silent_estimate`, `timeout`.
    """
    pair = Pair.of(reference, estimate, sample_rate, lengths)
    return start_visqol(pair, ["visqol"], pool or shared_pool()).finish()["visqol"]


def start_pesq(pair: Pair, names: Collection[str], pool: WorkerPool) -> PendingMetrics:
    """Begin those of `names` that are PESQ."""
    futures = {name: submit_pesq(pair, band, pool) for name, band in BANDS.items() if name in names}
    return PendingMetrics(
        [future for rows in futures.values() for row in rows for future in row],
        lambda: {name: channel_means(rows) for name, rows in futures.items()},
    )


def submit_pesq(pair: Pair, band: Band, pool: WorkerPool, *, upsample: bool = False) -> list[list[Future[Reply]]]:
    """A task for each channel of each item, [B][C]. `upsample`: judge clips of a lower rate than the standard's too."""
    view = pair.resampled_for_pesq(band.rate)
    x, y = (side.cpu().numpy() for side in (view.reference, view.estimate))
    low = torch.tensor(pair.sample_rate < band.rate and not upsample)
    reasons = pair.row_reasons(
        [
            (f"rate_below_{band.rate // 1000}k", low),
            ("too_short", view.lengths < band.shortest),
            ("silent_reference", pair.silent_reference),
            ("silent_estimate", pair.silent_estimate),
        ]
    )
    return [
        [
            pool.submit(
                "pesq",
                (x[item, channel, :end], y[item, channel, :end], band.rate, band.mode),
                seconds=end / band.rate,
                last=end > PESQ_SAFE_SECONDS * band.rate,
                reason=reason,
            )
            for channel, reason in enumerate(reasons[item])
        ]
        for item, end in enumerate(view.lengths.tolist())
    ]


def start_visqol(pair: Pair, names: Collection[str], pool: WorkerPool) -> PendingMetrics:
    """Begin `visqol`."""
    del names
    mono = pair.mono().double().resampled(VISQOL_RATE, "sharp")
    x, y = (side[:, 0].numpy() for side in (mono.reference, mono.estimate))
    reasons = mono.row_reasons([("silent_reference", mono.silent_reference), ("silent_estimate", mono.silent_estimate)])
    futures = [
        pool.submit("visqol", (x[item, :end], y[item, :end], "audio"), seconds=end / VISQOL_RATE, reason=reason)
        for item, (end, (reason,)) in enumerate(zip(mono.lengths.tolist(), reasons, strict=True))
    ]
    return PendingMetrics(futures, lambda: {"visqol": channel_means([[future] for future in futures])})
