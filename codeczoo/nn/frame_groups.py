"""Streams of networks that work on groups of frames: a frame sees those of its group, also the later ones.

Chunks of any number of frames go in; the network is run on whole groups. How many frames come out is decided by the
chunks that an item has been fed. While all of them are whole groups, each chunk gives all of its frames at once. From
the first chunk on that is not, frames come one group late: as many as go in, as soon as one group has gone in. So a
stream settles on fixed shapes for every size of chunk, and a size of whole groups adds no latency.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from codeczoo.base.cuda_graph import State, where
from codeczoo.nn.padding import mask_tail

# (x [B, C, groups * size * in_hop], the network's state, how many of the frames exist [B] or None for all)
# → y [B, C', groups * size * out_hop] and the state after it
Run = Callable[[Tensor, State, Tensor | None], tuple[Tensor, State]]


class FrameGroups:
    """`size` frames are a group; a frame is `in_hop` steps that go in and `out_hop` that come out."""

    def __init__(self, size: int, in_hop: int, out_hop: int) -> None:
        self.size, self.in_hop, self.out_hop = size, in_hop, out_hop

    def initial_state(self, network: State, inputs: Tensor, outputs: Tensor) -> State:
        """State of a clip's start. `network`: the network's; `inputs` [B, C, 0] and `outputs` [B, C', 0] have the
        shapes and types of what goes in and comes out."""
        count = torch.zeros(len(inputs), dtype=torch.int64, device=inputs.device)
        return {
            "network": network,
            "held": F.pad(inputs, ((self.size - 1) * self.in_hop, 0)),  # the last frames that went in
            "ready": F.pad(outputs, (self.size * self.out_hop, 0)),  # the last frames that the network gave
            "frames": count,  # that went in
            "waiting": count,  # of those that the network gave
            "late": count > 0,
        }

    def is_running(self, state: State) -> bool:
        """Whether every item gives as many frames as it takes, whatever the chunk."""
        behind = state["frames"] % self.size + state["waiting"]
        return bool((state["late"] & (behind == self.size)).all())

    def step(self, x: Tensor, state: State, run: Run) -> tuple[Tensor, Tensor, State]:
        """The next whole frames [B, C, T] → as many [B, C', T'], how many of those steps are valid [B], the state."""
        size, frames = self.size, x.shape[-1] // self.in_hop
        full, rest = divmod(frames, size)
        pending = state["frames"] % size
        known = torch.cat([state["held"], x], dim=-1)
        groups = _slice(known, (size - 1 - pending) * self.in_hop, (full + (rest > 0)) * size * self.in_hop)
        parts, network = [state["ready"]], state["network"]
        if full:
            y, network = run(groups[..., : full * size * self.in_hop], network, None)
            parts.append(y)
        made, late = torch.full_like(pending, full * size), state["late"]
        if rest:  # one more group, of the items that have all of it
            complete = pending + rest >= size
            if x.device.type != "cpu" or bool(complete.any()):
                y, after = run(groups[..., full * size * self.in_hop :], network, None)
                network = where(complete, after, network)
                parts.append(y)
            made, late = made + size * complete, torch.ones_like(late)
        total = state["frames"] + frames
        given, ready = state["frames"] - pending - state["waiting"], total - total % size
        count = torch.where(late, torch.maximum(total - size, given), ready) - given
        y = torch.cat(parts, dim=-1)
        after = {
            "network": network,
            "held": known[..., known.shape[-1] - state["held"].shape[-1] :],
            "ready": _slice(y, made * self.out_hop, size * self.out_hop),
            "frames": total,
            "waiting": ready - given - count,
            "late": late,
        }
        y = _slice(y, (size - state["waiting"]) * self.out_hop, frames * self.out_hop)
        return y, count * self.out_hop, after

    def flush(self, rest: Tensor, lengths: Tensor, state: State, run: Run) -> tuple[Tensor, Tensor]:
        """The end of every item: [B, C, T] with less than a frame, `lengths` [B] of it → what was still to come, and
        how many of those steps are valid. A frame that has begun counts."""
        size = self.size
        last = F.pad(mask_tail(rest, lengths), (0, self.in_hop - rest.shape[-1]))
        pending = state["frames"] % size
        own = pending + (lengths > 0)
        known = torch.cat([state["held"], last], dim=-1)
        y, _ = run(_slice(known, (size - 1 - pending) * self.in_hop, size * self.in_hop), state["network"], own)
        y = torch.cat([state["ready"], y], dim=-1)
        count = (state["waiting"] + own) * self.out_hop
        return _slice(y, (size - state["waiting"]) * self.out_hop, int(count.max())), count


def _slice(x: Tensor, start: Tensor, count: int) -> Tensor:
    """[B, C, T] → [B, C, count], from `start` [B] on; the last step again where x ends before."""
    index = start[:, None] + torch.arange(count, device=x.device)
    return x.gather(-1, index.clamp_(max=x.shape[-1] - 1)[:, None].expand(-1, x.shape[1], -1))
