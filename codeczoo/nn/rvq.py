"""Residual vector quantisation by Euclidean distance (SoundStream, arXiv 2107.03312).

At each level the nearest row of the codebook is the code, and the remainder is the next level's input. Arithmetic is at
least float32 with TF32 off, whatever the network runs in: a rounding error would change codes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codeczoo.base.device import matmul_precision
from codeczoo.base.exporting import exporting
from codeczoo.base.key_map import Rule
from codeczoo.nn.quantizer import Quantizer, passed_through


class ResidualVQ(Quantizer):
    """`num_codebooks` levels of `size` vectors of `dim` values, in one parameter `codebooks` [K, size, dim]."""

    def __init__(self, num_codebooks: int, size: int, dim: int) -> None:
        super().__init__()
        self.codebooks = nn.Parameter(torch.empty(num_codebooks, size, dim))

    def encode(self, x: Tensor, num_codebooks: int | None = None) -> Tensor:
        """Latents [B, dim, N] → codes [B, K, N] of the first `num_codebooks` levels (None = all)."""
        batch, dim, frames = x.shape
        books = at_least_float32(self.codebooks[:num_codebooks])
        residual = x.mT.reshape(-1, dim).to(books.dtype)  # [B * N, dim]
        codes = []
        with matmul_precision("exact"):
            for book in books:
                index = nearest(residual, book)
                residual = residual - F.embedding(index, book)
                codes.append(index)
        return torch.stack(codes).view(len(books), batch, frames).transpose(0, 1)

    def decode(self, codes: Tensor, first: int = 0) -> Tensor:
        """Codes [B, K, N] of K levels from `first` on → the sum of their vectors, [B, dim, N]."""
        batch, levels, frames = codes.shape
        _, size, dim = self.codebooks.shape
        offsets = torch.arange(first, first + levels, device=codes.device)[:, None] * size
        rows = (codes + offsets).mT.reshape(-1, levels)  # [B * N, K] into all codebooks laid end to end
        if exporting():  # ONNX has no embedding_bag
            return F.embedding(rows, self.codebooks.view(-1, dim)).sum(1).view(batch, frames, dim).mT
        vectors = F.embedding_bag(rows, self.codebooks.view(-1, dim), mode="sum")
        return vectors.view(batch, frames, dim).mT

    def straight_through(self, latent: Tensor, num_codebooks: int | None = None) -> Tensor:
        with torch.no_grad():
            vectors = self.decode(self.encode(latent, num_codebooks))
        return passed_through(vectors, latent)

    def tables(self) -> list[Tensor]:
        return list(self.codebooks)


def nearest(x: Tensor, book: Tensor) -> Tensor:
    """Vectors [n, dim] → the index of the nearest row of `book` [size, dim] for each; the first on a tie."""
    half = torch.linalg.vector_norm(book, dim=-1).square_().div_(2)  # |e|²/2, without a copy of the book
    # |x - e|² = |x|² + 2 (|e|²/2 - x · e): the first term is the same for every row.
    return torch.addmm(half, x, book.T, alpha=-1).argmin(-1)


def at_least_float32(x: Tensor) -> Tensor:
    """The values in float32, or as they are if they have that or more."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def codebook_rule(ours: str, published: str, num_codebooks: int) -> Rule:
    """Where the parameter `ours` of a `ResidualVQ` comes from: one published tensor a level, "{}" its number."""
    names = tuple(published.format(k) for k in range(num_codebooks))
    return Rule(ours, names, lambda *levels: torch.stack(levels), lambda books: books.unbind())


def mean_codebook_rule(ours: str, total: str, usage: str, num_codebooks: int) -> Rule:
    """As `codebook_rule`, for codebooks that are published as running sums: `total` names the sum of the latents that
    fell to each vector, `usage` their smoothed count."""
    names = (name.format(k) for name in (total, usage) for k in range(num_codebooks))
    return Rule(ours, tuple(names), _means)


def _means(*totals_and_usages: Tensor) -> Tensor:
    half = len(totals_and_usages) // 2
    pairs = zip(totals_and_usages[:half], totals_and_usages[half:], strict=True)
    return torch.stack([total.float() / usage.float().clamp(min=1e-5)[:, None] for total, usage in pairs])
