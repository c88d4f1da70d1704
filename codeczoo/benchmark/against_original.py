"""How far what a codec made of a clip is from the original, in metrics that judge each by itself.

`utmos` of a reconstruction says little alone: noisy originals score low as well. Its twin `utmos_reference` is the
score of the original, and the difference on the same clips is what the codec took away (or, rarely, added).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from codeczoo.benchmark.bootstrap import mean_interval, unit_numbers

Row = Mapping[str, Any]  # a line of clips.jsonl


def against_original(rows: Sequence[Row], metric: str, twin: str) -> dict[str, Any] | None:
    """Of the clips on which both metrics have a finite value: the means, and the difference with its interval.

    Args:
        rows: lines of one codec, all coded.
        metric, twin: of the reconstruction, and of the original.

    Returns:
        `original`: its mean; `difference`: mean of reconstruction - original, `ci95` of a bootstrap over clips (and
        `ci95_speakers` over `speakers`, where clips have them); `count` of those clips; `undefined`: why the others
        have no difference. None where no line has the twin.
    """
    rows = [row for row in rows if metric in row["metrics"] and twin in row["metrics"]]
    if not rows:
        return None
    both = [row for row in rows if _is_number(row["metrics"][metric]) and _is_number(row["metrics"][twin])]
    originals = np.array([row["metrics"][twin] for row in both], dtype=np.float64)
    differences = np.array([row["metrics"][metric] for row in both], dtype=np.float64) - originals
    reasons = Counter(
        reason for row in rows if (reason := row["undefined"].get(metric) or row["undefined"].get(twin)) is not None
    )
    found = {
        "original": float(originals.mean()) if both else None,
        "difference": float(differences.mean()) if both else None,
        "ci95": mean_interval(differences, np.arange(len(both))),
        "count": len(both),
        "undefined": dict(sorted(reasons.items())),
    }
    speakers = [row.get("speaker") for row in both]
    if any(speaker is not None for speaker in speakers):
        units = unit_numbers(speakers)
        found |= {"speakers": int(units.max()) + 1, "ci95_speakers": mean_interval(differences, units)}
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)
