"""LSTM over time with a skip connection, as SEANet has it between its convolutions and its latent.

One direction streams: its state is (h, c), each [B, layers, C], batch first as all streaming state. Both directions
do not; there the pass from right to left starts at each item's own end.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from codeczoo.base.exporting import exporting
from codeczoo.nn.bfloat16 import in_bfloat16, recurrent
from codeczoo.nn.onnx_lstm import onnx_lstm

State = tuple[Tensor, Tensor]


def _recorded(lstm: nn.LSTM, x: Tensor, past: tuple[Tensor, ...] | None = None) -> Any:
    """`lstm(x, past)`. cuDNN keeps what gradients need in training mode only, which changes nothing else."""
    if in_bfloat16(lstm.weight_hh_l0):
        return recurrent(lstm, x, past)
    if not (x.is_cuda and torch.is_grad_enabled()) or lstm.training:
        return lstm(x, past)
    lstm.training = True
    try:
        return lstm(x, past)
    finally:
        lstm.training = False


def _is_recorded(x: Tensor) -> bool:
    """Whether [B, C, T] is a symbol in a graph: ONNX's operator has no values."""
    return exporting() and isinstance(x.shape[-1], torch.SymInt)


class LSTM(nn.Module):
    """[B, C, T] → [B, C, T]: what the LSTM gives plus its input. Causal, so `lengths` do not matter."""

    def __init__(self, channels: int, layers: int = 2) -> None:
        super().__init__()
        self.lstm = nn.LSTM(channels, channels, layers)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        if _is_recorded(x):
            return x + onnx_lstm(self.lstm, x.permute(2, 0, 1)).permute(1, 2, 0)
        return self.first_chunk(x)[0]

    def initial_state(self, batch_size: int) -> State:
        zeros = next(self.parameters()).new_zeros(batch_size, self.lstm.num_layers, self.lstm.hidden_size)
        return zeros, zeros.clone()

    def first_chunk(self, x: Tensor) -> tuple[Tensor, State]:
        """The first T steps of a clip, and the state after them."""
        return self._run(x, None)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """The next T steps."""
        return self._run(x, state)

    def _run(self, x: Tensor, state: State | None) -> tuple[Tensor, State]:
        past = None if state is None else tuple(s.transpose(0, 1).contiguous() for s in state)
        y, (h, c) = _recorded(self.lstm, x.permute(2, 0, 1), past)
        return x + y.permute(1, 2, 0), (h.transpose(0, 1), c.transpose(0, 1))


class BidirectionalLSTM(nn.Module):
    """[B, C, T] → [B, 2C, T]: (forward, backward) plus the input twice, side by side (SpeechTokenizer)."""

    def __init__(self, channels: int, layers: int = 2) -> None:
        super().__init__()
        widths = [channels] + [2 * channels] * (layers - 1)
        self.ahead = nn.ModuleList(nn.LSTM(width, channels) for width in widths)
        self.back = nn.ModuleList(nn.LSTM(width, channels) for width in widths)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        y = x.permute(2, 0, 1)  # [T, B, C]
        flip = _flip_index(lengths, y.shape[0])
        run = onnx_lstm if _is_recorded(x) else lambda lstm, x: _recorded(lstm, x)[0]
        for ahead, back in zip(self.ahead, self.back, strict=True):
            y = torch.cat([run(ahead, y), _flip(run(back, _flip(y, flip)), flip)], dim=-1)
        return torch.cat([x, x], dim=1).add_(y.permute(1, 2, 0))


def _flip_index(lengths: Tensor | None, steps: int) -> Tensor | None:
    """[T, B, 1]: where each step goes when every item is turned around within its own length; its tail stays."""
    if lengths is None:
        return None
    t = torch.arange(steps, device=lengths.device)[:, None]
    return torch.where(t < lengths, lengths - 1 - t, t)[..., None]


def _flip(x: Tensor, index: Tensor | None) -> Tensor:
    return x.flip(0) if index is None else x.gather(0, index.expand(-1, -1, x.shape[-1]))
