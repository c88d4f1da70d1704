"""The few convolutions that X-Codec 2 and NeuCodec put between a speech model and their quantiser.

The skip carries the rectified value: upstream's first ReLU works in place, and the weights were trained with that.
"""

from __future__ import annotations

from torch import Tensor, nn

from codeczoo.base.key_map import Rule
from codeczoo.nn.conv import Conv1d


class SemanticAdapter(nn.Module):
    """[B, dim, N] → [B, dim, N]; `hidden` channels between, None = dim."""

    def __init__(self, dim: int, hidden: int | None = None) -> None:
        super().__init__()
        hidden = hidden or dim
        self.first = Conv1d(dim, hidden, 3, bias=False)
        self.conv1, self.conv2 = Conv1d(hidden, hidden, 3), Conv1d(hidden, hidden, 3)
        self.last = Conv1d(hidden, dim, 3, bias=False)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        x = self.first(x, lengths).relu_()
        y = self.conv2(self.conv1(x, lengths).relu_(), lengths)
        return self.last(y.add_(x), lengths)


def adapter_rules(ours: str, theirs: str) -> tuple[Rule, ...]:
    """Rules from a `SemanticAdapter` at `ours` to the authors' names at `theirs`."""
    places = {"first": "initial_conv", "conv1": "residual_blocks.1", "conv2": "residual_blocks.3", "last": "final_conv"}
    return tuple(Rule(rf"{ours}\.{name}\.(\w+)", rf"{theirs}.{place}.\1") for name, place in places.items())


def adapter_rules_of_transformers(ours: str, theirs: str) -> tuple[Rule, ...]:
    """The same for Hugging Face transformers, which numbers the convolutions from 1."""
    names = enumerate(("first", "conv1", "conv2", "last"), 1)
    return tuple(Rule(rf"{ours}\.{name}\.(\w+)", rf"{theirs}.conv{i}.\1") for i, name in names)
