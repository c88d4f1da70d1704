"""Codec-SUPERB's published table beside our numbers, row by row, with the known faults of each row."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from codeczoo.report.results import CodecResult, Report, Value

PROTOCOL = "superb-2026-05"
# their metric → ours by their definition, and the nearest of our own
METRICS: Mapping[str, tuple[str, str]] = {
    "mel": ("superb/mel", "mel"),
    "stft": ("superb/stft", "stft"),
    "waveform": ("superb/waveform", "waveform"),
    "pesq": ("superb/pesq", "pesq_wb"),
    "stoi": ("superb/stoi", "stoi"),
    "f0corr": ("superb/f0corr", "f0_corr"),
}
# their row → our name of the same weights at the same rate, which results may bear as well
OUR_NAMES: Mapping[str, str] = {
    "encodec_24k_1_5bps": "encodec_24k_1_5kbps",
    "encodec_24k_3bps": "encodec_24k_3kbps",
    "encodec_24k_6bps": "encodec_24k_6kbps",
    "encodec_24k_12bps": "encodec_24k_12kbps",
    "encodec_24k_24bps": "encodec_24k_24kbps",
    "speech_tokenizer_16k": "speechtokenizer_16k",
}
CATEGORIES = ("overall", "Speech", "Audio", "Music")


@dataclass(frozen=True)
class Column:
    """One of their metrics. `ours` is what stands beside it, None where nothing was measured; `same`: by their
    definition, so that a difference has a meaning."""

    theirs: str
    ours: str | None
    same: bool


@dataclass(frozen=True)
class Cell:
    """A published mean, ours beside it, and the difference where both have one definition."""

    theirs: float
    ours: Value | None
    difference: float | None


@dataclass(frozen=True)
class Row:
    """A published codec, and ours of that name (None: not in this report)."""

    name: str
    listed_kbps: float
    flags: Sequence[Mapping[str, str]]
    codec: CodecResult | None
    cells: Mapping[str, Sequence[Cell]]  # category → by metric


@dataclass(frozen=True)
class Comparison:
    """The whole page: `source`, `dataset` and `clips` are theirs; `unlisted` are our codecs that they do not have."""

    source: str
    dataset: str
    clips: Mapping[str, int]
    encode_only: Sequence[str]
    columns: Sequence[Column]
    rows: Sequence[Row]
    unlisted: Sequence[str]
    protocols: Sequence[str]

    @property
    def exact(self) -> bool:
        """Whether anything stands beside theirs by the same definition and protocol."""
        return any(column.same for column in self.columns) and self.protocols == [PROTOCOL]


def published_table() -> dict[str, Any]:
    """Their means, reduced to what is compared; `source` says where they are from."""
    return json.loads((resources.files(__package__) / "published" / "codec_superb_tiny.json").read_text("utf-8"))


def compare(report: Report) -> Comparison:
    """The published table's rows, beside ours where their codecs were measured."""
    table = published_table()
    columns = [_column(report, theirs) for theirs in METRICS]
    rows = []
    for name, entry in table["codecs"].items():
        measured: list[CodecResult | None] = [
            codec for codec in report.codecs if codec.name in (name, OUR_NAMES.get(name))
        ]
        for codec in measured or [None]:
            cells = {category: _cells(entry["results"][category], columns, codec, category) for category in CATEGORIES}
            rows.append(Row(name, entry["listed_kbps"], entry["flags"], codec, cells))
    known = {*table["codecs"], *table["encode_only"], *OUR_NAMES.values()}
    return Comparison(
        source=table["source"],
        dataset=table["dataset"],
        clips=table["clips"],
        encode_only=table["encode_only"],
        columns=columns,
        rows=sorted(rows, key=lambda row: (row.codec is None, row.name)),
        unlisted=[codec.label for codec in report.codecs if codec.name not in known],
        protocols=sorted({run.protocol for run in report.runs}),
    )


def _column(report: Report, theirs: str) -> Column:
    for same, ours in zip((True, False), METRICS[theirs], strict=True):
        if ours in report.metrics:
            return Column(theirs, ours, same)
    return Column(theirs, None, False)


def _cells(
    theirs: Mapping[str, float], columns: Sequence[Column], codec: CodecResult | None, category: str
) -> list[Cell]:
    # Their categories are capitalised; ours are as the data set names them.
    names = {name.lower(): name for name in codec.categories} if codec else {}
    ours_in = None if category == "overall" else names.get(category.lower(), category)
    cells = []
    for column in columns:
        ours = codec.value(column.ours, ours_in) if codec and column.ours else None
        mean = ours.mean if ours and column.same else None
        cells.append(Cell(theirs[column.theirs], ours, None if mean is None else mean - theirs[column.theirs]))
    return cells
