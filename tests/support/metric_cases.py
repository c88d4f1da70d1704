"""The golden metric values, and the signals that they belong to."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import soundfile as sf
import torch
from safetensors.torch import load_file
from torch import Tensor

from codeczoo.metrics import Scores, WorkerPool, evaluate

FOLDER = Path(__file__).parent.parent / "golden" / "metrics"


@functools.lru_cache
def golden_pairs() -> list[dict[str, Any]]:
    return json.loads((FOLDER / "pairs.json").read_text())["pairs"]


@functools.cache
def recording(file: str) -> Tensor:
    """[C, T] float64."""
    waveform, _ = sf.read(FOLDER / file, always_2d=True)
    return torch.from_numpy(waveform.T.copy())


def pair(name: str) -> tuple[Tensor, Tensor, int]:
    """Reference, estimate and rate of one golden pair."""
    (found,) = [entry for entry in golden_pairs() if entry["id"] == name]
    return recording(found["reference_file"]), recording(found["degraded_file"]), found["sample_rate"]


def score_golden(
    metrics: tuple[str, ...], dtype: torch.dtype, names: tuple[str, ...] = (), pool: WorkerPool | None = None
) -> dict[str, Outcome]:
    """Each golden pair's values and reasons, computed in ragged batches of equal rate and channel count."""
    groups: dict[tuple[int, int], list[dict]] = {}
    for entry in golden_pairs():
        if not names or entry["id"] in names:
            groups.setdefault((entry["sample_rate"], entry["channels"]), []).append(entry)
    outcomes = {}
    for (rate, _), entries in groups.items():
        sides = [[recording(entry[key]).to(dtype) for entry in entries] for key in ("reference_file", "degraded_file")]
        scores = evaluate(*sides, rate, metrics, pool=pool)
        outcomes |= {entry["id"]: item(scores, i) for i, entry in enumerate(entries)}
    return outcomes


Outcome = dict[str, tuple[float, str | None]]  # for each metric its value and reason


def item(scores: Scores, index: int) -> Outcome:
    return {name: (float(values[index]), scores.reasons[name][index]) for name, values in scores.items()}


@functools.lru_cache
def edge_cases() -> dict[str, dict[str, Any]]:
    return json.loads((FOLDER / "edge.json").read_text())["cases"]


@functools.lru_cache
def edge_signals() -> dict[str, Tensor]:
    return load_file(FOLDER / "edge.safetensors")


@functools.lru_cache
def score_edges(metrics: tuple[str, ...], dtype: torch.dtype) -> dict[str, Outcome]:
    """As `score_golden`, for the edge cases, all of them in one batch."""
    cases, signals = edge_cases(), edge_signals()
    sides = [[signals[case[key]].to(dtype) for case in cases.values()] for key in ("reference", "estimate")]
    scores = evaluate(*sides, 16_000, metrics)
    return {name: item(scores, i) for i, name in enumerate(cases)}
