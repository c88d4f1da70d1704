"""`Quantizer`: what a codec asks of its quantiser, whatever its kind; and the straight-through gradient.

A code is a decision and has no gradient. A straight-through quantiser takes the vector that was chosen on the way
forward, and on the way back passes the vector's gradient to the value that was quantised ("Estimating or Propagating
Gradients Through Stochastic Neurons for Conditional Computation", arXiv 1308.3432). What stands around the choice, such
as a projection or tanh, keeps its own gradient. The codebook gets none here: it has one in `vectors`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Quantizer(nn.Module):
    """Latents [B, D, N] ↔ codes. A kind of quantiser defines `encode`, `decode`, `straight_through` and `tables`."""

    def quantize(self, latent: Tensor, num_codebooks: int | None = None) -> Tensor:
        """[B, D, N] → codes [B, K, N] of the first `num_codebooks` codebooks (None = all)."""
        codes: Tensor = self.encode(latent, num_codebooks)
        return codes

    def vectors(self, codes: Tensor) -> Tensor:
        """[B, K, N] of the first K codebooks → what they stand for, [B, D', N]."""
        vectors: Tensor = self.decode(codes)
        return vectors

    def straight_through(self, latent: Tensor, num_codebooks: int | None = None) -> Tensor:
        """`vectors(quantize(latent, num_codebooks))`, with a gradient for `latent`."""
        raise NotImplementedError

    def tables(self) -> list[Tensor]:
        """Each codebook, [size, dim]."""
        raise NotImplementedError


class SingleQuantizer(Quantizer):
    """One codebook: `encode` and `decode` have codes [B, N]."""

    def quantize(self, latent: Tensor, num_codebooks: int | None = None) -> Tensor:
        codes: Tensor = self.encode(latent)
        return codes[:, None]

    def vectors(self, codes: Tensor) -> Tensor:
        vectors: Tensor = self.decode(codes[:, 0])
        return vectors


def passed_through(vectors: Tensor, chosen_for: Tensor) -> Tensor:
    """`vectors` as they are, whose gradient goes to `chosen_for`, of the same shape."""
    through: Tensor = _PassedThrough.apply(vectors, chosen_for)
    return through


class _PassedThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, vectors: Tensor, chosen_for: Tensor) -> Tensor:
        return vectors.view_as(vectors)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        return None, gradients[0]
