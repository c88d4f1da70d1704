"""Counts that a benchmark's summary lacks, made in one pass over the lines of its results."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codeczoo.benchmark.summary import rounded

INFINITE = "infinite"  # stands beside the reasons of undefined values


def stand_in(reason: str) -> str:
    """The text about a value that a protocol puts in place of an undefined one."""
    return f"{reason} (a stand-in is in the mean)"


@dataclass
class Count:
    """One codec on the clips of one category."""

    ok: int = 0
    failed: int = 0
    bits: float = 0.0
    tokens: int = 0
    seconds: float = 0.0

    coded: int = 0  # clips whose bits are known: not those of reconstructions that a data set holds

    def per_second(self, amount: float) -> float | None:
        return rounded(amount / self.seconds) if self.seconds and self.coded else None


@dataclass
class Tally:
    """Attributes:
    ids: of all clips.
    counts: codec → category → Count; clips without a category are not in them.
    failed_in: id → category of the clips that some codec failed on.
    lost: (metric, reason) → ids of the clips that have no finite value for it.
    """

    ids: set[str] = field(default_factory=set)
    counts: Mapping[str, dict[str, Count]] = field(default_factory=lambda: defaultdict(dict))
    failed_in: dict[str, str | None] = field(default_factory=dict)
    lost: Mapping[tuple[str, str], set[str]] = field(default_factory=lambda: defaultdict(set))


def lines(folder: Path) -> Iterator[dict[str, Any]]:
    """The lines of every `clips*.jsonl` of a results folder: one dict a clip and codec.

    Raises:
        ValueError: a line that is not JSON.
    """
    for path in sorted(folder.glob("clips*.jsonl")):
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                try:
                    yield json.loads(line)
                except json.JSONDecodeError as error:
                    raise ValueError(f"{path}, line {number}: not JSON ({error.msg}); is a run at work?") from error


def tally(folder: Path) -> Tally:
    """The counts of a results folder's lines, each clip and codec once."""
    out = Tally()
    seen: set[tuple[str, str]] = set()
    for line in lines(folder):
        key = (line["codec"], line["id"])
        if key in seen:  # processes that were given the same part by mistake write the same lines
            continue
        seen.add(key)
        out.ids.add(line["id"])
        count = out.counts[line["codec"]].setdefault(line["category"], Count()) if line["category"] else Count()
        if line["status"] != "ok":
            count.failed += 1
            out.failed_in[line["id"]] = line["category"]
            continue
        count.ok += 1
        count.seconds += line["seconds"]
        if line["bits"] is not None:
            count.coded += 1
            count.bits += line["bits"]
            count.tokens += line["tokens"]
        infinite = {metric: INFINITE for metric, value in line["metrics"].items() if isinstance(value, str)}
        stand_ins = {metric: stand_in(reason) for metric, reason in line.get("stand_ins", {}).items()}
        for lost in {**line["undefined"], **infinite, **stand_ins}.items():
            out.lost[lost].add(line["id"])
    return out
