"""DistillMOS: a small network that has learnt a large one's opinion of speech, without a reference.

Paper: "Distillation and Pruning for Scalable Self-Supervised Representation-Based Speech Quality Assessment" (arXiv
2502.05356). Upstream: the package distillmos, in which the trained weights lie.

    spectrum of 20 ms every 10 ms, its magnitude to the power 0.3 → six convolutions over time and frequency
    → seven transformer layers of width 200 → attention pools over time → 1 to 5

A clip is filled with zeros to 7.68 s, or cut into windows of that length at most 1 s apart. Each window is brought to
peak 1; a clip's value is the mean over its windows. What the convolutions make of the zeros behind a short clip is one
column again and again: it is computed once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codeczoo.base.key_map import KeyMap
from codeczoo.base.model import Model
from codeczoo.base.variant import Variant

WINDOW = 122_880  # samples, 7.68 s
FARTHEST = 16_000  # samples between the starts of two windows
N_FFT, HOP = 320, 160
COLUMNS = WINDOW // HOP // 2  # of the convolutions' output, one for two frames of the spectrum
FELT = 6  # frames at either side of its own that a column sees
SIZES = 64 * HOP  # samples; short windows have a multiple of it, so that they can be computed together
WINDOWS_AT_ONCE = 8  # on an accelerator


@dataclass(frozen=True)
class DistillMOSConfig:
    """The network's numbers."""

    sample_rate: int = 16000  # Hz
    dim: int = 200
    num_heads: int = 8
    num_layers: int = 7


class Transformer(nn.Module):
    """[B, N, inputs] → [B, N, dim], in upstream's order: norm, projection, positions, layers."""

    def __init__(self, inputs: int, config: DistillMOSConfig) -> None:
        super().__init__()
        self.norm, self.linear_proj = nn.BatchNorm1d(inputs), nn.Linear(inputs, config.dim)
        self.position_encoding = nn.Module()
        self.position_encoding.register_buffer("pe", torch.zeros(1, COLUMNS, config.dim))
        layer = nn.TransformerEncoderLayer(config.dim, config.num_heads, 2 * config.dim, batch_first=True)
        self.transformer_encoder = nn.TransformerEncoder(layer, config.num_layers)

    def forward(self, x: Tensor) -> Tensor:
        x = self.linear_proj(self.norm(x.mT).mT)
        return self.transformer_encoder(x + self.position_encoding.pe)


class Pool(nn.Module):
    """[B, N, dim] → [B]: the frames weighted by what two layers make of each."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear1, self.linear2, self.linear3 = nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, 1), nn.Linear(dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.linear2(F.relu(self.linear1(x))).softmax(1)
        return self.linear3((weights * x).sum(1))[:, 0]


class Head(nn.Module):
    """[B, N, inputs] → [B], 0 to 1."""

    def __init__(self, inputs: int, config: DistillMOSConfig) -> None:
        super().__init__()
        self.norm_input, self.transformer = nn.BatchNorm1d(inputs), Transformer(inputs, config)
        self.norm_trans, self.pool = nn.BatchNorm1d(config.dim), Pool(config.dim)

    def forward(self, x: Tensor) -> Tensor:
        x = self.transformer(self.norm_input(x.mT).mT)
        return self.pool(self.norm_trans(x.mT).mT).sigmoid()


class DistillMOS(Model):
    """Speech [T] at 16 kHz → its score, 1 to 5; the higher, the better."""

    Config = DistillMOSConfig
    config: DistillMOSConfig
    key_maps = (KeyMap("distillmos"),)

    def __init__(self, config: DistillMOSConfig, variant: Variant) -> None:
        super().__init__(config, variant)
        self.sample_rate = config.sample_rate
        layers: list[nn.Module] = []
        channels, bins = 2, N_FFT // 2 + 1
        for i, wider in enumerate((64, 64, 128, 256, 256, 256)):
            stride = (1 if i == 0 else 2, 2 if i == 5 else 1)
            layers += [nn.Conv2d(channels, wider, 3, stride, padding=(0, 1)), nn.LeakyReLU(0.1)]
            channels, bins = wider, (bins - 3) // stride[0] + 1
        self.cnn = nn.Module()
        self.cnn.cnn = nn.Sequential(*layers)
        self.transformer_pool_attn = Head(channels * bins, config)

    @torch.no_grad()
    def forward(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        """Scores [B] of clips [B, 1, T] of `lengths` [B] samples, each at least 1."""
        windows = [windows_of(clip[0, :end]) for clip, end in zip(waveform, lengths.tolist(), strict=True)]
        ends = [min(end, WINDOW) for part, end in zip(windows, lengths.tolist(), strict=True) for _ in part]
        values = self._scores([window for part in windows for window in part], ends)
        return torch.stack([part.mean() for part in values.split([len(part) for part in windows])])

    def _scores(self, windows: Sequence[Tensor], ends: Sequence[int]) -> Tensor:
        """[W] of windows of up to 122880 samples, of which those from `ends` on are zeros."""
        order = sorted(range(len(windows)), key=lambda i: len(windows[i]))
        at_once = 1 if windows[0].device.type == "cpu" else WINDOWS_AT_ONCE
        found: dict[int, Tensor] = {}
        for _, same in groupby(order, lambda i: len(windows[i])):
            group = list(same)
            for chosen in (group[i : i + at_once] for i in range(0, len(group), at_once)):
                values = self._score(torch.stack([windows[i] for i in chosen]), [ends[i] for i in chosen])
                found |= zip(chosen, values, strict=True)
        return torch.stack([found[i] for i in range(len(windows))])

    def _score(self, windows: Tensor, ends: Sequence[int]) -> Tensor:
        """[W, T] → [W]."""
        windows = windows / (windows.abs().amax(1, keepdim=True) + 1e-8)
        x = F.pad(windows, ((N_FFT - HOP) // 2,) * 2, mode="reflect")
        window = torch.hann_window(N_FFT, dtype=x.dtype, device=x.device)
        spectrum = torch.view_as_real(torch.stft(x, N_FFT, HOP, window=window, center=False, return_complex=True))
        magnitude = spectrum.square().sum(-1, keepdim=True).sqrt().clamp(min=1e-12)
        features = self.cnn.cnn((magnitude**0.3 * spectrum / magnitude).permute(0, 3, 1, 2)).flatten(1, 2)
        if (missing := COLUMNS - features.shape[-1]) > 0:
            columns = [first_zero_column(end) for end in ends]
            features = torch.stack(
                [
                    torch.cat([one[:, :at], one[:, at : at + 1].expand(-1, missing), one[:, at:]], 1)
                    for one, at in zip(features, columns, strict=True)
                ]
            )
        return 1 + 4 * self.transformer_pool_attn(features.mT)


def first_zero_column(samples: int) -> int:
    """The first column of the convolutions' output that sees nothing of so many samples."""
    frames = -(-(samples + (N_FFT - HOP) // 2) // HOP)  # that see one of them
    return -(-(frames + FELT) // 2)


def windows_of(clip: Tensor) -> list[Tensor]:
    """[T] → windows of 122880 samples; of a short clip, one that is as long as it takes to have a column of zeros."""
    over = len(clip) - WINDOW
    if over <= 0:
        needed = HOP * (2 * first_zero_column(len(clip)) + FELT + 1)
        return [F.pad(clip, (0, min(-(-needed // SIZES) * SIZES, WINDOW) - len(clip)))]
    count = -(-over // FARTHEST) + 1
    return [clip[(start := int(over * (i / (count - 1)))) : start + WINDOW] for i in range(count)]
