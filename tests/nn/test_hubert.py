"""HuBERT, wav2vec 2.0 and WavLM: against the same network written plainly, and each item of a batch as if alone."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from codeczoo.base.key_map import KeyMap
from codeczoo.nn import wavlm
from codeczoo.nn.attention import AttentionMask
from codeczoo.nn.hubert import Hubert, HubertConfig, fairseq_rules, hubert_rules
from codeczoo.nn.wavlm import WavLM, bucket, unilm_rules, wavlm_rules

BASE = HubertConfig(num_layers=2, dim=32, num_heads=2, hidden=40, extractor_dim=8, position_kernel=16)
CONFIGS = {
    "base": BASE,
    "distilled": replace(BASE, projection_norm=False),
    "large": replace(BASE, extractor_norm="layer", conv_bias=True, pre_norm=True),
    "large without its last norm": replace(BASE, extractor_norm="layer", pre_norm=True, encoder_norm=False),
}


def network(kind: type[Hubert], config: HubertConfig) -> Any:
    generator = torch.Generator().manual_seed(0)
    net = kind(config).double()
    for name, parameter in net.named_parameters():
        fan = parameter[0].numel() if parameter.ndim > 1 else 1
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64) / math.sqrt(fan)
        if "norm" in name and name.endswith("weight"):
            parameter.data.mul_(0.1).add_(1)
    return net.eval().requires_grad_(False)


def waves(*lengths: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [0.3 * torch.randn(1, 1, n, generator=generator, dtype=torch.float64) for n in lengths]


def plain(net: Any, config: HubertConfig, x: Tensor) -> list[Tensor]:
    """All hidden states of one clip, with each operation written out."""
    p = dict(net.named_parameters())

    def norm(name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], p[f"{name}.weight"], p[f"{name}.bias"], 1e-5)

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]

    for i, stride in enumerate(config.strides):
        x = F.conv1d(x, p[f"extractor.convs.{i}.weight"], p.get(f"extractor.convs.{i}.bias"), stride)
        if config.extractor_norm == "layer":
            x = norm(f"extractor.norms.{i}", x.mT).mT
        elif i == 0:
            mean, variance = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, unbiased=False)
            weight, bias = p["extractor.norms.0.weight"], p["extractor.norms.0.bias"]
            x = (x - mean) / (variance + 1e-5).sqrt() * weight[:, None] + bias[:, None]
        x = F.gelu(x)
    x = x.mT
    x = linear("project", norm("projection_norm", x) if config.projection_norm else x)
    kernel, groups = config.position_kernel, config.position_groups
    position = F.conv1d(x.mT, p["position.weight"], p["position.bias"], padding=kernel // 2, groups=groups)
    x = x + F.gelu(position[..., :-1]).mT
    if config.encoder_norm and not config.pre_norm:
        x = norm("norm", x)
    states = [x]
    steps, heads = x.shape[1], config.num_heads
    for i in range(config.num_layers):
        layer = f"layers.{i}"

        def attention(x: Tensor, layer: str = layer) -> Tensor:
            q, k, v = linear(f"{layer}.attention.in_proj", x)[0].chunk(3, dim=-1)
            out = []
            for h, (one_q, one_k, one_v) in enumerate(zip(*(part.chunk(heads, -1) for part in (q, k, v)), strict=True)):
                scores = one_q @ one_k.T / math.sqrt(one_q.shape[-1])
                if "distances" in p:
                    given = linear(f"{layer}.attention.gate", x[0].chunk(heads, -1)[h])
                    a, b = given[:, :4].sum(-1).sigmoid(), given[:, 4:].sum(-1).sigmoid()
                    gate = a * (b * p[f"{layer}.attention.gate_scale"][0, h, 0, 0] - 1) + 2
                    for query in range(steps):
                        for key in range(steps):
                            row = int(bucket(torch.tensor(key - query)))
                            scores[query, key] += gate[query] * p["distances"][row, h]
                out.append(scores.softmax(-1) @ one_v)
            return linear(f"{layer}.attention.out_proj", torch.cat(out, -1)[None])

        def feed_forward(x: Tensor, layer: str = layer) -> Tensor:
            return linear(f"{layer}.feed_forward.linear2", F.gelu(linear(f"{layer}.feed_forward.linear1", x)))

        if config.pre_norm:
            x = x + attention(norm(f"{layer}.norm1", x))
            x = x + feed_forward(norm(f"{layer}.norm2", x))
        else:
            x = norm(f"{layer}.norm1", x + attention(x))
            x = norm(f"{layer}.norm2", x + feed_forward(x))
        states.append(x)
    if config.pre_norm and config.encoder_norm:
        states[-1] = norm("norm", x)
    return states


@pytest.mark.parametrize("kind", [Hubert, WavLM])
@pytest.mark.parametrize("name", CONFIGS)
def test_it_is_the_network_as_published(kind: type[Hubert], name: str) -> None:
    net, (wave,) = network(kind, CONFIGS[name]), waves(5000)
    expected = plain(net, CONFIGS[name], wave)
    states = list(net.states(wave))
    assert len(states) == len(expected) == 3
    for ours, truth in zip(states, expected, strict=True):
        torch.testing.assert_close(ours, truth, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(net(wave), expected[-1], rtol=1e-9, atol=1e-11)
    assert expected[0].shape[1] == net.out_length(5000) == 15


@pytest.mark.parametrize("kind", [Hubert, WavLM])
@pytest.mark.parametrize("name", [*CONFIGS, "causal"])
def test_each_item_of_a_batch_is_as_if_alone(kind: type[Hubert], name: str, monkeypatch) -> None:
    config = replace(CONFIGS["large without its last norm"], causal=True) if name == "causal" else CONFIGS[name]
    net, clips = network(kind, config), waves(30000, 400, 9001, 16000)
    monkeypatch.setattr(wavlm, "SCORES", 1 << 12)  # so that queries go in several parts
    batch = torch.cat([F.pad(clip, (0, 30000 - clip.shape[-1])) for clip in clips])
    lengths = torch.tensor([clip.shape[-1] for clip in clips])
    for together, *alone in zip(net.states(batch, lengths), *(net.states(clip) for clip in clips), strict=True):
        for row, state, frames in zip(together, alone, net.out_length(lengths).tolist(), strict=True):
            assert state.shape[1] == frames
            torch.testing.assert_close(row[:frames], state[0], rtol=1e-9, atol=1e-11)


def test_an_item_without_a_frame_leaves_the_others_alone() -> None:
    net, (wave,) = network(WavLM, BASE), waves(8000)
    batch = torch.cat([wave, torch.zeros_like(wave)])
    torch.testing.assert_close(net(batch, torch.tensor([8000, 300]))[:1], net(wave), rtol=1e-9, atol=1e-11)
    assert net.out_length(torch.tensor([399, 400, 0])).tolist() == [0, 1, 0]
    assert [net.out_length(n) for n in (0, 399, 400, 719, 720)] == [0, 0, 1, 1, 2]


def test_causal_convolutions_look_back_only() -> None:
    config = replace(CONFIGS["large without its last norm"], causal=True, num_layers=0)
    net, (wave,) = network(Hubert, config), waves(6400)
    whole = net(wave)
    assert whole.shape[1] == net.out_length(6400) == 20
    torch.testing.assert_close(net(wave[..., :3520]), whole[:, :11], rtol=1e-9, atol=1e-11)
    constant = net(torch.ones_like(wave))
    torch.testing.assert_close(constant, constant[:, :1].expand_as(constant), rtol=1e-9, atol=1e-11)  # also its start


def test_the_position_bias_goes_with_any_mask() -> None:
    """A mask of queries and keys, in several parts as in one."""
    net, (wave,) = network(WavLM, BASE), waves(8000)
    x = next(net.states(wave))
    steps = x.shape[1]
    banded = AttentionMask(torch.ones(steps, steps, dtype=torch.bool).tril(2).triu(-5))
    attention = net.layers[0].attention
    expected = attention(x, net.relative(banded, steps))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wavlm, "SCORES", 7 * 2 * steps)
        torch.testing.assert_close(attention(x, net.relative(banded, steps)), expected, rtol=1e-9, atol=1e-11)
    moved = x.clone()
    moved[:, 12:] += 1
    torch.testing.assert_close(attention(moved, net.relative(banded, steps))[:, :10], expected[:, :10])


def test_buckets_of_distances() -> None:
    distances = torch.tensor([0, 1, 79, 80, 82, 83, 799, 800, 5000, -1, -79, -80, -83, -800, -5000])
    expected = [0, 161, 239, 240, 240, 241, 319, 319, 319, 1, 79, 80, 81, 159, 159]
    assert bucket(distances).tolist() == expected


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (
            hubert_rules("speech", ""),
            {
                "speech.extractor.convs.3.weight": "feature_extractor.conv_layers.3.conv.weight",
                "speech.extractor.norms.0.bias": "feature_extractor.conv_layers.0.layer_norm.bias",
                "speech.position.weight": "encoder.pos_conv_embed.conv.weight",
                "speech.layers.11.feed_forward.linear1.bias": "encoder.layers.11.feed_forward.intermediate_dense.bias",
            },
        ),
        (
            fairseq_rules("speech", "wav2vec2", "layer"),
            {
                "speech.extractor.convs.3.weight": "wav2vec2.feature_extractor.conv_layers.3.0.weight",
                "speech.extractor.norms.6.bias": "wav2vec2.feature_extractor.conv_layers.6.2.1.bias",
                "speech.project.weight": "wav2vec2.post_extract_proj.weight",
                "speech.layers.7.norm1.bias": "wav2vec2.encoder.layers.7.self_attn_layer_norm.bias",
            },
        ),
        (
            wavlm_rules("speech", "model"),
            {
                "speech.distances": "model.encoder.layers.0.attention.rel_attn_embed.weight",
                "speech.layers.2.attention.gate_scale": "model.encoder.layers.2.attention.gru_rel_pos_const",
                "speech.layers.2.attention.out_proj.bias": "model.encoder.layers.2.attention.out_proj.bias",
            },
        ),
        (
            unilm_rules("speech", ""),
            {
                "speech.distances": "encoder.layers.0.self_attn.relative_attention_bias.weight",
                "speech.layers.2.attention.gate.weight": "encoder.layers.2.self_attn.grep_linear.weight",
                "speech.extractor.norms.0.weight": "feature_extractor.conv_layers.0.2.weight",
            },
        ),
    ],
)
def test_names(rules: tuple, expected: dict[str, str]) -> None:
    key_map = KeyMap("test", rules)
    assert {ours: key_map.sources(ours)[0] for ours in expected} == {k: (v,) for k, v in expected.items()}
