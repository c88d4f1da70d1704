"""Results of the benchmark, read from their folders and joined into one table of codecs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from codeczoo.benchmark.results import RESULTS_FORMAT
from codeczoo.metrics.table import METRICS
from codeczoo.report.counts import Tally, lines, tally
from codeczoo.report.presets import Column

# What decides which clips a run measured. Everything else may differ between runs that are shown together.
DATA_SETTINGS = ("dataset", "split", "audio_column", "id_column", "limit", "shuffle", "seed")
NAMED = 3  # clips named in a message


@dataclass(frozen=True)
class AgainstOriginal:
    """A metric that judges the original as well, over the clips on which both have a finite value.

    Attributes:
        original: its mean of the originals; None where there is no such clip.
        difference: the mean of reconstruction - original.
        low, high: its 95% confidence interval; None below two clips.
        count: of those clips; `undefined`: reason → number of the others.
        speaker_low, speaker_high: the interval when whole speakers are drawn; None where clips have no speakers.
    """

    original: float | None
    difference: float | None
    low: float | None
    high: float | None
    count: int
    undefined: Mapping[str, int]
    speaker_low: float | None = None
    speaker_high: float | None = None


@dataclass(frozen=True)
class Value:
    """A metric of one codec over the clips of one category, or over all.

    Attributes:
        mean: over the clips where it is defined and finite; None where there is none.
        low, high: the 95% confidence interval of the mean; None below two clips.
        count: of those clips.
        infinite: clips whose value is infinite; not in the mean.
        undefined: reason → number of clips without a value.
        stand_ins: reason → number of clips with a value in the place of none, which is in the mean (`superb/...`).
        speakers, speaker_low, speaker_high: their number, and the interval when whole speakers are drawn; None where
            clips have no speakers.
        against: the original, for metrics that judge it too; None for others.
        corpus, corpus_low, corpus_high: of error rates, the errors of all clips over all words, and its interval.
    """

    mean: float | None
    low: float | None
    high: float | None
    count: int
    infinite: int
    undefined: Mapping[str, int]
    stand_ins: Mapping[str, int] = field(default_factory=dict)
    speakers: int | None = None
    speaker_low: float | None = None
    speaker_high: float | None = None
    against: AgainstOriginal | None = None
    corpus: float | None = None
    corpus_low: float | None = None
    corpus_high: float | None = None

    @property
    def lost(self) -> int:
        """Clips that were coded and have no part in the mean."""
        return self.infinite + sum(self.undefined.values())

    def scaled(self, factor: float) -> Value:
        """In another unit; without the original."""
        names = ("mean", "low", "high", "speaker_low", "speaker_high")
        ends: dict[str, Any] = {name: None if (end := getattr(self, name)) is None else factor * end for name in names}
        return replace(self, against=None, **ends)

    def of_corpus(self) -> Value:
        """With the rate of all clips together in the place of the mean of the clips' rates, where there is one."""
        if self.corpus is None:
            return self
        return replace(self, mean=self.corpus, low=self.corpus_low, high=self.corpus_high)

    @property
    def against_all(self) -> bool:
        """Whether the mean and the difference to the original are over the same clips."""
        return self.against is not None and self.against.count == self.count


@dataclass(frozen=True)
class Speed:
    """Seconds of audio a second of encoding, and of decoding. None where it was not measured."""

    encode: float | None
    decode: float | None


@dataclass(frozen=True)
class Run:
    """One results folder. `label` tells it from the others of a report."""

    folder: Path
    label: str
    description: Mapping[str, Any]  # run.json
    summary: Mapping[str, Any]  # summary.json
    speeds: Mapping[str, Speed]  # by codec's name
    tally: Tally

    @property
    def protocol(self) -> str:
        return self.description["protocol"]

    @property
    def dataset(self) -> str:
        return self.summary["dataset"]

    def lines(self) -> Iterator[dict[str, Any]]:
        return lines(self.folder)


@dataclass(frozen=True)
class Part:
    """What one codec did on all clips, or on those of a category. Bitrates in bit/s.

    Attributes:
        ok, failed: how many clips were coded, and how many were not.
        values: metric → Value; a metric that was not asked for is not in them.
    """

    ok: int
    failed: int
    bitrate: float | None
    tokens_per_second: float | None
    values: Mapping[str, Value]


@dataclass(frozen=True)
class CodecResult:
    """One row of the leaderboard.

    Attributes:
        label: unique in the report; `name` is the codec's own.
        info: what run.json says of the codec.
        clips: of the data set.
        failed: each with its id, stage and reason.
        entropy_bitrate: after an ideal coder of single codes, in bit/s.
        codebook_use: the share of the codebooks' entries that occurred. It and the entropy are None for compressed
            files, whose bytes are no codes.
    """

    label: str
    name: str
    run: Run
    info: Mapping[str, Any]
    clips: int
    failed: Sequence[Mapping[str, str]]
    nominal_bitrate: float | None
    entropy_bitrate: float | None
    codebook_use: float | None
    overall: Part
    categories: Mapping[str, Part]

    @property
    def missing(self) -> int:
        """Clips that are neither coded nor failed: the run was stopped, and not taken up again."""
        return self.clips - self.overall.ok - len(self.failed)

    @property
    def speed(self) -> Speed:
        return self.run.speeds.get(self.name, Speed(None, None))

    @property
    def random_weights(self) -> bool:
        return str(self.info.get("weights_source") or "").startswith("random")

    @property
    def encode_only(self) -> bool:
        return not self.info.get("supports_decode", True)

    def part(self, category: str | None = None) -> Part | None:
        """Of all clips, or of a category; None where the codec's run had no clip of it."""
        return self.overall if category is None else self.categories.get(category)

    def value(self, metric: str, category: str | None = None) -> Value | None:
        part = self.part(category)
        return part.values.get(metric) if part else None

    def against(self, metric: str, category: str | None = None) -> AgainstOriginal | None:
        """What the metric says of the original; None where it judges none, or has no clip with both."""
        value = self.value(metric, category)
        return value.against if value and value.against and value.against.count else None


@dataclass(frozen=True)
class Report:
    """All runs of a report, and their codecs in the order of bitrates."""

    runs: Sequence[Run]
    codecs: Sequence[CodecResult]
    metrics: Sequence[str]
    categories: Sequence[str]
    differences: Sequence[str]  # what keeps the runs from being comparable; only with `allow_mixed`
    columns: Mapping[str, Column] = field(default_factory=dict)  # how tables show metrics (`presets.with_columns`)

    def original(self, metric: str, category: str | None = None) -> float | None:
        """The originals' mean in a metric that judges them too: by the codec with the most clips, should some have
        fewer; None where there is none, or where the codecs are of different clips."""
        found = [one for codec in self.codecs if (one := codec.against(metric, category))]
        return max(found, key=lambda one: one.count).original if found and not self.differences else None


def read_report(folders: Sequence[str | Path], allow_mixed: bool = False) -> Report:
    """Read results folders and join their codecs. A codec that occurs twice is labelled `CODEC (FOLDER)`.

    Raises:
        FileNotFoundError: a folder without results, or of a run that is not finished.
        ValueError: another format, a folder given twice, or runs of different protocols or data sets, unless
            `allow_mixed`.
    """
    paths = [Path(folder) for folder in folders]
    for i, path in enumerate(paths):
        if any(path.resolve() == other.resolve() for other in paths[:i]):
            raise ValueError(f"{path} was given twice")
    runs = [_read_run(path, label) for path, label in zip(paths, _labels(paths), strict=True)]
    differences = [text for run in runs[1:] for text in _differences(runs[0], run)]
    if differences and not allow_mixed:
        raise ValueError(
            f"these results cannot stand in one table: {'; '.join(differences)}. Make a report of each, or pass "
            "--allow-mixed to join them all the same"
        )
    times = Counter(name for run in runs for name in run.summary["codecs"])
    codecs = [
        _codec(run, name, f"{name} ({run.label})" if differences or times[name] > 1 else name)
        for run in runs
        for name in run.summary["codecs"]
    ]
    measured = {metric: None for run in runs for metric in run.summary["metrics"]}
    return Report(
        runs=runs,
        codecs=sorted(codecs, key=lambda c: (c.overall.bitrate is None, c.overall.bitrate or 0, c.label)),
        metrics=[name for name in METRICS if name in measured] + [name for name in measured if name not in METRICS],
        categories=sorted({name for codec in codecs for name in codec.categories}),
        differences=differences,
    )


def _labels(paths: Sequence[Path]) -> list[str]:
    """As many last parts of each path as tell all of them apart."""
    parts = [path.resolve().parts for path in paths]
    for length in range(1, max(map(len, parts), default=0) + 1):
        labels = ["/".join(part[-length:]) for part in parts]
        if len(set(labels)) == len(labels):
            return labels
    return [str(path) for path in paths]


def _read_run(folder: Path, label: str) -> Run:
    if not (folder / "run.json").is_file():
        raise FileNotFoundError(f"{folder}: no results of a benchmark there (no run.json)")
    if not (folder / "summary.json").is_file():
        raise FileNotFoundError(
            f"{folder}: the benchmark there is not finished (no summary.json); start it again with the same settings "
            "and it goes on where it stopped"
        )
    description, summary = (json.loads((folder / name).read_text("utf-8")) for name in ("run.json", "summary.json"))
    if description.get("format") != RESULTS_FORMAT:
        raise ValueError(
            f"{folder}: results of format {description.get('format')!r}; this version reads {RESULTS_FORMAT!r}"
        )
    return Run(folder, label, description, summary, _speeds(folder), tally(folder))


def _speeds(folder: Path) -> dict[str, Speed]:
    """From timing.json, and those of further ranks."""
    seconds: dict[str, Counter[str]] = {}
    for path in sorted(folder.glob("timing*.json")):
        for name, spent in json.loads(path.read_text("utf-8"))["codecs"].items():
            clocks = {clock: spent.get(clock) or 0.0 for clock in ("audio", "encode", "decode")}
            seconds.setdefault(name, Counter()).update(clocks)
    return {
        name: Speed(*(spent["audio"] / spent[c] if spent["audio"] and spent[c] else None for c in ("encode", "decode")))
        for name, spent in seconds.items()
    }


def _differences(one: Run, other: Run) -> list[str]:
    """Why the numbers of two runs are not comparable; empty when they are."""
    where = f"{one.label} and {other.label}"
    if one.protocol != other.protocol:
        return [f"{where} differ in protocol ({one.protocol}, {other.protocol})"]
    settings = [run.description["settings"] for run in (one, other)]
    texts = [
        f"{where} differ in {key} ({', '.join(str(s.get(key)) for s in settings)})"
        for key in DATA_SETTINGS
        if settings[0].get(key) != settings[1].get(key)
    ]
    if texts:
        return texts
    here, there = one.tally.ids, other.tally.ids
    return [
        f"{len(only)} clips are only in {run.label} ({', '.join(sorted(only)[:NAMED])}{' ...' * (len(only) > NAMED)})"
        for run, only in ((one, here - there), (other, there - here))
        if only
    ]


def _codec(run: Run, name: str, label: str) -> CodecResult:
    entry = run.summary["codecs"][name]
    info = run.description["codecs"].get(name, {})
    codes = (entry.get("codes") or {}) if info.get("frame_rate") else {}
    sizes = [level["size"] for level in codes.get("levels", ()) if level["size"]]
    return CodecResult(
        label=label,
        name=name,
        run=run,
        info=info,
        clips=run.summary["clips"],
        failed=entry["failed"],
        nominal_bitrate=entry["nominal_bitrate"],
        entropy_bitrate=codes.get("entropy_bitrate"),
        codebook_use=sum(level["used"] for level in codes["levels"] if level["size"]) / sum(sizes) if sizes else None,
        overall=Part(
            entry["ok"],
            len(entry["failed"]),
            entry["bitrate"],
            entry["tokens_per_second"],
            _values(entry["overall"]),
        ),
        # A category of which every clip failed is in the lines alone.
        categories={
            category: Part(
                count.ok,
                count.failed,
                count.per_second(count.bits),
                count.per_second(count.tokens),
                _values(entry["categories"].get(category, {})),
            )
            for category, count in sorted(run.tally.counts.get(name, {}).items())
        },
    )


def _values(metrics: Mapping[str, Any]) -> dict[str, Value]:
    return {
        name: Value(
            mean=m["mean"],
            low=m["ci95"][0],
            high=m["ci95"][1],
            count=m["count"],
            infinite=m["infinite"],
            undefined=m["undefined"],
            stand_ins=m.get("stand_ins", {}),
            speakers=m.get("speakers"),
            speaker_low=m.get("ci95_speakers", (None, None))[0],
            speaker_high=m.get("ci95_speakers", (None, None))[1],
            against=_against(m["against_original"]) if "against_original" in m else None,
            corpus=m.get("corpus"),
            corpus_low=m.get("ci95_corpus", (None, None))[0],
            corpus_high=m.get("ci95_corpus", (None, None))[1],
        )
        for name, m in metrics.items()
    }


def _against(found: Mapping[str, Any]) -> AgainstOriginal:
    return AgainstOriginal(
        original=found["original"],
        difference=found["difference"],
        low=found["ci95"][0],
        high=found["ci95"][1],
        count=found["count"],
        undefined=found["undefined"],
        speaker_low=found.get("ci95_speakers", (None, None))[0],
        speaker_high=found.get("ci95_speakers", (None, None))[1],
    )
