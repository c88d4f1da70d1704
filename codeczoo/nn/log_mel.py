"""The log-mel spectrogram of Whisper (arXiv 2212.04356), for clips of different lengths."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from codeczoo.base.exporting import exporting
from codeczoo.base.ragged import join_chunks
from codeczoo.nn import dft
from codeczoo.nn.inplace import overwritable
from codeczoo.nn.mel import mel_filters
from codeczoo.nn.padding import pad

SAMPLE_RATE, N_FFT, HOP = 16000, 400, 160
CHUNK_FRAMES = 6000  # bounds the memory of a long clip's spectra


def whisper_log_mel(waveform: Tensor, lengths: Tensor | None = None, mels: int = 128) -> Tensor:
    """[B, T] at 16 kHz → [B, mels, F], F = T // 160, at least 1. Each item is scaled by its own maximum.

    Items of less than 160 samples must be followed by zeros up to there. Values behind an item are unspecified.
    """
    if waveform.shape[-1] < HOP:
        waveform = F.pad(waveform, (0, HOP - waveform.shape[-1]))
    if lengths is not None:
        lengths = lengths.clamp(min=HOP)
    frames = waveform.shape[-1] // HOP
    if exporting():
        return _scaled(_recorded_mel(waveform, frames, mels))
    if lengths is None:
        chunks = (_chunk(waveform, *ends) for ends in _chunk_ends(frames))
    else:
        padded = pad(waveform[:, None], lengths, N_FFT // 2, N_FFT // 2, "reflect")[:, 0]
        chunks = (padded[:, first * HOP : (last - 1) * HOP + N_FFT] for first, last in _chunk_ends(frames))
    window = torch.hann_window(N_FFT, dtype=waveform.dtype, device=waveform.device)
    filters = mel_filters(SAMPLE_RATE, N_FFT, mels).to(waveform)  # [bins, mels]
    log_mel = join_chunks((_mel(chunk, window, filters) for chunk in chunks), frames).clamp_(min=1e-10).log10_()
    own = log_mel
    if lengths is not None:
        behind = torch.arange(frames, device=log_mel.device) >= (lengths // HOP)[:, None]
        own = log_mel.masked_fill(behind[:, None], -torch.inf)
    loudest = own.amax(dim=(1, 2), keepdim=True)
    floored = torch.maximum(log_mel, loudest - 8, out=log_mel if overwritable(log_mel) else None)
    return floored.add_(4).div_(4)


def _recorded_mel(waveform: Tensor, frames: int, mels: int) -> Tensor:
    """[B, T] → power in mel bands [B, mels, frames], in one piece."""
    padded = pad(waveform[:, None], None, N_FFT // 2, N_FFT // 2, "reflect")[:, 0]
    window = torch.hann_window(N_FFT, dtype=waveform.dtype)
    real, imag = dft.spectra(dft.framed(padded, N_FFT, HOP)[:, :frames] * window, N_FFT)
    return ((real.square() + imag.square()) @ mel_filters(SAMPLE_RATE, N_FFT, mels).to(waveform)).mT


def _scaled(power: Tensor) -> Tensor:
    log_mel = power.clamp(min=1e-10).log10()
    return (torch.maximum(log_mel, log_mel.amax(dim=(1, 2), keepdim=True) - 8) + 4) / 4


def _chunk_ends(frames: int) -> Iterator[tuple[int, int]]:
    for first in range(0, frames, CHUNK_FRAMES):
        yield first, min(first + CHUNK_FRAMES, frames)


def _chunk(waveform: Tensor, first: int, last: int) -> Tensor:
    """The samples that frames `first` to `last` of whole clips [B, T] see, mirrored at the clips' ends."""
    side = N_FFT // 2
    start, stop = first * HOP - side, (last - 1) * HOP + side
    known = waveform[:, None, max(start, 0) : max(stop, side + 1)]  # reflection reads this far
    return pad(known, None, max(-start, 0), max(stop - waveform.shape[-1], 0), "reflect")[:, 0]


def _mel(chunk: Tensor, window: Tensor, filters: Tensor) -> Tensor:
    """[B, T] → power in mel bands [B, mels, F]."""
    spectrum = torch.stft(chunk, N_FFT, HOP, window=window, center=False, return_complex=True)
    power = spectrum.real.square() + spectrum.imag.square()
    return (power.mT @ filters).mT
