"""Straight-through gradients: what stands around the choice of a code keeps its gradient, the choice passes it on."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from codeczoo.nn.factorized_vq import FactorizedVQ, ResidualFactorizedVQ
from codeczoo.nn.fsq import FSQ, GroupFSQ, ProjectedFSQ
from codeczoo.nn.group_vq import GroupResidualVQ
from codeczoo.nn.quantizer import Quantizer
from codeczoo.nn.rvq import ResidualVQ
from codeczoo.nn.sign_quantizer import SignQuantizer

DIM = 6
KINDS: dict[str, Quantizer] = {
    "rvq": ResidualVQ(3, 16, DIM),
    "groups": GroupResidualVQ(2, 2, 16, DIM),
    "factorized": FactorizedVQ(DIM, 16, 2),
    "residual factorized": ResidualFactorizedVQ(DIM, 3, 16, 2),
    "fsq": FSQ((5,) * DIM),
    "projected fsq": ProjectedFSQ(DIM, (4, 4, 4), bounds=2),
    "groups of fsq": GroupFSQ(2, (8, 7, 6), 0.999, shift=torch.tan),
    "signs": SignQuantizer(DIM),
}


def filled(quantizer: Quantizer) -> Quantizer:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in quantizer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 2)
    return quantizer.double().requires_grad_(False)


def latent(frames: int = 5) -> Tensor:
    return torch.randn(2, DIM, frames, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("kind", KINDS)
def test_the_values_are_those_of_the_codes(kind: str) -> None:
    quantizer, x = filled(KINDS[kind]), latent()
    codes = quantizer.quantize(x)
    assert codes.shape == (2, len(quantizer.tables()), 5)
    through = quantizer.straight_through(x.requires_grad_())
    assert torch.equal(through, quantizer.vectors(codes)) and through.requires_grad
    assert [len(table) for table in quantizer.tables()] >= [int(row.max()) + 1 for row in codes.unbind(1)]


def jacobian(quantizer: Quantizer, x: Tensor) -> Tensor:
    """Of one frame, [DIM, DIM]."""
    found = torch.autograd.functional.jacobian(quantizer.straight_through, x[:1, :, :1])
    return found.view(found.shape[1], DIM)


@pytest.mark.parametrize("kind", ["rvq", "groups"])
def test_vectors_of_the_latent_itself_pass_the_gradient_as_it_is(kind: str) -> None:
    assert torch.equal(jacobian(filled(KINDS[kind]), latent()), torch.eye(DIM, dtype=torch.float64))


def test_projections_keep_their_gradient() -> None:
    quantizer = filled(KINDS["factorized"])
    into, out = quantizer.in_proj.weight[..., 0], quantizer.out_proj.weight[..., 0]
    torch.testing.assert_close(jacobian(quantizer, latent()), out @ into)


def test_a_level_passes_on_what_the_levels_before_it_left() -> None:
    quantizer = filled(KINDS["residual factorized"])
    rest = torch.eye(DIM, dtype=torch.float64)
    for level in quantizer.levels:
        rest = rest - level.out_proj.weight[..., 0] @ level.in_proj.weight[..., 0] @ rest
    torch.testing.assert_close(jacobian(quantizer, latent()), torch.eye(DIM, dtype=torch.float64) - rest)


def test_bounds_and_norms_keep_their_gradient() -> None:
    """As if nothing were rounded: the differences of the bounded values."""
    x = latent()
    for kind, smooth in (
        ("fsq", lambda z: KINDS["fsq"].bound(z) / 2),
        ("signs", lambda z: z / z.norm(dim=1, keepdim=True)),
    ):
        found = jacobian(filled(KINDS[kind]), x)
        expected = torch.autograd.functional.jacobian(smooth, x[:1, :, :1]).view(DIM, DIM)
        torch.testing.assert_close(found, expected)


def test_the_codebook_learns_from_vectors_and_not_from_the_choice() -> None:
    quantizer, x = filled(KINDS["factorized"]), latent()
    try:
        quantizer.requires_grad_()
        quantizer.straight_through(x).sum().backward()
        assert quantizer.codebook.grad is None and quantizer.in_proj.weight.grad is not None
        quantizer.vectors(quantizer.quantize(x)).sum().backward()
        assert bool(quantizer.codebook.grad.any())
    finally:
        quantizer.zero_grad()
        quantizer.requires_grad_(False)
