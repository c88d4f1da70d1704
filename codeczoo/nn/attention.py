"""Self-attention in three patterns: over everything, causal, and causal within a window, the last also as a stream.

Tensors between the blocks are [B, T, dim], as linear layers want them. What each query may see is an `AttentionMask`,
made once for all layers of a call. Long clips with a window are cut into blocks of queries, each with the keys that it
can see: memory grows with T, not with T².
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codeczoo.base.ragged import valid_mask
from codeczoo.nn.rotary import Rotation
from codeczoo.nn.sequential import Linear


@dataclass(frozen=True)
class AttentionMask:
    """Which keys each query sees.

    `mask` (True = seen) broadcasts to [B, H, queries, keys], with `block` to [B * blocks, H, block, past + block];
    None = all, or if `causal` those up to the query itself.
    """

    mask: Tensor | None = None
    causal: bool = False
    past: int = 0  # keys before the first query
    block: int | None = None  # queries that go together; None = all

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q [B, H, T, D], k and v [B, H, past + T, D] → [B, H, T, D]."""
        if self.block is None:
            return F.scaled_dot_product_attention(q, k, v, self.mask, is_causal=self.causal)
        batch, _, steps, _ = q.shape
        fill = -steps % self.block
        q, k, v = (F.pad(x, (0, 0, 0, fill)) for x in (q, k, v))
        q = _blocks(q, self.block, self.block)
        k, v = (_blocks(x, self.past + self.block, self.block) for x in (k, v))
        out = F.scaled_dot_product_attention(q, k, v, self.mask)  # [B * blocks, H, block, D]
        return out.unflatten(0, (batch, -1)).transpose(1, 2).flatten(2, 3)[:, :, :steps]


def everything(steps: int, lengths: Tensor | None = None) -> AttentionMask:
    """Every query sees all steps of its own item. Values behind an item's length must be finite."""
    return AttentionMask() if lengths is None else AttentionMask(valid_mask(lengths, steps)[:, None, None])


def causal() -> AttentionMask:
    """A query sees itself and all before it, so lengths do not matter."""
    return AttentionMask(causal=True)


def window_after(known: Tensor, steps: int, window: int) -> AttentionMask:
    """A query sees itself and the `window` - 1 steps before it; keys and values carry that many steps of past.

    Args:
        known: [B], how many of the past steps exist (the last ones); 0 or more.
    """
    past = window - 1
    block = max(window // 2, 1)  # wider blocks carry more masked keys, narrower ones more copies
    block = steps if steps <= 2 * block else block
    blocks = -(-steps // block)
    key = torch.arange(past + block, device=known.device)
    ahead = key - torch.arange(block, device=known.device)[:, None]
    seen = (ahead >= 0) & (ahead <= past)  # [block, past + block]
    first = torch.arange(blocks, device=known.device)[:, None] * block
    exists = first + key >= past - known[:, None, None]  # [B, blocks, past + block]
    mask = (exists[:, :, None, None] & seen).flatten(0, 1)  # [B * blocks, 1, block, past + block]
    return AttentionMask(mask, past=past, block=None if blocks == 1 else block)


class Chunk:
    """Positions of the next steps of a batch of clips, and the places of their keys and values in the layers' rings.

    Each layer keeps keys and values in a ring [B, 2, H, R, D]: position p lies in place p mod R. R exceeds the window's
    past by a few steps; a chunk of at most that many steps is written into the ring *in place*, over positions that no
    query can see any more. So the state before the chunk stays valid: a paused item keeps its position, and the same
    places are written again. A longer chunk makes a new ring.
    """

    def __init__(self, position: Tensor, steps: int, window: int) -> None:
        """`position` [B]: steps that each item has been fed before."""
        size, past = ring_size(window), window - 1
        now = position[:, None] + torch.arange(steps, device=position.device)  # [B, T]
        self.in_place = steps <= size - past
        if self.in_place:
            self.places = now % size
            last = now[:, -1:]
            held = last - (last - torch.arange(size, device=position.device)) % size  # [B, R] positions in the ring
            age = now[:, :, None] - held[:, None]  # [B, T, R]
            self.attention_mask = AttentionMask(((held >= 0)[:, None] & (age >= 0) & (age < window))[:, None])
        else:
            before = position[:, None] + torch.arange(-past, 0, device=position.device)
            self.before = before % size
            self.places = torch.cat([before, now], dim=-1)[:, -size:] % size
            self.attention_mask = window_after(position, steps, window)

    def remember(self, new: Tensor, ring: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values [B, 2, H, T, D] and a layer's ring → what `attention_mask` indexes, and the ring after."""
        if self.in_place:
            # What a paused item was fed is masked, but masked NaN would still spread: 0 · NaN is NaN.
            ring.scatter_(3, _along_time(self.places, ring), new.nan_to_num())
            return ring, ring
        known = torch.cat([ring.gather(3, _along_time(self.before, ring)), new], dim=3)
        newest = known[:, :, :, known.shape[3] - ring.shape[3] :]
        return known, torch.empty_like(ring).scatter_(3, _along_time(self.places, ring), newest)


def ring_size(window: int) -> int:
    """Places of a ring: the window's past and 6 or more steps; a multiple of 8, as fast attention kernels want."""
    return -(-(window - 1 + 6) // 8) * 8


class Attention(nn.Module):
    """Multi-head self-attention [B, T, dim] → [B, T, dim], scores scaled by 1 / sqrt(head_dim).

    `in_proj` holds the rows of q, k, v, each head by head. A checkpoint where only some of the three have a bias is
    loaded with zeros for the others.
    """

    def __init__(self, dim: int, num_heads: int, head_dim: int | None = None, *, bias: bool = False) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.head_dim = head_dim or dim // num_heads
        inner = num_heads * self.head_dim
        self.in_proj = Linear(dim, 3 * inner, bias=bias)
        self.out_proj = Linear(inner, dim, bias=bias)

    def forward(self, x: Tensor, attention_mask: AttentionMask, rotation: Rotation | None = None) -> Tensor:
        q, k, v = self.project(x, rotation)
        if attention_mask.past:  # nothing is known before a whole clip's start
            k, v = F.pad(k, (0, 0, attention_mask.past, 0)), F.pad(v, (0, 0, attention_mask.past, 0))
        return self.merge(attention_mask(q, k, v))

    def project(self, x: Tensor, rotation: Rotation | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """[B, T, dim] → q, k, v [B, H, T, D], q and k turned."""
        heads = self.in_proj(x).unflatten(-1, (3, self.num_heads, self.head_dim)).permute(2, 0, 3, 1, 4)
        qk = heads[:2] if rotation is None else rotation(heads[:2])
        return qk[0], qk[1], heads[2]

    def attend_to(self, x: Tensor, seen: Tensor, attention_mask: AttentionMask) -> Tensor:
        """Queries of x [B, T, dim] over keys and values of `seen` [B, S, dim] → [B, T, dim].

        Both are projected by themselves, so that the last bits are those of PyTorch's attention of one to another.
        """
        inner = self.num_heads * self.head_dim
        weight = self.in_proj.weight.split([inner, 2 * inner])
        bias = (None, None) if self.in_proj.bias is None else self.in_proj.bias.split([inner, 2 * inner])
        q = F.linear(x, weight[0], bias[0])
        k, v = F.linear(seen, weight[1], bias[1]).unflatten(-1, (2, inner)).unbind(-2)
        heads = (y.contiguous().unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for y in (q, k, v))
        return self.merge(attention_mask(*heads))

    def merge(self, x: Tensor) -> Tensor:
        """Heads [B, H, T, D] → [B, T, dim]."""
        return self.out_proj(x.transpose(1, 2).flatten(2))

    # -- streaming (causal within a window) -----------------------------------------------------

    def initial_state(self, batch_size: int, window: int) -> Tensor:
        """State of a clip's start: an empty ring, [B, 2, H, R, D]."""
        return self.in_proj.weight.new_zeros(batch_size, 2, self.num_heads, ring_size(window), self.head_dim)

    def step(self, x: Tensor, ring: Tensor, chunk: Chunk, rotation: Rotation | None = None) -> tuple[Tensor, Tensor]:
        """The next T steps, and the ring after them (the same one, written in place, where the chunk is short)."""
        q, k, v = self.project(x, rotation)
        known, ring = chunk.remember(torch.stack([k, v], dim=1), ring)
        return self.merge(chunk.attention_mask(q, known[:, 0], known[:, 1])), ring


def _blocks(x: Tensor, size: int, hop: int) -> Tensor:
    """[B, H, T, D] → [B * blocks, H, size, D], a block each `hop` steps."""
    return x.unfold(2, size, hop).permute(0, 2, 1, 4, 3).flatten(0, 1)


def _along_time(index: Tensor, like: Tensor) -> Tensor:
    """Places [B, T] as an index into [B, 2, H, R, D] along R."""
    batch, pair, heads, _, dim = like.shape
    return index[:, None, None, :, None].expand(batch, pair, heads, -1, dim)
