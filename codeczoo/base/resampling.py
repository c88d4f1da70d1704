"""Sample-rate conversion: windowed-sinc interpolation on the device, a whole ragged batch at once.

Between two rates whose ratio is p/q in lowest terms, output sample n sits at input position n·q/p, so the filter's
taps repeat every p outputs. One strided convolution with an output channel for each of those phases therefore
computes everything. Several filters are offered, because a metric or a token depends on which one it was:

========== ============================================ ====================================================
filter     the same as                                  definition
========== ============================================ ====================================================
`hann`     torchaudio.functional.resample, defaults     6 zero crossings, roll-off 0.99, Hann; zeros outside
`julius`   julius.resample_frac, defaults; audiotools   24 zero crossings, roll-off 0.945, Hann, each phase
                                                        normalised; the first and last sample go on outside
`kaiser`   pystoi, Octave's `resample`                  Kaiser, 60 dB rejection, transition a tenth of the
                                                        cut-off; zeros outside
`scipy`    scipy.signal.resample_poly, defaults         Kaiser with beta 5 over 20 zero crossings; zeros outside
`sharp`    soxr's HQ, nearly (its own is not published) Kaiser, 140 dB rejection from the lower rate's half on,
                                                        flat up to 0.913 of it; zeros outside
========== ============================================ ====================================================

Source: J. O. Smith, "Digital Audio Resampling", https://ccrma.stanford.edu/~jos/resample/
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal, NamedTuple, overload

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from codeczoo.base.device import matmul_precision
from codeczoo.base.exporting import exporting
from codeczoo.base.ragged import check_lengths
from codeczoo.base.sample_rate import check_rate

Filter = Literal["hann", "julius", "kaiser", "scipy", "sharp"]
FILTERS: tuple[Filter, ...] = ("hann", "julius", "kaiser", "scipy", "sharp")

MIN_PHASES = 16  # output channels; a convolution with fewer leaves most of the hardware idle
MAX_PHASES = 128  # output channels of one convolution; odd ratios (44056 → 16000 has 2000 phases) take several
MAX_TILE_SAMPLES = 1 << 22  # output samples computed at once, so that temporaries do not grow with the clip
# With fewer input samples PyTorch's CPU convolution is another one, which rounds differently. Short clips are padded to
# this length, so that a clip alone equals itself in a batch.
MIN_CONV_SAMPLES = 20_481


@overload
def resampled_length(length: int, orig_rate: int, new_rate: int) -> int: ...
@overload
def resampled_length(length: Tensor, orig_rate: int, new_rate: int) -> Tensor: ...
def resampled_length(length: int | Tensor, orig_rate: int, new_rate: int) -> int | Tensor:
    """ceil(length · new_rate / orig_rate), in integers: the samples that `resample` returns for that many."""
    return -(-length * new_rate // orig_rate)


def resample(
    waveform: Tensor,
    orig_rate: int,
    new_rate: int,
    *,
    filter: Filter = "hann",
    lengths: Tensor | None = None,
) -> Tensor:
    """`waveform` at another sample rate, computed on its device and in its floating point type.

    Args:
        waveform: [..., T], floating point.
        orig_rate: its rate in Hz.
        new_rate: the rate wanted in Hz.
        filter: one of `FILTERS`; see the module's table.
        lengths: [B], each item's own number of samples, where waveform is [B, ..., T]. Each item then equals that item
            resampled alone: values behind its end are not read, and zeros stand behind its new end.

    Returns:
        [..., ceil(T · new_rate / orig_rate)]. (julius and audiotools round down: drop the last sample to match them.)

    Raises:
        ValueError: a rate that is not a positive whole number, an unknown filter, lengths that do not fit.
        TypeError: a rate that is not a number, a waveform that is not floating point.
    """
    orig_rate, new_rate = check_rate(orig_rate, "orig_rate"), check_rate(new_rate, "new_rate")
    if filter not in FILTERS:
        raise ValueError(f"there is no filter {filter!r}; choose of: {', '.join(FILTERS)}")
    if not waveform.is_floating_point():
        raise TypeError(f"resample takes floating point samples; these are {waveform.dtype}")
    shape = waveform.shape
    rows = waveform.reshape(math.prod(shape[:-1]), shape[-1])
    ends = None
    if lengths is not None:
        lengths = check_lengths(lengths, shape[0], shape[-1], "samples").to(waveform.device)
    if lengths is not None and bool((lengths < shape[-1]).any()):
        ends = lengths.repeat_interleave(len(rows) // max(shape[0], 1))[:, None]
    out = rows if orig_rate == new_rate else _convert(rows, ends, orig_rate, new_rate, filter)
    if ends is not None:
        new_ends = resampled_length(ends, orig_rate, new_rate)
        out = out.masked_fill(torch.arange(out.shape[-1], device=out.device) >= new_ends, 0)
    return out.reshape(*shape[:-1], out.shape[-1])


def _convert(rows: Tensor, ends: Tensor | None, orig_rate: int, new_rate: int, name: Filter) -> Tensor:
    """[R, T] → [R, T'], tile by tile. `ends` [R, 1]: where each row ends; None = at T."""
    total = resampled_length(rows.shape[-1], orig_rate, new_rate)
    if not rows.numel():
        return rows.new_zeros(len(rows), total)
    dtype = rows.dtype if rows.dtype in (torch.float32, torch.float64) else torch.float32
    bank = _bank(orig_rate, new_rate, name, dtype, rows.device)
    frames = -(-total // bank.phases)
    least = min(
        -(-MIN_CONV_SAMPLES // bank.stride), -(-MAX_TILE_SAMPLES // bank.phases)
    )  # the latter only below about 100 Hz
    step = frames if exporting() else max(MAX_TILE_SAMPLES // (bank.phases * len(rows)), least)
    tiles = []
    with matmul_precision("exact"):
        for first in (0,) if exporting() else range(0, frames, step):
            count = frames if exporting() else max(min(step, frames - first), least)
            taken = _take(
                rows, ends, first * bank.stride - bank.reach, (count - 1) * bank.stride + bank.span, bank.hold
            )
            taken = taken.to(dtype)[:, None]
            phases = [
                F.conv1d(taken[..., block.start :], block.taps, stride=bank.stride)[..., :count]
                for block in bank.blocks
            ]
            made = phases[0] if len(phases) == 1 else torch.cat(phases, 1)
            tiles.append(made.transpose(1, 2).reshape(rows.shape[0], -1).to(rows.dtype))
    return (tiles[0] if len(tiles) == 1 else torch.cat(tiles, -1))[:, :total]


def _take(rows: Tensor, ends: Tensor | None, first: int, count: int, hold: bool) -> Tensor:
    """`count` samples of each row from position `first` on, which may lie before 0 and end behind the row's end.

    Outside a row stand zeros or, with `hold`, its first and its last sample.
    """
    last = first + count
    low, high = max(first, 0), min(last, rows.shape[-1])  # never empty: each tile has output within the signal
    taken = F.pad(rows[:, None, low:high], (low - first, last - high), mode="replicate" if hold else "constant")[:, 0]
    if ends is None:
        return taken
    behind = torch.arange(first, last, device=rows.device) >= ends
    return torch.where(behind, rows.gather(-1, (ends - 1).clamp(min=0)) if hold else rows.new_zeros(()), taken)


class _Block(NamedTuple):
    """Taps [phases, 1, n] of neighbouring phases, which begin at sample `start` of a frame's window."""

    start: int
    taps: Tensor


class _Bank(NamedTuple):
    """A filter: taps that turn a frame of `stride` input samples into `phases` output samples."""

    blocks: tuple[_Block, ...]
    phases: int  # output samples a frame
    stride: int  # input samples from one frame to the next
    reach: int  # samples from the start of a frame's window to the frame
    span: int  # samples of a frame's window
    hold: bool  # outside the signal: its first and last sample, repeated; else zeros


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # kept for callers who record gradients
def _bank(orig_rate: int, new_rate: int, name: Filter, dtype: torch.dtype, device: torch.device) -> _Bank:
    divisor = math.gcd(orig_rate, new_rate)
    orig, new = orig_rate // divisor, new_rate // divisor
    # Fewer phases than MIN_PHASES are repeated: the same taps, one period of input later.
    repeats = -(-MIN_PHASES // new)
    phases, stride = new * repeats, orig * repeats
    reach = _reach(orig, new, name)
    blocks = []
    for first in range(0, phases, MAX_PHASES):
        last = min(first + MAX_PHASES, phases)
        start, stop = first * orig // new, (last - 1) * orig // new + 2 * reach + 1
        phase = torch.arange(first, last)[:, None]
        offset = torch.arange(start, stop) - reach - phase // new * orig
        taps = _taps(phase % new, offset, orig, new, name, dtype)
        blocks.append(_Block(start, taps[:, None].to(device)))
    span = blocks[-1].start + blocks[-1].taps.shape[-1]
    return _Bank(tuple(blocks), phases, stride, reach, span, hold=name == "julius")


def _reach(orig: int, new: int, name: Filter) -> int:
    """Input samples that a filter sees to each side."""
    if name in ("hann", "julius"):
        crossings, rolloff = (6, 0.99) if name == "hann" else (24, 0.945)
        return math.ceil(crossings * orig / (min(orig, new) * rolloff))
    return -(-(len(_prototype(max(orig, new), name)) // 2) // new)


def _taps(phase: Tensor, offset: Tensor, orig: int, new: int, name: Filter, dtype: torch.dtype) -> Tensor:
    """The weight of the input sample at `offset` [P, n] in the output sample at phase · orig / new, phase [P, 1]."""
    if name not in ("hann", "julius"):
        prototype = new * _prototype(max(orig, new), name)
        index = len(prototype) // 2 + phase * orig - offset * new
        inside = (index >= 0) & (index < len(prototype))
        return torch.where(inside, prototype[index.clamp(0, len(prototype) - 1)], 0.0).to(dtype)
    # torchaudio computes its taps in the signal's type, julius always in float32: so do we, to equal them bit for bit.
    crossings, rolloff, made_in = (6, 0.99, dtype) if name == "hann" else (24, 0.945, torch.float32)
    cutoff = min(orig, new) * rolloff

    def windowed_sinc(offset: Tensor) -> Tensor:
        time = (-phase.to(made_in) / new + offset.to(made_in) / orig) * cutoff  # in zero crossings
        time = time.clamp(-crossings, crossings)
        window = torch.cos(time * math.pi / crossings / 2).square()
        time = time * math.pi
        return torch.where(time == 0, 1.0, torch.sin(time) / time) * window

    taps = windowed_sinc(offset)
    if name == "hann":
        return taps * (cutoff / orig)
    reach = _reach(orig, new, name)
    return (taps / windowed_sinc(torch.arange(-reach, reach + orig)[None]).sum(-1, keepdim=True)).to(dtype)


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # kept for callers who record gradients
def _prototype(largest: int, name: Filter) -> Tensor:
    """The low-pass filter at the common multiple of both rates, float64 [2 · half + 1], of sum 1."""
    half, beta, cutoff = 10 * largest, 5.0, 1.0  # scipy; the cutoff is relative to half the lower rate
    if name == "kaiser":
        half, beta = math.ceil((60 - 8) * 20 * largest / 28.714), 0.1102 * (60 - 8.7)
    elif name == "sharp":
        flat, rejection = 0.913, 140.0
        half = math.ceil((rejection - 7.95) * largest / (4.57 * math.pi * (1 - flat)))
        beta, cutoff = 0.1102 * (rejection - 8.7), (1 + flat) / 2
    taps = np.sinc(cutoff * np.arange(-half, half + 1) / largest) * np.kaiser(2 * half + 1, beta)
    return torch.from_numpy(taps / taps.sum())
