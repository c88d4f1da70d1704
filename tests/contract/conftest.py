"""The codecs that the contract is held over: one of each network of the registry."""

from __future__ import annotations

import pytest
import torch

from codeczoo import BaseCodec
from tests.support.declarations import FAMILIES, small_numbers
from tests.support.small import CAUSAL, CAUSAL_DECODERS, ROOTS, codec_of

SIZES = ["small", pytest.param("full", marks=pytest.mark.slow)]


for family in FAMILIES:
    small_numbers(family)  # a family that declares none is an error before any test runs


@pytest.fixture(params=SIZES, scope="module")
def size(request: pytest.FixtureRequest) -> str:
    """Of the networks: "small" or "full"."""
    return request.param


@pytest.fixture(params=ROOTS, scope="module")
def codec(request: pytest.FixtureRequest, size: str) -> BaseCodec:
    """In float64."""
    return codec_of(request.param, size, torch.float64)


@pytest.fixture
def single(codec: BaseCodec, size: str) -> BaseCodec:
    """The same codec in float32."""
    return codec_of(codec.name, size, torch.float32)


@pytest.fixture(params=CAUSAL, scope="module")
def causal(request: pytest.FixtureRequest, size: str) -> BaseCodec:
    """A codec that streams, in float64."""
    return codec_of(request.param, size, torch.float64)


@pytest.fixture(params=CAUSAL_DECODERS, scope="module")
def causal_decoder(request: pytest.FixtureRequest, size: str) -> BaseCodec:
    """A codec whose decoder streams, in float64."""
    return codec_of(request.param, size, torch.float64)
