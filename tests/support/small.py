"""Codecs for tests over the whole registry: the published ones, and small ones of the same architecture.

The numbers of a small network (fewer channels and layers, everything else as published) stand in the test file of its
family as `SMALL`; `tests/support/declarations.py` says what else stands there.
"""

from __future__ import annotations

import functools
from dataclasses import replace

import pytest
import torch

from codeczoo import BaseCodec, codec_info
from codeczoo.base.catalogue import Variant, find_variant, variants
from codeczoo.weights.load import load_weights
from tests.support.declarations import FAMILIES, declared, small_numbers


def _network(variant: Variant) -> str:
    """The numbers of a network. A sample rate beside them changes nothing in it, but for codecs without one."""
    kept = {key: value for key, value in variant.network.items() if key != "sample_rate" or variant.weights is None}
    return repr((variant.family, sorted(kept.items())))


# One variant of each network: the others are the same with other weights, at another rate, or under another name.
OWN = {name: variant for name, variant in variants().items() if variant.family in FAMILIES}
ROOTS = list({_network(variant): name for name, variant in reversed(OWN.items())}.values())[::-1]
CAUSAL = [name for name in ROOTS if codec_info(name).causal]
CAUSAL_DECODERS = [name for name in ROOTS if "decode" in codec_info(name).streams]  # those of the causal ones too


def small_variant(name: str) -> Variant:
    """A variant with a small network of its architecture."""
    variant = find_variant(name)
    return replace(variant, network={**variant.network, **small_numbers(variant.family)})


def codec_of(name: str, size: str, dtype: torch.dtype) -> BaseCodec:
    """A codec with seeded weights, `size` "small" or "full". Cached: tests must not change it."""
    if size == "full" and name in declared(find_variant(name).family, "SMALL_ONLY", ()):
        pytest.skip(f"{name} at its full size needs more memory than test machines have")
    return _small(name, dtype) if size == "small" else _full(name, dtype)


@functools.lru_cache(maxsize=8)
def _small(name: str, dtype: torch.dtype) -> BaseCodec:
    variant = small_variant(name)
    return seeded(variant.build(), dtype, declared(variant.family, "GAIN", 1.0))


@functools.lru_cache(maxsize=2)  # in float64 the largest takes 2 GB
def _full(name: str, dtype: torch.dtype) -> BaseCodec:
    variant = find_variant(name)
    return seeded(variant.build(), dtype, declared(variant.family, "GAIN", 1.0))


def seeded(codec: BaseCodec, dtype: torch.dtype, gain: float = 1.0) -> BaseCodec:
    """The codec with seeded weights, times `gain`.

    Noise as weights can make a deep network chaotic, which no trained one is; with smaller weights float32 can be asked
    to agree with float64.
    """
    load_weights(codec, "random")
    with torch.no_grad():
        for parameter in codec.parameters():
            if parameter.ndim > 1:
                parameter.mul_(gain)
    return codec.to(dtype).eval().requires_grad_(False)
