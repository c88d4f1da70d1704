"""`KeyMap` and `Rule`: the tensor names of a published checkpoint, as data. `weights.convert` applies them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Rule:
    """Where the parameters of one kind come from.

    Attributes:
        ours: a regular expression that matches the whole name of our parameter.
        published: the published name, or several: templates, filled from the groups of `ours`.
        combine: a function of the published tensors that gives ours; None = the one tensor as it is.
    """

    ours: str
    published: str | tuple[str, ...]
    combine: Callable[..., Tensor] | None = None


@dataclass(frozen=True)
class KeyMap:
    """One published naming. The first rule whose `ours` matches a parameter applies; if none does, names are equal."""

    name: str
    rules: tuple[Rule, ...] = ()
    unused: tuple[str, ...] = field(default=())  # regular expressions of published keys that inference does not need
    _known: dict[str, tuple[tuple[str, ...], Callable[..., Tensor] | None]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )  # by our name: loading asks for each several times

    def sources(self, ours: str) -> tuple[tuple[str, ...], Callable[..., Tensor] | None]:
        """The published names behind one of our parameters, and how to combine them."""
        if ours not in self._known:
            self._known[ours] = self._first_match(ours)
        return self._known[ours]

    def _first_match(self, ours: str) -> tuple[tuple[str, ...], Callable[..., Tensor] | None]:
        for rule in self.rules:
            match = re.fullmatch(rule.ours, ours)
            if match:
                names = (rule.published,) if isinstance(rule.published, str) else rule.published
                return tuple(match.expand(name) for name in names), rule.combine
        return (ours,), None

    def is_unused(self, key: str) -> bool:
        return any(re.fullmatch(pattern, key) for pattern in self.unused)


def compare_settings(there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    """Compare the settings beside a checkpoint with those of the network, where both have them.

    Raises:
        ValueError: they differ; every difference is listed.
    """
    wrong = [f"{name} is {theirs} there and {ours} here" for name, theirs, ours in differing(there, here)]
    if wrong:
        raise ValueError(f"the checkpoint is of another model: {'; '.join(wrong)}")


def differing(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """(name, value there, value here) of each setting that both have with different values. A list equals a tuple."""
    both = ((name, _listed(there[name]), _listed(value)) for name, value in here.items() if name in there)
    return [(name, theirs, ours) for name, theirs, ours in both if theirs != ours]


def _listed(value: Any) -> Any:
    return [_listed(part) for part in value] if isinstance(value, list | tuple) else value
