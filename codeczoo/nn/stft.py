"""Short-time Fourier transform with centred frames and a periodic Hann window, and its inverse, for ragged batches.

As `torch.stft(center=True)` and `torch.istft`, except that each item is mirrored about its own ends and normalised by
the windows of its own frames. Frame n is centred on sample n * hop_length.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from codeczoo.base.ragged import valid_mask
from codeczoo.nn.padding import pad, zero_tail_


def stft(x: Tensor, n_fft: int, hop_length: int, lengths: Tensor | None = None) -> Tensor:
    """Waveform [B, T] → spectra [B, n_fft / 2 + 1, T // hop_length + 1]; `lengths` [B] in samples.

    A clip no longer than half a window cannot be mirrored: see `padding.pad`.
    """
    x = pad(x[:, None], lengths, n_fft // 2, n_fft // 2, "reflect")[:, 0]
    return torch.fft.rfft(x.unfold(-1, n_fft, hop_length) * _window(n_fft, x)).mT


def istft(spectrum: Tensor, n_fft: int, hop_length: int, lengths: Tensor | None = None) -> Tensor:
    """Spectra [B, n_fft / 2 + 1, N] → waveform [B, (N - 1) * hop_length]; `lengths` [B] in frames.

    `spectrum` is changed.
    """
    spectrum.imag[:, 0] = spectrum.imag[:, -1] = 0  # zero for a real signal; some FFTs do not ignore these values
    window = _window(n_fft, spectrum.real)
    frames = torch.fft.irfft(spectrum, n_fft, dim=1).mul_(window[:, None])  # [B, n_fft, N]
    frames = zero_tail_(
        frames, lengths, -(-n_fft // (2 * hop_length))
    )  # zero the frames behind an item that reach into it
    steps = frames.shape[-1]
    own = frames.new_ones(1, steps) if lengths is None else valid_mask(lengths, steps).to(frames.dtype)
    envelope = own[:, None] * window.square()[:, None]
    kept = slice(n_fft // 2, n_fft // 2 + (steps - 1) * hop_length)
    waveform, total = (_overlap_add(part, hop_length)[:, kept] for part in (frames, envelope))
    return waveform / total.clamp(min=1e-11)  # zero only behind an item


def _window(n_fft: int, like: Tensor) -> Tensor:
    """The Hann window, rounded to float32 even where the arithmetic is float64, as published networks use it."""
    return torch.hann_window(n_fft, dtype=torch.float32, device=like.device).to(like.dtype)


def _overlap_add(frames: Tensor, hop_length: int) -> Tensor:
    """[B, n_fft, N] → [B, (N - 1) * hop_length + n_fft]."""
    _, n_fft, steps = frames.shape
    size = (1, (steps - 1) * hop_length + n_fft)
    return F.fold(frames, size, kernel_size=(1, n_fft), stride=(1, hop_length))[:, 0, 0]
