"""The template for authors (examples/template_codec) runs: its own tests, and every promise of the contract.

A codec of another package is held to the contract in the same way: with the fixtures below around a copy of
test_registry.py.
"""

from __future__ import annotations

import inspect
from dataclasses import replace

import pytest
import torch

from codeczoo import BaseCodec
from examples.template_codec import test_template_codec as own
from examples.template_codec.template_codec import TemplateCodec, TemplateConfig
from tests.contract import test_latents, test_registry
from tests.support.small import seeded


def small_codec(dtype: torch.dtype) -> BaseCodec:
    variant = replace(own.VARIANT, network={**own.VARIANT.network, **own.SMALL})
    return seeded(TemplateCodec(TemplateConfig(**variant.network), variant), dtype)


@pytest.fixture(scope="module")
def size() -> str:
    return "small"


@pytest.fixture(scope="module")
def codec() -> BaseCodec:
    return small_codec(torch.float64)


@pytest.fixture
def single() -> BaseCodec:
    return small_codec(torch.float32)


def named_tests(module: object) -> dict[str, object]:
    return {name: test for name, test in vars(module).items() if name.startswith("test_")}


OF_A_CODEC = {"codec", "inside", "with_decoder"}  # fixtures
inside, with_decoder = test_latents.inside, test_latents.with_decoder
PROMISES = {
    name: test
    for module in (test_registry, test_latents)
    for name, test in named_tests(module).items()
    if OF_A_CODEC & inspect.signature(test).parameters.keys()
}
assert len(PROMISES) > 17
globals().update(PROMISES | named_tests(own))
