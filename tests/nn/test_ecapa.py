"""ECAPA-TDNN's frames against the same network with every operation written out."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from codeczoo.nn.ecapa import DILATIONS, ECAPA, SPLITS
from codeczoo.weights.load import randomise


def test_it_is_what_the_paper_says_but_for_the_order_of_relu_and_norm() -> None:
    net = ECAPA(6, 16, hidden=5).double().requires_grad_(False)
    randomise(net)
    p = net.state_dict()
    mel = torch.randn(2, 6, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def conv(name: str, x: Tensor, dilation: int = 1) -> Tensor:
        weight = p[f"{name}.weight"]
        return F.conv1d(x, weight, p[f"{name}.bias"], padding=(weight.shape[-1] // 2) * dilation, dilation=dilation)

    def norm(name: str, x: Tensor) -> Tensor:
        mean, var, weight, bias = (p[f"{name}.{key}"] for key in ("running_mean", "running_var", "weight", "bias"))
        return ((x.mT - mean) / (var + 1e-5).sqrt() * weight + bias).mT

    def step(name: str, x: Tensor) -> Tensor:
        return norm(f"{name}.bn", conv(f"{name}.conv", x).relu())

    x, states = step("first", mel), []
    for i, dilation in enumerate(DILATIONS):
        y = step(f"blocks.{i}.first", x)
        width = y.shape[1] // SPLITS
        splits = [y[:, j * width : (j + 1) * width] for j in range(SPLITS)]
        for j in range(SPLITS - 1):
            into = splits[j] + splits[j - 1] if j else splits[j]
            splits[j] = norm(f"blocks.{i}.res2.bns.{j}", conv(f"blocks.{i}.res2.convs.{j}", into, dilation).relu())
        y = step(f"blocks.{i}.last", torch.cat(splits, dim=1))
        excite = f"blocks.{i}.excite.linear"
        hidden = (y.mean(-1) @ p[f"{excite}1.weight"].T + p[f"{excite}1.bias"]).relu()
        x = x + y * (hidden @ p[f"{excite}2.weight"].T + p[f"{excite}2.bias"]).sigmoid()[..., None]
        states.append(x)
    truth = conv("join", torch.cat(states, dim=1)).relu()
    torch.testing.assert_close(net(mel), truth)
    assert truth.shape == (2, 48, 30)
