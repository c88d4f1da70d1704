"""Streaming of a `SEANetStack` that mirrors a clip's first samples: its first outputs wait for those samples.

Items of a batch may be at different positions: one in the middle of its clip, another at its start. During the first
steps (`warm_up`) the items are handled by position, which is read from the device. Once all items are past their start
(`is_warm`), a step is one `SEANetStack.step` and reads nothing from the device (`step`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from codeczoo.base.ragged import pad_stack
from codeczoo.nn.seanet import SEANetStack

State = dict[str, Any]


class StreamWarmup:
    """A stack as a stream of hops (the input steps of one output, or one input step that gives several outputs).

    State: "held", the last hops fed, [B, channels, T]; "seen", hops that each item was fed, [B], at most `needed`;
    "stack", the stack's state.
    """

    def __init__(self, stack: SEANetStack, channels: int, hop_length: int = 1) -> None:
        self.stack, self.channels, self.hop_length = stack, channels, hop_length
        self.needed = stack.warmup // hop_length  # hops

    def initial_state(self, batch_size: int) -> State:
        weight = next(self.stack.parameters())
        return {
            "held": weight.new_zeros(batch_size, self.channels, (self.needed - 1) * self.hop_length),
            "seen": torch.zeros(batch_size, dtype=torch.int64, device=weight.device),
            "stack": self.stack.initial_state(batch_size),
        }

    def warm_up(self, x: Tensor, state: State) -> tuple[Tensor, Tensor | None, State]:
        """The next hops of every item → outputs, counts [B] of outputs by item (None = all), state."""
        if self.is_warm(state):
            y, state = self.step(x, state)
            return y, None, state
        hops = x.shape[-1] // self.hop_length
        fed = torch.cat([state["held"], x], dim=-1)
        places, stack = state["seen"].tolist(), state["stack"]
        outputs = [self._nothing(x)] * len(x)
        for place in set(places):
            rows = torch.tensor([i for i, other in enumerate(places) if other == place], device=x.device)
            if place == self.needed:
                y, new = self.stack.step(x[rows], _rows(stack, rows))
            elif place + hops >= self.needed:
                y, new = self.stack.first_chunk(fed[rows, :, (self.needed - 1 - place) * self.hop_length :])
            else:
                continue
            stack = tree_map(lambda all_, some, rows=rows: all_.index_copy(0, rows, some), stack, new)
            for row, output in zip(rows.tolist(), y, strict=True):
                outputs[row] = output
        seen = (state["seen"] + hops).clamp(max=self.needed)
        held = fed[..., fed.shape[-1] - state["held"].shape[-1] :].clone()
        return *pad_stack(outputs), {"held": held, "seen": seen, "stack": stack}

    def is_warm(self, state: State) -> bool:
        """Whether all items are past their start, so that `step` will do."""
        return bool((state["seen"] == self.needed).all())

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """The next hops, all items past their start → outputs, state. Fixed shapes; reads nothing from the device."""
        y, stack = self.stack.step(x, state["stack"])
        return y, {**state, "stack": stack}

    def flush(self, x: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, Tensor]:
        """The last steps, less than a hop, `lengths` [B] of each item, and all that was held back → outputs, counts."""
        outputs = []
        for i, (place, own) in enumerate(zip(state["seen"].tolist(), lengths.tolist(), strict=True)):
            row = slice(i, i + 1)
            rest, held = x[row, :, :own], state["held"][row]
            if place == self.needed:
                y = self.stack.step(rest, _rows(state["stack"], row))[0] if own else None
            else:
                clip = torch.cat([held[..., held.shape[-1] - place * self.hop_length :], rest], dim=-1)
                y = self.stack.first_chunk(clip)[0] if clip.shape[-1] else None
            outputs.append(self._nothing(x) if y is None else y[0])
        return pad_stack(outputs)

    def _nothing(self, x: Tensor) -> Tensor:
        return x.new_empty(self.stack.layers[-1].weight.shape[0], 0)


def _rows(tree: Any, rows: Tensor | slice) -> Any:
    return tree_map(lambda tensor: tensor[rows], tree)
