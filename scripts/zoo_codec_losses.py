"""What `train_zoo_codec.py` minimises: differences of spectra at several resolutions, and a discriminator's opinion.

Spectra are compared three ways, each relative to the original, so that quiet recordings count as much as loud ones:

    mel        logarithms of mel bands: the level of each region of the spectrum
    magnitude  |X| ** 0.3: about as loud as an ear hears it
    complex    X |X| ** (0.5 - 1): the waveform with its phase, loud parts somewhat before quiet ones

A fourth compares what makes speech intelligible: how the level of each third of an octave goes up and down.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codeczoo.nn.mel import mel_filters

# Samples of a window → mel bands, at 16 kHz.
RESOLUTIONS = {128: 16, 256: 32, 512: 64, 1024: 96, 2048: 128}
MAGNITUDE_POWER, COMPLEX_POWER = 0.3, 0.5
ENVELOPE_WINDOW, ENVELOPE_HOP, ENVELOPE_FFT = 400, 200, 512  # samples at 16 kHz: 25 ms every 12.5 ms
ENVELOPE_FRAMES, ENVELOPE_STEP = 30, 6  # of a segment, 375 ms, and to the next
ENVELOPE_BANDS, ENVELOPE_LOWEST = 15, 150.0  # thirds of an octave, the centre of the lowest in Hz
SILENT = 1e-4  # a segment's power beside its clip's loudest: -40 dB
MEL_FLOOR = 1e-4  # of magnitudes of a window whose sum is 1: -80 dB
POWER_FLOOR = 1e-8


class SpectralLosses(NamedTuple):
    """Means over the resolutions that were looked at."""

    mel: Tensor  # in nepers
    magnitude: Tensor  # share of the original's power
    complex: Tensor


def spectrum(x: Tensor, window: int, first: int = 0) -> Tensor:
    """[B, T] → [B, N, window / 2 + 1], hops of half a window, the first one centred on sample `first`; a sine of
    amplitude 1 has magnitude 1 / 2."""
    hann = torch.hann_window(window, device=x.device)
    frames = F.pad(x[:, first:], (window // 2, window // 2)).unfold(-1, window, window // 2)
    return torch.fft.rfft(frames * (hann / hann.sum()))


def spectral_losses(
    y: Tensor, x: Tensor, windows: Sequence[int], sample_rate: int, shift: float = 0.0
) -> SpectralLosses:
    """The difference of y [B, T] from the original x [B, T]; windows begin `shift` of a hop late, so that over many
    steps every sample stands in every place of a window."""
    parts = []
    for window in windows:
        first = int(shift * window / 2)
        target, made = spectrum(x, window, first), spectrum(y, window, first)
        powers = [s.real.square() + s.imag.square() + POWER_FLOOR for s in (target, made)]
        filters = mel_filters(sample_rate, window, RESOLUTIONS[window]).float().to(x.device)
        filters = filters / filters.sum(0).clamp(min=1e-9)
        mels = [(power.sqrt() @ filters + MEL_FLOOR).log() for power in powers]
        loud = [power ** (MAGNITUDE_POWER / 2) for power in powers]
        bent = [
            s * gain for s, gain in zip((target, made), (p ** ((COMPLEX_POWER - 1) / 2) for p in powers), strict=True)
        ]
        parts.append(
            (
                (mels[1] - mels[0]).abs().mean(),
                _relative(loud[1] - loud[0], loud[0]),
                _relative(bent[1] - bent[0], bent[0]),
            )
        )
    return SpectralLosses(*(torch.stack(part).mean() for part in zip(*parts, strict=True)))


def envelope_loss(y: Tensor, x: Tensor, sample_rate: int) -> Tensor:
    """1 minus the mean correlation of the envelopes of y [B, T] with those of the original x [B, T] over segments of
    375 ms: half of it band by band (as STOI, Taal et al. 2011), half with each frame's spectrum normalised too (as
    ESTOI, Jensen and Taal 2016). Silent segments count for nothing."""
    hann = torch.hann_window(ENVELOPE_WINDOW, device=x.device)
    frequencies = torch.arange(ENVELOPE_FFT // 2 + 1, device=x.device) * sample_rate / ENVELOPE_FFT
    centres = ENVELOPE_LOWEST * 2 ** (torch.arange(ENVELOPE_BANDS, device=x.device) / 3)
    bands = (
        (frequencies[:, None] >= centres * 2 ** (-1 / 6)) & (frequencies[:, None] < centres * 2 ** (1 / 6))
    ).float()

    def segments(signal: Tensor) -> Tensor:  # [B, segments, bands, frames]
        spectra = torch.fft.rfft(signal.unfold(-1, ENVELOPE_WINDOW, ENVELOPE_HOP) * hann, ENVELOPE_FFT)
        power = (spectra.real.square() + spectra.imag.square()) @ bands
        return (power + POWER_FLOOR).sqrt().mT.unfold(-1, ENVELOPE_FRAMES, ENVELOPE_STEP).transpose(1, 2)

    def unit(values: Tensor, axis: int) -> Tensor:
        centred = values - values.mean(axis, keepdim=True)
        return centred / (centred.square().sum(axis, keepdim=True) + 1e-6).sqrt()

    target, made = segments(x), segments(y)
    power = target.square().mean((2, 3))
    heard = (power > SILENT * power.amax(1, keepdim=True)).float()
    rows = [unit(values, 3) for values in (target, made)]
    by_band = (rows[0] * rows[1]).sum(3).mean(2)
    columns = [unit(values, 2) for values in rows]
    by_frame = (columns[0] * columns[1]).sum(2).mean(2)
    return 1 - ((by_band + by_frame) / 2 * heard).sum() / heard.sum()


def _relative(difference: Tensor, original: Tensor) -> Tensor:
    """The power of a difference as a share of the original's, [B, N, F] each, mean over the batch."""
    power, own = (torch.view_as_real(z) if z.is_complex() else z for z in (difference, original))
    return (power.square().flatten(1).mean(1) / own.square().flatten(1).mean(1)).mean()


class Discriminator(nn.Module):
    """Tells recordings from what the codec makes of them, by spectra at three resolutions, as EnCodec's does (arXiv
    2210.13438)."""

    def __init__(self, channels: int = 24, windows: Sequence[int] = (256, 512, 1024)) -> None:
        super().__init__()
        self.windows = windows
        norm = nn.utils.parametrizations.weight_norm
        self.stacks = nn.ModuleList()
        for _ in windows:
            layers = [norm(nn.Conv2d(2, channels, (3, 9), (1, 2), (1, 4)))]
            layers += [norm(nn.Conv2d(channels, channels, (3, 9), (1, 2), (d, 4), (d, 1))) for d in (1, 2, 4)]
            layers += [norm(nn.Conv2d(channels, 1, 3, padding=1))]
            self.stacks.append(nn.ModuleList(layers))

    def forward(self, x: Tensor) -> list[list[Tensor]]:
        """[B, T] → for each resolution the outputs of its layers, the last the opinion."""
        out = []
        for window, stack in zip(self.windows, self.stacks, strict=True):
            s = spectrum(x, window)
            gain = (s.real.square() + s.imag.square() + POWER_FLOOR) ** ((MAGNITUDE_POWER - 1) / 2)
            y = torch.stack([s.real * gain, s.imag * gain], dim=1)
            kept = []
            assert isinstance(stack, nn.ModuleList)
            for i, layer in enumerate(stack):
                y = layer(y)
                if i < len(stack) - 1:
                    y = F.leaky_relu(y, 0.2)
                kept.append(y)
            out.append(kept)
        return out

    def own_loss(self, real: Tensor, made: Tensor) -> Tensor:
        """Hinge loss of its opinions on recordings and on what was made, [B, T] each."""
        pairs = zip(self(real), self(made.detach()), strict=True)
        return torch.stack([F.relu(1 - r[-1]).mean() + F.relu(1 + m[-1]).mean() for r, m in pairs]).mean()

    def losses_of(self, real: Tensor, made: Tensor) -> tuple[Tensor, Tensor]:
        """For the codec: how far it is from being believed, and how differently the layers see the two."""
        believed, differing = [], []
        for r, m in zip(self(real), self(made), strict=True):
            believed.append(F.relu(1 - m[-1]).mean())
            differing += [
                (a.detach() - b).abs().mean() / a.detach().abs().mean() for a, b in zip(r[:-1], m[:-1], strict=True)
            ]
        return torch.stack(believed).mean(), torch.stack(differing).mean()
