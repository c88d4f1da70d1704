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
from dataclasses import dataclass

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
            if peak > UNUSUAL_MAGNITUDE and not keys[0].endswith("running_var"):  # a variance may have any size
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


@dataclass(frozen=True)
class Reading:
    """One naming of a model's tensors.

    Attributes:
        sources: our name → the published names behind it.
        spellings: all published keys that may hold them, with weight norm or without.
    """

    key_map: KeyMap
    sources: Mapping[str, tuple[str, ...]]
    spellings: frozenset[str]


def readings_of(wanted: Mapping[str, Tensor], key_maps: Sequence[KeyMap]) -> list[Reading]:
    """The namings of a model, applied to its state dict."""
    out = []
    for key_map in key_maps:
        sources = {name: key_map.sources(name)[0] for name in wanted}
        keys = {key for names in sources.values() for key in names}
        spellings = {spelling for key in keys for pair in ((key,), *_weight_norm(key)) for spelling in pair}
        out.append(Reading(key_map, sources, frozenset(spellings)))
    return out


def fit(
    published: Mapping[str, Tensor], wanted: Mapping[str, Tensor], key_maps: Sequence[KeyMap]
) -> tuple[tuple[int, int], KeyMap]:
    """The best naming, and its fit: (our tensors that it can make, minus the number of tensors left over).

    Of namings with equal fit, the first.
    """
    found, reading = fit_of(published, readings_of(wanted, key_maps))
    return found, reading.key_map


def fit_of(published: Mapping[str, Tensor], readings: Sequence[Reading]) -> tuple[tuple[int, int], Reading]:
    """As `fit`."""
    fits = [_fit_one(published, reading) for reading in readings]
    best = max(range(len(fits)), key=lambda i: fits[i])
    return fits[best], readings[best]


def used_keys(published: Mapping[str, Tensor], reading: Reading) -> set[str]:
    """The published keys that the model is made of, missing ones too."""
    return {key for names in reading.sources.values() for name in names for key in _stored(published, name)}


def _fit_one(published: Mapping[str, Tensor], reading: Reading) -> tuple[int, int]:
    used: set[str] = set()
    had = 0
    for names in reading.sources.values():
        keys = [key for name in names for key in _stored(published, name)]
        used.update(keys)
        had += all(key in published for key in keys)
    return had, -sum(key not in used and not reading.key_map.is_unused(key) for key in published)


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
    return next((pair for pair in _weight_norm(key) if pair[0] in published or pair[1] in published), (key,))


def _weight_norm(key: str) -> tuple[tuple[str, str], tuple[str, str]]:
    """The keys of direction and magnitude, in both forms that PyTorch writes."""
    base, dot, leaf = key.rpartition(".")
    recent = f"{base}{dot}parametrizations.{leaf}"
    return (f"{key}_v", f"{key}_g"), (f"{recent}.original1", f"{recent}.original0")


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
