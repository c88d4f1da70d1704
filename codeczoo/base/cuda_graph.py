"""`CapturedSteps`: the step of a warm stream as a CUDA graph, which starts hundreds of small kernels with one call. The
values are those of the uncaptured step.

A graph reads and writes the memory that it was captured with. So the state stays in the same tensors, and one graph
does a whole step: it runs the network, keeps the state of paused items, and overwrites the state of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

State = Any  # a tree (tuple, list, dict) of tensors [B, ...]
Output = TypeVar("Output")
Step = Callable[[Tensor, State], tuple[Tensor, State]]

MAX_GRAPHS = 8  # each has its own memory; chunks of a ninth length run uncaptured
STEPS_BEFORE_CAPTURE = 3  # in which libraries choose their kernels and allocate memory


class Captured(NamedTuple):
    """A graph, and the tensors that it reads and writes."""

    input: Tensor
    output: Tensor
    run: Callable[[], None]  # from `input` and the state to `output` and the state


class CapturedSteps:
    """Steps (input, state) → (output, state) of a batch, one graph for each shape of input and each `kind`.

    Without CUDA the same steps run uncaptured, on the same tensors.
    """

    def __init__(self) -> None:
        self.state: State = None  # overwritten by each step
        self.active: Tensor  # [B] bool
        self._captured: dict[Hashable, Captured] = {}

    def has_room(self, x: Tensor, kind: Hashable) -> bool:
        """Whether a step of that input has a graph, or may get one."""
        return (kind, x.shape) in self._captured or len(self._captured) < MAX_GRAPHS

    @torch.inference_mode(False)  # tensors made in a caller's inference mode could not be overwritten outside it
    @torch.no_grad()
    def __call__(self, step: Step, x: Tensor, state: State, active: Tensor, kind: Hashable) -> tuple[Tensor, State]:
        """One step from `state`, which may be another than the last step returned; items that are not `active` [B] keep
        theirs. The next step overwrites the returned state; the output is a copy."""
        if self.state is None:
            self.state, self.active = tree_map(torch.clone, state), active.clone()
        elif state is not self.state:
            _copy(self.state, state)
        self.active.copy_(active)
        key = (kind, x.shape)
        if key not in self._captured:
            self._captured[key] = self._capture(step, x)
        captured = self._captured[key]
        captured.input.copy_(x)
        captured.run()
        return captured.output.clone(), self.state

    def _capture(self, step: Step, x: Tensor) -> Captured:
        given = x.clone()
        if not (x.is_cuda and torch.cuda.is_available()):
            output = torch.empty_like(self.step(step, given, write=False))
            return Captured(given, output, lambda: _copy(output, self.step(step, given)))
        graph, output = capture_graph(
            lambda: self.step(step, given, write=False), lambda: self.step(step, given), STEPS_BEFORE_CAPTURE, x.device
        )
        return Captured(given, output, graph.replay)

    def step(self, step: Step, x: Tensor, write: bool = True) -> Tensor:
        """What is captured: returns the output and, with `write`, overwrites the state."""
        output, state = step(x, self.state)
        merged = where(self.active, state, self.state)  # computed before any is overwritten: tensors may share memory
        if write:
            _copy(self.state, merged)
        return output


def capture_graph(
    before: Callable[[], object], function: Callable[[], Output], times: int, device: torch.device, pool: Any = None
) -> tuple[torch.cuda.CUDAGraph, Output]:
    """A graph of `function()`, and what that returned: its tensors are overwritten whenever the graph runs.

    Args:
        before: called so many `times` uncaptured; libraries choose their kernels and allocate memory meanwhile.
        pool: memory that it shares with other graphs; None = its own.
    """
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.device(device):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(times):
                before()
        torch.cuda.current_stream().wait_stream(side)
        # "thread_local": other threads, which may load clips meanwhile, may call CUDA.
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            output = function()
    return graph, output


def where(mask: Tensor, new: State, old: State) -> State:
    """`new` where the mask [B] is True, `old` elsewhere, for every tensor [B, ...] of the trees. A tensor that is the
    same object in both is returned as it is: a ring buffer, which a step writes in place where the old state does not
    read."""
    return tree_map(lambda n, o: n if n is o else torch.where(mask.view(-1, *[1] * (n.ndim - 1)), n, o), new, old)


def _copy(to: State, source: State) -> None:
    for ours, theirs in zip(tree_leaves(to), tree_leaves(source), strict=True):
        if ours is not theirs:
            ours.copy_(theirs)
