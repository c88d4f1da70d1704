"""Finite scalar quantisation: each channel is rounded to one of a few levels, and the levels are digits of the code.

"Finite Scalar Quantization: VQ-VAE Made Simple" (arXiv 2309.15505). There is no codebook to look up. In the codes of
every published codec here the first channel is the digit that runs fastest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from codeczoo.nn.quantizer import SingleQuantizer, passed_through
from codeczoo.nn.sequential import Linear


class FSQ(SingleQuantizer):
    """Values [B, D, N] ↔ codes [B, N], D the number of digits. It has no parameters.

    Args:
        levels: of each digit.
        scale: how far tanh reaches, relative to the outermost levels: 1.001 for vector-quantize-pytorch's bound with
            its slack of 1e-3, 0.9990000128746033 for S3Tokenizer, 0.999 for NeMo.
        shift: what moves tanh where the number of levels is even. atanh keeps 0 at 0; NeMo's tan is 1e-5 off.
    """

    def __init__(
        self, levels: Sequence[int], scale: float = 1.001, shift: Callable[[Tensor], Tensor] = torch.atanh
    ) -> None:
        super().__init__()
        if min(levels, default=0) < 2:
            raise ValueError(f"a digit needs two levels at least; levels={tuple(levels)}")
        self.levels, self.scale, self.shift = tuple(levels), scale, shift
        self.size = math.prod(self.levels)
        places = [math.prod(self.levels[:d]) for d in range(len(self.levels))]  # what a digit counts in the code
        self._levels: Tensor
        self._places: Tensor
        self.register_buffer("_levels", torch.tensor(self.levels)[:, None], persistent=False)
        self.register_buffer("_places", torch.tensor(places)[:, None], persistent=False)
        self._values: Tensor
        self.register_buffer("_values", torch.zeros(()), persistent=False)  # has the type of the values

    def bound(self, z: Tensor) -> Tensor:
        """[B, D, N] → [B, D, N] within the levels, whose places are the whole numbers about 0.

        An even number of levels has one more below 0 than above it: there tanh is shifted, so that 0 stays 0.
        """
        half = self._column([(count - 1) * self.scale / 2 for count in self.levels], z)
        offset = self._column([0.0 if count % 2 else 0.5 for count in self.levels], z)
        return (z + self.shift(offset / half)).tanh() * half - offset

    def encode(self, z: Tensor) -> Tensor:
        """[B, D, N], not bounded yet → codes [B, N] int64. Halves are rounded to even."""
        z = z.to(torch.promote_types(z.dtype, torch.float32))
        digits = self.bound(z).round().long()
        return ((digits + self._levels // 2) * self._places).sum(1)

    def decode(self, codes: Tensor) -> Tensor:
        """Codes [B, N] → values [B, D, N] between -1 and 1."""
        digits = codes[:, None].div(self._places, rounding_mode="floor").remainder_(self._levels)
        return (digits - self._levels // 2).to(self._values.dtype) / (self._levels // 2)

    def straight_through(self, latent: Tensor, num_codebooks: int | None = None) -> Tensor:
        return FSQ._through(self, latent)

    def _through(self, z: Tensor) -> Tensor:
        """[B, D, N], not bounded yet → the values of its codes."""
        z = z.to(torch.promote_types(z.dtype, torch.float32))
        with torch.no_grad():
            values = FSQ.decode(self, FSQ.encode(self, z))
        return passed_through(values, self.bound(z) / (self._levels // 2))

    def tables(self) -> list[Tensor]:
        codes = torch.arange(self.size, device=self._levels.device)
        return [FSQ.decode(self, codes[None])[0].T]

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
        return super().encode(self._projected(z))

    def decode(self, codes: Tensor) -> Tensor:
        return self.project_out(super().decode(codes).mT).mT

    def straight_through(self, latent: Tensor, num_codebooks: int | None = None) -> Tensor:
        return self.project_out(self._through(self._projected(latent)).mT).mT

    def _projected(self, z: Tensor) -> Tensor:
        z = self.project_in(z.mT).mT
        z = z.to(torch.promote_types(z.dtype, torch.float32))
        for _ in range(self.bounds - 1):
            z = self.bound(z)
        return z


class GroupFSQ(FSQ):
    """FSQ of equal shares of the channels, each with its code: values [B, K * D, N] ↔ codes [B, K, N] of D
    digits each (NeMo)."""

    def __init__(
        self, num_groups: int, levels: Sequence[int], scale: float, shift: Callable[[Tensor], Tensor] = torch.atanh
    ) -> None:
        super().__init__(levels, scale, shift)
        self.num_groups = num_groups

    def encode(self, z: Tensor) -> Tensor:
        return super().encode(self._shares(z)).unflatten(0, (-1, self.num_groups))

    def _shares(self, z: Tensor) -> Tensor:
        """[B, K * D, N] → [B * K, D, N]."""
        return z.unflatten(1, (self.num_groups, len(self.levels))).flatten(0, 1)

    def quantize(self, latent: Tensor, num_codebooks: int | None = None) -> Tensor:
        return self.encode(latent)

    def vectors(self, codes: Tensor) -> Tensor:
        return self.decode(codes)

    def straight_through(self, latent: Tensor, num_codebooks: int | None = None) -> Tensor:
        return self._through(self._shares(latent)).unflatten(0, (-1, self.num_groups)).flatten(1, 2)

    def tables(self) -> list[Tensor]:
        return super().tables() * self.num_groups

    def decode(self, codes: Tensor) -> Tensor:
        """Codes [B, K, N] of all groups → values [B, K * D, N] between -1 and 1.

        Raises:
            ValueError: not as many codes as there are groups.
        """
        if codes.shape[1] != self.num_groups:
            raise ValueError(f"codes of all {self.num_groups} groups are needed; these are of {codes.shape[1]}")
        return super().decode(codes.flatten(0, 1)).unflatten(0, (-1, self.num_groups)).flatten(1, 2)
