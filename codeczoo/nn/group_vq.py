"""Group-residual vector quantisation (HiFi-Codec, arXiv 2305.02765).

The channels of a latent are cut into groups, and each group is quantised residually by itself. A level is one codebook
of each group; the codes come level by level.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from codeczoo.nn.quantizer import Quantizer
from codeczoo.nn.rvq import ResidualVQ


class GroupResidualVQ(Quantizer):
    """`num_groups` residual quantisers of `num_levels` codebooks each, for equal shares of `dim` channels.

    Code k = level * num_groups + group.
    """

    def __init__(self, num_groups: int, num_levels: int, size: int, dim: int) -> None:
        super().__init__()
        if dim % num_groups:
            raise ValueError(f"{dim} channels cannot be cut into {num_groups} equal groups")
        groups = nn.ModuleList([ResidualVQ(num_levels, size, dim // num_groups) for _ in range(num_groups)])
        self.groups = cast(Sequence[ResidualVQ], groups)

    def encode(self, x: Tensor, num_codebooks: int | None = None) -> Tensor:
        """Latents [B, dim, N] → codes [B, K, N] of the first K codebooks, whole levels (None = all)."""
        levels = None if num_codebooks is None else self._levels(num_codebooks)
        parts = x.chunk(len(self.groups), dim=1)
        codes = [vq.encode(part, levels) for vq, part in zip(self.groups, parts, strict=True)]
        return torch.stack(codes, dim=2).flatten(1, 2)  # [B, levels, groups, N] → [B, K, N]

    def decode(self, codes: Tensor) -> Tensor:
        """Codes [B, K, N] of whole levels → [B, dim, N].

        Raises:
            ValueError: a level that lacks a group.
        """
        self._levels(codes.shape[1])
        count = len(self.groups)
        return torch.cat([vq.decode(codes[:, group::count]) for group, vq in enumerate(self.groups)], dim=1)

    def straight_through(self, latent: Tensor, num_codebooks: int | None = None) -> Tensor:
        levels = None if num_codebooks is None else self._levels(num_codebooks)
        parts = zip(self.groups, latent.chunk(len(self.groups), dim=1), strict=True)
        return torch.cat([vq.straight_through(part, levels) for vq, part in parts], dim=1)

    def tables(self) -> list[Tensor]:
        return [book for level in zip(*(vq.codebooks for vq in self.groups), strict=True) for book in level]

    def _levels(self, num_codebooks: int) -> int:
        levels, rest = divmod(num_codebooks, len(self.groups))
        if rest:
            raise ValueError(
                f"a level is {len(self.groups)} codebooks, one for each group; {num_codebooks} are no whole levels"
            )
        return levels
