"""Spectrograms to look at while listening: no axes, so that a playhead can run over them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

MAX_COLUMNS, MAX_ROWS = 640, 112  # of a picture, at most
WINDOW_SECONDS = 0.04
FRAMES_PER_COLUMN = 8  # at most: bounds the cost of long clips
RANGE_DB, FLOOR_DB = 80.0, -120.0  # the range below a picture's loudest value; values below the floor are cut
LEVELS = 64  # colours; 256 would double the file
TICKS_HZ = (500, 1000, 2000, 4000, 8000, 16000)


@dataclass(frozen=True)
class Spectrogram:
    """`decibels` [MAX_ROWS, up to MAX_COLUMNS], lowest frequency first, of full scale."""

    decibels: np.ndarray
    sample_rate: int


def spectrogram(waveform: Tensor, sample_rate: int) -> Spectrogram:
    """Power over time and mel-spaced frequency of a waveform [C, T], channels averaged in power."""
    size = 2 ** max(round(math.log2(WINDOW_SECONDS * sample_rate)), 5)
    samples = waveform.shape[-1]
    hop = max(size // 4, math.ceil(samples / (MAX_COLUMNS * FRAMES_PER_COLUMN)))
    window = torch.hann_window(size)
    spectrum = torch.stft(
        waveform.float(), size, hop, window=window, center=True, pad_mode="constant", return_complex=True
    )
    power = (spectrum.abs() / window.sum()).square().mean(0)  # [F, N]
    if power.shape[1] > MAX_COLUMNS:
        power = torch.nn.functional.adaptive_avg_pool1d(power[None], MAX_COLUMNS)[0]
    return Spectrogram(
        10 * np.log10(np.maximum(_by_mel(power.double().numpy(), sample_rate), 10 ** (FLOOR_DB / 10))), sample_rate
    )


def _by_mel(power: np.ndarray, sample_rate: int) -> np.ndarray:
    """The mean of `power` [F, N] between neighbouring edges of a mel scale, narrower than a bin where need be."""
    bins = (len(power) - 1) * height_to_hz(np.linspace(0, 1, MAX_ROWS + 1), sample_rate) / (sample_rate / 2)
    sums = np.concatenate([np.zeros((1, power.shape[1])), np.cumsum(power, 0)])
    whole = np.minimum(bins.astype(int), len(power) - 1)
    at_edges = sums[whole] + (bins - whole)[:, None] * power[whole]
    return np.diff(at_edges, axis=0) / np.diff(bins)[:, None]


def height_to_hz(height: np.ndarray, sample_rate: int) -> np.ndarray:
    """The frequency at a share of the picture's height: the mel scale of O'Shaughnessy, 0 Hz to half the rate."""
    return 700 * np.expm1(height * np.log1p(sample_rate / 2 / 700))


def ticks(sample_rate: int) -> list[tuple[str, float]]:
    """Labels of the frequency axis with their height in percent, as many as can be told apart."""
    out: list[tuple[str, float]] = []
    for hz in TICKS_HZ:
        height = round(100 * math.log1p(hz / 700) / math.log1p(sample_rate / 2 / 700), 2)
        if height < 92 and (not out or height - out[-1][1] > 11):
            out.append((f"{hz / 1000:g}k" if hz >= 1000 else str(hz), height))
    return out


def write_pictures(pictures: Mapping[Path, Spectrogram]) -> None:
    """PNG files in one colour scale, from the loudest point of all of them down."""
    from matplotlib import colormaps
    from PIL import Image

    loudest = max(float(picture.decibels.max()) for picture in pictures.values())
    bottom = max(loudest - RANGE_DB, FLOOR_DB)
    span = max(loudest - bottom, 1.0)  # of silence there is nothing to span
    # As indices into a palette: a quarter of the size of full colour.
    palette = colormaps["magma"].resampled(LEVELS)(range(LEVELS), bytes=True)[:, :3]
    for path, picture in pictures.items():
        share = np.clip((picture.decibels - bottom) / span, 0, 1)
        image = Image.fromarray(np.round(share[::-1] * (LEVELS - 1)).astype(np.uint8), mode="P")
        image.putpalette(palette.tobytes())
        image.save(path, format="PNG", bits=LEVELS.bit_length() - 1)
