"""Distances between spectra: `mel`, `mel_dac`, `stft`, `lsd`. One pass over the STFTs serves all that are asked for.

Every transform is centred and reflects each item about its own last sample, and every mean is over an item's own
frames: in a ragged batch each item has the value that it has alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from codeczoo.base.device import matmul_precision
from codeczoo.metrics.pair import Pair, Result, double
from codeczoo.nn.mel import mel_bands


class Scale(NamedTuple):
    """One resolution of a distance."""

    window: int  # samples; the hop is a quarter of it
    mels: int | None  # None: the bins of the transform themselves
    power: int  # to which the magnitude is raised inside the logarithm
    magnitudes: bool = False  # whether the difference of the magnitudes counts beside that of their logarithms
    rms: bool = False  # root mean square over a frame's bins, in place of the mean of absolute values


DISTANCES: Mapping[str, tuple[Scale, ...]] = {
    "mel": (Scale(2048, 150, 2, magnitudes=True), Scale(512, 80, 2, magnitudes=True)),
    "mel_dac": tuple(Scale(32 << i, 5 << i, 1) for i in range(7)),
    "stft": (Scale(2048, None, 2, magnitudes=True), Scale(512, None, 2, magnitudes=True)),
    "lsd": (Scale(2048, None, 2, rms=True),),
}
CLAMP = 1e-5  # lower limit of magnitudes before a logarithm
MAX_HALF_WINDOW = (
    max(scale.window for scales in DISTANCES.values() for scale in scales) // 2
)  # shorter clips cannot be reflected

# Magnitudes of spectra made together: as many as a CPU's cache holds, or as keep an accelerator busy.
CHUNK_VALUES_CPU, CHUNK_VALUES_DEVICE = 1 << 18, 1 << 25


def mel(reference: Tensor, estimate: Tensor, sample_rate: int, lengths: Tensor | None = None) -> Result:
    """Multi-scale mel distance; 0 is best. Codec-SUPERB's `mel` and audiotools' `MelSpectrogramLoss()`.

    For 150 mels of windows of 2048 samples and 80 mels of 512 (hop a quarter, periodic Hann): the mean absolute
    difference of log10(max(m, 1e-5)²) plus that of m, where m is the magnitude spectrum through Slaney's
    area-normalised mel filters from 0 Hz to half the rate. The sum over both.

    Args:
        reference, estimate: [B, C, T].
        sample_rate: in Hz; the mel filters depend on it, so values at different rates do not compare.
        lengths: [B].

    Undefined: `too_short` (1024 samples or fewer: nothing to reflect).
    """
    return spectral_distances(Pair.of(reference, estimate, sample_rate, lengths), ["mel"])["mel"]


def mel_dac(reference: Tensor, estimate: Tensor, sample_rate: int, lengths: Tensor | None = None) -> Result:
    """The mel distance that DAC is trained on; 0 is best.

    For 5, 10, 20, ... 320 mels of windows of 32, 64, 128, ... 2048 samples: the mean absolute difference of
    log10(max(m, 1e-5)). The sum over all seven; otherwise as `mel`.

    Args:
        reference, estimate: [B, C, T].
        sample_rate: in Hz.
        lengths: [B].

    Undefined: `too_short`.
    Source: Kumar et al., "High-Fidelity Audio Compression with Improved RVQGAN", https://arxiv.org/abs/2306.06546
    """
    return spectral_distances(Pair.of(reference, estimate, sample_rate, lengths), ["mel_dac"])["mel_dac"]


def stft(reference: Tensor, estimate: Tensor, sample_rate: int, lengths: Tensor | None = None) -> Result:
    """Multi-scale STFT distance; 0 is best. Codec-SUPERB's `stft`, audiotools' `MultiScaleSTFTLoss()`, DAC's setting.

    As `mel` for windows of 2048 and 512 samples, on the bins of the transform themselves. (audiotools documents
    a square-root Hann window and a `match_stride`; its code uses Hann and ignores the latter, and so do its numbers.)

    Args:
        reference, estimate: [B, C, T].
        sample_rate: in Hz (not used).
        lengths: [B].

    Undefined: `too_short`.
    """
    return spectral_distances(Pair.of(reference, estimate, sample_rate, lengths), ["stft"])["stft"]


def lsd(reference: Tensor, estimate: Tensor, sample_rate: int, lengths: Tensor | None = None) -> Result:
    """Log-spectral distance; 0 is best.

    Windows of 2048 samples, hop 512, P = max(|X|², 1e-10): per frame the root of the mean over bins of
    (log10 Px - log10 Py)², then the mean over frames. Papers differ in window, logarithm and floor, so this compares
    with itself only.

    Args:
        reference, estimate: [B, C, T].
        sample_rate: in Hz (not used).
        lengths: [B].

    Undefined: `too_short`.
    """
    return spectral_distances(Pair.of(reference, estimate, sample_rate, lengths), ["lsd"])["lsd"]


def spectral_distances(pair: Pair, names: Collection[str]) -> dict[str, Result]:
    """Those of `names` that are of this kind, from one set of transforms."""
    wanted = [name for name in DISTANCES if name in names]
    batch, channels, _ = pair.reference.shape
    sums = {name: torch.zeros(batch * channels, dtype=torch.float64) for name in wanted}
    x, y = pair.reference.flatten(0, 1), pair.estimate.flatten(0, 1)
    with matmul_precision("exact"):
        for rows in _groups(pair.row_lengths, x.device):
            lengths = pair.row_lengths[rows]
            signals = _reflect(x[rows], y[rows], lengths)
            for name, values in _distances(signals, lengths, pair.sample_rate, wanted).items():
                sums[name][rows.cpu()] = values
    short = ("too_short", pair.lengths <= MAX_HALF_WINDOW)
    return {name: pair.result(values.view(batch, channels), [short]) for name, values in sums.items()}


def _groups(lengths: Tensor, device: torch.device) -> Iterator[Tensor]:
    """Rows in groups of similar length, each small enough to be transformed at once."""
    limit = (CHUNK_VALUES_CPU if device.type == "cpu" else CHUNK_VALUES_DEVICE) // 2
    order = lengths.argsort(descending=True, stable=True)
    sizes = lengths[order].tolist()
    first = 0
    while first < len(sizes):
        count = max(limit // max(sizes[first], 1), 1)
        yield order[first : first + count]
        first += count


def _distances(signals: Tensor, lengths: Tensor, sample_rate: int, names: Collection[str]) -> dict[str, Tensor]:
    """Reflected references and estimates [2, R, T + 2 · MAX_HALF_WINDOW] → [R] float64 for each name."""
    sums = {name: torch.zeros(len(lengths), dtype=torch.float64) for name in names}
    for window in sorted({scale.window for name in names for scale in DISTANCES[name]}):
        users = [(name, scale) for name in names for scale in DISTANCES[name] if scale.window == window]
        counts = 1 + lengths // (window // 4)
        for first, magnitude in _spectra(signals, window, int(counts.max())):
            valid = torch.arange(first, first + magnitude.shape[2], device=lengths.device) < counts[:, None]
            ratios: dict[int | None, Tensor] = {}  # log10 of estimate over reference, once for each number of mels
            for name, scale in users:
                seen = magnitude
                if scale.mels is not None:
                    bands = mel_bands(sample_rate, window, scale.mels, signals.dtype, signals.device)
                    seen = torch.cat([magnitude[..., part] @ weights for part, weights in bands], -1)
                if scale.mels not in ratios:
                    ratios[scale.mels] = _log_ratio(seen)
                ratio = ratios[scale.mels]
                frames = scale.power * (ratio.square().mean(-1).sqrt() if scale.rms else ratio.abs().mean(-1))
                if scale.magnitudes:
                    frames = frames + (seen[0] - seen[1]).abs().mean(-1)
                own = double(torch.where(valid, frames, 0.0)).sum(-1)
                sums[name] += (own / counts.to(own.device)).cpu()
    return sums


def _reflect(x: Tensor, y: Tensor, lengths: Tensor) -> Tensor:
    """[R, T] each → [2, R, T + 2 · MAX_HALF_WINDOW]: each row continued at both ends by its own mirror image."""
    pad, longest = MAX_HALF_WINDOW, max(int(lengths.max()), MAX_HALF_WINDOW + 1)
    out = x.new_zeros(2, len(x), longest + 2 * pad)
    signals = out[..., pad : pad + longest]
    for signal, side in zip(signals, (x, y), strict=True):
        signal[:, : side.shape[-1]] = side[:, :longest]
    out[..., :pad] = signals[..., 1 : pad + 1].flip(-1)
    ends, steps = lengths[:, None], torch.arange(pad, device=x.device)
    mirrored = signals.gather(-1, (ends - 2 - steps).clamp(min=0).expand(2, -1, -1))
    return out.scatter_(-1, (ends + pad + steps).expand(2, -1, -1), mirrored)


def _spectra(signals: Tensor, window: int, frames: int) -> Iterator[tuple[int, Tensor]]:
    """Magnitudes [2, R, F, window / 2 + 1] of consecutive runs of frames, each with the index of its first one."""
    hann = torch.hann_window(window, dtype=torch.float64).to(signals.device, signals.dtype)  # float32 rounds its cosine
    framed = signals[..., MAX_HALF_WINDOW - window // 2 :].unfold(-1, window, window // 4)
    limit = CHUNK_VALUES_CPU if signals.device.type == "cpu" else CHUNK_VALUES_DEVICE
    step = max(limit // (signals.shape[1] * window), 1)
    for first in range(0, frames, step):
        spectrum = torch.fft.rfft(framed[:, :, first : min(first + step, frames)] * hann)
        squares = torch.view_as_real(spectrum).square()
        yield first, (squares[..., 0] + squares[..., 1]).sqrt_()


def _log_ratio(magnitude: Tensor) -> Tensor:
    """log10 of the clamped estimate [1] over the clamped reference [0]: one logarithm in place of two."""
    clamped = magnitude.clamp(min=CLAMP)
    return (clamped[1] / clamped[0]).log10_()
