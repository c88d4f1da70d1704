"""Chains of elementwise operations as one CUDA kernel.

Each separate kernel would read and write a whole activation, or take longer to start than to run. PyTorch's jiterator
compiles them at first use, with the compiler that comes with PyTorch. It has no gradients. Where it cannot be used,
`here` is False, and the caller runs the operations one by one.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable

import torch
from torch import Tensor

log = logging.getLogger(__name__)

SNAKE = """
template <typename T> T snake(T x, T bias, T alpha, T beta, T eps, T biased) {
  T y = biased ? x + bias : x;
  T sine = std::sin(y * alpha);
  return y + sine * sine * (T(1) / (beta + eps));
}
"""
ADD = "template <typename T> T add(T x, T bias, T y) { return x + bias + y; }"

# Index arithmetic of ragged padding, in integers.
PLACES = "template <typename T> T places(T k, T own, T left) { return k < left ? k : k + own; }"
SOURCES = """
template <typename T> T sources(T k, T own, T most, T left, T nothing, T reflect) {
  T last = own - 1 > most ? own - 1 : most;
  T at = k < left ? left - k : k - left + own;
  if (k >= left && at > last) at = 2 * last - at;
  if (!reflect) at = k < left ? T(0) : own - 1;
  return at >= 0 && at < own ? at + left : nothing;
}
"""


def here(x: Tensor) -> bool:
    """Whether the functions below take `x` and tensors of its device and type."""
    return (
        x.is_cuda
        and x.dtype in (torch.float32, torch.float64)
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and torch.cuda.is_available()
        and _works()
    )


def snake(x: Tensor, bias: Tensor | None, alpha: Tensor, beta: Tensor, eps: float) -> Tensor:
    """y + sin²(alpha · y) / (beta + eps) of y = x + bias; all broadcast against each other."""
    function = _compiled(SNAKE, eps=0.0, biased=0.0)
    return function(x, alpha if bias is None else bias, alpha, beta, eps=eps, biased=float(bias is not None))


def add(x: Tensor, bias: Tensor, y: Tensor) -> Tensor:
    """x + bias + y."""
    return _compiled(ADD)(x, bias, y)


def places(k: Tensor, own: Tensor, left: int) -> Tensor:
    """Positions of the steps k of ragged padding: see `nn.padding`."""
    return _compiled(PLACES, left=0)(k, own, left=left)


def sources(k: Tensor, own: Tensor, most: Tensor, left: int, nothing: int, reflect: bool) -> Tensor:
    """Positions that those steps are copied from: `nn.padding._sources` in one kernel."""
    function = _compiled(SOURCES, left=0, nothing=0, reflect=0)
    return function(k, own, most, left=left, nothing=nothing, reflect=int(reflect))


@functools.cache
def _compiled(code: str, **scalars: float) -> Callable[..., Tensor]:
    return torch.cuda.jiterator._create_jit_fn(code, **scalars)


@functools.cache
def _works() -> bool:
    try:
        one = torch.ones(1, device="cuda")
        return float(add(one, one, one)) == 3
    except (AttributeError, RuntimeError) as error:  # PyTorch calls its jiterator a beta
        log.warning("CUDA kernels cannot be compiled here, so some layers are slower than they could be: %s", error)
        return False
