"""Resemblyzer's speaker embedding: a GE2E network (arXiv 1710.10467) over mel spectra of 1.6 s.

Upstream: the package Resemblyzer, in which the trained weights lie.

    quiet clips are raised to -30 dB of full scale; pauses are cut out, as WebRTC's voice detector hears them
    40 mels every 10 ms → three LSTM layers of width 256 over 1.6 s → 256, at least 0, length 1
    the mean over the stretches of a clip, length 1 again

The embedding is never negative, so a cosine is neither: 0.35 even against silence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from codeczoo.base.key_map import KeyMap
from codeczoo.base.model import Model
from codeczoo.base.variant import Variant
from codeczoo.nn.mel import mel_filters

LOUDNESS = -30.0  # dB of full scale, root mean square
FULL_SCALE = 2**15 - 1
DETECTOR_WINDOW = 480  # samples, 30 ms
SMOOTH, LONGEST_PAUSE = 8, 6  # windows
N_FFT, HOP, MELS = 400, 160, 40
FRAMES = 160  # of a stretch, 1.6 s
STEP = round(16000 / 1.3 / HOP)  # frames between two stretches
COVERAGE = 0.75  # of the last stretch, or it is left out


@dataclass(frozen=True)
class ResemblyzerConfig:
    """The network's numbers."""

    sample_rate: int = 16000  # Hz
    dim: int = 256
    num_layers: int = 3


class Resemblyzer(Model):
    """Speech [T] at 16 kHz → speaker embedding [256]."""

    Config = ResemblyzerConfig
    config: ResemblyzerConfig
    key_maps = (KeyMap("Resemblyzer", unused=(r"similarity_\w+",)),)

    def __init__(self, config: ResemblyzerConfig, variant: Variant) -> None:
        super().__init__(config, variant)
        self.sample_rate = config.sample_rate
        self.lstm = nn.LSTM(MELS, config.dim, config.num_layers, batch_first=True)
        self.linear = nn.Linear(config.dim, config.dim)

    @torch.no_grad()
    def forward(self, clips: list[np.ndarray]) -> list[Tensor | None]:
        """An embedding [256] for each clip [T] of float32 samples; None where no voice is heard in it."""
        stretches = [stretches_of(voiced) if len(voiced := without_pauses(raised(clip))) else None for clip in clips]
        heard = [part for part in stretches if part is not None]
        if not heard:
            return [None] * len(clips)
        _, (hidden, _) = self.lstm(torch.cat(heard).to(self.device, self.dtype))
        raw = self.linear(hidden[-1]).relu()
        found = iter((raw / raw.norm(dim=1, keepdim=True)).split([len(part) for part in heard]))
        means = [None if part is None else next(found).mean(0) for part in stretches]
        return [None if mean is None else mean / mean.norm() for mean in means]


def raised(clip: np.ndarray) -> np.ndarray:
    """A clip of less than -30 dB brought to it."""
    level = np.sqrt(np.mean((clip * FULL_SCALE) ** 2)) / FULL_SCALE
    gain = 10 ** ((LOUDNESS - 20 * math.log10(level)) / 20) if level > 0 else 1.0
    return clip * np.float32(gain) if gain > 1 else clip


def without_pauses(clip: np.ndarray) -> np.ndarray:
    """The stretches of a clip [T] that hold voice, and the pauses of up to 6 windows between them, end to end."""
    import webrtcvad

    clip = clip[: len(clip) - len(clip) % DETECTOR_WINDOW]
    windows = np.round(clip * FULL_SCALE).astype(np.int16).reshape(-1, DETECTOR_WINDOW)
    if not len(windows):
        return clip[:0]
    detector = webrtcvad.Vad(mode=3)
    flags = np.array([detector.is_speech(window.astype("<i2").tobytes(), 16000) for window in windows], float)
    padded = np.pad(flags, ((SMOOTH - 1) // 2, SMOOTH // 2))
    sums = np.cumsum(np.pad(padded, (1, 0)))
    smooth = (sums[SMOOTH:] - sums[:-SMOOTH]) / SMOOTH
    around = np.convolve(np.round(smooth), np.ones(LONGEST_PAUSE + 1))  # LONGEST_PAUSE longer, half at each end
    kept = around[LONGEST_PAUSE // 2 :][: len(smooth)] > 0
    return clip[np.repeat(kept, DETECTOR_WINDOW)]


def stretches_of(clip: np.ndarray) -> Tensor:
    """[T] → mel power [S, 160, 40] of its stretches; the last is filled with zeros, or left out if it is short."""
    frames = -(-(len(clip) + 1) // HOP)
    starts = list(range(0, max(1, frames - FRAMES + STEP + 1), STEP))
    if len(starts) > 1 and (len(clip) - starts[-1] * HOP) / (FRAMES * HOP) < COVERAGE:
        starts.pop()
    clip = np.pad(clip, (0, max((starts[-1] + FRAMES) * HOP - len(clip), 0)))
    window = torch.hann_window(N_FFT, dtype=torch.float32)
    x = torch.from_numpy(np.ascontiguousarray(clip, np.float32))
    spectrum = torch.stft(x, N_FFT, HOP, window=window, pad_mode="constant", return_complex=True)
    mel = spectrum.abs().square().T @ mel_filters(16000, N_FFT, MELS).float()
    return torch.stack([mel[start : start + FRAMES] for start in starts])
