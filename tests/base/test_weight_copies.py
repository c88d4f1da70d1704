"""Copies of weights in bfloat16: they follow the weights, and go when nobody needs them."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import nn

from codeczoo.base.device import native_bfloat16
from codeczoo.base.weight_copies import copy_of
from codeczoo.nn.alias_free import AliasFreeSnake
from codeczoo.nn.conv import Conv1d, ConvTranspose1d
from codeczoo.nn.lstm import LSTM
from codeczoo.nn.sequential import Linear
from tests.support.small import codec_of

with_bfloat16 = pytest.mark.skipif(not native_bfloat16(), reason="this CPU has no bfloat16")


def bfloat16() -> torch.autocast:
    return torch.autocast("cpu", dtype=torch.bfloat16)


def filled(module: nn.Module) -> nn.Module:
    for i, parameter in enumerate(module.parameters()):
        nn.init.normal_(parameter, std=0.2, generator=torch.Generator().manual_seed(i))
    return module.requires_grad_(False)


LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "conv": (lambda: Conv1d(6, 8, 5, stride=2, dilation=3), (2, 6, 41)),
    "causal conv": (lambda: Conv1d(6, 8, 5, padding="causal", pad_mode="reflect"), (2, 6, 41)),
    "replicated edges": (lambda: Conv1d(6, 8, 4, pad_mode="replicate"), (2, 6, 41)),
    "conv of few steps": (lambda: Conv1d(256, 512, 4, stride=2, padding=(1, 1)), (2, 256, 9)),
    "grouped conv": (lambda: Conv1d(6, 12, 3, groups=3, bias=False), (2, 6, 41)),
    "depthwise conv": (lambda: Conv1d(6, 6, 7, groups=6), (2, 6, 41)),
    "transposed conv": (lambda: ConvTranspose1d(6, 4, 9, 3), (2, 6, 41)),
    "transposed conv of few steps": (lambda: ConvTranspose1d(256, 256, 4, 2, trim=(1, 1)), (2, 256, 9)),
    "transposed conv of broken strides": (lambda: ConvTranspose1d(6, 4, 11, 5, trim=(3, 3)), (2, 6, 41)),
    "linear": (lambda: Linear(6, 5), (2, 7, 6)),
    "filtered activation": (lambda: AliasFreeSnake(6), (2, 6, 41)),
    "lstm": (lambda: LSTM(6), (2, 6, 41)),
}
IN_FLOAT32 = ("filtered activation", "lstm")  # the latter adds its input


@with_bfloat16
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_in_bfloat16_is_near_the_layer(name: str) -> None:
    make, shape = LAYERS[name]
    layer, x = filled(make()), torch.randn(shape, generator=torch.Generator().manual_seed(9))
    with torch.inference_mode():
        exact = layer(x)
        with bfloat16():
            first, second = layer(x), layer(x)
            turned = layer(x.mT.contiguous().mT)
    assert torch.equal(first, second) and (first.dtype == torch.bfloat16 or name in IN_FLOAT32)
    assert (turned - first).norm() < 0.01 * first.norm(), "whatever order its values have in memory"
    assert (first - exact).norm() < 0.01 * exact.norm()


@with_bfloat16
@pytest.mark.parametrize("name", ["causal conv", "transposed conv", "lstm"])
def test_a_layer_in_bfloat16_streams(name: str) -> None:
    make, shape = LAYERS[name]
    layer, x = filled(make()), torch.randn(shape, generator=torch.Generator().manual_seed(9))
    with torch.inference_mode(), bfloat16():
        whole = layer(x)
        parts, state = [], None
        for chunk in (x[..., :20], x[..., 20:25], x[..., 25:]):
            y, state = layer.first_chunk(chunk) if state is None else layer.step(chunk, state)
            parts.append(y)
    found = torch.cat(parts, dim=-1)
    assert (found - whole[..., : found.shape[-1]]).norm() < 0.01 * whole.norm()


def write_into(layer: Linear) -> None:
    layer.weight.mul_(2)


def load_others(layer: Linear) -> None:
    layer.load_state_dict({name: 2 * x for name, x in layer.state_dict().items()})


def put_others_in_place(layer: Linear) -> None:
    layer.load_state_dict({name: 2 * x for name, x in layer.state_dict().items()}, assign=True)


def exchange_memory(layer: Linear) -> None:
    layer.weight.data = 2 * layer.weight.data


@with_bfloat16
@pytest.mark.parametrize("change", [write_into, load_others, put_others_in_place, exchange_memory])
def test_a_copy_follows_the_weights(change: Callable[[Linear], None]) -> None:
    layer, x = filled(Linear(6, 5, bias=False)), torch.ones(1, 6)
    with torch.inference_mode(), bfloat16():
        before = layer(x)
    change(layer)
    with torch.inference_mode(), bfloat16():
        assert torch.equal(layer(x), 2 * before)


def test_a_copy_is_made_once_and_goes_with_its_module() -> None:
    layer = filled(Linear(6, 5))
    kept = copy_of(layer, (layer.weight, None), lambda: torch.zeros(2))
    assert copy_of(layer, (layer.weight, None), lambda: torch.zeros(3)) is kept
    weight = weakref.ref(layer.weight)
    del layer
    gc.collect()
    assert weight() is None


def test_weights_of_inference_mode_are_copied_each_time() -> None:
    """They do not tell that they were written into."""
    with torch.inference_mode():
        layer, x = Linear(6, 5, bias=False), torch.ones(1, 6)
        layer.weight.fill_(1)
        with bfloat16():
            before = layer(x)
            layer.weight.fill_(2)
            assert torch.equal(layer(x), 2 * before)


@with_bfloat16
def test_weights_that_want_gradients_get_them() -> None:
    layer, x = filled(Conv1d(6, 8, 5)).requires_grad_(True), torch.randn(1, 6, 20)
    with bfloat16():
        layer(x).sum().backward()
    assert layer.weight.grad is not None and layer.weight.grad.abs().sum() > 0
    layer.requires_grad_(False)
    x.requires_grad_(True)
    with bfloat16():
        layer(x).float().square().sum().backward()
    assert x.grad is not None and x.grad.abs().sum() > 0


@with_bfloat16
@pytest.mark.parametrize("name", ["mimi", "encodec_24k", "dac_24k"])
def test_a_codec_frees_its_copies_and_is_exact_again(name: str) -> None:
    shared = codec_of(name, "small", torch.float32)
    codec = copy.deepcopy(shared)
    wave = torch.randn(1, 1, codec.sample_rate, generator=torch.Generator().manual_seed(0))
    exact = codec.encode(wave, codec.sample_rate)
    audio = codec.decode(exact)
    codec.precision = "fastest"
    fast = codec.decode(exact)
    assert not torch.equal(fast.waveform, audio.waveform)
    assert has_copies(codec)
    assert not has_copies(pickle.loads(pickle.dumps(codec)))
    codec.to("cpu")  # or to anywhere
    assert not has_copies(codec)
    assert torch.equal(codec.decode(exact).waveform, fast.waveform)
    codec.precision = "exact"
    assert not has_copies(codec)
    assert torch.equal(codec.encode(wave, codec.sample_rate).codes, exact.codes)
    assert torch.equal(codec.decode(exact).waveform, audio.waveform)


@with_bfloat16
def test_fast_follows_other_weights() -> None:
    codec = copy.deepcopy(codec_of("mimi", "small", torch.float32))
    codes = codec.encode(torch.randn(1, 1, codec.sample_rate), codec.sample_rate)
    codec.precision = "fast"
    before = codec.decode(codes).waveform
    state = codec.state_dict()
    codec.load_state_dict({name: torch.zeros_like(x) for name, x in state.items()})
    assert not codec.decode(codes).waveform.any() and before.any()


def has_copies(codec: nn.Module) -> bool:
    from codeczoo.base.weight_copies import _COPIES

    return any(module in _COPIES for module in codec.modules())
