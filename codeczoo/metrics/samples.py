"""Distances between samples: `waveform` (L1), `snr`, `si_sdr`. Sums in float64, whatever the samples' type."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from codeczoo.base.ragged import valid_mask
from codeczoo.metrics.pair import Pair, Result, double


def waveform(reference: Tensor, estimate: Tensor, sample_rate: int, lengths: Tensor | None = None) -> Result:
    """Mean absolute difference of the samples; 0 is best.

    Args:
        reference, estimate: [B, C, T].
        sample_rate: in Hz (not used; every metric takes it).
        lengths: [B].

    Equals audiotools' `L1Loss`. Undefined: `non_finite`, `too_short` (no samples).
    """
    return sample_distances(Pair.of(reference, estimate, sample_rate, lengths), ["waveform"])["waveform"]


def snr(reference: Tensor, estimate: Tensor, sample_rate: int, lengths: Tensor | None = None) -> Result:
    """Signal-to-noise ratio in dB, 10 log10(Σx² / Σ(x-y)²); higher is better, infinite where both are equal.

    Args:
        reference, estimate: [B, C, T].
        sample_rate: in Hz (not used).
        lengths: [B].

    No mean is removed and no epsilon added (torchmetrics adds its float epsilon to both energies, so that a very
    quiet clip scores about 0 dB there). It sees polarity: y = -x gives -6.02 dB. Undefined: `silent_reference`.
    """
    return sample_distances(Pair.of(reference, estimate, sample_rate, lengths), ["snr"])["snr"]


def si_sdr(reference: Tensor, estimate: Tensor, sample_rate: int, lengths: Tensor | None = None) -> Result:
    """Scale-invariant signal-to-distortion ratio in dB; higher is better.

    Means are removed, a = <y, x> / <x, x>, and the value is 10 log10(Σ(ax)² / Σ(ax-y)²) without an epsilon.

    Args:
        reference, estimate: [B, C, T].
        sample_rate: in Hz (not used).
        lengths: [B].

    Packages differ: torchmetrics' SI-SDR keeps the mean unless told otherwise (its SI-SNR removes it); audiotools
    and Codec-SUPERB negate the value and join the channels into one vector, here channels are averaged. It does not
    see polarity. A perfect estimate scores what rounding leaves, above 80 dB, or infinity.
    Undefined: `silent_reference`, `constant_reference`, `silent_estimate` (nothing left without its mean).

    Source: Le Roux et al., "SDR - half-baked or well done?", ICASSP 2019, https://arxiv.org/abs/1811.02508
    """
    return sample_distances(Pair.of(reference, estimate, sample_rate, lengths), ["si_sdr"])["si_sdr"]


def sample_distances(pair: Pair, names: Collection[str]) -> dict[str, Result]:
    """Those of `names` that are of this kind."""
    results = {}
    x, y = double(pair.reference), double(pair.estimate)
    lengths = pair.lengths.to(x.device)[:, None]
    silent = ("silent_reference", pair.silent_reference)
    if "waveform" in names:
        results["waveform"] = pair.result((x - y).abs().sum(-1) / lengths)
    if "snr" in names:
        results["snr"] = pair.result(_decibel(x.square().sum(-1), (x - y).square().sum(-1)), [silent])
    if "si_sdr" in names:
        valid = valid_mask(lengths[:, 0], x.shape[-1])[:, None]
        x, y = (torch.where(valid, side - side.sum(-1, keepdim=True) / lengths[..., None], 0.0) for side in (x, y))
        target = x * ((x * y).sum(-1, keepdim=True) / x.square().sum(-1, keepdim=True))
        values = _decibel(target.square().sum(-1), (target - y).square().sum(-1))
        results["si_sdr"] = pair.result(
            values,
            [silent, ("constant_reference", pair.constant_reference), ("silent_estimate", pair.constant_estimate)],
        )
    return results


def _decibel(signal: Tensor, noise: Tensor) -> Tensor:
    return 10 * torch.log10(signal / noise)
