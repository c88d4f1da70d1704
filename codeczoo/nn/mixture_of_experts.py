"""A mixture of experts: one that all steps go through, and several of which each step takes one.

As in DeepSeekMoE (arXiv 2401.06066), with SwiGLU experts (arXiv 2002.05202) and the best one only.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from codeczoo.base.exporting import exporting
from codeczoo.nn.sequential import Linear


class SwiGLU(nn.Module):
    """[..., dim] → [..., dim]: w2(silu(w1 x) · w3 x)."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.w1 = Linear(dim, hidden, bias=False)
        self.w2 = Linear(hidden, dim, bias=False)
        self.w3 = Linear(dim, hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.w2(F.silu(self.w1(x)).mul_(self.w3(x)))


class MixtureOfExperts(nn.Module):
    """[..., dim] → [..., dim]: the shared expert, plus the step's own times the probability that the gate gives it."""

    def __init__(self, dim: int, hidden: int, num_experts: int) -> None:
        super().__init__()
        self.gate = Linear(dim, num_experts, bias=False)
        self.experts = nn.ModuleList(SwiGLU(dim, hidden) for _ in range(num_experts))
        self.shared = SwiGLU(dim, hidden)

    def forward(self, x: Tensor) -> Tensor:
        steps = x.flatten(0, -2)
        share, chosen = self.gate(steps).softmax(-1).max(-1)  # which expert is a decision: not in half precision
        out = self.shared(steps)
        if exporting():  # every expert takes all steps: which ones are its own is not known
            for i, expert in enumerate(self.experts):
                out = out + expert(steps) * (share * (chosen == i))[:, None]
            return out.view_as(x)
        for i, expert in enumerate(self.experts):
            rows = (chosen == i).nonzero()[:, 0]
            out.index_add_(0, rows, expert(steps[rows]).mul_(share[rows, None]))
        return out.view_as(x)
