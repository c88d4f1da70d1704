"""Residual vector quantisation: nearest by definition, the first on a tie, level after level."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from codeczoo.nn.rvq import ResidualVQ, codebook_rule, nearest


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def quantizer(levels: int = 4, size: int = 16, dim: int = 6, dtype: torch.dtype = torch.float64) -> ResidualVQ:
    vq = ResidualVQ(levels, size, dim).to(dtype).requires_grad_(False)
    vq.codebooks.copy_(noise(levels, size, dim, seed=9) / torch.arange(1, levels + 1)[:, None, None])
    return vq


def test_each_level_takes_the_nearest_of_what_is_left() -> None:
    vq, x = quantizer(), noise(3, 6, 10)
    codes = vq.encode(x)
    left = x.mT.clone()  # [B, N, dim]
    for level, book in enumerate(vq.codebooks):
        distance = (left[:, :, None] - book).square().sum(-1)  # [B, N, size]
        assert torch.equal(codes[:, level], distance.argmin(-1))
        left -= book[codes[:, level]]
    torch.testing.assert_close(vq.decode(codes), x - left.mT)


def test_fewer_levels_are_the_first_of_all() -> None:
    vq, x = quantizer(), noise(2, 6, 5)
    codes = vq.encode(x)
    assert torch.equal(vq.encode(x, 2), codes[:, :2])
    torch.testing.assert_close(vq.decode(codes[:, :2]) + vq.decode(codes[:, 2:], first=2), vq.decode(codes))


def test_the_first_of_equal_vectors_is_taken() -> None:
    book = noise(8, 4)
    book[5] = book[2]
    book[7] = book[2]
    assert nearest(book, book).tolist() == [0, 1, 2, 3, 4, 2, 6, 2]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_code_is_decided_in_float32(dtype: torch.dtype) -> None:
    """Two vectors that differ by less than the half precision of a distance are still told apart."""
    vq = ResidualVQ(1, 2, 8).to(dtype).requires_grad_(False)
    vq.codebooks[0, 0], vq.codebooks[0, 1] = 1.0, 1.0
    vq.codebooks[0, 1, 0] = 1.0 + 2 * torch.finfo(dtype).eps
    x = vq.codebooks[0].T[None]
    assert vq.encode(x).tolist() == [[[0, 1]]]


def test_no_frames_have_no_codes() -> None:
    assert quantizer().encode(noise(2, 6, 0)).shape == (2, 4, 0)


def test_codebooks_come_one_by_one_from_a_checkpoint() -> None:
    rule = codebook_rule(r"vq\.codebooks", "layers.{}.embed", 3)
    assert rule.published == ("layers.0.embed", "layers.1.embed", "layers.2.embed")
    books = [noise(4, 2, seed=i) for i in range(3)]
    assert torch.equal(rule.combine(*books), torch.stack(books))
