"""The Perceiver's resampler against the same network with every operation written out."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from codeczoo.nn.perceiver import PerceiverResampler
from codeczoo.weights.load import randomise


def test_queries_attend_to_the_sequence_and_to_themselves() -> None:
    net = PerceiverResampler(7, 12, 3, num_layers=2, num_heads=2, head_dim=4).double().requires_grad_(False)
    randomise(net)
    p = net.state_dict()
    sequence = torch.randn(2, 9, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for item, found in zip(sequence, net(sequence), strict=True):
        context, x = item @ p["project.weight"].T + p["project.bias"], p["queries"]
        for i in range(2):
            seen = torch.cat([x, context])
            heads = []
            for head in range(2):
                rows = slice(4 * head, 4 * head + 4)
                q = x @ p[f"layers.{i}.to_q.weight"][rows].T
                k = seen @ p[f"layers.{i}.to_kv.weight"][:8][rows].T
                v = seen @ p[f"layers.{i}.to_kv.weight"][8:][rows].T
                heads.append((q @ k.T / 2).softmax(-1) @ v)
            x = x + torch.cat(heads, dim=-1) @ p[f"layers.{i}.to_out.weight"].T
            wide = x @ p[f"layers.{i}.widen.weight"].T + p[f"layers.{i}.widen.bias"]
            value, gate = wide[:, :32], wide[:, 32:]
            x = x + (value * F.gelu(gate)) @ p[f"layers.{i}.narrow.weight"].T + p[f"layers.{i}.narrow.bias"]
        truth = x / x.square().mean(-1, keepdim=True).sqrt() * p["gamma"]
        torch.testing.assert_close(found, truth)
