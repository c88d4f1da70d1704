"""Upsampling over time without weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from codeczoo.base.exporting import exporting
from codeczoo.nn.conv import Length
from codeczoo.nn.inplace import overwritable


class LinearUpsample(nn.Module):
    """[B, C, T] → [B, C, factor * T], linear between steps, constant before the first centre and after the last.

    Steps are taken as intervals, so that output p of a step lies (p + 1/2) / factor - 1/2 beside its centre (PyTorch's
    `align_corners=False`). Each p mixes with fixed weights, where PyTorch makes positions in float32 and loses digits
    as they grow. The channels lie last in memory, and so they do afterwards.
    """

    reach = 1

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def out_length(self, length: Length) -> Length:
        return length * self.factor

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        x = x.mT  # [B, T, C]
        batch, steps, channels = x.shape
        if lengths is not None:  # an item's last step is also the one behind it
            items = torch.arange(batch, device=x.device)
            places = items, lengths.clamp(max=steps - 1)
            last = x[items, lengths - 1]
            x = x.index_put_(places, last) if overwritable(x) else x.index_put(places, last)
        if exporting() or not overwritable(x):
            return self._recorded(x)
        out = x.new_empty(batch, steps, self.factor, channels)
        for p in range(self.factor):
            beside = (p + 0.5) / self.factor - 0.5
            here = out[:, :, p]
            if beside < 0:
                here[:, :1] = x[:, :1]
                torch.lerp(x[:, 1:], x[:, :-1], -beside, out=here[:, 1:])
            else:
                here[:, -1:] = x[:, -1:]
                torch.lerp(x[:, :-1], x[:, 1:], beside, out=here[:, :-1])
        return out.flatten(1, 2).mT

    def _recorded(self, x: Tensor) -> Tensor:
        """[B, T, C] → [B, C, T * factor], for gradients and graphs."""
        before, after = (x[:, i] for i in (slice(None, 1), slice(-1, None)))
        before, after = torch.cat([before, x[:, :-1]], dim=1), torch.cat([x[:, 1:], after], dim=1)
        parts = []
        for p in range(self.factor):
            beside = (p + 0.5) / self.factor - 0.5
            parts.append(torch.lerp(x, before, -beside) if beside < 0 else torch.lerp(x, after, beside))
        return torch.stack(parts, dim=2).flatten(1, 2).mT

    def extra_repr(self) -> str:
        return f"factor={self.factor}"
