"""Layers piece by piece equal layers in one piece."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from codeczoo.nn.chunked import run_chunked
from codeczoo.nn.conv import Conv1d
from codeczoo.nn.group_norm import GroupNorm
from codeczoo.nn.lstm import LSTM, BidirectionalLSTM
from codeczoo.nn.seanet import SEANetDecoder, SEANetEncoder


def seeded(module: nn.Module) -> nn.Module:
    r = torch.Generator().manual_seed(0)
    for parameter in module.double().requires_grad_(False).parameters():
        parameter.copy_(0.4 * torch.randn(parameter.shape, generator=r, dtype=torch.float64))
    return module


def signal(batch: int, channels: int, steps: int) -> Tensor:
    return torch.randn(batch, channels, steps, generator=torch.Generator().manual_seed(steps), dtype=torch.float64)


def assert_pieces_equal_the_whole(net: SEANetEncoder | SEANetDecoder, x: Tensor, sizes: list[int]) -> None:
    whole, _ = net(x.clone())
    cuts = list(itertools.takewhile(lambda n: n < x.shape[-1], itertools.accumulate(itertools.cycle(sizes))))
    pieces = list(x.tensor_split(cuts, dim=-1))
    before = [piece.clone() for piece in pieces]
    y = torch.cat(list(run_chunked(net.layers, pieces)), dim=-1)
    torch.testing.assert_close(y, whole, rtol=1e-11, atol=1e-11)
    assert all(torch.equal(a, b) for a, b in zip(pieces, before, strict=True)), "the caller's pieces stay as they were"


@pytest.mark.parametrize("sizes", [[1000], [60], [1, 7, 200], [13]])
@pytest.mark.parametrize("steps", [1, 5, 29, 30, 31, 400, 617])
@pytest.mark.parametrize("causal", [False, True])
def test_an_encoder(causal: bool, steps: int, sizes: list[int]) -> None:
    net = seeded(SEANetEncoder(1, 6, 2, (2, 3, 5), causal=causal, lstm_layers=2))
    assert_pieces_equal_the_whole(net, signal(2, 1, steps), sizes)


@pytest.mark.parametrize("sizes", [[100], [1, 7, 2], [3]])
@pytest.mark.parametrize("steps", [1, 2, 3, 40])
def test_a_decoder(steps: int, sizes: list[int]) -> None:
    net = seeded(SEANetDecoder(1, 6, 2, (5, 3, 2), causal=False, lstm_layers=2))
    assert_pieces_equal_the_whole(net, signal(2, 6, steps), sizes)


def test_memory_does_not_grow_with_the_clip() -> None:
    """No piece that is run is longer than what is fed plus the context."""
    net = seeded(SEANetEncoder(1, 4, 2, (2, 3), causal=False, lstm_layers=1))
    longest = 0

    def watch(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal longest
        longest = max(longest, args[0].shape[-1])

    net.layers[0].register_forward_hook(watch)
    list(run_chunked(net.layers, signal(1, 1, 5000).split(60, dim=-1)))
    assert 60 <= longest <= 60 + 2 * 60


@pytest.mark.parametrize("layer", [BidirectionalLSTM(4, 1), GroupNorm(1, 4)])
def test_what_must_see_the_whole_clip_is_refused(layer: nn.Module) -> None:
    with pytest.raises(TypeError, match="must see the whole clip"):
        list(run_chunked([Conv1d(4, 4, 3), layer, LSTM(4)], [signal(1, 4, 10)]))
