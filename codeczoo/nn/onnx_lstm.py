"""An LSTM as ONNX's operator of that name. torch's exporter unrolls one over the steps of its example, and the graph
then holds for that length alone (torch 2.13)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def onnx_lstm(lstm: nn.LSTM, x: Tensor) -> Tensor:
    """[T, B, C] → [T, B, hidden] of an LSTM of one direction from a state of zeros, in a graph that is recorded."""
    steps, batch, _ = x.shape
    size = lstm.hidden_size
    for layer in range(lstm.num_layers):
        parts = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        inward, again, *biases = (_reordered(getattr(lstm, f"{part}_l{layer}")) for part in parts)
        y = torch.onnx.ops.symbolic(
            "LSTM",
            (x, inward[None], again[None], torch.cat(biases)[None]),
            {"hidden_size": size},
            dtype=x.dtype,
            shape=(steps, 1, batch, size),
            version=14,
        )
        x = y[:, 0]
    return x


def _reordered(rows: Tensor) -> Tensor:
    """Gates (input, forget, cell, output), as torch has them → (input, output, forget, cell)."""
    into, forget, cell, out = rows.chunk(4)
    return torch.cat([into, out, forget, cell])
