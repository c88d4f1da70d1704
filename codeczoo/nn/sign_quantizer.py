"""Signs as bits: binary spherical quantisation (arXiv 2406.07548), which needs no codebook."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from codeczoo.base.exporting import exporting
from codeczoo.nn.quantizer import SingleQuantizer, passed_through


class SignQuantizer(SingleQuantizer):
    """Latents [B, bits, N] ↔ codes [B, N]. It has no parameters.

    The first latent is the highest bit, 1 where it is above 0. The latents are not normalised first: that keeps signs.
    """

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits = bits
        self._values: Tensor
        self.register_buffer("_values", torch.zeros(()), persistent=False)  # has the type of the values

    def encode(self, z: Tensor) -> Tensor:
        if exporting():
            return ((z > 0) * torch.tensor([2**place for place in reversed(range(self.bits))])[:, None]).sum(1)
        return ((z > 0) << self._places(z)).sum(1)

    def decode(self, codes: Tensor) -> Tensor:
        """Each value is ± 1 / sqrt(bits)."""
        if exporting():  # torch's translation has no shifts
            counts = torch.tensor([2**place for place in reversed(range(self.bits))])[:, None]
            bits = codes[:, None].div(counts, rounding_mode="floor").remainder(2)
        else:
            bits = codes[:, None] >> self._places(codes) & 1
        return (2 * bits - 1).to(self._values.dtype) * self.bits**-0.5

    def straight_through(self, latent: Tensor, num_codebooks: int | None = None) -> Tensor:
        """The gradient passes the signs and goes through the normalisation that stands before them."""
        return passed_through(self.decode(self.encode(latent)), F.normalize(latent, dim=1))

    def tables(self) -> list[Tensor]:
        return [self.decode(torch.arange(2**self.bits, device=self._values.device)[None])[0].T]

    def _places(self, like: Tensor) -> Tensor:
        return torch.arange(self.bits - 1, -1, -1, device=like.device)[:, None]
