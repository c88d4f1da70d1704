"""The head of Vocos (arXiv 2306.00814): spectra from a linear layer, and the waveform from their inverse STFT.

The inverse STFT has "same" padding, which `torch.istft` does not know: N frames give N * hop_length samples, so the
overlap-added frames lose (n_fft - hop_length) / 2 samples at each end instead of n_fft / 2.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from codeczoo.base.ragged import valid_mask
from codeczoo.nn.padding import zero_tail_
from codeczoo.nn.rvq import at_least_float32
from codeczoo.nn.sequential import Linear

MAX_MAGNITUDE = 100.0  # upper limit of magnitudes, as Vocos has it: their logarithms are unbounded


class ISTFTHead(nn.Module):
    """[B, N, dim] → [B, N * hop_length]: log magnitudes and phases of N frames, then the inverse STFT.

    Args:
        n_fft: points of the transform and of its periodic Hann window, a multiple of `hop_length`.
    """

    def __init__(self, dim: int, n_fft: int, hop_length: int) -> None:
        super().__init__()
        self.n_fft, self.hop_length = n_fft, hop_length
        self.out = Linear(dim, n_fft + 2)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        magnitude, phase = at_least_float32(self.out(x)).chunk(2, dim=-1)  # [B, N, n_fft / 2 + 1] each
        magnitude = magnitude.exp_().clamp_(max=MAX_MAGNITUDE)
        spectrum = torch.complex(phase.cos().mul_(magnitude), phase.sin_().mul_(magnitude))
        return istft_same(spectrum, self.n_fft, self.hop_length, lengths).to(x.dtype)


def istft_same(spectrum: Tensor, n_fft: int, hop_length: int, lengths: Tensor | None = None) -> Tensor:
    """Spectra [B, N, n_fft / 2 + 1] → waveform [B, N * hop_length], with a periodic Hann window.

    Each item is normalised by the squared windows of its own frames, `lengths` [B] of them. `spectrum` is changed.

    Raises:
        ValueError: windows that do not lie on whole hops.
    """
    overlap, extra = n_fft // hop_length, n_fft - hop_length
    if n_fft % hop_length or extra % 2:
        raise ValueError(
            f"n_fft must be a multiple of hop_length, and their difference even; they are {n_fft} and {hop_length}"
        )
    spectrum.imag[..., 0] = spectrum.imag[..., -1] = 0  # zero for a real signal; some FFTs do not ignore these values
    frames = torch.fft.irfft(spectrum, n_fft)
    frames = zero_tail_(frames.mT, lengths, overlap - 1).mT  # zero the frames behind an item that reach into it
    batch, steps, _ = frames.shape
    own = frames.new_ones(1, steps) if lengths is None else valid_mask(lengths, steps).to(frames.dtype)

    # Part i of frame n, one hop long, lies on hop n + i of the waveform.
    hops = frames.view(batch, steps, overlap, hop_length)
    windows = torch.hann_window(n_fft, dtype=frames.dtype, device=frames.device).view(overlap, hop_length)
    waveform = frames.new_zeros(batch, steps + overlap - 1, hop_length)
    envelope = frames.new_zeros(len(own), steps + overlap - 1, hop_length)
    for i, window in enumerate(windows):
        waveform[:, i : i + steps].addcmul_(hops[:, :, i], window)
        envelope[:, i : i + steps].addcmul_(own[:, :, None], window.square())
    kept = slice(extra // 2, extra // 2 + steps * hop_length)
    # The envelope is zero only behind an item.
    return waveform.flatten(1)[:, kept].div_(envelope.flatten(1)[:, kept].clamp_(min=1e-11))
