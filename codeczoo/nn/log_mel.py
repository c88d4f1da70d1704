"""The log-mel spectrogram of Whisper (arXiv 2212.04356), for clips of different lengths."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from codeczoo.nn.mel import mel_filters
from codeczoo.nn.padding import pad

SAMPLE_RATE, N_FFT, HOP = 16000, 400, 160
FRAMES_AT_ONCE = 6000  # bounds the memory of a long clip's spectra


def whisper_log_mel(waveform: Tensor, lengths: Tensor | None = None, mels: int = 128) -> Tensor:
    """[B, T] at 16 kHz → [B, mels, F], F = T // 160, at least 1. Each item is scaled by its own maximum.

    Items of less than 160 samples must be followed by zeros up to there. Values behind an item are unspecified.
    """
    if waveform.shape[-1] < HOP:
        waveform = F.pad(waveform, (0, HOP - waveform.shape[-1]))
    if lengths is not None:
        lengths = lengths.clamp(min=HOP)
    padded = pad(waveform[:, None], lengths, N_FFT // 2, N_FFT // 2, "reflect")[:, 0]
    window = torch.hann_window(N_FFT, dtype=padded.dtype, device=padded.device)
    filters = mel_filters(SAMPLE_RATE, N_FFT, mels).to(padded)  # [bins, mels]
    frames = waveform.shape[-1] // HOP
    parts = []
    for first in range(0, frames, FRAMES_AT_ONCE):
        last = min(first + FRAMES_AT_ONCE, frames)
        piece = padded[:, first * HOP : (last - 1) * HOP + N_FFT]
        spectrum = torch.stft(piece, N_FFT, HOP, window=window, center=False, return_complex=True)
        power = spectrum.real.square() + spectrum.imag.square()
        parts.append((power.mT @ filters).mT)
    log_mel = torch.cat(parts, dim=-1).clamp_(min=1e-10).log10_()
    own = log_mel
    if lengths is not None:
        behind = torch.arange(frames, device=log_mel.device) >= (lengths // HOP)[:, None]
        own = log_mel.masked_fill(behind[:, None], -torch.inf)
    loudest = own.amax(dim=(1, 2), keepdim=True)
    return (torch.maximum(log_mel, loudest - 8) + 4) / 4
