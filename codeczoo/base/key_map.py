"""`KeyMap` and `Rule`: the tensor names of a published checkpoint, as data. `weights.convert` applies them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
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
        split: the way back, from our tensor to the published ones in their order; needed only of namings that are
            written too.
    """

    ours: str
    published: str | tuple[str, ...]
    combine: Callable[..., Tensor] | None = None
    split: Callable[[Tensor], Sequence[Tensor]] | None = None


@dataclass(frozen=True)
class KeyMap:
    """One published naming. The first rule whose `ours` matches a parameter applies; if none does, names are equal."""

    name: str
    rules: tuple[Rule, ...] = ()
    unused: tuple[str, ...] = field(default=())  # regular expressions of published keys that inference does not need
    _known: dict[str, tuple[tuple[str, ...], Rule | None]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )  # by our name: loading asks for each several times

    def sources(self, ours: str) -> tuple[tuple[str, ...], Callable[..., Tensor] | None]:
        """The published names behind one of our parameters, and how to combine them."""
        names, rule = self._rule_of(ours)
        return names, rule.combine if rule else None

    def published(self, ours: str, tensor: Tensor) -> dict[str, Tensor]:
        """One of our parameters as this naming publishes it: the way back of `sources`.

        Raises:
            ValueError: the rule of that parameter knows no way back.
        """
        names, rule = self._rule_of(ours)
        if rule is None or rule.combine is None:
            return {names[0]: tensor}
        if rule.split is None:
            raise ValueError(f"{self.name}: {ours} is put together in a way that cannot be undone")
        return dict(zip(names, rule.split(tensor), strict=True))

    def _rule_of(self, ours: str) -> tuple[tuple[str, ...], Rule | None]:
        """The published names behind one of our parameters, and the rule that says so."""
        if ours not in self._known:
            self._known[ours] = self._first_match(ours)
        return self._known[ours]

    def _first_match(self, ours: str) -> tuple[tuple[str, ...], Rule | None]:
        for rule in self.rules:
            match = re.fullmatch(rule.ours, ours)
            if match:
                names = (rule.published,) if isinstance(rule.published, str) else rule.published
                return tuple(match.expand(name) for name in names), rule
        return (ours,), None

    def is_unused(self, key: str) -> bool:
        """Whether a published tensor is one that only training needs."""
        return any(re.fullmatch(pattern, key) for pattern in self.unused)


@dataclass(frozen=True)
class Change:
    """Tensors that a file holds in another form than the naming it was made from.

    Attributes:
        names: a regular expression of their names in the file.
        read: the file's form → the published one; `write`: the way back.
    """

    names: str
    read: Callable[[Tensor], Tensor]
    write: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class RenamedKeyMap(KeyMap):
    """A naming that a converter made of another one: `rules` are that one's, then each name is rewritten by all
    `renames` in turn, (regular expression, replacement) each, and some tensors are changed."""

    renames: tuple[tuple[str, str], ...] = ()
    changes: tuple[Change, ...] = ()

    def sources(self, ours: str) -> tuple[tuple[str, ...], Callable[..., Tensor] | None]:
        theirs, combine = super().sources(ours)
        names = tuple(map(self.renamed, theirs))
        changes = [self._change(name) for name in names]
        if not any(changes):
            return names, combine

        def undone(*tensors: Tensor) -> Tensor:
            pairs = zip(tensors, changes, strict=True)
            before = [change.read(tensor) if change else tensor for tensor, change in pairs]
            return combine(*before) if combine else before[0]

        return names, undone

    def published(self, ours: str, tensor: Tensor) -> dict[str, Tensor]:
        changed = {}
        for theirs, value in super().published(ours, tensor).items():
            name = self.renamed(theirs)
            change = self._change(name)
            changed[name] = change.write(value) if change else value
        return changed

    def renamed(self, name: str) -> str:
        for pattern, replacement in self.renames:
            name = re.sub(pattern, replacement, name)
        return name

    def _change(self, name: str) -> Change | None:
        return next((change for change in self.changes if re.fullmatch(change.names, name)), None)


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
