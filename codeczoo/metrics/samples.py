"""Distances between samples: `waveform` (L1), `snr`, `si_sdr`. Sums in float64, whatever the samples' type."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from codeczoo.base.ragged import valid_mask
from codeczoo.metrics.pair import Pair, Result, Undefined, double

# Samples compared together: as many as a CPU's cache holds, or as keep an accelerator busy.
CHUNK_VALUES_CPU, CHUNK_VALUES_DEVICE = 1 << 18, 1 << 26


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
    wanted = [name for name in ("waveform", "snr", "si_sdr") if name in names]
    rows: dict[str, list[Tensor]] = {name: [] for name in wanted}
    on_cpu = pair.reference.device.type == "cpu"
    items = max((CHUNK_VALUES_CPU if on_cpu else CHUNK_VALUES_DEVICE) // max(pair.reference[0].numel(), 1), 1)
    for first in range(0, len(pair), items):
        part = slice(first, first + items)
        x, y = double(pair.reference[part]), double(pair.estimate[part])
        lengths = pair.lengths[part].to(x.device)[:, None]
        if "waveform" in names:
            rows["waveform"].append((x - y).abs_().sum(-1) / lengths)
        if "snr" in names:
            rows["snr"].append(_decibel(_energy(x), _energy(x - y)))
        if "si_sdr" in names:
            rows["si_sdr"].append(_si_sdr(x, y, lengths))
    silent = ("silent_reference", pair.silent_reference)
    constant = [("constant_reference", pair.constant_reference), ("silent_estimate", pair.constant_estimate)]
    reasons: dict[str, list[Undefined]] = {"waveform": [], "snr": [silent], "si_sdr": [silent, *constant]}
    return {name: pair.result(torch.cat(rows[name]), reasons[name]) for name in wanted}


def _si_sdr(x: Tensor, y: Tensor, lengths: Tensor) -> Tensor:
    """[B, C] of [B, C, T] and [B, 1]."""
    x, y = (side - side.sum(-1, keepdim=True) / lengths[..., None] for side in (x, y))
    if bool((lengths < x.shape[-1]).any()):
        valid = valid_mask(lengths[:, 0], x.shape[-1])[:, None]
        x, y = (torch.where(valid, side, 0.0) for side in (x, y))
    energy, scale = _energy(x), torch.linalg.vecdot(x, y)
    scale = scale / energy
    return _decibel(scale.square() * energy, _energy(torch.addcmul(y, x, scale[..., None], value=-1)))


def _energy(signal: Tensor) -> Tensor:
    return torch.linalg.vecdot(signal, signal)


def _decibel(signal: Tensor, noise: Tensor) -> Tensor:
    return 10 * torch.log10(signal / noise)
