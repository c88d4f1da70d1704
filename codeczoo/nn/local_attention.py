"""A causal transformer in windows of fixed places, each of which also sees the whole window before it.

As in the local-attention package. A query sees between `window` and 2 · `window` - 1 steps, by its place in its window;
compare `attention.window_after`, where all see the same number. Positions enter as a term of the scores: a small
network of the distance between query and key, with an output a head.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codeczoo.base.exporting import exporting
from codeczoo.base.key_map import Rule
from codeczoo.nn.attention import Attention, AttentionMask
from codeczoo.nn.sequential import Linear
from codeczoo.nn.transformer import TransformerLayer

State = list[Tensor]  # each layer's keys and values of the last whole window, [B, 2, H, window or 0, D]


class GatedFeedForward(nn.Module):
    """[..., dim] → [..., dim]: linear to two halves, the first times exact GELU of the second, linear. No biases."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.linear1 = Linear(dim, 2 * hidden, bias=False)
        self.linear2 = Linear(hidden, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.linear1(x).chunk(2, dim=-1)
        return self.linear2(F.gelu(gate).mul_(value))


class DistanceBias(nn.Module):
    """Distances [...] in steps, as they are → a term of the scores for each head, [H, ...]."""

    def __init__(self, num_heads: int, hidden: int = 128) -> None:
        super().__init__()
        self.mlp = nn.Sequential(Linear(1, hidden), nn.SiLU(), Linear(hidden, hidden), nn.SiLU())
        self.mlp.append(Linear(hidden, num_heads))

    def forward(self, distance: Tensor) -> Tensor:
        return self.mlp(distance.to(self.mlp[0].weight.dtype)[..., None]).movedim(-1, 0)


@dataclass(frozen=True)
class LookBack(AttentionMask):
    """Queries of whole windows and a rest, over keys that start with them or one window before them."""

    window: int = 0
    bias: Tensor | None = None  # [1, H, window, 2 * window], -inf where a key is not seen

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        assert self.bias is not None
        window = self.window
        if k.shape[2] > q.shape[2]:
            return AttentionMask(self.bias, past=window, block=window)(q, k, v)
        n = min(window, q.shape[2])  # the first window, which has none before it
        bias = self.bias[:, :, :n, window : window + n]
        first = F.scaled_dot_product_attention(q[:, :, :n], k[:, :, :n], v[:, :, :n], bias)
        return first if n == q.shape[2] else torch.cat([first, self(q[:, :, n:], k, v)], dim=2)

    def remember(self, new: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values [B, 2, H, T, D] and a layer's state → all that the new queries see, and the state after."""
        known = torch.cat([past, new], dim=3) if past.shape[3] else new
        return known, known[:, :, :, -self.window :]

    @property
    def attention_mask(self) -> LookBack:
        return self


class LocalTransformer(nn.Module):
    """[B, dim, T] → [B, dim, T]. Causal, so `lengths` do not matter; what lies behind an item must be finite."""

    def __init__(
        self,
        dim: int,
        num_layers: int,
        window: int,
        *,
        num_heads: int = 6,
        head_dim: int = 64,
        hidden: int | None = None,
        bias_hidden: int = 128,
    ) -> None:
        """`hidden`: of the feed-forward; None = 8/3 · dim. `bias_hidden`: of the distances' network."""
        super().__init__()
        self.window = window
        self.bias = DistanceBias(num_heads, bias_hidden)
        hidden = hidden or 8 * dim // 3
        self.layers = nn.ModuleList(
            TransformerLayer(dim, Attention(dim, num_heads, head_dim), GatedFeedForward(dim, hidden))
            for _ in range(num_layers)
        )

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        if exporting():
            y, attention_mask = x.mT, self._whole_clip(x.shape[-1])
            for layer in self.layers:
                y = layer(y, attention_mask)
            return y.mT
        return self.first_chunk(x)[0]

    def first_chunk(self, x: Tensor) -> tuple[Tensor, State]:
        """The first T steps of a clip, and the state after them; T is whole windows unless the clip ends here."""
        first = self.layers[0].attention
        empty = x.new_zeros(x.shape[0], 2, first.num_heads, 0, first.head_dim)
        return self.step(x, [empty] * len(self.layers))

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """The next T steps, and the state after them; T as in `first_chunk`."""
        look = self._look(x.device)
        after = []
        y = x.mT
        for layer, past in zip(self.layers, state, strict=True):
            y, past = layer.step(y, past, look)
            after.append(past)
        return y.mT, after

    def _whole_clip(self, steps: int) -> AttentionMask:
        """What `LookBack` sees of a whole clip, in one piece: memory grows with T²."""
        step = torch.arange(steps)
        distance = step[:, None] - step  # [T, T]
        seen = (distance >= 0) & (step >= (step // self.window - 1)[:, None] * self.window)
        by_distance = self.bias(torch.arange(2 * self.window))
        bias = by_distance[:, distance.clamp(0, 2 * self.window - 1)].masked_fill(~seen, -torch.inf)
        return AttentionMask(bias[None])

    def _look(self, device: torch.device) -> LookBack:
        steps = torch.arange(2 * self.window, device=device)
        by_distance = self.bias(steps)  # [H, 2 * window]
        distance = steps[self.window :, None] - steps  # [window, 2 * window]
        bias = by_distance[:, distance.clamp(min=0)].masked_fill_(distance < 0, -torch.inf)
        return LookBack(window=self.window, bias=bias[None])


def local_transformer_rules(ours: str, theirs: str) -> tuple[Rule, ...]:
    """Rules from a `LocalTransformer` at `ours` to the names of local-attention's at `theirs`."""
    at, to = rf"{ours}\.layers\.(\d)\.", rf"{theirs}.layers.\1."
    return (
        Rule(at + r"norm1\.(\w+)", to + r"0.norm.\2"),
        Rule(at + r"attention\.in_proj\.weight", to + "0.to_qkv.weight"),
        Rule(at + r"attention\.out_proj\.weight", to + "0.to_out.weight"),
        Rule(at + r"norm2\.(\w+)", to + r"1.0.\2"),
        Rule(at + r"feed_forward\.linear1\.weight", to + "1.1.weight"),
        Rule(at + r"feed_forward\.linear2\.weight", to + "1.4.weight"),
        Rule(rf"{ours}\.bias\.(.+)", rf"{theirs}.dynamic_pos_bias.\1"),
    )
