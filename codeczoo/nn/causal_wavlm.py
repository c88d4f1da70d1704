"""WavLM that looks back only, but for the frames of a small group, as FocalCodec-Stream (arXiv 2509.16195) has it.

Frames go in groups, counted from the clip's start. A frame sees all of its group (as far as the clip goes) and, before
the group's end, `window` frames in all. Convolutions look back only; before a clip's start stands its first value.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from codeczoo.base.exporting import exporting
from codeczoo.nn.attention import Attention, AttentionMask
from codeczoo.nn.conv import Conv1d
from codeczoo.nn.hubert import HubertConfig
from codeczoo.nn.rotary import Rotation
from codeczoo.nn.wavlm import FARTHEST, GatedAttention, WavLM

State = dict[str, Any]

ROWS = 128  # queries that attention takes at once, about


@dataclass(frozen=True)
class GroupWindow(AttentionMask):
    """Queries by blocks of whole groups, each with the keys that it can see.

    Attributes:
        bias: [H, rows, reach + rows] for the distances between the queries of a block and its keys.
        steps: queries of all blocks.
        before: frames of each item before the first query, [B]; None = none, and no keys of them.
        own: frames of each item from the first query on, [B]; None = all.
    """

    bias: Tensor = field(kw_only=True)
    steps: int = field(kw_only=True)
    window: int = field(kw_only=True)
    group: int = field(kw_only=True)
    before: Tensor | None = field(kw_only=True)
    own: Tensor | None = field(kw_only=True)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, gates: Tensor) -> Tensor:
        """q and gates [B, H, T, ...], k and v [B, H, past + T, D] → [B, H, T, D]."""
        past, rows, reach = k.shape[2] - self.steps, self.bias.shape[1], self.window - 1
        parts = []
        for first in (0,) if exporting() else range(0, self.steps, rows):
            stop, lowest = min(first + rows, self.steps), max(first - reach, -past)
            keys = slice(lowest - first + reach, stop - first + reach)
            bias = gates[:, :, first:stop] * self.bias[:, : stop - first, keys]
            bias = bias.masked_fill_(~self.seen(first, stop, lowest), -torch.inf)
            known = slice(lowest + past, stop + past)
            parts.append(F.scaled_dot_product_attention(q[:, :, first:stop], k[:, :, known], v[:, :, known], bias))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)

    def seen(self, first: int, stop: int, lowest: int) -> Tensor:
        """[B or 1, 1, queries, keys] of queries `first` to `stop` and keys `lowest` to `stop`."""
        query = torch.arange(first, stop, device=self.bias.device)
        key = torch.arange(lowest, stop, device=self.bias.device)
        end = ((query // self.group + 1) * self.group).clamp_(max=self.steps)
        if self.own is not None:  # what is behind an item still sees something: NaN would spread
            own = self.own[:, None]
            end = torch.where(query < own, torch.minimum(end, own), end)
        seen = (key < end[..., None]) & (key >= end[..., None] - self.window)
        if self.before is not None:
            seen = seen & (key >= -self.before[:, None, None])
        return seen.view(-1, 1, stop - first, stop - lowest)


class WindowAttention(GatedAttention):
    """`GatedAttention` under a `GroupWindow`; `advance` takes a clip chunk by chunk."""

    def forward(self, x: Tensor, attention_mask: AttentionMask, rotation: Rotation | None = None) -> Tensor:
        assert isinstance(attention_mask, GroupWindow) and rotation is None
        return self.merge(attention_mask.attend(*self.project(x), self.gates(x)))

    def advance(self, x: Tensor, past: Tensor, attention_mask: GroupWindow) -> tuple[Tensor, Tensor]:
        """The next T frames, and the keys and values after them; `past` is [B, 2, H, reach, D]."""
        q, k, v = self.project(x)
        known = torch.cat([past, torch.stack([k, v], dim=1)], dim=3)
        y = self.merge(attention_mask.attend(q, known[:, 0], known[:, 1], self.gates(x)))
        return y, known[:, :, :, known.shape[3] - past.shape[3] :]


class CausalWavLM(WavLM):
    """Waveform [B, 1, T] at 16 kHz → hidden states [B, N, dim], N = ceil(T / 320)."""

    def __init__(self, config: HubertConfig, window: int, group: int) -> None:
        super().__init__(config)
        self.window, self.group = window, group

    def attention(self, config: HubertConfig) -> Attention:
        return WindowAttention(config.dim, config.num_heads)

    def attention_mask(self, steps: int, lengths: Tensor | None) -> GroupWindow:
        return self.group_window(steps, None, lengths)

    def group_window(self, steps: int, before: Tensor | None, own: Tensor | None) -> GroupWindow:
        """What T frames see of themselves and of those before them, which are `before` [B]."""
        rows = steps if exporting() else min(max(ROWS // self.group, 1) * self.group, steps)
        place = torch.arange(1 - self.window, rows, device=self.buckets.device)
        distance = place - torch.arange(rows, device=place.device)[:, None]
        bias = F.embedding(self.buckets[distance.clamp_(-FARTHEST, FARTHEST) + FARTHEST], self.distances)
        bias = bias.permute(2, 0, 1).contiguous()
        return GroupWindow(bias=bias, steps=steps, window=self.window, group=self.group, before=before, own=own)

    # -- streaming ------------------------------------------------------------------------------

    def initial_state(self, batch_size: int) -> State:
        """State of a clip's start."""
        attention = cast("GatedAttention", self.layers[0].attention)
        shape = (batch_size, 2, attention.num_heads, self.window - 1, attention.head_dim)
        weight = self.project.weight
        return {
            "frames": torch.zeros(batch_size, dtype=torch.int64, device=weight.device),
            "extractor": [cast("Conv1d", conv).initial_state(batch_size) for conv in self.extractor.convs],
            "position": self.position.initial_state(batch_size),
            "attention": [weight.new_zeros(shape) for _ in self.layers],
        }

    def step(self, x: Tensor, state: State, own: Tensor | None = None) -> tuple[Tensor, State]:
        """The next samples [B, 1, T], whole groups of frames → the last hidden state [B, N, dim] of these frames, and
        the state after them. At a clip's end `own` [B] of the frames exist."""
        before, convs, past = state["frames"], [], []
        for conv, norm, last in zip(self.extractor.convs, self.extractor.norms, state["extractor"], strict=True):
            x, last = step_from_start(cast("Conv1d", conv), x, last, before)
            x = F.gelu(norm(x.mT).mT)
            convs.append(last)
        x = x.mT
        x = self.project(x if self.projection_norm is None else self.projection_norm(x))
        y, position = step_from_start(self.position, x.mT.contiguous(), state["position"], before)
        x = x + F.gelu(y).mT
        attention_mask = self.group_window(x.shape[1], before, own)
        for layer, known in zip(self.layers, state["attention"], strict=True):
            y, known = layer.attention.advance(layer.norm1(x), known, attention_mask)
            x = y.add_(x)
            x = layer.feed_forward(layer.norm2(x)).add_(x)
            past.append(known)
        after = {"frames": before + x.shape[1], "extractor": convs, "position": position, "attention": past}
        return x, after


def step_from_start(conv: Conv1d, x: Tensor, past: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
    """A step of a causal convolution that repeats its first input before it: of items that have been fed nothing
    `before` [B], that is the first of x."""
    return conv.step(x, torch.where(before[:, None, None] == 0, x[..., :1], past))
