"""Fourier transforms as products with their bases, for graphs that are recorded (`base.exporting`).

ONNX has no complex numbers, and a decoder with onnxruntime's own inverse transform (1.32) was off by 8e-5 of the peak.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


def framed(x: Tensor, size: int, hop: int) -> Tensor:
    """[B, T] → [B, N, size], a frame each `hop` samples."""
    count = (x.shape[-1] - size) // hop + 1
    return x[:, torch.arange(count)[:, None] * hop + torch.arange(size)]


def spectra(frames: Tensor, n_fft: int) -> tuple[Tensor, Tensor]:
    """Frames [..., size], as if zeros followed up to `n_fft` → real and imaginary parts [..., n_fft / 2 + 1]."""
    cos, sin = (torch.from_numpy(part[: frames.shape[-1]]).to(frames.dtype) for part in _basis(n_fft))
    inner = frames @ -sin[:, 1:-1]
    zero = torch.zeros_like(inner[..., :1])  # of a real signal, and not -0, whose phase is another
    return frames @ cos, torch.cat([zero, inner, zero], dim=-1)


def phase(real: Tensor, imag: Tensor) -> Tensor:
    """The angle, π where a number is negative and real: torch's translation of atan2 gives another one there (2.13)."""
    turn = torch.where(real < 0, torch.where(imag < 0, -torch.pi, torch.pi), 0.0)
    return torch.where((real == 0) & (imag == 0), 0.0, (imag / real).atan() + turn)


def overlapped(real: Tensor, imag: Tensor, n_fft: int, hop: int) -> tuple[Tensor, Tensor]:
    """Spectra [B, n_fft / 2 + 1, N] → the sum of their windowed frames [B, (N - 1) * hop + n_fft], and that of the
    squared windows [1, ...]; the window is a periodic Hann window."""
    cos, sin = _basis(n_fft)
    weight = np.full(n_fft // 2 + 1, 2 / n_fft)
    weight[0] = weight[-1] = 1 / n_fft
    window = np.hanning(n_fft + 1)[:-1]
    kernel = np.concatenate([cos, -sin], axis=1).T * np.tile(weight, 2)[:, None] * window  # [2 * bins, n_fft]
    kernel, squares = torch.from_numpy(kernel).to(real.dtype), torch.from_numpy(window**2).to(real.dtype)
    waveform = F.conv_transpose1d(torch.cat([real, imag], dim=1), kernel[:, None], stride=hop)[:, 0]
    ones = torch.ones_like(real[:1, :1])
    return waveform, F.conv_transpose1d(ones, squares[None, None], stride=hop)[:, 0]


def _basis(n_fft: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines [n_fft, n_fft / 2 + 1] float64."""
    # Whole turns are taken off first: angles stay small and exact.
    angles = 2 * np.pi * (np.outer(np.arange(n_fft), np.arange(n_fft // 2 + 1)) % n_fft) / n_fft
    return np.cos(angles), np.sin(angles)
