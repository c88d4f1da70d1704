"""The decoder's backbone of X-Codec 2: items as alone, and rotary positions that cancel."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from codeczoo.nn.resnet_transformer import ResNetTransformer
from codeczoo.weights.load import randomise

DIM, HEADS = 64, 2


def backbone() -> ResNetTransformer:
    made = ResNetTransformer(DIM, 2, HEADS, 48)
    randomise(made)
    return made.double().requires_grad_(False)


def test_an_item_of_a_batch_is_as_alone() -> None:
    """Group norms and attention count the item's own frames alone."""
    made, lengths = backbone(), [11, 1, 6]
    x = torch.randn(3, DIM, 11, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    batch = made(x.clone(), torch.tensor(lengths))
    for row, item, length in zip(batch, x, lengths, strict=True):
        torch.testing.assert_close(row[:length], made(item[None, :, :length])[0], rtol=1e-9, atol=1e-11)


def test_an_angle_for_each_head_changes_no_score() -> None:
    """Upstream turns by the head's number; queries and keys of a head turn alike."""
    attention = backbone().transformer.layers[0].attention
    x = torch.randn(1, 7, DIM, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    q, k, v = attention.project(x)
    angle = torch.arange(HEADS)[:, None, None] * 10000.0 ** -(torch.arange(DIM // HEADS // 2) * 2 * HEADS / DIM)

    def turned(y: torch.Tensor) -> torch.Tensor:
        even, odd = y[..., ::2], y[..., 1::2]
        pairs = [even * angle.cos() - odd * angle.sin(), odd * angle.cos() + even * angle.sin()]
        return torch.stack(pairs, dim=-1).flatten(-2)

    assert not torch.allclose(turned(q), q)
    expected = F.scaled_dot_product_attention(turned(q), turned(k), v)
    torch.testing.assert_close(F.scaled_dot_product_attention(q, k, v), expected, rtol=1e-6, atol=1e-8)
