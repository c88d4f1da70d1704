"""The arithmetic of receptive fields, and tiles cut by it: both against layers that are really run."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from codeczoo.nn import cache_tiling
from codeczoo.nn.cache_tiling import run_tiled
from codeczoo.nn.conv import Conv1d, ConvTranspose1d
from codeczoo.nn.receptive_field import convolutions_of, out_length, receptive_span, without_padding


class Twice(nn.Module):
    """Two layers as one module, whose lengths change in between."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        y = self.first(x, lengths)
        return self.second(y, None if lengths is None else self.first.out_length(lengths))


CHAINS = {
    "same length": lambda: [Conv1d(3, 4, 7), Conv1d(4, 5, 5, dilation=3)],
    "down": lambda: [Conv1d(3, 4, 7), Twice(Conv1d(4, 6, 10, 5, padding=(3, 3)), Conv1d(6, 4, 4, 2, padding=(1, 1)))],
    "up": lambda: [Twice(ConvTranspose1d(3, 4, 10, 5, trim=(3, 3)), Conv1d(4, 4, 3)), ConvTranspose1d(4, 2, 4, 2)],
    "up and down": lambda: [ConvTranspose1d(3, 4, 6, 3, trim=(2, 1)), Conv1d(4, 2, 8, 4, padding=(2, 2))],
}  # fmt: skip


@pytest.fixture(params=CHAINS)
def chain(request: pytest.FixtureRequest) -> list[nn.Module]:
    modules = CHAINS[request.param]()
    for seed, parameter in enumerate(nn.ModuleList(modules).parameters()):
        nn.init.normal_(parameter.requires_grad_(False), generator=torch.Generator().manual_seed(seed))
    return [module.double() for module in modules]


def run(modules: list[nn.Module], x: Tensor) -> Tensor:
    for module in modules:
        x = module(x)
    return x


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("length", [61, 64, 97])
def test_out_length_is_the_length_that_comes_out(chain, length):
    assert run(chain, noise(1, 3, length)).shape[-1] == out_length(convolutions_of(*chain), length)


@pytest.mark.parametrize(("first", "last"), [(17, 17), (18, 22), (20, 20)])
def test_an_output_sees_what_is_said_and_nothing_else(chain, first, last):
    low, high = receptive_span(convolutions_of(*chain), first, last)
    x = noise(1, 3, 400).requires_grad_()
    run(chain, x)[..., first : last + 1].sum().backward()
    touched = x.grad.abs().sum((0, 1)).nonzero().flatten().tolist()
    assert (touched[0], touched[-1]) == (max(low, 0), high)


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("tile", [30, 200, 1 << 20])
def test_tiles_are_the_wholes_own_values(chain, tile, ragged, monkeypatch):
    monkeypatch.setattr(cache_tiling, "TILE_VALUES", tile)
    monkeypatch.setattr(cache_tiling, "MAX_SEAM_SHARE", 4.0)  # small tiles, most of which is seam
    x = noise(3, 3, 1000)
    lengths = torch.tensor([1000, 380, 995]) if ragged else None
    for item, length in zip(x, lengths if ragged else [], strict=False):
        item[:, length:] = torch.nan
    y, ends = run_tiled(chain, x.clone(), lengths)
    for i in range(3):
        alone = run(chain, x[i : i + 1, :, : lengths[i] if ragged else None])
        torch.testing.assert_close(y[i : i + 1, :, : alone.shape[-1]], alone, rtol=1e-10, atol=1e-10)
        assert ends is None or int(ends[i]) == alone.shape[-1]


def test_the_network_without_padding_is_another_with_the_same_parameters(chain):
    network = nn.Sequential(*chain)
    x = noise(1, 3, 200)
    before = run(chain, x)
    bare = without_padding(network)
    assert torch.equal(run(chain, x), before)
    assert [id(p) for p in bare.parameters()] == [id(p) for p in network.parameters()]
    assert bare(x).shape[-1] == out_length(convolutions_of(bare), 200)


def test_without_padding_only_what_sees_nothing_but_the_signal_is_left():
    chain = nn.Sequential(Conv1d(3, 4, 7), Conv1d(4, 5, 5, dilation=3)).double().requires_grad_(False)
    for seed, parameter in enumerate(chain.parameters()):
        parameter.copy_(noise(*parameter.shape, seed=seed))
    x = noise(1, 3, 100)
    torch.testing.assert_close(without_padding(chain)(x), chain(x)[..., 9:-9], rtol=1e-12, atol=1e-12)
