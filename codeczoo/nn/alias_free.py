"""Anti-aliased activations: at twice the rate, between two low-pass filters (BigVGAN, arXiv 2206.04658; StyleGAN3).

A pointwise function makes frequencies above the signal's own; computed at the signal's rate they fold back as noise.
Here the signal is taken to twice its rate, goes through SnakeBeta, and comes back through the same filter.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codeczoo.base.exporting import exporting
from codeczoo.nn.bfloat16 import channels_last, in_bfloat16
from codeczoo.nn.cache_tiling import tile_values
from codeczoo.nn.conv import Conv1d
from codeczoo.nn.padding import pad
from codeczoo.nn.snake import SnakeBeta

TAPS = 12
REACH = 6  # steps that an activation's output sees to each side: 3 in upsampling, 3 in downsampling


@functools.lru_cache(maxsize=8)
@torch.inference_mode(False)  # kept for callers who record gradients
def half_band_filter(dtype: torch.dtype, device: torch.device) -> Tensor:
    """[TAPS] a sinc that cuts at half the upper rate's band, in a Kaiser window; its taps sum to 1."""
    cutoff, half_width = 0.25, 0.3
    attenuation = 2.285 * (TAPS // 2 - 1) * math.pi * 4 * half_width + 7.95  # dB
    window = torch.kaiser_window(TAPS, False, beta=0.1102 * (attenuation - 8.7), dtype=torch.float64)
    time = torch.arange(TAPS, dtype=torch.float64) - (TAPS - 1) / 2
    taps = 2 * cutoff * window * torch.sinc(2 * cutoff * time)
    return (taps / taps.sum()).to(device, dtype)


class AliasFreeSnake(nn.Module):
    """[B, C, T] → [B, C, T]: SnakeBeta at twice the rate. Beyond a clip's ends its edge samples repeat."""

    reach = REACH

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.snake = SnakeBeta(channels)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        if in_bfloat16(self.snake.alpha):
            with torch.autocast("cpu", enabled=False):
                return self._channels_last(x, lengths)
        channels = x.shape[1]
        taps = half_band_filter(x.dtype, x.device).expand(channels, 1, TAPS)
        x = pad(x, lengths, 5, 5, "replicate")
        x = F.conv_transpose1d(x, 2 * taps, stride=2, groups=channels)[..., 15:-15]  # 2T
        x = self.snake(x)
        x = pad(x, None if lengths is None else 2 * lengths, 5, 6, "replicate")
        return F.conv1d(x, taps, stride=2, groups=channels)

    def _channels_last(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """The same in float32, of bfloat16 whose channels lie last in memory: PyTorch has no fast kernel for these
        filters in bfloat16, and a fast one in this order."""
        (batch, channels, steps), wide = x.shape, torch.float32
        taps = half_band_filter(wide, x.device)
        padded = pad(channels_last(x), lengths, 5, 5, "replicate").to(wide)
        y = padded.new_empty(batch, steps, 2, channels)
        for late in range(2):  # of each pair of samples the first and the second
            phase = 2 * taps.flip(0)[late::2].expand(channels, 1, 1, -1)
            part = padded[:, :, None, 2 + late : steps + 7 + late]
            y[:, :, late] = F.conv2d(part, phase, groups=channels)[:, :, 0].mT
        y = self.snake(y.flatten(1, 2).mT, inplace=True)
        if lengths is None:
            before, behind = y[..., :1].expand(-1, -1, 5), y[..., -1:].expand(-1, -1, 6)
            y = torch.cat([before.mT, y.mT, behind.mT], dim=1).mT
        else:
            y = pad(y, 2 * lengths, 5, 6, "replicate")
        return F.conv2d(y[:, :, None], taps.expand(channels, 1, 1, TAPS), stride=(1, 2), groups=channels)[:, :, 0]


class AliasFreeUnit(nn.Module):
    """[B, C, T] → [B, C, T]: x plus activation, dilated convolution, activation, convolution of width 1."""

    def __init__(self, channels: int, dilation: int, kernel_size: int = 7) -> None:
        super().__init__()
        self.act1 = AliasFreeSnake(channels)
        self.conv1 = Conv1d(channels, channels, kernel_size, dilation=dilation)
        self.act2 = AliasFreeSnake(channels)
        self.conv2 = Conv1d(channels, channels, 1)
        self.reach = 2 * REACH + self.conv1.left

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        y = self.conv1(self.act1(x, lengths), lengths)
        return self.conv2(self.act2(y, lengths)).add_(x)


class AliasFreeUnits(nn.ModuleList):
    """[B, C, T] → [B, C, T]: residual units of growing dilation, one after the other."""

    def __init__(self, channels: int, dilations: Sequence[int] = (1, 3, 9)) -> None:
        units = [AliasFreeUnit(channels, dilation) for dilation in dilations]
        super().__init__(units)
        self.reach = sum(unit.reach for unit in units)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Run all units; on a CPU tile by tile, so that activations stay in its cache (see `nn.cache_tiling`)."""
        width = max(tile_values() // (2 * x.shape[1]), 16 * self.reach)
        if exporting() or x.device.type != "cpu" or x.shape[-1] <= width:
            return self._run(x, lengths)
        out = torch.zeros_like(x) if lengths is not None else torch.empty_like(x)
        for i, end in enumerate([x.shape[-1]] * len(x) if lengths is None else lengths.tolist()):
            for start in range(0, end, width):
                stop, first = min(start + width, end), max(start - self.reach, 0)
                tile = self._run(x[i : i + 1, :, first : min(stop + self.reach, end)], None)
                out[i, :, start:stop] = tile[0, :, start - first : stop - first]
        return out

    def _run(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        for unit in self:
            x = unit(x, lengths)
        return x
