"""Rotary positions (RoFormer, arXiv 2104.09864): queries and keys are turned by angles that grow with their position,
so that their products depend on how far apart they are.

Each head's dimensions form pairs that turn together. Here dimension i is paired with i + D/2 ("halves"). Checkpoints
that pair neighbours, 2i with 2i + 1, hold the same network with its query and key rows in another order: their key
maps call `neighbours_to_halves`, and one layout is enough at run time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class Rotation(NamedTuple):
    """Cosines and signed sines of a run of positions, each [..., 1, T, D]: they broadcast over heads."""

    cos: Tensor
    sin: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Queries or keys [..., H, T, D], turned."""
        return (x * self.cos).addcmul_(x.roll(x.shape[-1] // 2, -1), self.sin)


@dataclass(frozen=True)
class Rotary:
    """The angles: position · base^(-2i / D) for pair i of D/2."""

    head_dim: int
    base: float = 10000.0

    def __call__(self, positions: Tensor, dtype: torch.dtype) -> Rotation:
        """Positions [T] or [B, T], whole numbers. Angles are taken in float64 where the device has it: in float32
        those of a long stream would lose their last digits."""
        wide = torch.float32 if positions.device.type == "mps" else torch.float64
        pairs = torch.arange(0, self.head_dim, 2, device=positions.device, dtype=wide)
        angles = positions[..., None, :, None].to(wide) * self.base ** (-pairs / self.head_dim)  # [..., 1, T, D / 2]
        cos, sin = angles.cos().to(dtype), angles.sin().to(dtype)
        return Rotation(torch.cat([cos, cos], dim=-1), torch.cat([-sin, sin], dim=-1))


def qkv_to_halves(qkv: Tensor, num_heads: int) -> Tensor:
    """Projections of queries, keys and values [3 * H * D, ...], as `neighbours_to_halves` of the first two."""
    q, k, v = qkv.chunk(3)
    return torch.cat([neighbours_to_halves(q, num_heads), neighbours_to_halves(k, num_heads), v])


def neighbours_to_halves(weight: Tensor, num_heads: int) -> Tensor:
    """Query or key projection [H * D, ...] whose heads pair rows 2i, 2i + 1 → the same with rows i, i + D/2 paired."""
    heads = weight.unflatten(0, (num_heads, -1, 2))  # [H, D / 2, 2, ...]
    return heads.transpose(1, 2).flatten(0, 2)
