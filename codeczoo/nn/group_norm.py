"""Group normalisation over time that counts each item's own steps alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class GroupNorm(nn.Module):
    """[B, C, T] → [B, C, T]: mean and variance over a group's channels and the item's own time, then an affine map.

    `groups=1` is EnCodec's norm over all channels and all time. [B, C, F, T] may stand for [B, C, T]: the statistics
    are then over all F too.
    """

    def __init__(self, groups: int, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.groups, self.eps = groups, eps
        self.weight = nn.Parameter(torch.empty(channels))
        self.bias = nn.Parameter(torch.empty(channels))

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        if lengths is None:
            return F.group_norm(x, self.groups, self.weight, self.bias, self.eps)
        if x.device.type == "cpu":
            return self.item_by_item(x, lengths)
        return self.all_at_once(x, lengths)

    def item_by_item(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Each item as if alone, bit for bit, with zeros behind it. On a CPU this is also far faster than masking."""
        out = torch.empty_like(x)
        for i, length in enumerate(lengths.tolist()):
            own = x[i : i + 1, ..., :length]
            out[i : i + 1, ..., :length] = F.group_norm(own, self.groups, self.weight, self.bias, self.eps)
            out[i, ..., length:] = 0
        return out

    def all_at_once(self, x: Tensor, lengths: Tensor) -> Tensor:
        """The whole batch without reading the lengths back from the device. Statistics are float32 or better."""
        batch, total, each = len(x), x.shape[-1], x[0, 0, ..., 0].numel()  # values a channel and step
        behind = (torch.arange(total, device=x.device) >= lengths[:, None])[:, None, None]  # [B, 1, 1, T]
        grouped = x.reshape(batch, self.groups, -1, total)
        grouped = grouped.to(torch.promote_types(x.dtype, torch.float32)).masked_fill(behind, 0)
        count = (lengths * grouped.shape[2]).clamp(min=1).view(batch, 1, 1, 1)
        mean = grouped.sum((2, 3), keepdim=True) / count
        # Two passes: the variance of small values about a large mean survives float32.
        centred = grouped.sub_(mean).masked_fill_(behind, 0)
        variance = torch.linalg.vector_norm(centred, dim=(2, 3), keepdim=True).square() / count
        weight, bias = (
            (p if each == 1 else p.repeat_interleave(each)).view(self.groups, -1, 1) for p in (self.weight, self.bias)
        )
        scale = weight * (variance + self.eps).rsqrt()  # [B, G, C / G, 1]
        return torch.addcmul(bias, centred, scale).to(x.dtype).view_as(x)
