"""What was measured on each clip, as arrays: for comparisons of codecs on the same clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from codeczoo.benchmark.bd_rate import Curve
from codeczoo.benchmark.bootstrap import unit_numbers
from codeczoo.report.results import CodecResult, Report


@dataclass(frozen=True)
class ClipValues:
    """All arrays are over the same n clips.

    Attributes:
        seconds: [n].
        speakers: [n] numbers of the speakers; None where no clip names one, or all the same.
        bits: codec's label → [n]; NaN where it was not coded.
        metrics: codec's label → metric → [n]; NaN where it has no finite value.
    """

    seconds: np.ndarray
    speakers: np.ndarray | None
    bits: Mapping[str, np.ndarray]
    metrics: Mapping[str, Mapping[str, np.ndarray]]

    def curve(self, codecs: Sequence[CodecResult], metric: str) -> Curve:
        """The codecs as one curve."""
        return Curve(
            np.column_stack([self.bits[codec.label] for codec in codecs]),
            self.seconds,
            np.column_stack([self.metrics[codec.label][metric] for codec in codecs]),
        )


def read_clip_values(report: Report) -> ClipValues:
    """One pass over the lines. Of runs that are not comparable no clip is that of another run."""
    keys: dict[tuple[str, str], int] = {}
    for run in report.runs:
        for id in sorted(run.tally.ids):
            keys.setdefault((run.label if report.differences else "", id), len(keys))
    count = len(keys)
    seconds = np.full(count, np.nan)
    speakers: list[str | None] = [None] * count
    bits = {codec.label: np.full(count, np.nan) for codec in report.codecs}
    metrics = {c.label: {name: np.full(count, np.nan) for name in report.metrics} for c in report.codecs}
    for run in report.runs:
        labels = {codec.name: codec.label for codec in report.codecs if codec.run is run}
        for line in run.lines():
            label = labels.get(line["codec"])
            if label is None or line["status"] != "ok":
                continue
            clip = keys[(run.label if report.differences else "", line["id"])]
            seconds[clip] = line["seconds"]
            speakers[clip] = line.get("speaker")
            bits[label][clip] = np.nan if line["bits"] is None else line["bits"]
            for name, value in line["metrics"].items():
                if isinstance(value, int | float) and name in metrics[label]:
                    metrics[label][name][clip] = value
    named = len({speaker for speaker in speakers if speaker is not None}) > 1
    return ClipValues(seconds, unit_numbers(speakers) if named else None, bits, metrics)
