"""Published tensors under our names.

A `KeyMap` says, for each of *our* parameter names, from which published tensors the parameter is made. So errors give
missing tensors by their published names, and every published tensor that no rule uses and `unused` does not list is
reported as left over. Weight norm, in both forms that PyTorch writes, is folded.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from codeczoo.base.key_map import KeyMap

log = logging.getLogger(__name__)

UNUSUAL_MAGNITUDE = 1e4  # a weight beyond this gives a warning
MAX_KEYS_LISTED = 12  # of each kind of fault, before "and N more"


class CheckpointError(ValueError):
    """A checkpoint that does not fit its codec; the message lists every fault."""


def convert(
    published: Mapping[str, Tensor], wanted: Mapping[str, Tensor], key_maps: Sequence[KeyMap], what: str
) -> dict[str, Tensor]:
    """`published` tensors under our names, in the shapes and types of `wanted` (our state dict).

    The naming is the one of `key_maps` that fits the keys best. `what` names codec and file in errors.

    Raises:
        CheckpointError: missing, left-over, mis-shaped or non-finite tensors; all are listed.
    """
    _, key_map = fit(published, wanted, key_maps)
    converted: dict[str, Tensor] = {}
    used: set[str] = set()
    missing: list[str] = []
    misshapen: list[str] = []
    broken: list[str] = []
    unusual: list[str] = []
    for name, like in wanted.items():
        sources, combine = key_map.sources(name)
        stored = [_stored(published, source) for source in sources]
        used.update(key for keys in stored for key in keys)
        keys = list(dict.fromkeys(key for keys in stored for key in keys))
        absent = [key for key in keys if key not in published]
        faulty = [key for key in keys if key in published and not math.isfinite(_peak(published[key]))]
        missing += absent
        broken += faulty
        if absent or faulty:
            continue
        there = " and ".join(f"{key} {list(published[key].shape)}" for key in _oddest(published, keys)[:3])
        try:
            tensors = [_folded(published, key) for key in stored]
            tensor = combine(*tensors) if combine else tensors[0]
        except (RuntimeError, ValueError, IndexError) as error:  # shapes that cannot be combined
            misshapen.append(f"{there} ({error})")
            continue
        if tensor.shape != like.shape:
            misshapen.append(f"{there} instead of {list(like.shape)}")
        elif tensor.is_floating_point() != like.is_floating_point():
            misshapen.append(f"{there} of type {tensor.dtype} instead of {like.dtype}")
        elif not math.isfinite(peak := _peak(tensor)):
            broken.append(f"{there} once combined")
        else:
            converted[name] = tensor.to(like.dtype)
            if peak > UNUSUAL_MAGNITUDE:
                unusual.append(f"{keys[0]} ({peak:.3g})")
    left_over = [key for key in published if key not in used and not key_map.is_unused(key)]
    kinds = (
        ("missing", missing),
        ("unexpected", left_over),
        ("of the wrong shape", misshapen),
        ("with NaN or infinity", broken),
    )
    faults = [f"{len(set(found))} {kind}: {_listed(found)}" for kind, found in kinds if found]
    if faults:
        raise CheckpointError(f"{what} does not fit (read in the naming {key_map.name!r}): {'; '.join(faults)}")
    if unusual:
        log.warning("%s: unusually large values in %s", what, _listed(unusual))
    return converted


def fit(
    published: Mapping[str, Tensor], wanted: Mapping[str, Tensor], key_maps: Sequence[KeyMap]
) -> tuple[tuple[int, int], KeyMap]:
    """The best naming, and its fit: (our tensors that it can make, minus the number of tensors left over).

    Of namings with equal fit, the first.
    """
    fits = [_fit_one(published, wanted, key_map) for key_map in key_maps]
    best = max(range(len(fits)), key=lambda i: fits[i])
    return fits[best], key_maps[best]


def _fit_one(published: Mapping[str, Tensor], wanted: Mapping[str, Tensor], key_map: KeyMap) -> tuple[int, int]:
    used: set[str] = set()
    had = 0
    for name in wanted:
        keys = [key for source in key_map.sources(name)[0] for key in _stored(published, source)]
        used.update(keys)
        had += all(key in published for key in keys)
    return had, -sum(key not in used and not key_map.is_unused(key) for key in published)


def fold_weight_norm(v: Tensor, g: Tensor) -> Tensor:
    """v · g / ‖v‖ in float64, rounded once. The norm is over all axes but the one along which `g` varies.

    Raises:
        ValueError: the shape of `g` fits no axis of `v`.
    """
    shapes = [[n if i == axis else 1 for i in range(v.ndim)] for axis, n in enumerate(v.shape)]
    along = [axis for axis, shape in enumerate(shapes) if list(g.shape) == shape and (axis == 0 or v.shape[axis] > 1)]
    if not along:
        raise ValueError("the shapes of direction and magnitude do not fit")
    others = [axis for axis in range(v.ndim) if axis != along[0]]
    norm = torch.linalg.vector_norm(v.double(), dim=others, keepdim=True)
    return (v.double() * (g.double() / norm)).to(v.dtype)


def _stored(published: Mapping[str, Tensor], key: str) -> tuple[str, ...]:
    """The published keys of a tensor: its own, or with weight norm those of direction and magnitude."""
    if key in published:
        return (key,)
    base, dot, leaf = key.rpartition(".")
    recent = f"{base}{dot}parametrizations.{leaf}"
    spellings = ((f"{key}_v", f"{key}_g"), (f"{recent}.original1", f"{recent}.original0"))
    return next((pair for pair in spellings if pair[0] in published or pair[1] in published), (key,))


def _folded(published: Mapping[str, Tensor], keys: tuple[str, ...]) -> Tensor:
    return published[keys[0]] if len(keys) == 1 else fold_weight_norm(published[keys[0]], published[keys[1]])


def _oddest(published: Mapping[str, Tensor], keys: Sequence[str]) -> list[str]:
    """`keys` of tensors that are combined, those with the rarest shape first."""
    shapes = Counter(published[key].shape for key in keys)
    return sorted(keys, key=lambda key: shapes[published[key].shape])


def _peak(tensor: Tensor) -> float:
    """The largest magnitude; NaN if any value is NaN; 0 for integers."""
    if not tensor.is_floating_point() or tensor.numel() == 0:
        return 0.0
    lowest, highest = torch.aminmax(tensor)
    return max(abs(float(lowest)), abs(float(highest)), key=lambda peak: (math.isnan(peak), peak))


def _listed(found: Sequence[str]) -> str:
    unique = list(dict.fromkeys(found))
    rest = len(unique) - MAX_KEYS_LISTED
    return ", ".join(unique[:MAX_KEYS_LISTED]) + (f" and {rest} more" if rest > 0 else "")
