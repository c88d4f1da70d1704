"""Focal modulation, the refiner, WaveNeXt and Vocos, signs as bits: against their definitions, ragged and in chunks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codeczoo.nn.focal import CompressorLayer, DecompressorLayer, FocalModulation, FocalStack, Refiner
from codeczoo.nn.sign_quantizer import SignQuantizer
from codeczoo.nn.wavenext import Vocos, WaveNeXt


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def filled(module: nn.Module) -> Any:
    for i, parameter in enumerate(module.parameters()):
        parameter.data = noise(*parameter.shape, seed=i) / max(parameter[0].numel(), 2) ** 0.5
    return module.double().requires_grad_(False)


def assert_close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("causal", [False, True])
def test_focal_modulation_is_a_query_times_gated_contexts(causal: bool) -> None:
    dim, kernels = 6, (3, 5, 8) if causal else (3, 5)
    net, x = filled(FocalModulation(dim, kernels, causal)), noise(2, 11, 6)
    query, context, gates = F.linear(x, net.in_proj.weight, net.in_proj.bias).split([dim, dim, 3], dim=-1)
    total = torch.zeros(2, 11, dim, dtype=torch.float64)
    context = context.mT
    for i, kernel in enumerate(kernels):
        left, right = (kernel - 1, 0) if causal else (kernel // 2, kernel // 2)
        padded = F.pad(context, (left, right), mode="replicate" if causal else "constant")
        context = F.gelu(F.conv1d(padded, net.convs[i].weight, net.convs[i].bias, groups=dim))
        total += context.mT * gates[..., i : i + 1]
    if not causal:
        total += F.gelu(context.mean(-1))[:, None] * gates[..., 2:]
    assert_close(net(x), net.out_proj(query * net.context_proj(total)))


STACKS = {
    "compressor": [(CompressorLayer, 8, 6, 2), (CompressorLayer, 6, 4, 1)],
    "decompressor": [(DecompressorLayer, 8, 6, 1), (DecompressorLayer, 6, 4, 2)],
}


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("side", STACKS)
def test_each_item_of_a_batch_is_as_if_alone(side: str, causal: bool) -> None:
    kernels = (3, 5, 9) if causal else (3, 5)
    stack = filled(FocalStack(kind(*numbers, kernels, causal) for kind, *numbers in STACKS[side]))
    lengths = [9, 1, 4, 12]
    x = noise(4, 8, 12)
    y = stack(x.clone(), torch.tensor(lengths))
    for row, out, length in zip(x, y, lengths, strict=True):
        alone = stack(row[None, :, :length])
        assert alone.shape[-1] == (-(-length // 2) if side == "compressor" else 2 * length)
        assert_close(out[:, : alone.shape[-1]], alone[0])


def test_a_causal_stack_in_chunks_is_the_whole() -> None:
    layers = [(CompressorLayer, 8, 6), (DecompressorLayer, 6, 4)]
    stack = filled(FocalStack(kind(*dims, 1, (3, 5, 9), True) for kind, *dims in layers))
    x = noise(2, 8, 17)
    parts, state, before = [], stack.initial_state(2), torch.zeros(2, dtype=torch.int64)
    for chunk in x.split([2, 1, 6, 8], dim=-1):
        y, state = stack.step(chunk, state, before)
        before = before + chunk.shape[-1]
        parts.append(y)
    assert_close(torch.cat(parts, dim=-1), stack(x))


def test_the_refiner_works_on_groups_and_fills_the_last_up() -> None:
    net, x = filled(Refiner(3, 4)), noise(1, 3, 10)
    y = net(x.clone())
    for start in (0, 4, 8):
        group = F.pad(x[..., start : start + 4], (0, max(start - 6, 0)))
        refined = net.feed_forward(group[0].T.flatten()).view(4, 3).T
        assert_close(y[0, :, start : start + 4], (x[0, :, start : start + 4] + refined[:, : 10 - start]))
    beside = torch.cat([x, noise(1, 3, 10, seed=1)])
    assert_close(net(beside.clone(), torch.tensor([9, 10]))[:1, :, :9], net(x[..., :9].clone()))


def test_vocos_ragged_and_in_windows() -> None:
    net, x, lengths = filled(Vocos(5, 8, 12, 2, hop_length=10, n_fft=32)), noise(3, 5, 60), [60, 1, 33]
    y = net(x.clone(), torch.tensor(lengths))
    for row, out, length in zip(x, y, lengths, strict=True):
        assert_close(out[: 10 * length], net(row[None, :, :length])[0])
    first, stop, reach = 25, 31, net.reach
    part = net(x[:1, :, first - reach : stop + reach].clone())[:, 10 * reach : 10 * (reach + stop - first)]
    assert_close(part, y[:1, 10 * first : 10 * stop])


def test_wavenext_in_chunks_is_the_whole_within_full_scale() -> None:
    net, x = filled(WaveNeXt(5, 8, 12, 2, hop_length=7)), 3 * noise(2, 5, 20)
    whole = net(x)
    assert whole.shape == (2, 140) and float(whole.abs().max()) == 1
    parts, state = [], net.initial_state(2)
    for chunk in x.split([4, 1, 15], dim=-1):
        y, state = net.step(chunk, state)
        parts.append(y)
    assert_close(torch.cat(parts, dim=-1), whole)


def test_signs_are_bits_the_first_is_the_highest_and_zero_gives_0() -> None:
    quantizer = SignQuantizer(4)
    z = torch.tensor([[1.0, -1.0, 0.0], [-2.0, 5.0, 0.0], [0.5, 0.5, -0.0], [-1.0, 1e-30, 0.0]])
    codes = quantizer.encode(z[None])
    assert codes.tolist() == [[0b1010, 0b0111, 0]]
    every = torch.arange(16)[None]
    values = quantizer.double().decode(every)
    assert torch.equal(values.abs(), torch.full((1, 4, 16), 0.5, dtype=torch.float64))
    assert torch.equal(quantizer.encode(values), every)
