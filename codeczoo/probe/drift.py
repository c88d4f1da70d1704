"""Drift: how many codes change with how the same audio is encoded.

In exact arithmetic none would. In float32 sums are taken in an order that depends on shapes, threads and device, and a
code changes where two entries of a codebook are almost equally near.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from codeczoo.base.catalogue import codec_info, find_variant
from codeczoo.base.codec import BaseCodec
from codeczoo.base.device import choose_device
from codeczoo.base.errors import STOPS, first_line
from codeczoo.data.source import Source
from codeczoo.executor.record import describe_codec, environment, jsonable, versions
from codeczoo.executor.settings import SourceSettings
from codeczoo.probe.agreement import equal_codes
from codeczoo.probe.conditions import Condition, Conditions, Pair
from codeczoo.probe.run import check_codebooks, each_codec
from codeczoo.probe.segments import Segments, cut_segments
from codeczoo.registry import load_codec

DRIFT_FORMAT = "codeczoo-drift-1"
KINDS = ("batch", "padding", "order", "threads", "chunks", "precision", "device")


def usual_threads() -> tuple[int, ...]:
    """1, 2 and all cores."""
    return tuple(sorted({1, min(2, os.cpu_count() or 1), os.cpu_count() or 1}))


@dataclass(frozen=True, kw_only=True)
class DriftSettings(SourceSettings):
    """A drift report.

    Attributes:
        codecs: their names.
        weights: by codec: file, folder or "random"; without one the published ones.
        device: where all is encoded but for the condition `device`; None = the best there is.
        num_codebooks: None = each codec's own.
        batches: batch sizes; as many segments as the largest are encoded.
        seconds: of a segment.
        chunks: lengths of chunks, in seconds; threads: numbers of threads.
        kinds: what is changed, of KINDS.
    """

    codecs: tuple[str, ...]
    weights: Mapping[str, str] = field(default_factory=dict)
    device: str | None = None
    num_codebooks: int | None = None
    batches: tuple[int, ...] = (1, 2, 8, 32, 200)
    seconds: float = 1.0
    chunks: tuple[float, ...] = (0.5, 1.0, 2.0)
    threads: tuple[int, ...] = field(default_factory=usual_threads)
    kinds: tuple[str, ...] = KINDS
    progress: bool = True


def drift(settings: DriftSettings, source: Source | None = None) -> dict[str, Any]:
    """The drift of each codec's codes; plain values, for `tables.write_drift` and for JSON.

    Args:
        source: a data set of your own; None = that of the settings.

    A codec whose weights cannot be had is named in `unavailable`, with the reason, and the others go on.

    Raises:
        KeyError: an unknown codec; ValueError: clips that are too short; FileNotFoundError: no such data set, or no
            codec's weights can be had.
    """
    settings = replace(settings, codecs=tuple(dict.fromkeys(find_variant(name).name for name in settings.codecs)))
    if without := [name for name in settings.codecs if codec_info(name).frame_rate is None]:
        raise ValueError(f"{', '.join(without)}: a library codes them, clip by clip on the CPU; leave them out")
    if not settings.batches or min(*settings.batches, *settings.threads, *settings.chunks, settings.seconds) <= 0:
        raise ValueError(
            "batches, threads, chunks and seconds must be greater than zero, and there must be a batch size"
        )
    if wrong := [kind for kind in settings.kinds if kind not in KINDS] or not settings.kinds:
        raise ValueError(f"what is changed must be of {', '.join(KINDS)}; it is {wrong or 'nothing'}")
    check_codebooks(settings.codecs, settings.num_codebooks)
    device = choose_device(settings.device)
    source = source or settings.open_source()
    results, unavailable = each_codec(settings.codecs, lambda name: _drift_of(name, settings, device, source))
    return jsonable(
        {
            "format": DRIFT_FORMAT,
            "dataset": {"name": source.name, **source.facts()},
            "settings": {key: value for key, value in asdict(settings).items() if key not in ("codecs", "progress")},
            "versions": versions(),
            "environment": environment(device),
            "unavailable": unavailable,
            "codecs": results,
        }
    )


def _drift_of(name: str, settings: DriftSettings, device: torch.device, source: Source) -> dict[str, Any]:
    def load(**options: Any) -> BaseCodec:
        return load_codec(name, settings.weights.get(name), **{"device": device, **options})

    codec = load()
    count = codec.choose_codebooks(settings.num_codebooks)
    segments = cut_segments(source, codec, max(settings.batches), settings.seconds)
    with tqdm(desc=name, unit="encoding", disable=not settings.progress) as bar:
        conditions = Conditions(codec, load, segments, count, bar.update)
        todo = list(_all_conditions(conditions, settings))
        bar.reset(total=len(segments.equal) + sum(one.steps for one in todo if one.reason is None))
        rows = [_measured(condition, count) for condition in todo]
    described = describe_codec(codec)
    return {
        "name": name,
        "random_weights": str(described.get("weights_source") or "").startswith("random"),
        "codec": {**described, "num_codebooks": count},
        "segments": _facts(segments, settings),
        "rows": rows,
    }


def _facts(segments: Segments, settings: DriftSettings) -> dict[str, Any]:
    return {"count": len(segments.equal), "seconds": settings.seconds, "sample_rate": segments.sample_rate}


def _all_conditions(conditions: Conditions, settings: DriftSettings) -> Iterator[Condition]:
    """Those of the kinds that were asked for."""
    found = {
        "batch": lambda: conditions.of_batches(settings.batches),
        "padding": conditions.of_padding,
        "order": conditions.of_order,
        "threads": lambda: conditions.of_threads(settings.threads),
        "chunks": lambda: conditions.of_chunks(settings.chunks),
        "precision": conditions.of_precision,
        "device": conditions.of_devices,
    }
    for kind in KINDS:
        if kind in settings.kinds:
            yield from found[kind]()


def _measured(condition: Condition, count: int) -> dict[str, Any]:
    """What a condition changes. `failed`: it was to be made here and ended in an error, which `reason` names."""
    head = {key: getattr(condition, key) for key in ("kind", "label", "value", "against", "note")}
    if condition.reason is not None:
        return {**head, **_Changed(count).summary(), "reason": condition.reason, "failed": False}
    changed = _Changed(count)
    try:
        with torch.inference_mode():
            for pair in condition.pairs():
                changed.add(pair)
    except STOPS:
        raise
    except Exception as error:  # noqa: BLE001 (no memory, or an operation that a precision lacks; the others go on)
        return {**head, **_Changed(count).summary(), "reason": first_line(error), "failed": True}
    return {**head, **changed.summary(), "reason": None, "failed": False}


class _Changed:
    """Counts changed codes by codebook, and frames in which any code changed."""

    def __init__(self, codebooks: int) -> None:
        self._changed, self._total = np.zeros((2, codebooks), np.int64)
        self._clips = self._clips_changed = 0

    def add(self, pair: Pair) -> None:
        """One clip."""
        equal, total = (each.sum(0).numpy() for each in equal_codes(*pair, missing=True))
        self._changed += total - equal
        self._total += total
        self._clips += 1
        self._clips_changed += bool((total > equal).any())

    def summary(self) -> dict[str, Any]:
        """Shares from 0 to 1; None where nothing was compared."""
        changed, total = self._changed.tolist(), self._total.tolist()
        share = lambda some, of: some / of if of else None  # noqa: E731
        return {
            "clips": self._clips,
            "clips_changed": self._clips_changed,
            "codes": sum(total),
            "codes_changed": sum(changed),
            "share": share(sum(changed), sum(total)),
            "codebooks": [share(some, of) for some, of in zip(changed, total, strict=True)],
        }
