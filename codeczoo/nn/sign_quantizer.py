"""Signs as bits: binary spherical quantisation (arXiv 2406.07548), which needs no codebook."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SignQuantizer(nn.Module):
    """Latents [B, bits, N] ↔ codes [B, N]. It has no parameters.

    The first latent is the highest bit, 1 where it is above 0. The latents are not normalised first: that keeps signs.
    """

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits = bits

    def encode(self, z: Tensor) -> Tensor:
        return ((z > 0) << self._places(z)).sum(1)

    def decode(self, codes: Tensor, dtype: torch.dtype) -> Tensor:
        """Each value is ± 1 / sqrt(bits)."""
        bits = codes[:, None] >> self._places(codes) & 1
        return (2 * bits - 1).to(dtype) * self.bits**-0.5

    def _places(self, like: Tensor) -> Tensor:
        return torch.arange(self.bits - 1, -1, -1, device=like.device)[:, None]
