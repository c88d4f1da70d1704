"""Metrics of a run: Fréchet audio distances between all originals and all that a codec made of them.

A codec of the zoo embeds both sides: the latents of its encoder, before quantisation. What a batch adds to the sets is
a few sums (`Moments`), which are kept beside the results, so that a run may stop and go on, on any number of machines.
"""

from __future__ import annotations

import logging
import math
import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from codeczoo.base.audio import Audio
from codeczoo.base.codec import BaseCodec
from codeczoo.benchmark.protocols import CodecOutput
from codeczoo.data.read import Group
from codeczoo.metrics import Moments, frechet_distance
from codeczoo.metrics.networks.models import NoModelError
from codeczoo.metrics.table import RUN_METRICS
from codeczoo.registry import load_codec
from codeczoo.weights.download import WeightsUnavailableError

log = logging.getLogger(__name__)


class Sides(NamedTuple):
    """Originals, and what a codec made of them."""

    reference: Moments
    estimate: Moments

    def __add__(self, other: Sides) -> Sides:  # type: ignore[override]
        return Sides(self.reference + other.reference, self.estimate + other.estimate)


Sets = dict[str, dict[str, Sides]]  # metric → category ("" = none) → both sides


def add_sets(total: Sets, more: Mapping[str, Mapping[str, Sides]]) -> None:
    """Add sets to sets."""
    for metric, categories in more.items():
        mine = total.setdefault(metric, {})
        for category, sides in categories.items():
            mine[category] = mine[category] + sides if category in mine else sides


@dataclass
class Embedded:
    """What clips add to the sets, and by the ids of clips which metrics they add nothing to, and why."""

    sets: Sets = field(default_factory=dict)
    undefined: dict[str, dict[str, str]] = field(default_factory=dict)


class Embedder:
    """The codecs that embed, on one device.

    Args:
        names: of `RUN_METRICS`.
    """

    def __init__(self, names: Collection[str], device: torch.device) -> None:
        self._codecs: dict[str, BaseCodec | None] = {}
        self.facts: dict[str, dict[str, Any]] = {}
        for name in names:
            codec = RUN_METRICS[name].codec
            try:
                self._codecs[name] = loaded = load_codec(codec, device=device)
                self.facts[name] = {"network": codec, "source": loaded.weights_source, "sha256": loaded.weights_hash}
            except WeightsUnavailableError as error:
                log.warning("%s is undefined: %s", name, error)
                self._codecs[name] = None
                self.facts[name] = {"network": codec, "missing": str(error)}
        self._originals: dict[tuple[str, ...], dict[str, dict[str, Moments]]] = {}  # of one batch, by ids

    def __call__(self, group: Group, output: CodecOutput) -> Embedded:
        """Embed both sides. Originals that come again with the next codec are not embedded again."""
        found = Embedded()
        if output.estimate is None or not self._codecs:
            return found
        estimate = output.estimate.to(torch.float32)
        finite = estimate.waveform.isfinite().flatten(1).all(1).tolist()
        rows = [i for i, ok in enumerate(finite) if ok]
        for i, entry in enumerate(group.entries):
            reasons = {
                name: NoModelError.reason if codec is None else "non_finite" for name, codec in self._codecs.items()
            }
            found.undefined[entry.id] = {
                name: r for name, r in reasons.items() if r == NoModelError.reason or not finite[i]
            }
        if not rows:
            return found
        ids = tuple(group.entries[i].id for i in rows)
        categories = [group.entries[i].category or "" for i in rows]
        if ids not in self._originals:
            self._originals = {ids: {}}
        known = self._originals[ids]
        for name, codec in self._codecs.items():
            if codec is None:
                continue
            if name not in known:
                known[name] = _moments(codec, output.reference[rows], categories)
            made = _moments(codec, estimate[rows], categories)
            found.sets[name] = {category: Sides(known[name][category], made[category]) for category in made}
        return found


def _moments(codec: BaseCodec, audio: Audio, categories: Collection[str]) -> dict[str, Moments]:
    """By category: of the frames that belong to a clip, and not of those that fill up a batch."""
    found: dict[str, Moments] = {}
    for category, frames in zip(categories, codec.latents(audio).split(), strict=True):
        own = Moments.of(frames.T)
        found[category] = found[category] + own if category in found else own
    return found


# -- on the disk ------------------------------------------------------------------------------------


def write_sets(path: Path, sets: Sets) -> None:
    """Write the sets of one batch, atomically. Of a symmetric matrix one half is written."""
    arrays: dict[str, np.ndarray] = {}
    for metric, categories in sets.items():
        for category, sides in categories.items():
            for side, moments in sides._asdict().items():
                key = f"{metric}/{side}/{category}"
                arrays[f"{key}/count"] = np.array(moments.count)
                arrays[f"{key}/mean"] = moments.mean
                arrays[f"{key}/scatter"] = moments.scatter[np.triu_indices(len(moments.mean))]
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    with part.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    os.replace(part, path)


def read_sets(path: Path) -> Sets:
    """What `write_sets` wrote."""
    sets: dict[str, dict[str, dict[str, Moments]]] = {}
    with np.load(path, allow_pickle=False) as file:
        for key in (name.removesuffix("/count") for name in file.files if name.endswith("/count")):
            metric, side, category = key.split("/", 2)
            mean, half = file[f"{key}/mean"], file[f"{key}/scatter"]
            scatter = np.zeros((len(mean), len(mean)))
            scatter[np.triu_indices(len(mean))] = half
            scatter = scatter + np.triu(scatter, 1).T
            moments = Moments(int(file[f"{key}/count"]), mean, scatter)
            sets.setdefault(metric, {}).setdefault(category, {})[side] = moments
    return {metric: {category: Sides(**sides) for category, sides in found.items()} for metric, found in sets.items()}


# -- in the summary ---------------------------------------------------------------------------------


def summaries(
    names: Iterable[str], batches: Iterable[Sets], rows: Collection[Mapping[str, Any]], categories: Collection[str]
) -> dict[str | None, dict[str, dict[str, Any]]]:
    """The distances of one codec, of all clips (None) and of each category, in the form of other metrics.

    Args:
        batches: the sets of all batches.
        rows: the lines of the clips that were measured, which say why a clip adds nothing.
    """
    total: Sets = {}
    for sets in batches:
        add_sets(total, sets)
    found: dict[str | None, dict[str, dict[str, Any]]] = {None: {}, **{category: {} for category in categories}}
    for name in names:
        for category, out in found.items():
            mine = [row for row in rows if category is None or row["category"] == category]
            parts = [s for key, s in total.get(name, {}).items() if category is None or key == category]
            out[name] = _summary(name, parts, mine)
    return found


def _summary(name: str, parts: Collection[Sides], rows: Collection[Mapping[str, Any]]) -> dict[str, Any]:
    undefined = Counter(row["undefined"][name] for row in rows if name in row["undefined"])
    entry: dict[str, Any] = {"mean": None, "ci95": [None, None], "count": 0, "infinite": 0}
    entry |= {"undefined": dict(sorted(undefined.items())), "embedding": RUN_METRICS[name].codec}
    clips = len(rows) - sum(undefined.values())
    if parts:
        first, *others = parts
        sides = sum(others, start=first)
        distance = frechet_distance(*sides)
        frames, dimensions = min(side.count for side in sides), len(sides.reference.mean)
        entry |= {"frames": frames, "dimensions": dimensions}
        if math.isnan(distance):
            entry["undefined"]["too_few_frames"] = clips
        else:
            entry |= {"mean": distance, "count": clips}
            if frames <= dimensions:
                entry["warning"] = f"{frames} frames of {dimensions} dimensions: few frames make the distance larger"
    return entry


def sets_of(folder: Path) -> Iterator[Sets]:
    """The sets of all batches in a folder, in their order."""
    for path in sorted(folder.glob("*.npz")):
        yield read_sets(path)
