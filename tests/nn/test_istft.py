"""The inverse STFT with "same" padding, and the head that feeds it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from codeczoo.nn.istft import ISTFTHead, istft_same


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def spectra(batch: int, frames: int, n_fft: int) -> Tensor:
    shape = (batch, frames, n_fft // 2 + 1)
    return torch.complex(noise(*shape), noise(*shape, seed=1))


def by_definition(spectrum: Tensor, n_fft: int, hop: int) -> Tensor:
    """One item [N, bins]: every frame's inverse sum, windowed, added at its place, over the squared windows there."""
    n = torch.arange(n_fft, dtype=torch.float64)
    window = 0.5 - 0.5 * torch.cos(2 * math.pi * n / n_fft)
    k = torch.arange(1, n_fft // 2, dtype=torch.float64)
    angle = 2 * math.pi * k[:, None] * n / n_fft
    waveform, envelope = (torch.zeros((len(spectrum) - 1) * hop + n_fft, dtype=torch.float64) for _ in range(2))
    for i, frame in enumerate(spectrum):
        signal = frame[0].real + frame[-1].real * torch.cos(math.pi * n)
        signal = signal + 2 * (frame[1:-1].real @ torch.cos(angle) - frame[1:-1].imag @ torch.sin(angle))
        waveform[i * hop : i * hop + n_fft] += window * signal / n_fft
        envelope[i * hop : i * hop + n_fft] += window.square()
    cut = (n_fft - hop) // 2
    return (waveform / envelope)[cut : cut + len(spectrum) * hop]


@pytest.mark.parametrize(("n_fft", "hop"), [(32, 8), (60, 20), (24, 12), (32, 10), (32, 26)])
@pytest.mark.parametrize("frames", [1, 2, 3, 11])
def test_it_is_the_overlapped_sum_over_the_overlapped_windows(n_fft: int, hop: int, frames: int) -> None:
    x = spectra(2, frames, n_fft)
    expected = torch.stack([by_definition(row, n_fft, hop) for row in x])
    torch.testing.assert_close(istft_same(x.clone(), n_fft, hop), expected, rtol=1e-10, atol=1e-10)


def test_the_inner_part_is_what_torch_makes_of_it() -> None:
    """Centred frames cut n_fft / 2 at the ends; "same" ones (n_fft - hop) / 2, so they begin hop / 2 earlier."""
    n_fft, hop, frames = 64, 16, 20
    waveform = noise(1, frames * hop)
    window = torch.hann_window(n_fft, dtype=torch.float64)
    x = torch.stft(waveform, n_fft, hop, window=window, center=True, return_complex=True)  # [1, bins, N + 1]
    ours = istft_same(x.mT.contiguous(), n_fft, hop)
    torch.testing.assert_close(ours[:, hop // 2 : hop // 2 + frames * hop], waveform, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("hop", [8, 10])
def test_a_ragged_batch_has_its_own_frames_and_its_own_windows(hop: int) -> None:
    n_fft, lengths = 32, torch.tensor([9, 1, 2, 8, 5])
    x = spectra(5, 9, n_fft)
    y = istft_same(x.clone(), n_fft, hop, lengths)
    assert y.shape == (5, 9 * hop)
    for row, out, length in zip(x, y, lengths.tolist(), strict=True):
        alone = istft_same(row[None, :length].clone(), n_fft, hop)[0]
        torch.testing.assert_close(out[: length * hop], alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("n_fft", "hop"), [(31, 8), (8, 10)])
def test_windows_that_do_not_overlap_evenly_are_refused(n_fft: int, hop: int) -> None:
    with pytest.raises(ValueError, match=f"an even number more; they are {n_fft} and {hop}"):
        istft_same(spectra(1, 3, n_fft), n_fft, hop)


def test_the_head_cuts_magnitudes_at_100_from_above_alone() -> None:
    """Bin 2 alone sounds: its phase is the layer's bias, its log magnitude too."""
    n_fft, hop = 32, 8
    head = ISTFTHead(3, n_fft, hop).double().requires_grad_(False)
    head.out.weight.zero_()
    bins = n_fft // 2 + 1
    peaks = []
    for log_magnitude in (math.log(100.0), math.log(250.0), math.log(10.0)):
        head.out.bias[:bins] = -200.0  # silence
        head.out.bias[2], head.out.bias[bins + 2] = log_magnitude, 0.7
        waveform = head(torch.ones(1, 6, 3, dtype=torch.float64))
        assert waveform.shape == (1, 6 * hop)
        peaks.append(float(waveform.abs().max()))
    assert peaks[0] == pytest.approx(peaks[1], rel=1e-12)
    assert peaks[0] == pytest.approx(10 * peaks[2], rel=1e-12)


def test_a_low_precision_head_transforms_in_float32() -> None:
    head = ISTFTHead(4, 32, 8).bfloat16().requires_grad_(False)
    head.out.weight.copy_(0.1 * noise(34, 4))
    head.out.bias.zero_()
    x = noise(1, 5, 4).bfloat16()
    y = head(x)
    assert y.dtype == torch.bfloat16
    expected = head.double()(x.double())
    assert float((y.double() - expected).abs().max() / expected.abs().max()) < 0.02
