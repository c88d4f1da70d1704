"""Pre-norm transformer over time: full, causal, or causal within a window; the last also as a stream.

    x + scale1 · attention(norm1(x)), then x + scale2 · feed_forward(norm2(x))

Layers take any attention and feed-forward; `Transformer` gives them what all layers share: the mask, the rotation of
the positions and, in a stream, the count of steps so far.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codeczoo.base.exporting import exporting
from codeczoo.nn.attention import Attention, AttentionMask, Chunk, causal, everything, window_after, within_window
from codeczoo.nn.rotary import Rotary, Rotation
from codeczoo.nn.sequential import Linear

State = tuple[Tensor, list[Tensor]]  # steps so far [B], and each layer's ring of keys and values


class FeedForward(nn.Module):
    """[..., dim] → [..., dim]: linear, activation (default: exact GELU), linear."""

    def __init__(
        self, dim: int, hidden: int, *, bias: bool = False, activation: Callable[[Tensor], Tensor] = F.gelu
    ) -> None:
        super().__init__()
        self.linear1 = Linear(dim, hidden, bias=bias)
        self.linear2 = Linear(hidden, dim, bias=bias)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        return self.linear2(self.activation(self.linear1(x)))


class LayerScale(nn.Module):
    """A residual branch y times a learned factor a channel (arXiv 2103.17239), added to x in place."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.empty(dim))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return y.mul_(self.scale).add_(x)


class TransformerLayer(nn.Module):
    """[B, T, dim] → [B, T, dim]."""

    def __init__(
        self,
        dim: int,
        attention: Attention,
        feed_forward: nn.Module,
        *,
        norm: Callable[[int], nn.Module] = nn.LayerNorm,
        layer_scale: tuple[bool, bool] = (False, False),
    ) -> None:
        """`layer_scale`: of attention and of feed-forward."""
        super().__init__()
        self.norm1, self.attention = norm(dim), attention
        self.norm2, self.feed_forward = norm(dim), feed_forward
        self.scale1, self.scale2 = (LayerScale(dim) if scaled else None for scaled in layer_scale)

    def forward(self, x: Tensor, attention_mask: AttentionMask, rotation: Rotation | None = None) -> Tensor:
        return self._finish(x, self.attention(self.norm1(x), attention_mask, rotation))

    def step(self, x: Tensor, ring: Tensor, chunk: Chunk, rotation: Rotation | None = None) -> tuple[Tensor, Tensor]:
        y, ring = self.attention.step(self.norm1(x), ring, chunk, rotation)
        return self._finish(x, y), ring

    def _finish(self, x: Tensor, y: Tensor) -> Tensor:
        x = _add(self.scale1, x, y)
        return _add(self.scale2, x, self.feed_forward(self.norm2(x)))


class Transformer(nn.Module):
    """Layers one after the other: [B, T, dim] → [B, T, dim].

    Args:
        causal: a step sees itself and those before it; else all of its own item.
        window: with `causal`, how many steps it sees, itself among them; None = all. Only a window can be streamed.
    """

    def __init__(
        self,
        layers: Sequence[TransformerLayer],
        *,
        rotary: Rotary | None = None,
        causal: bool = False,
        window: int | None = None,
    ) -> None:
        super().__init__()
        if window is not None and not causal:
            raise ValueError(f"window={window} is for causal attention; this transformer is not causal")
        self.layers = nn.ModuleList(layers)
        self.rotary, self.causal, self.window = rotary, causal, window

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        steps = x.shape[1]
        attention_mask = self._attention_mask(x, lengths)
        rotation = self.rotary(torch.arange(steps, device=x.device), x.dtype) if self.rotary else None
        for layer in self.layers:
            x = layer(x, attention_mask, rotation)
        return x

    def initial_state(self, batch_size: int) -> State:
        """State of a clip's start."""
        rings = [layer.attention.initial_state(batch_size, self._window()) for layer in self._typed_layers]
        return torch.zeros(batch_size, dtype=torch.int64, device=rings[0].device), rings

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """The next T steps [B, T, dim] of clips, each at its own position, and the state after them.

        A short chunk is written into the rings in place, where `state` sees nothing: `state` stays valid until the
        state after it takes a step (see `attention.Chunk`).
        """
        position, rings = state
        steps = x.shape[1]
        chunk = Chunk(position, steps, self._window())
        positions = position[:, None] + torch.arange(steps, device=x.device)
        rotation = self.rotary(positions, x.dtype) if self.rotary else None
        after = []
        for layer, ring in zip(self._typed_layers, rings, strict=True):
            x, ring = layer.step(x, ring, chunk, rotation)
            after.append(ring)
        return x, (position + steps, after)

    @property
    def _typed_layers(self) -> Iterable[TransformerLayer]:
        return cast("Iterable[TransformerLayer]", self.layers)

    def _attention_mask(self, x: Tensor, lengths: Tensor | None) -> AttentionMask:
        batch, steps, _ = x.shape
        if not self.causal:
            return everything(steps, lengths)
        if self.window is not None and exporting():
            return within_window(steps, self.window)
        if self.window is None or steps <= self.window:
            return causal()
        return window_after(torch.zeros(batch, dtype=torch.int64, device=x.device), steps, self.window)

    def _window(self) -> int:
        if self.window is None:
            raise ValueError("only attention within a window can be streamed; this transformer has none")
        return self.window


def _add(scale: LayerScale | None, x: Tensor, y: Tensor) -> Tensor:
    return y.add_(x) if scale is None else scale(x, y)
