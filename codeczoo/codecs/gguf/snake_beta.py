"""SnakeBeta in a GGUF file: codec.cpp stores e^α and 1 / (e^β + 1e-9), where checkpoints have α and β."""

from __future__ import annotations

from torch import Tensor

from codeczoo.base.key_map import Change

EPS = 1e-9


def _log(value: Tensor) -> Tensor:
    return value.double().log().float()


def _exp(alpha: Tensor) -> Tensor:
    return alpha.double().exp().float()


def _beta(inverse: Tensor) -> Tensor:
    return (1 / inverse.double() - EPS).log().float()


def _inverse(beta: Tensor) -> Tensor:
    return (1 / (beta.double().exp() + EPS)).float()


def changes(alphas: str, inverses: str) -> tuple[Change, Change]:
    """Of tensors of these names, regular expressions."""
    return Change(alphas, _log, _exp), Change(inverses, _beta, _inverse)
