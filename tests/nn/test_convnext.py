"""ConvNeXt blocks: the causal one against PyTorch's own operations, and as a stream."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from codeczoo.nn.convnext import DEPTHWISE_KERNEL, CausalConvNeXtBlock, ConditionedBlock
from codeczoo.weights.load import randomise


@pytest.fixture(scope="module", params=[True, False])
def block(request: pytest.FixtureRequest) -> CausalConvNeXtBlock:
    block = CausalConvNeXtBlock(6, 20, layer_scale=request.param).double().requires_grad_(False)
    randomise(block)
    return block


@pytest.fixture(scope="module")
def x() -> Tensor:
    return torch.randn(2, 19, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_a_causal_block_is_what_the_paper_says(block: CausalConvNeXtBlock, x: Tensor) -> None:
    y = F.conv1d(F.pad(x.mT, (DEPTHWISE_KERNEL - 1, 0)), block.dwconv.weight, block.dwconv.bias, groups=6).mT
    y = F.layer_norm(y, (6,), block.norm.weight, block.norm.bias, 1e-6)
    y = F.gelu(y @ block.pwconv1.weight.T + block.pwconv1.bias)
    y = y @ block.pwconv2.weight.T + block.pwconv2.bias
    torch.testing.assert_close(block(x.clone()), x + (y if block.gamma is None else block.gamma * y))


@pytest.mark.parametrize("sizes", [[1] * 19, [2, 9, 1, 7], [19]])
def test_a_causal_block_streams(block: CausalConvNeXtBlock, x: Tensor, sizes: list[int]) -> None:
    state, pieces = block.initial_state(2), []
    for piece in x.split(sizes, dim=1):
        y, state = block.step(piece, state)
        pieces.append(y)
    torch.testing.assert_close(torch.cat(pieces, dim=1), block(x))


def test_a_condition_sets_the_norm_of_each_clip() -> None:
    block = ConditionedBlock(6, 20, 5).double().requires_grad_(False)
    randomise(block)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 11, 6, generator=generator, dtype=torch.float64)
    condition = torch.randn(2, 5, generator=generator, dtype=torch.float64)
    lengths = torch.tensor([11, 4])
    found = block(x.clone(), lengths, condition)
    for i, n in enumerate(lengths.tolist()):
        own = x[i : i + 1, :n]
        y = F.conv1d(own.mT, block.dwconv.weight, block.dwconv.bias, padding=DEPTHWISE_KERNEL // 2, groups=6).mT
        scale, shift = (F.linear(condition[i], part.weight, part.bias) for part in (block.norm.scale, block.norm.shift))
        y = F.layer_norm(y, (6,), eps=1e-6) * scale + shift
        y = F.gelu(y @ block.pwconv1.weight.T + block.pwconv1.bias)
        y = y @ block.pwconv2.weight.T + block.pwconv2.bias
        torch.testing.assert_close(found[i : i + 1, :n], own + block.gamma * y)
