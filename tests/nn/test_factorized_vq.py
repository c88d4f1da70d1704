"""The projected quantiser: greatest cosine, stored rows, levels that build on each other."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from codeczoo.nn.factorized_vq import FactorizedVQ, ResidualFactorizedVQ


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def filled(module: torch.nn.Module) -> torch.nn.Module:
    for seed, parameter in enumerate(module.requires_grad_(False).double().parameters()):
        parameter.copy_(noise(*parameter.shape, seed=seed))
    return module


def test_the_code_is_the_row_of_the_greatest_cosine():
    level, projected = filled(FactorizedVQ(12, 50, 4)), noise(2, 4, 30, seed=99)
    codes = level.search(projected)
    assert codes.shape == (2, 30)
    cosines = torch.cosine_similarity(projected[:, None], level.codebook[None, :, :, None], dim=2)  # [B, size, N]
    assert torch.equal(codes, cosines.argmax(1))
    assert len(codes.unique()) > 10


def test_length_does_not_matter_for_the_search_but_is_kept_by_the_row():
    level, projected = filled(FactorizedVQ(12, 50, 4)), noise(1, 4, 9, seed=99)
    codes = level.search(projected)
    vectors = level.decode(codes)
    with torch.no_grad():
        level.codebook.mul_(torch.linspace(0.5, 3, 50)[:, None])
    assert torch.equal(level.search(7 * projected), codes)
    scale = torch.linspace(0.5, 3, 50).double()[codes][:, None]  # [1, 1, N]
    bias = level.out_proj.bias[:, None]
    torch.testing.assert_close(level.decode(codes) - bias, scale * (vectors - bias))


def test_the_first_of_equal_rows_is_taken():
    level = filled(FactorizedVQ(6, 5, 2))
    with torch.no_grad():
        level.codebook.copy_(torch.tensor([[0, -1], [3, 4], [-1, 0], [3, 4], [3, 4]]))
    assert level.search(torch.tensor([[[3.0, 0.3], [4.0, 0.4]]], dtype=torch.float64)).tolist() == [[1, 1]]


def test_a_vector_of_zeros_has_no_direction_and_gets_row_0():
    level = filled(FactorizedVQ(6, 5, 2))
    assert level.search(torch.zeros(1, 2, 3, dtype=torch.float64)).tolist() == [[0, 0, 0]]


def test_the_search_is_at_least_float32():
    level = filled(FactorizedVQ(6, 64, 4)).bfloat16()
    projected = noise(1, 4, 200, seed=5).bfloat16()
    exact = torch.cosine_similarity(projected.double()[:, None], level.codebook.double()[None, :, :, None], dim=2)
    assert torch.equal(level.search(projected), exact.argmax(1))


@pytest.mark.parametrize("count", [1, 2, 4, None])
def test_each_level_quantises_what_the_levels_before_it_left(count):
    vq, latent = filled(ResidualFactorizedVQ(10, 4, 30, 3)), noise(2, 10, 7, seed=42)
    kept = latent.clone()
    codes = vq.encode(latent, count)
    assert codes.shape == (2, count or 4, 7)
    assert torch.equal(latent, kept)
    for k in range(codes.shape[1]):
        left = latent - vq.decode(codes[:, :k]) if k else latent
        assert torch.equal(codes[:, k], vq.levels[k].encode(left))
    assert torch.equal(codes, vq.encode(latent)[:, : codes.shape[1]])


def test_decoding_adds_up_the_levels():
    vq, codes = filled(ResidualFactorizedVQ(10, 3, 30, 3)), torch.arange(24).view(2, 3, 4)
    parts = [vq.levels[k].decode(codes[:, k]) for k in range(3)]
    torch.testing.assert_close(vq.decode(codes), parts[0] + parts[1] + parts[2])
    level, code = vq.levels[1], codes[:, 1]
    by_hand = torch.einsum("oc,bnc->bon", level.out_proj.weight[:, :, 0], level.codebook[code])
    torch.testing.assert_close(parts[1], by_hand + level.out_proj.bias[:, None])
