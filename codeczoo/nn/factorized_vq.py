"""Residual vector quantisation in a small projected space, by cosine (DAC, arXiv 2306.06546, section 3.2).

A level projects what is left of the latent to a few dimensions, takes the row of its codebook that points in the most
similar direction ("improved VQGAN", arXiv 2110.04627), and projects that row back. The row is taken as it is stored:
only the search looks at directions alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codeczoo.base.device import matmul_precision
from codeczoo.nn.conv import Conv1d
from codeczoo.nn.quantizer import Quantizer, SingleQuantizer, passed_through
from codeczoo.nn.rvq import at_least_float32


class FactorizedVQ(SingleQuantizer):
    """One level: a codebook [size, dim] between projections from and to `latent_dim`."""

    def __init__(self, latent_dim: int, size: int, dim: int) -> None:
        super().__init__()
        self.in_proj = Conv1d(latent_dim, dim, 1)
        self.codebook = nn.Parameter(torch.empty(size, dim))
        self.out_proj = Conv1d(dim, latent_dim, 1)

    def encode(self, latent: Tensor, first: int = 0, end: int | None = None) -> Tensor:
        """[B, latent_dim, N] → codes [B, N], of the rows `first` to `end` of the codebook."""
        return self.search(self.in_proj(latent), first, end)

    def search(self, projected: Tensor, first: int = 0, end: int | None = None) -> Tensor:
        """[B, dim, N] → the codebook rows of the greatest cosine, [B, N]; the first on a tie."""
        rows = F.normalize(at_least_float32(self.codebook[first:end]), dim=1, eps=1e-12)
        directions = F.normalize(at_least_float32(projected), dim=1, eps=1e-12)
        with matmul_precision("exact"):
            return (directions.mT @ rows.T).argmax(-1) + first

    def decode(self, codes: Tensor) -> Tensor:
        """[B, N] → [B, latent_dim, N]."""
        return self.out_proj(F.embedding(codes, self.codebook).mT)

    def straight_through(
        self, latent: Tensor, num_codebooks: int | None = None, first: int = 0, end: int | None = None
    ) -> Tensor:
        """As `Quantizer.straight_through`, with the rows `first` to `end` of the codebook."""
        projected = self.in_proj(latent)
        with torch.no_grad():
            rows = F.embedding(self.search(projected, first, end), self.codebook).mT
        return self.out_proj(passed_through(rows, projected))

    def tables(self) -> list[Tensor]:
        return [self.codebook]


class ResidualFactorizedVQ(Quantizer):
    """`num_codebooks` levels, each of which quantises what the ones before it left over."""

    def __init__(self, latent_dim: int, num_codebooks: int, size: int, dim: int) -> None:
        super().__init__()
        self.levels = nn.ModuleList(FactorizedVQ(latent_dim, size, dim) for _ in range(num_codebooks))

    def encode(self, latent: Tensor, num_codebooks: int | None = None) -> Tensor:
        """[B, latent_dim, N] → codes [B, K, N] of the first `num_codebooks` levels (None = all)."""
        levels = self._first(num_codebooks)
        residual, codes = latent, [levels[0].encode(latent)]
        for previous, level in itertools.pairwise(levels):
            residual = residual - previous.decode(codes[-1])
            codes.append(level.encode(residual))
        return torch.stack(codes, dim=1)

    def decode(self, codes: Tensor) -> Tensor:
        """Codes [B, K, N] of the first K levels → the sum of what they stand for, [B, latent_dim, N]."""
        first, *others = zip(self._first(codes.shape[1]), codes.unbind(1), strict=True)
        latent = first[0].decode(first[1])
        for level, code in others:
            latent += level.decode(code)
        return latent

    def straight_through(self, latent: Tensor, num_codebooks: int | None = None) -> Tensor:
        first, *others = self._first(num_codebooks)
        vectors = total = first.straight_through(latent)
        for level in others:
            latent = latent - vectors
            vectors = level.straight_through(latent)
            total = total + vectors
        return total

    def tables(self) -> list[Tensor]:
        return [level.codebook for level in self._first(None)]

    def _first(self, count: int | None) -> Sequence[FactorizedVQ]:
        return cast(Sequence[FactorizedVQ], self.levels[:count])
