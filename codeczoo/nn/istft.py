"""The head of Vocos (arXiv 2306.00814): spectra from a linear layer, and the waveform from their inverse STFT.

The inverse STFT has "same" padding, which `torch.istft` does not know: N frames give N * hop_length samples, so the
overlap-added frames lose (n_fft - hop_length) / 2 samples at each end instead of n_fft / 2.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from codeczoo.base.exporting import exporting
from codeczoo.base.ragged import valid_mask
from codeczoo.nn import dft
from codeczoo.nn.inplace import overwritable
from codeczoo.nn.padding import zero_tail_
from codeczoo.nn.rvq import at_least_float32
from codeczoo.nn.sequential import Linear

MAX_MAGNITUDE = 100.0  # upper limit of magnitudes, as Vocos has it: their logarithms are unbounded


class ISTFTHead(nn.Module):
    """[B, N, dim] → [B, N * hop_length]: log magnitudes and phases of N frames, then the inverse STFT.

    Args:
        n_fft: points of the transform and of its periodic Hann window.
    """

    def __init__(self, dim: int, n_fft: int, hop_length: int) -> None:
        super().__init__()
        self.n_fft, self.hop_length = n_fft, hop_length
        self.out = Linear(dim, n_fft + 2)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        magnitude, phase = at_least_float32(self.out(x)).chunk(2, dim=-1)  # [B, N, n_fft / 2 + 1] each
        if exporting():
            magnitude = magnitude.exp().clamp(max=MAX_MAGNITUDE).mT
            real, imag = magnitude * phase.cos().mT, magnitude * phase.sin().mT
            waveform, envelope = dft.overlapped(real, imag, self.n_fft, self.hop_length)
            extra = (self.n_fft - self.hop_length) // 2
            return (waveform / envelope.clamp(min=1e-11))[:, extra : extra + x.shape[1] * self.hop_length]
        if overwritable(magnitude):
            magnitude = magnitude.exp_().clamp_(max=MAX_MAGNITUDE)
            spectrum = torch.complex(phase.cos().mul_(magnitude), phase.sin_().mul_(magnitude))
        else:
            magnitude = magnitude.exp().clamp(max=MAX_MAGNITUDE)
            spectrum = torch.complex(phase.cos() * magnitude, phase.sin() * magnitude)
        return istft_same(spectrum, self.n_fft, self.hop_length, lengths).to(x.dtype)


def istft_same(spectrum: Tensor, n_fft: int, hop_length: int, lengths: Tensor | None = None) -> Tensor:
    """Spectra [B, N, n_fft / 2 + 1] → waveform [B, N * hop_length], with a periodic Hann window.

    Each item is normalised by the squared windows of its own frames, `lengths` [B] of them. `spectrum` is changed.

    Raises:
        ValueError: windows that do not overlap by the same whole number of samples on both sides.
    """
    extra = n_fft - hop_length
    if extra < 0 or extra % 2:
        raise ValueError(f"n_fft must be hop_length and an even number more; they are {n_fft} and {hop_length}")
    spectrum.imag[..., 0] = spectrum.imag[..., -1] = 0  # zero for a real signal; some FFTs do not ignore these values
    frames = torch.fft.irfft(spectrum, n_fft)
    # Zero the frames behind an item that reach into it.
    frames = zero_tail_(frames.mT, lengths, -(-n_fft // hop_length) - 1).mT
    batch, steps, _ = frames.shape
    own = frames.new_ones(1, steps) if lengths is None else valid_mask(lengths, steps).to(frames.dtype)

    # In pieces that divide both frame and hop (whole hops where the hop divides the frame): piece i of frame n lies on
    # piece n * each + i of the waveform.
    piece = math.gcd(n_fft, hop_length)
    count, each = n_fft // piece, hop_length // piece
    pieces = frames.view(batch, steps, count, piece)
    windows = torch.hann_window(n_fft, dtype=frames.dtype, device=frames.device).view(count, piece)
    total = (steps - 1) * each + count
    waveform = frames.new_zeros(batch, total, piece)
    envelope = frames.new_zeros(own.shape[0], total, piece)
    for i, window in enumerate(windows):
        places = slice(i, i + (steps - 1) * each + 1, each)
        waveform[:, places].addcmul_(pieces[:, :, i], window)
        envelope[:, places].addcmul_(own[:, :, None], window.square())
    kept = slice(extra // 2, extra // 2 + steps * hop_length)
    # The envelope is zero only behind an item.
    return waveform.flatten(1)[:, kept].div_(envelope.flatten(1)[:, kept].clamp_(min=1e-11))
