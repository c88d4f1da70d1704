"""Finite scalar quantisation: each channel is rounded to one of a few levels, and the levels are digits of the code.

"Finite Scalar Quantization: VQ-VAE Made Simple" (arXiv 2309.15505). There is no codebook to look up. In the codes of
every published codec here the first channel is the digit that runs fastest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from codeczoo.nn.sequential import Linear


class FSQ(nn.Module):
    """Values [B, D, N] ↔ codes [B, N], D the number of digits. It has no parameters.

    Args:
        levels: of each digit.
        scale: how far tanh reaches, relative to the outermost levels: 1.001 for vector-quantize-pytorch's bound with
            its slack of 1e-3, 0.9990000128746033 for S3Tokenizer.
    """

    def __init__(self, levels: Sequence[int], scale: float = 1.001) -> None:
        super().__init__()
        if min(levels, default=0) < 2:
            raise ValueError(f"a digit needs two levels at least; levels={tuple(levels)}")
        self.levels, self.scale = tuple(levels), scale
        self.size = math.prod(self.levels)

    def bound(self, z: Tensor) -> Tensor:
        """[B, D, N] → [B, D, N] within the levels, whose places are the whole numbers about 0.

        An even number of levels has one more below 0 than above it: there tanh is shifted, so that 0 stays 0.
        """
        half = self._column([(count - 1) * self.scale / 2 for count in self.levels], z)
        offset = self._column([0.0 if count % 2 else 0.5 for count in self.levels], z)
        return (z + (offset / half).atanh()).tanh() * half - offset

    def encode(self, z: Tensor) -> Tensor:
        """[B, D, N], not bounded yet → codes [B, N] int64. Halves are rounded to even."""
        z = z.to(torch.promote_types(z.dtype, torch.float32))
        digits = self.bound(z).round().long()
        digits += self._column([count // 2 for count in self.levels], digits)
        return (digits * self._column(self._places(), digits)).sum(1)

    def decode(self, codes: Tensor, dtype: torch.dtype) -> Tensor:
        """Codes [B, N] → values [B, D, N] between -1 and 1."""
        levels, places = self._column(self.levels, codes), self._column(self._places(), codes)
        digits = codes[:, None].div(places, rounding_mode="floor").remainder_(levels)
        return (digits - levels // 2).to(dtype) / (levels // 2)

    def _places(self) -> list[int]:
        """What a digit counts in the code."""
        return [math.prod(self.levels[:d]) for d in range(len(self.levels))]

    @staticmethod
    def _column(values: Sequence[float], like: Tensor) -> Tensor:
        """[D, 1] beside `like`."""
        return torch.tensor(values, dtype=like.dtype, device=like.device)[:, None]

    def extra_repr(self) -> str:
        return f"levels={self.levels}, scale={self.scale}"


class ProjectedFSQ(FSQ):
    """FSQ between two linear layers: latents [B, dim, N] ↔ codes [B, N].

    Args:
        bounds: how often the projection is bounded on its way to a code. X-Codec 2 does it twice.
    """

    def __init__(self, dim: int, levels: Sequence[int], scale: float = 1.001, bounds: int = 1) -> None:
        super().__init__(levels, scale)
        self.bounds = bounds
        self.project_in = Linear(dim, len(self.levels))
        self.project_out = Linear(len(self.levels), dim)

    def encode(self, z: Tensor) -> Tensor:
        z = self.project_in(z.mT).mT
        for _ in range(self.bounds - 1):
            z = self.bound(z)
        return super().encode(z)

    def decode(self, codes: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        values = super().decode(codes, dtype or self.project_out.weight.dtype)
        return self.project_out(values.mT).mT
