"""Whisper's encoder: against the same network written plainly, each item of a batch as if alone, published names."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codeczoo.base.key_map import KeyMap
from codeczoo.nn.whisper import WhisperEncoder, WhisperTransformer, whisper_rules, whisper_transformer_rules
from codeczoo.weights.convert import convert

MELS, DIM, LAYERS, HEADS, HIDDEN, POSITIONS = 6, 16, 2, 4, 20, 50


def filled(net: nn.Module) -> Any:
    generator = torch.Generator().manual_seed(0)
    for name, parameter in net.double().named_parameters():
        fan = parameter[0].numel() if parameter.ndim > 1 else 1
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64) / math.sqrt(fan)
        if "norm" in name and name.endswith("weight"):
            parameter.data.mul_(0.1).add_(1)
    return net.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def encoder() -> WhisperEncoder:
    return filled(WhisperEncoder(MELS, DIM, LAYERS, HEADS, HIDDEN, POSITIONS))


def mels(*lengths: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(1, MELS, n, generator=generator, dtype=torch.float64) for n in lengths]


def plain(net: WhisperEncoder, mel: Tensor) -> Tensor:
    """Of one clip, each operation written out."""
    p = dict(net.named_parameters())

    def norm(name: str, x: Tensor) -> Tensor:
        x = x - x.mean(-1, keepdim=True)
        return x / (x.var(-1, keepdim=True, unbiased=False) + 1e-5).sqrt() * p[f"{name}.weight"] + p[f"{name}.bias"]

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]

    def gelu(x: Tensor) -> Tensor:
        return x * (1 + torch.erf(x / math.sqrt(2))) / 2

    x = gelu(F.conv1d(mel, p["conv1.weight"], p["conv1.bias"], 1, 1))
    x = gelu(F.conv1d(x, p["conv2.weight"], p["conv2.bias"], 2, 1)).mT
    x = x + p["body.positions"][: x.shape[1]]
    for i in range(LAYERS):
        at = f"body.transformer.layers.{i}."
        q, k, v = (
            part.unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for part in linear(at + "attention.in_proj", norm(at + "norm1", x)).chunk(3, dim=-1)
        )
        heads = ((q / math.sqrt(DIM // HEADS)) @ k.mT).softmax(-1) @ v
        x = x + linear(at + "attention.out_proj", heads.transpose(1, 2).flatten(2))
        inner = gelu(linear(at + "feed_forward.linear1", norm(at + "norm2", x)))
        x = x + linear(at + "feed_forward.linear2", inner)
    return norm("body.norm", x)


@pytest.mark.parametrize("frames", [1, 2, 31, 2 * POSITIONS])
def test_it_is_the_network_written_plainly(encoder: WhisperEncoder, frames: int) -> None:
    (mel,) = mels(frames)
    y = encoder(mel)
    assert y.shape == (1, encoder.out_length(frames), DIM) == (1, -(-frames // 2), DIM)
    torch.testing.assert_close(y, plain(encoder, mel), rtol=1e-10, atol=1e-10)


def test_each_item_is_as_if_alone(encoder: WhisperEncoder) -> None:
    items = mels(1, 40, 17, 90)
    lengths = torch.tensor([item.shape[-1] for item in items])
    batch = torch.stack([F.pad(item[0], (0, 90 - item.shape[-1]), value=7.0) for item in items])
    y = encoder(batch, lengths)
    for row, item in zip(y, items, strict=True):
        alone = encoder(item)[0]
        torch.testing.assert_close(row[: len(alone)], alone, rtol=1e-10, atol=1e-10)


def published(prefix: str, positions: str, fc: str, convolutions: bool) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(2)
    shapes: dict[str, tuple[int, ...]] = {positions: (POSITIONS, DIM)}
    if convolutions:
        shapes |= {"conv1.weight": (DIM, MELS, 3), "conv1.bias": (DIM,)}
        shapes |= {"conv2.weight": (DIM, DIM, 3), "conv2.bias": (DIM,)}
    for i in range(LAYERS):
        at = f"layers.{i}."
        for name in "kqv":
            shapes[f"{at}self_attn.{name}_proj.weight"] = (DIM, DIM)
        shapes |= dict.fromkeys((f"{at}self_attn.{name}_proj.bias" for name in "qv"), (DIM,))
        shapes |= {f"{at}self_attn.out_proj.weight": (DIM, DIM), f"{at}self_attn.out_proj.bias": (DIM,)}
        shapes |= {f"{at}{fc}fc1.weight": (HIDDEN, DIM), f"{at}{fc}fc1.bias": (HIDDEN,)}
        shapes |= {f"{at}{fc}fc2.weight": (DIM, HIDDEN), f"{at}{fc}fc2.bias": (DIM,)}
        for name in ("self_attn_layer_norm", "final_layer_norm"):
            shapes |= {f"{at}{name}.weight": (DIM,), f"{at}{name}.bias": (DIM,)}
    shapes |= {"layer_norm.weight": (DIM,), "layer_norm.bias": (DIM,)}
    return {f"{prefix}.{key}": torch.randn(shape, generator=generator) for key, shape in shapes.items()}


@pytest.mark.parametrize(
    ("positions", "fc"),
    [("embed_positions.weight", ""), ("positional_embedding", ""), ("positional_embedding", "mlp.")],
)
def test_published_names(positions: str, fc: str) -> None:
    """Keys have no bias there."""
    net = nn.ModuleDict(
        {
            "a": WhisperEncoder(MELS, DIM, LAYERS, HEADS, HIDDEN, POSITIONS),
            "b": WhisperTransformer(DIM, LAYERS, HEADS, HIDDEN, POSITIONS),
        }
    )
    names = {"positions": positions, "feed_forward": fc}
    rules = (*whisper_rules("a", "x.encoder", **names), *whisper_transformer_rules("b", "y", **names))
    tensors = {**published("x.encoder", positions, fc, True), **published("y", positions, fc, False)}
    found = convert(tensors, net.state_dict(), (KeyMap("whisper", rules),), "whisper")
    q, k, v = found["a.body.transformer.layers.1.attention.in_proj.weight"].chunk(3)
    for part, name in ((q, "q"), (k, "k"), (v, "v")):
        assert torch.equal(part, tensors[f"x.encoder.layers.1.self_attn.{name}_proj.weight"])
    q, k, v = found["b.transformer.layers.0.attention.in_proj.bias"].chunk(3)
    assert torch.equal(q, tensors["y.layers.0.self_attn.q_proj.bias"]) and not bool(k.any())
    assert torch.equal(v, tensors["y.layers.0.self_attn.v_proj.bias"])
    assert torch.equal(found["b.positions"], tensors[f"y.{positions}"])
