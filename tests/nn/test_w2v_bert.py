"""w2v-BERT 2.0's filter bank and conformer, and what an attention mask does to both, against plain definitions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from codeczoo.nn.fbank import frame_count, w2v_bert_features
from codeczoo.nn.w2v_bert import Layer, W2vBert
from codeczoo.weights.load import randomise

DIM, HEADS, STEPS = 12, 2, 90  # more steps than the distances that have values of their own


@pytest.fixture(scope="module")
def network() -> W2vBert:
    network = W2vBert(160, DIM, 2, HEADS, 20, mask_behind=True).double().requires_grad_(False)
    randomise(network)
    return network


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def plain(network: W2vBert, features: Tensor, mask: Tensor) -> Tensor:
    """One clip [N, 160] with a mask [N] of its vectors, as the paper and transformers describe it."""
    x = F.linear(layer_norm(network.feature_norm, features), network.project.weight, network.project.bias)
    x[~mask] = 0
    for layer in network.layers:
        x = x + 0.5 * feed_forward(layer.ff1, layer_norm(layer.norm1, x))
        x = x + attention(layer, layer_norm(layer.norm2, x), mask)
        x = x + convolution(layer, layer_norm(layer.norm3, x), mask)
        x = x + 0.5 * feed_forward(layer.ff2, layer_norm(layer.norm4, x))
        x = layer_norm(layer.norm, x)
    return x


def layer_norm(norm: torch.nn.LayerNorm, x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * norm.weight + norm.bias


def feed_forward(block: torch.nn.Module, x: Tensor) -> Tensor:
    hidden = x @ block.linear1.weight.T + block.linear1.bias
    return hidden * hidden.sigmoid() @ block.linear2.weight.T + block.linear2.bias


def attention(layer: Layer, x: Tensor, mask: Tensor) -> Tensor:
    block, size = layer.attention, DIM // HEADS
    q, k, v = (x @ block.in_proj.weight.T + block.in_proj.bias).chunk(3, dim=-1)
    out = torch.zeros_like(x)
    for head in range(HEADS):
        own = slice(head * size, (head + 1) * size)
        for i in range(len(x)):
            e = torch.stack([block.distances[min(max(j - i, -64), 8) + 64] for j in range(len(x))])
            scores = (k[:, own] + e) @ q[i, own] / size**0.5
            out[i, own] = scores[mask].softmax(0) @ v[mask, own]
    return out @ block.out_proj.weight.T + block.out_proj.bias


def convolution(layer: Layer, x: Tensor, mask: Tensor) -> Tensor:
    a, b = (x * mask[:, None] @ layer.widen.weight.T).chunk(2, dim=-1)
    y = F.pad((a * b.sigmoid()).T, (30, 0))
    y = (y.unfold(-1, 31, 1) * layer.depthwise.weight).sum(-1).T
    y = layer_norm(layer.depthwise_norm, y)
    return y * y.sigmoid() @ layer.narrow.weight.T


@pytest.mark.parametrize("masked", [0, 1])
def test_w2v_bert_is_what_its_definition_says(network: W2vBert, masked: int) -> None:
    """The last vector may be masked: no key of the others, zero in the convolutions, yet with an output."""
    features, mask = noise(STEPS, 160), torch.arange(STEPS) < STEPS - masked
    lengths = torch.tensor([STEPS - masked]) if masked else None
    torch.testing.assert_close(network(features[None], lengths)[0], plain(network, features, mask))


def test_the_first_vector_behind_an_item_depends_on_the_item_alone(network: W2vBert) -> None:
    lengths = torch.tensor([1, 40, 70, 89])
    batch = noise(4, STEPS, 160, seed=1)
    together = network(batch, lengths)
    for i, length in enumerate(lengths.tolist()):
        alone = network(
            batch[i : i + 1, : length + 1] * (torch.arange(length + 1) < length)[:, None], lengths[i : i + 1]
        )
        torch.testing.assert_close(together[i : i + 1, : length + 1], alone)


@pytest.mark.parametrize("samples", [400, 560, 720, 880, 1000, 16000, 16100])
def test_an_odd_number_of_frames_has_a_vector_of_its_own(samples: int) -> None:
    waveform = 0.1 * noise(2, 20000, seed=2)
    lengths = torch.tensor([samples, 20000])
    frames = frame_count(samples)
    together = w2v_bert_features(waveform, lengths)
    alone = w2v_bert_features(waveform[:1, :samples])
    assert alone.shape == (1, (frames + 1) // 2, 160)
    assert together.shape[1] == (frame_count(20000) + 1) // 2
    own = alone.reshape(-1, 80)[:frames]
    torch.testing.assert_close(together[0].reshape(-1, 80)[:frames], own, equal_nan=True)
    if frames > 1:
        torch.testing.assert_close(own.mean(0), torch.zeros(80, dtype=torch.float64))
        torch.testing.assert_close(own.var(0), torch.ones(80, dtype=torch.float64), rtol=0, atol=0.01)
