"""`separation_sdr`: how good separated stems are, as the SiSEC campaigns and museval measure it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from codeczoo.base.audio import Audio
from codeczoo.metrics.pair import Result, double


def separation_sdr(
    references: Mapping[str, Audio], estimates: Mapping[str, Audio], window: float = 1.0
) -> dict[str, Result]:
    """Signal-to-distortion ratio of each stem in dB, the median over windows; higher is better.

    In a window it is 10 log10(Σx² / Σ(x-y)²) over all channels together, x the reference and y the estimate. That is
    the SDR of BSS Eval version 4 ("images"): the projections that split the error into its kinds add up to y - x.

    Windows lie side by side; what is left at the end is not measured, and a clip shorter than one window is one window.
    A window in which any stem, reference or estimate, is silent (the sum of its channels is zero throughout) does not
    count, for no stem. So give the stems of one separation together.

    Args:
        references, estimates: stems of the same clips by name, all of one rate and channel count; of each clip the
            estimate is filled with zeros or cut to the length of its reference.
        window: in seconds.

    Undefined: `non_finite`, `too_short` (no samples), `silent_reference` and `silent_estimate` (any stem is silent
    throughout, or some stem is in each window). Equals museval 0.4.1, `evaluate(..., mode="v4")` and the median that
    its `TrackStore` takes, within 1e-9 dB below 100 dB.

    Raises:
        ValueError: names, rates, channels or numbers of clips that do not agree.

    Source: Stöter, Liutkus and Ito, "The 2018 Signal Separation Evaluation Campaign", https://arxiv.org/abs/1804.06267
    """
    names = list(references)
    if not names or set(names) != set(estimates):
        raise ValueError(f"references and estimates must be of the same stems: {names} and {list(estimates)}")
    every = [*references.values(), *estimates.values()]
    rates, shapes = {one.sample_rate for one in every}, {(len(one), one.channels) for one in every}
    if len(rates) > 1 or len(shapes) > 1:
        raise ValueError(
            f"all stems must have one rate and as many clips and channels: they have {sorted(rates)} Hz and "
            f"{sorted(shapes)} (clips, channels)"
        )
    if window <= 0:
        raise ValueError(f"window must be a length in seconds; it is {window!r}")
    size = max(int(window * rates.pop()), 1)
    rows: dict[str, list[tuple[float | None, str | None]]] = {name: [] for name in names}
    for clip in range(len(every[0])):
        x = [double(references[name][clip].waveform[0]) for name in names]
        y = [double(estimates[name][clip].waveform[0]) for name in names]
        for name, found in zip(names, _of_clip(x, y, size), strict=True):
            rows[name].append(found)
    return {name: Result.of(row) for name, row in rows.items()}


def _of_clip(references: list[Tensor], estimates: list[Tensor], size: int) -> list[tuple[float | None, str | None]]:
    """Stems [C, T] of one clip → value or reason of each."""
    samples = max(one.shape[-1] for one in references)
    x = torch.stack([_fitted(one, samples) for one in references])  # [S, C, T]
    y = torch.stack([_fitted(one, samples) for one in estimates])
    reason = None
    if not samples:
        reason = "too_short"
    elif not bool(x.isfinite().all() and y.isfinite().all()):
        reason = "non_finite"
    elif bool(_silent(x).any()):
        reason = "silent_reference"
    elif bool(_silent(y).any()):
        reason = "silent_estimate"
    if reason is not None:
        return [(None, reason)] * len(x)
    if samples > size:
        x, y = (side[..., : samples // size * size].unflatten(-1, (-1, size)) for side in (x, y))
    else:
        x, y = x[:, :, None], y[:, :, None]  # [S, C, windows, size]
    silent_x, silent_y = _silent(x).any(0), _silent(y).any(0)
    counts = ~(silent_x | silent_y)
    if not bool(counts.any()):
        return [(None, "silent_reference" if bool(silent_x.any()) else "silent_estimate")] * len(x)
    signal, error = x.square().sum((1, 3)), (x - y).square().sum((1, 3))
    ratio = 10 * torch.log10(signal / error)[:, counts]
    return [(_median(one), None) for one in ratio]


def _silent(x: Tensor) -> Tensor:
    """[S, C, ..., T] → [S, ...]."""
    return (x.sum(1) == 0).all(-1)


def _fitted(x: Tensor, samples: int) -> Tensor:
    return torch.nn.functional.pad(x, (0, max(samples - x.shape[-1], 0)))[..., :samples]


def _median(values: Tensor) -> float:
    """The middle, or the mean of the two in the middle."""
    ordered = values.sort().values
    below, above = ordered[(len(values) - 1) // 2], ordered[len(values) // 2]
    return float(below) if below == above else float((below + above) / 2)
