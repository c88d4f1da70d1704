"""From the names of a published checkpoint to ours.

A `KeyMap` is data: for one published convention it says, for each of *our* parameter names, which published tensors it
comes from. So a missing tensor is named as its authors name it, and every published tensor that no rule asks for and
that is not listed as `unused` is reported as left over. Weight norm in either of its forms is folded on the way.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

log = logging.getLogger(__name__)

UNUSUAL = 1e4  # a weight beyond this is worth a warning
SHOWN = 12  # keys listed of each kind of fault before "and N more"


@dataclass(frozen=True)
class Rule:
    """Where one kind of our parameters comes from.

    `ours` is a regular expression for a whole parameter name. `published` is a template of the published name (or
    several), filled in from the expression's groups; `combine` makes one tensor of several (or changes one).
    """

    ours: str
    published: str | tuple[str, ...]
    combine: Callable[..., Tensor] | None = None


@dataclass(frozen=True)
class KeyMap:
    """One published naming: the first rule whose `ours` matches a parameter holds; none = the same name."""

    name: str
    rules: tuple[Rule, ...] = ()
    unused: tuple[str, ...] = field(default=())  # expressions of published keys that inference does not need

    def sources(self, ours: str) -> tuple[tuple[str, ...], Callable[..., Tensor] | None]:
        """The published names behind one of our parameters, and how to combine them."""
        for rule in self.rules:
            match = re.fullmatch(rule.ours, ours)
            if match:
                names = (rule.published,) if isinstance(rule.published, str) else rule.published
                return tuple(match.expand(name) for name in names), rule.combine
        return (ours,), None

    def is_unused(self, key: str) -> bool:
        return any(re.fullmatch(pattern, key) for pattern in self.unused)


class CheckpointError(ValueError):
    """A checkpoint that does not fit its codec; the message lists every fault."""


def convert(
    published: Mapping[str, Tensor], wanted: Mapping[str, Tensor], key_maps: Sequence[KeyMap], what: str
) -> dict[str, Tensor]:
    """`published` tensors under our names, in the shapes and types of `wanted` (a state dict of ours).

    The naming is chosen by looking at the keys. `what` names codec and file in errors.

    Raises:
        CheckpointError: missing, left-over or mis-shaped tensors, NaN or infinity in one; all are listed.
    """
    _, key_map = fit(published, wanted, key_maps)
    converted, used, missing, misshapen, broken = {}, set(), [], [], []
    for name, like in wanted.items():
        sources, combine = key_map.sources(name)
        tensors = []
        for source in sources:
            found = _take(published, source)
            if found is None:
                missing.append(source)
                continue
            tensor, keys = found
            used.update(keys)
            tensors.append(tensor)
            broken += [key for key in keys if not _is_finite(published[key])]
        if len(tensors) != len(sources):
            continue
        tensor = combine(*tensors) if combine else tensors[0]
        if tensor.shape != like.shape:
            misshapen.append(f"{sources[0]} {list(tensor.shape)}, not {list(like.shape)}")
            continue
        converted[name] = tensor.to(like.dtype)
    left_over = [key for key in published if key not in used and not key_map.is_unused(key)]
    faults = [
        f"{len(keys)} {label}: {', '.join(keys[:SHOWN])}{f' and {len(keys) - SHOWN} more' if len(keys) > SHOWN else ''}"
        for label, keys in (
            ("missing", missing),
            ("unexpected", left_over),
            ("of the wrong shape", misshapen),
            ("with NaN or infinity", list(dict.fromkeys(broken))),
        )
        if keys
    ]
    if faults:
        raise CheckpointError(f"{what} does not fit (read in the naming {key_map.name!r}): {'; '.join(faults)}")
    for name, tensor in converted.items():
        largest = float(tensor.abs().max()) if tensor.is_floating_point() and tensor.numel() else 0.0
        if largest > UNUSUAL:
            log.warning("%s: %s holds values up to %.3g, which is unusual", what, key_map.sources(name)[0][0], largest)
    return converted


def fit(
    published: Mapping[str, Tensor], wanted: Mapping[str, Tensor], key_maps: Sequence[KeyMap]
) -> tuple[tuple[int, int], KeyMap]:
    """The naming that fits best, and how well: (our tensors that can be had, minus the tensors left over).

    Of namings that fit alike, the first.
    """
    fits = [_fit_one(published, wanted, key_map) for key_map in key_maps]
    best = max(range(len(fits)), key=lambda i: fits[i])
    return fits[best], key_maps[best]


def _fit_one(published: Mapping[str, Tensor], wanted: Mapping[str, Tensor], key_map: KeyMap) -> tuple[int, int]:
    used: set[str] = set()
    had = 0
    for name in wanted:
        keys = [_stored(published, source) for source in key_map.sources(name)[0]]
        used.update(key for stored in keys if stored for key in stored)
        had += all(stored is not None for stored in keys)
    return had, -sum(key not in used and not key_map.is_unused(key) for key in published)


def fold_weight_norm(v: Tensor, g: Tensor) -> Tensor:
    """v · g / ‖v‖ with the norm over every axis but the first, in float64 and rounded once."""
    norm = v.double().flatten(1).norm(dim=1).view(-1, *[1] * (v.ndim - 1))
    return (v.double() * (g.double() / norm)).to(v.dtype)


def _parts(key: str) -> tuple[tuple[str, str], ...]:
    """The two spellings of a weight-normed tensor: (direction, magnitude)."""
    base, _, leaf = key.rpartition(".")
    return (
        (f"{base}.{leaf}_v", f"{base}.{leaf}_g"),
        (f"{base}.parametrizations.{leaf}.original1", f"{base}.parametrizations.{leaf}.original0"),
    )


def _stored(published: Mapping[str, Tensor], key: str) -> tuple[str, ...] | None:
    """The published keys that a tensor lies under: its own, or those of direction and magnitude."""
    if key in published:
        return (key,)
    return next(((v, g) for v, g in _parts(key) if v in published and g in published), None)


def _take(published: Mapping[str, Tensor], key: str) -> tuple[Tensor, tuple[str, ...]] | None:
    """The tensor of `key`, plain or folded from weight norm, and the published keys that it used."""
    keys = _stored(published, key)
    if keys is None:
        return None
    return (published[key] if len(keys) == 1 else fold_weight_norm(*(published[k] for k in keys))), keys


def _is_finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())
