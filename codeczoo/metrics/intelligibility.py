"""Short-time objective intelligibility, `stoi` and `estoi`: batched on the device, ragged, equal to pystoi.

At 10 kHz, frames of 256 samples are compared in 15 third-octave bands over runs of 30 frames, after frames in which
the reference is silent are taken out. All of that batches: taking out is a stable sort that brings the kept frames
to the front, and the signal rebuilt from them by overlap-add and framed again is, half frame by half frame, the sum
of neighbouring kept frames.

Sources: Taal et al., "An Algorithm for Intelligibility Prediction of Time-Frequency Weighted Noisy Speech", IEEE TASLP
2011; Jensen & Taal, "An Algorithm for Predicting the Intelligibility of Speech Masked by Modulated Noise Maskers",
IEEE/ACM TASLP 2016.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from codeczoo.base.device import matmul_precision
from codeczoo.metrics.pair import Pair, Result, double

RATE = 10_000  # Hz
FRAME, HOP, FFT = 256, 128, 512  # samples
BANDS, LOWEST_BAND = 15, 150.0  # third octaves; the centre of the first, in Hz
RUN = 30  # frames that are correlated at a time
DYNAMIC_RANGE = 40.0  # dB; frames of the reference further below its loudest are taken out
CLIP = 1 + 10 ** (15 / 20)  # the estimate may exceed the reference by 15 dB before it is cut

CHUNK_VALUES_CPU, CHUNK_VALUES_DEVICE = 1 << 19, 1 << 25  # band values of runs held in memory together

Measure = Callable[[Tensor, Tensor, "Recipe"], Tensor]


@dataclass(frozen=True)
class Recipe:
    """What implementations of STOI differ in. The default is pystoi's, which follows the authors' own."""

    early: int = 0  # samples by which frames are looked at too early when silence is sought
    scale: float = 1.0  # of the spectra
    energy_floor: float = 2.0**-52  # added to a frame's norm before its logarithm
    power_floor: float = 2.0**-104  # added to the estimate's power when it is brought to the reference's level
    norm_floor: float = 2.0**-52  # added to norms that divide


class Frames(NamedTuple):
    """Band magnitudes of both signals after silent frames were taken out."""

    bands: Tensor  # [2, R, BANDS, S]
    counts: Tensor  # [R]: spectra of each row; RUN of them make one run
    framed: Tensor  # [R]: frames before any was taken out


def stoi(reference: Tensor, estimate: Tensor, sample_rate: int, lengths: Tensor | None = None) -> Result:
    """Short-time objective intelligibility, about -1 to 1; higher is better. Equal to pystoi's `stoi`.

    Args:
        reference, estimate: [B, C, T].
        sample_rate: in Hz; resampled to 10 kHz with pystoi's filter.
        lengths: [B].

    Undefined: `too_short` (no frame of 25.6 ms), `too_few_frames` (fewer than 30 spectra, about 0.41 s of sound, where
    pystoi warns and returns 1e-5), `silent_reference`, `constant_reference`.
    """
    return intelligibility(Pair.of(reference, estimate, sample_rate, lengths), ["stoi"])["stoi"]


def estoi(reference: Tensor, estimate: Tensor, sample_rate: int, lengths: Tensor | None = None) -> Result:
    """Extended STOI: each 15 x 30 run made zero-mean and unit-norm by rows and then by columns.

    A row or column without variation counts as 0 (pystoi adds noise before it divides, so that its value is random
    there: two calls differ by up to 0.02 on clips with digital silence).

    Args:
        reference, estimate: [B, C, T].
        sample_rate: in Hz; resampled to 10 kHz with pystoi's filter.
        lengths: [B].

    Undefined: as `stoi`.
    """
    return intelligibility(Pair.of(reference, estimate, sample_rate, lengths), ["estoi"])["estoi"]


def intelligibility(pair: Pair, names: Collection[str]) -> dict[str, Result]:
    """Those of `names` that are of this kind, from one set of spectra."""
    batch, channels, _ = pair.reference.shape
    view = pair.resampled(RATE, "kaiser")
    scores, framed, counts = correlations(view, names)
    reasons = [
        ("too_short", framed == 0),
        ("silent_reference", pair.silent_reference.flatten()),
        ("constant_reference", pair.constant_reference.flatten()),
        ("too_few_frames", counts < RUN),
    ]
    return {name: pair.result(values.view(batch, channels), reasons) for name, values in scores.items()}


def correlations(
    view: Pair, names: Collection[str], recipe: Recipe | None = None
) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """The measures of a pair at 10 kHz.

    Returns:
        [R] float64 for each name (`stoi`, `estoi`); then the frames of each row [R] before and its spectra [R] after
        silence was taken out. R = B · C.
    """
    recipe = recipe or Recipe()
    x, y = view.reference.flatten(0, 1), view.estimate.flatten(0, 1)
    lengths = view.row_lengths
    measures = {name: measure for name, measure in (("stoi", _stoi), ("estoi", _estoi)) if name in names}
    scores = {name: torch.zeros(len(x), dtype=torch.float64) for name in measures}
    framed, counts = (torch.zeros(len(x), dtype=torch.int64) for _ in range(2))
    on_cpu = x.device.type == "cpu"
    chunk = CHUNK_VALUES_CPU if on_cpu else CHUNK_VALUES_DEVICE
    order = lengths.argsort(descending=True, stable=True)
    sizes = lengths[order].tolist()
    first = 0
    with matmul_precision("exact"):
        while first < len(sizes):
            # Rows of similar length together: as many as have their runs in one chunk.
            rows = order[first : first + max(chunk // (BANDS * RUN * max(sizes[first] // HOP, 1)), 1)]
            first += len(rows)
            longest = max(sizes[first - len(rows)], FRAME + 1)
            frames = _frames(_fit(x[rows], longest), _fit(y[rows], longest), lengths[rows], recipe)
            counts[rows.cpu()], framed[rows.cpu()] = frames.counts.cpu(), frames.framed.cpu()
            for name, measure in measures.items():
                scores[name][rows.cpu()] = _over_runs(frames, measure, recipe, chunk)
    return scores, framed, counts


def _fit(rows: Tensor, samples: int) -> Tensor:
    return torch.nn.functional.pad(rows, (0, max(samples - rows.shape[-1], 0)))[:, :samples]


def _frames(x: Tensor, y: Tensor, lengths: Tensor, recipe: Recipe) -> Frames:
    """[R, T] each, at 10 kHz → the band magnitudes of what is not silent."""
    window = _window(x.dtype, x.device)
    framed = (lengths - FRAME + HOP - 1).clamp(min=0) // HOP  # a frame that ends with the signal is left out
    signals = torch.stack([x, y])
    windowed = signals.unfold(-1, FRAME, HOP)[:, :, : max(int(framed.max()), 1)] * window  # [2, R, M, FRAME]
    valid = torch.arange(windowed.shape[2], device=x.device) < framed[:, None]
    sought = windowed[0] if not recipe.early else _shifted(x, lengths, recipe.early).unfold(-1, FRAME, HOP) * window
    energy = 20 * torch.log10(torch.linalg.vector_norm(sought[:, : valid.shape[1]], dim=-1) + recipe.energy_floor)
    energy = energy.masked_fill(~valid, -torch.inf)
    kept = valid & (energy > energy.amax(-1, keepdim=True) - DYNAMIC_RANGE)
    counts = kept.sum(-1)

    front = kept.to(torch.uint8).argsort(dim=-1, descending=True, stable=True)[:, : max(int(counts.max()), 1)]
    still = torch.arange(front.shape[1], device=x.device) < counts[:, None]
    row = torch.arange(len(x), device=x.device)[:, None]
    windowed = windowed[:, row, front] * still[..., None]
    halves = torch.nn.functional.pad(windowed[..., :HOP], (0, 0, 0, 1))  # overlap-add: [2, R, K + 1, HOP]
    halves[:, :, 1:] += windowed[..., HOP:]
    again = halves.flatten(2).unfold(-1, FRAME, HOP) * window
    spectrum = torch.fft.rfft(again, n=FFT)
    power = (spectrum.real.square() + spectrum.imag.square()) * recipe.scale**2
    bands = (power @ _third_octaves(x.dtype, x.device)).sqrt_().transpose(-1, -2)
    return Frames(bands, (counts - 1).clamp(min=0), framed)


def _shifted(x: Tensor, lengths: Tensor, early: int) -> Tensor:
    """Each row begun `early` samples before its start, where its own last samples stand."""
    wrapped = (lengths[:, None] - early + torch.arange(early, device=x.device)).clamp(min=0)
    return torch.cat([x.gather(-1, wrapped), x[:, : x.shape[1] - early]], -1)


def _over_runs(frames: Frames, measure: Measure, recipe: Recipe, chunk: int) -> Tensor:
    """The mean [R] float64 of a measure over each row's own runs; 0 where there is none."""
    runs = (frames.counts - RUN + 1).clamp(min=0)
    total = torch.zeros(len(runs), dtype=torch.float64)
    step = max(chunk // (len(runs) * BANDS * RUN), 1)
    for first in range(0, int(runs.max()), step):
        x, y = frames.bands[..., first : first + step + RUN - 1]
        values = measure(x, y, recipe)
        own = torch.arange(first, first + values.shape[1], device=values.device) < runs[:, None]
        total += double(torch.where(own, values, 0.0)).sum(-1).cpu()
    return total / runs.clamp(min=1).cpu()


def _stoi(x: Tensor, y: Tensor, recipe: Recipe) -> Tensor:
    """Mean correlation [R, J] of the bands of each of J runs; x and y are [R, BANDS, J + RUN - 1]."""
    (sum_x, power_x), (_, power_y) = _run_sums(x), _run_sums(y)
    level = (power_x / (power_y + recipe.power_floor)).sqrt().to(y.dtype)[..., None]
    mean = (sum_x / RUN).to(x.dtype)[..., None]
    x_runs, y_runs = x.unfold(-1, RUN, 1), y.unfold(-1, RUN, 1)  # [R, BANDS, J, RUN]
    y_runs = torch.minimum(y_runs * level, (x * CLIP).unfold(-1, RUN, 1))
    y_runs -= y_runs.mean(-1, keepdim=True)
    x_runs = x_runs - mean
    norm_x, norm_y = (torch.linalg.vector_norm(side, dim=-1) + recipe.norm_floor for side in (x_runs, y_runs))
    return ((x_runs * y_runs).sum(-1) / (norm_x * norm_y)).mean(1)


def _estoi(x: Tensor, y: Tensor, recipe: Recipe) -> Tensor:
    """Mean correlation [R, J] of the columns of each of J runs, after its rows and columns were normalised."""
    del recipe
    x_runs, y_runs = _normalised_rows(x), _normalised_rows(y)
    mean_x, mean_y = x_runs.mean(1), y_runs.mean(1)  # of columns: [R, J, RUN]
    norm = (_column_power(x_runs, mean_x) * _column_power(y_runs, mean_y)).sqrt_()
    common = (x_runs * y_runs).sum(1) - BANDS * mean_x * mean_y
    return torch.where(norm > 0, common / norm, 0.0).mean(-1)


def _run_sums(bands: Tensor) -> tuple[Tensor, Tensor]:
    """Σ and Σ² [..., J] over every RUN neighbours of [..., J + RUN - 1], in float64."""
    exact = double(bands)
    return _sliding(exact).to(bands.device), _sliding(exact.square()).to(bands.device)


def _sliding(values: Tensor) -> Tensor:
    """Sums over every 30 neighbours, of sums over 2, 4, 8 and 16: nothing is ever subtracted."""
    two = values[..., 1:] + values[..., :-1]
    four = two[..., 2:] + two[..., :-2]
    eight = four[..., 4:] + four[..., :-4]
    sixteen = eight[..., 8:] + eight[..., :-8]
    runs = values.shape[-1] - RUN + 1
    return sixteen[..., :runs] + eight[..., 16 : 16 + runs] + four[..., 24 : 24 + runs] + two[..., 28 : 28 + runs]


def _normalised_rows(bands: Tensor) -> Tensor:
    """[R, BANDS, J, RUN]: each run with zero mean and unit norm; zero where all that varies is rounding."""
    total, power = _run_sums(bands)
    left = power - total.square() / RUN
    rounding = (64 * torch.finfo(bands.dtype).eps) ** 2 + 64 * torch.finfo(torch.float64).eps
    scale = torch.where(left > rounding * power, left.rsqrt(), 0.0)
    shift = total / -RUN * scale
    scale, shift = scale.to(bands.dtype)[..., None], shift.to(bands.dtype)[..., None]
    return torch.addcmul(shift, bands.unfold(-1, RUN, 1), scale)


def _column_power(run: Tensor, mean: Tensor) -> Tensor:
    """Σ (run - mean)² over the bands; zero where all that varies is rounding."""
    total = run.square().sum(1)
    left = total - BANDS * mean.square()
    return torch.where(left > 16 * torch.finfo(run.dtype).eps * total, left, 0.0)


@lru_cache(maxsize=16)
def _window(dtype: torch.dtype, device: torch.device) -> Tensor:
    """A symmetric Hann window of FRAME + 2 samples without its two zeros."""
    return torch.hann_window(FRAME + 2, periodic=False, dtype=torch.float64)[1:-1].to(device, dtype)


@lru_cache(maxsize=16)
def _third_octaves(dtype: torch.dtype, device: torch.device) -> Tensor:
    """[FFT / 2 + 1, BANDS] of zeros and ones: each band's edges moved to the nearest bins, the upper one left out."""
    bins = np.linspace(0, RATE / 2, FFT // 2 + 1)
    band = np.arange(BANDS)
    matrix = np.zeros((len(bins), BANDS))
    for k, (low, high) in enumerate(zip(2 * band - 1, 2 * band + 1, strict=True)):
        first, last = (np.abs(bins - LOWEST_BAND * 2 ** (edge / 6)).argmin() for edge in (low, high))
        matrix[first:last, k] = 1
    return torch.from_numpy(matrix).to(device, dtype)
