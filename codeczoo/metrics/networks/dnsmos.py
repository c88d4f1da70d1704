"""DNSMOS: what listeners would say of the speech, the background and the whole, without a reference.

Papers: "DNSMOS P.835" (arXiv 2110.01763) and "DNSMOS" (P.808; arXiv 2010.15258). Upstream: ONNX files, which lie in the
package speechmos with the trained weights; their tensors are read, nothing of their graphs runs.

    P.835: power of 20 ms every 10 ms, its logarithm → seven convolutions over time and frequency → the largest value of
           each channel → three linear layers → speech, background, overall, each through a polynomial
    P.808: 120 mels in decibels below the window's peak → five convolutions → the largest values → three linear layers

A clip is doubled until it has 9.01 s, and windows of 9.01 s are scored every second; a clip's value is the mean over
its windows. Neighbouring windows share eight ninths of their frames, and nothing in P.835 depends on where a window
lies but the zeros around it. So its first five convolutions, 99 % of the work, run once over all frames of a clip, and
beside it over the 160 ms at each end of a window, where the zeros around it are felt.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codeczoo.base.key_map import KeyMap
from codeczoo.base.model import Model
from codeczoo.base.variant import Variant
from codeczoo.nn.mel import mel_filters

RATE = 16000  # Hz
SECONDS = 9.01
WINDOW = 144_160  # samples
STEP = 16_000  # samples between the starts of two windows
NAMES = ("dnsmos_sig", "dnsmos_bak", "dnsmos_ovrl", "dnsmos_p808")
# What the networks give → the scale of opinions, highest power first: speech, background, overall.
POLYNOMIALS = (
    (-0.08397278, 1.22083953, 0.0052439),
    (-0.13166888, 1.60915514, -0.39604546),
    (-0.06766283, 1.11546468, 0.04602535),
)
HOP, BINS = 160, 161
FRAMES, STEP_FRAMES = WINDOW // HOP - 1, STEP // HOP  # of a window, and between two
N_FFT, MELS = 321, 120  # of P.808
WINDOWS_AT_ONCE = 16

# The part of P.835 that windows share makes one row of four frames. Zeros beyond an end are felt in two rows.
ROW, FELT = 4, 2
TILE_ROWS, EDGE_ROWS = 40, 4
TILES_AT_ONCE, EDGES_AT_ONCE = 16, 128  # on an accelerator; on a CPU as many as its cache holds


@dataclass(frozen=True)
class DNSMOSConfig:
    """The networks' numbers."""

    sample_rate: int = RATE  # Hz


def _convolutions(channels: Sequence[int]) -> list[nn.Conv2d]:
    return [nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(channels)]


def _linears(widths: Sequence[int]) -> list[nn.Linear]:
    return [nn.Linear(a, b) for a, b in pairwise(widths)]


def _pooled(x: Tensor) -> Tensor:
    """Half the size. The rectifier comes behind the pool, where it gives the same on a quarter of the values."""
    return F.max_pool2d(x, 2).relu_()


class Network(nn.Module):
    """What both have: `conv` and `linear`, with the rectifier behind all but the last."""

    conv: nn.ModuleList
    linear: nn.ModuleList

    def _opinions(self, x: Tensor) -> Tensor:
        """The last convolution's output [W, C, N, F] → [W, K]."""
        x = F.relu(x.amax((2, 3)))
        for layer in self.linear[:-1]:
            x = F.relu(layer(x))
        return self.linear[-1](x)


class P835(Network):
    """Windows of one clip → speech, background and overall, before the polynomials."""

    def __init__(self) -> None:
        super().__init__()
        spectrum = [nn.Conv1d(2 * HOP, BINS, 1, bias=False) for _ in range(2)]  # the transform's parts, window included
        self.conv = nn.ModuleList([*spectrum, *_convolutions((1, 128, 64, 64, 32, 32, 32, 64))])
        self.linear = nn.ModuleList(_linears((64, 128, 64, 3)))

    def forward(self, runs: Sequence[Tensor]) -> Tensor:
        """Runs of windows: samples [T], from the first one's first to the last one's last → [W, 3]."""
        frames = [self._log_power(run) for run in runs]
        tiles = [part for one in frames for part in _tiles(one)]
        edges = [part for one in frames for part in _edges(one)]
        rows = iter(self._shared(tiles, TILES_AT_ONCE))
        ends = iter(self._shared(edges, EDGES_AT_ONCE))
        windows = [window for one in frames for window in _windows(one, rows, ends)]
        return torch.cat([self._own(torch.stack(part)) for part in _parts(windows, WINDOWS_AT_ONCE)])

    def _log_power(self, samples: Tensor) -> Tensor:
        """[T] → [N, 161]."""
        framed = samples.unfold(0, 2 * HOP, HOP)
        parts = [framed @ self.conv[i].get_parameter("weight")[..., 0].T for i in range(2)]
        return (parts[0].square() + parts[1].square()).clamp(min=1e-12).log10()

    def _shared(self, parts: Sequence[Tensor], at_once: int) -> list[Tensor]:
        """Frames [N, 161] of one length → [32, N / 4, 40] of each."""
        found: list[Tensor] = []
        if parts and parts[0].device.type == "cpu":
            at_once = max(TILE_ROWS * ROW // len(parts[0]), 1)
        for chosen in _parts(parts, at_once):
            x = torch.stack(list(chosen))[:, None]
            for layer in self.conv[2:5]:
                x = layer(x).relu_()
            for layer in self.conv[5:7]:
                x = _pooled(layer(x))
            found += x
        return found

    def _own(self, x: Tensor) -> Tensor:
        """[W, 32, 225, 40] → [W, 3]."""
        return self._opinions(self.conv[8](_pooled(self.conv[7](x))))


def _tiles(frames: Tensor) -> Iterator[Tensor]:
    """Frames [N, 161] in tiles of TILE_ROWS rows that overlap by what is felt at their ends."""
    yield from (frames[ROW * at : ROW * (at + TILE_ROWS)] for at in _tile_starts(len(frames) // ROW))


def _tile_starts(rows: int) -> list[int]:
    starts = list(range(0, rows - TILE_ROWS, TILE_ROWS - 2 * FELT))
    return [*starts, rows - TILE_ROWS]


def _edges(frames: Tensor) -> Iterator[Tensor]:
    """For each window but the first its first frames, and for each but the last its last ones."""
    for start in _window_starts(len(frames)):
        if start > 0:
            yield frames[start : start + ROW * EDGE_ROWS]
        if start + FRAMES < len(frames):
            yield frames[start + FRAMES - ROW * EDGE_ROWS : start + FRAMES]


def _window_starts(frames: int) -> range:
    return range(0, frames - FRAMES + 1, STEP_FRAMES)


def _windows(frames: Tensor, tiles: Iterator[Tensor], edges: Iterator[Tensor]) -> Iterator[Tensor]:
    """What `_shared` made of a run's tiles and edges, put together → of each window [32, 225, 40]."""
    starts = _tile_starts(len(frames) // ROW)
    made = [next(tiles) for _ in starts]
    joined = made[0]
    for start, tile in zip(starts[1:], made[1:], strict=True):
        joined = torch.cat([joined[:, : start + FELT], tile[:, FELT:]], 1)
    for start in _window_starts(len(frames)):
        window = joined[:, start // ROW : (start + FRAMES) // ROW]
        if start > 0:
            window = torch.cat([next(edges)[:, :FELT], window[:, FELT:]], 1)
        if start + FRAMES < len(frames):
            window = torch.cat([window[:, :-FELT], next(edges)[:, -FELT:]], 1)
        yield window


class P808(Network):
    """Windows → the opinion of the whole."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.ModuleList(_convolutions((1, 32, 32, 32, 32, 64)))
        self.linear = nn.ModuleList(_linears((64, 64, 64, 1)))

    def forward(self, windows: Sequence[Tensor]) -> Tensor:
        """Windows [T] → [W, 1]."""
        found = []
        for part in _parts(windows, 1 if windows[0].device.type == "cpu" else WINDOWS_AT_ONCE):
            x = log_mel(torch.stack(list(part))[:, :-HOP])[:, None]
            for i, layer in enumerate(self.conv):
                x = _pooled(layer(x)) if i in (0, 1, 3) else layer(x)
                x = x.relu_() if i == 2 else x
            found.append(self._opinions(x))
        return torch.cat(found)


class DNSMOS(Model):
    """Speech at 16 kHz → its four opinions, in the order of `NAMES`; the higher, the better."""

    Config = DNSMOSConfig
    config: DNSMOSConfig
    key_maps = (KeyMap("speechmos"),)

    def __init__(self, config: DNSMOSConfig, variant: Variant) -> None:
        super().__init__(config, variant)
        self.sample_rate = config.sample_rate
        self.p835, self.p808 = P835(), P808()

    @torch.no_grad()
    def forward(self, given: Sequence[np.ndarray | Tensor]) -> list[tuple[float, ...]]:
        """Clips [T] of at least one sample each, of any lengths → for each its four values."""
        clips = [_doubled(torch.as_tensor(clip).to(self.device, self.dtype)) for clip in given]
        starts = [window_starts(len(clip)) for clip in clips]
        runs = [
            clip[run[0] : run[-1] + WINDOW] for clip, found in zip(clips, starts, strict=True) for run in _runs(found)
        ]
        raw = self.p835(runs).double().cpu().numpy()
        opinions = [np.polyval(polynomial, raw[:, i]) for i, polynomial in enumerate(POLYNOMIALS)]
        windows = [clip[at : at + WINDOW] for clip, found in zip(clips, starts, strict=True) for at in found]
        p808 = self.p808(windows).double().cpu().numpy()[:, 0]
        values = torch.from_numpy(np.stack([*opinions, p808], 1))
        means = [part.mean(0) for part in values.split([len(found) for found in starts])]
        return [tuple(mean.tolist()) for mean in means]


def _doubled(clip: Tensor) -> Tensor:
    while len(clip) < WINDOW:
        clip = torch.cat([clip, clip])
    return clip


def window_starts(samples: int) -> list[int]:
    """Where the windows of a clip of so many samples begin, one window at least.

    Upstream computes where a window ends in floating point. Those that start at 7 to 23 s come out one sample short and
    are left out; so they are here, because these are the values that the name stands for.
    """
    ends = {i * RATE: int((i + SECONDS) * RATE) for i in range(int(samples // RATE - SECONDS) + 1)}
    return [start for start, end in ends.items() if min(end, samples) - start == WINDOW]


def _runs(starts: Sequence[int]) -> Iterator[list[int]]:
    """Windows in runs that follow each other step by step."""
    run: list[int] = []
    for start in starts:
        if run and start != run[-1] + STEP:
            yield run
            run = []
        run.append(start)
    yield run


def _parts(items: Sequence[Tensor], size: int) -> Iterator[Sequence[Tensor]]:
    return (items[i : i + size] for i in range(0, len(items), size))


def log_mel(waveform: Tensor) -> Tensor:
    """[W, T] → [W, 1 + T // 160, 120]: decibels below the window's own peak, 80 at most, as (dB + 40) / 40."""
    window = torch.hann_window(N_FFT, dtype=waveform.dtype, device=waveform.device)
    spectrum = torch.stft(waveform, N_FFT, HOP, window=window, pad_mode="constant", return_complex=True)
    power = spectrum.abs().square().mT @ mel_filters(RATE, N_FFT, MELS).to(waveform)
    decibels = 10 * power.clamp(min=1e-10).log10()
    decibels = decibels - decibels.amax((1, 2), keepdim=True)
    return (decibels.clamp(min=-80.0) + 40) / 40
