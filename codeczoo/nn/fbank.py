"""The filter bank features of w2v-BERT 2.0 (SeamlessM4T, arXiv 2312.05187), after Kaldi's."""

from __future__ import annotations

import functools

import torch
from torch import Tensor
from torch.nn import functional as F

from codeczoo.base.exporting import exporting
from codeczoo.nn import dft
from codeczoo.nn.conv import Length
from codeczoo.nn.rvq import at_least_float32

FRAME, HOP, N_FFT, BANDS = 400, 160, 512, 80
PREEMPHASIS = 0.97
FLOOR = 1.192092955078125e-07


def frame_count(samples: Length) -> Length:
    """Frames of that many samples at 16 kHz: int or tensor."""
    return (samples - FRAME) // HOP + 1


def w2v_bert_features(waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
    """[B, T] at 16 kHz → [B, ceil(F / 2), 160] in float32 or better: F = frame_count(T) frames, two side by side.

    Each band is brought to mean 0 and variance 1 over the item's own frames. Values behind an item's frames are
    unspecified but finite, among them the second half of its last vector where F is odd.
    """
    waveform = at_least_float32(waveform)
    scaled = waveform * 32768
    frames = dft.framed(scaled, FRAME, HOP) if exporting() else scaled.unfold(-1, FRAME, HOP)  # [B, F, 400]
    frames = frames - frames.mean(-1, keepdim=True)
    frames = torch.cat([frames[..., :1] * (1 - PREEMPHASIS), frames[..., 1:] - PREEMPHASIS * frames[..., :-1]], dim=-1)
    window, filters = w2v_bert_filters(frames.dtype, frames.device)
    if exporting():
        real, imag = dft.spectra(frames * window, N_FFT)
    else:
        spectrum = torch.fft.rfft(frames * window, N_FFT)
        real, imag = spectrum.real, spectrum.imag
    power = real.square() + imag.square()
    bands = (power @ filters).clamp_(min=FLOOR).log_()  # [B, F, 80]
    count = bands.shape[1] if exporting() else torch.tensor(bands.shape[1], device=bands.device)
    own = bands
    if lengths is not None:
        count = frame_count(lengths).view(-1, 1, 1)
        behind = torch.arange(bands.shape[1], device=bands.device)[:, None] >= count
        own = bands.masked_fill(behind, 0)
    mean = own.sum(1, keepdim=True) / count
    centred = bands - mean
    squares = centred if lengths is None else centred.masked_fill(behind, 0)
    variance = squares.square().sum(1, keepdim=True) / (count - 1)
    bands = centred / (variance + 1e-7).sqrt()
    return F.pad(bands, (0, 0, 0, bands.shape[1] % 2)).view(bands.shape[0], -1, 2 * BANDS)


@functools.lru_cache(maxsize=8)
@torch.inference_mode(False)  # kept for callers who record gradients
def w2v_bert_filters(dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Povey's window [400], and [257, 80] triangles between 20 and 8000 Hz, straight on Kaldi's mel scale."""
    window = torch.hann_window(FRAME, periodic=False, dtype=torch.float64) ** 0.85
    mel = lambda f: 1127 * (1 + f / 700).log()  # noqa: E731
    low, high = mel(torch.tensor([20.0, 8000.0], dtype=torch.float64)).tolist()
    edges = torch.linspace(low, high, BANDS + 2, dtype=torch.float64)
    bins = mel(torch.arange(N_FFT // 2 + 1, dtype=torch.float64) * 16000 / N_FFT)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return window.to(device, dtype), torch.minimum(rising, falling).clamp(min=0).to(device, dtype)
