"""Saved clips to listen to: the original and each codec's reconstruction, with spectrograms."""

from __future__ import annotations

import math
import re
import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from torch import Tensor
from tqdm import tqdm

from codeczoo.base import audio_io
from codeczoo.benchmark.results import audio_name
from codeczoo.metrics.table import twin_of, without_twins
from codeczoo.report.formatting import better
from codeczoo.report.results import CodecResult, Report
from codeczoo.report.spectrogram import Spectrogram, spectrogram, write_pictures

ORIGINAL = "original"  # the folder beside those of the codecs


@dataclass(frozen=True)
class ListeningSource:
    """The original or one reconstruction of a clip, or the reason why there is none. Paths are relative to the report.

    Attributes:
        bitrate: that this clip took, in bit/s.
        level: root mean square, in dB of full scale; None of silence.
        metrics: name → value of this clip; "inf", "-inf"; None where `undefined` has the reason.
    """

    label: str
    audio: str | None = None
    picture: str | None = None
    bitrate: float | None = None
    level: float | None = None
    metrics: Mapping[str, float | str | None] | None = None
    undefined: Mapping[str, str] | None = None
    failure: str | None = None


@dataclass(frozen=True)
class ListeningClip:
    """A saved clip. `sources` begin with the original, where that was saved; `run` is "" where all runs have it."""

    id: str
    run: str
    category: str | None
    seconds: float
    sample_rate: int
    channels: int
    sources: Sequence[ListeningSource]

    @property
    def best(self) -> dict[str, float]:
        """Metric → the best value of a codec on this clip; of metrics of which it is known which way is better."""
        found: dict[str, list[float]] = defaultdict(list)
        for source in self.sources:
            for metric, value in (source.metrics or {}).items() if source.label != ORIGINAL else ():
                if isinstance(value, int | float):
                    found[metric].append(value)
        choose = {"higher": max, "lower": min}
        return {metric: choose[way](values) for metric, values in found.items() if (way := better(metric))}

    @property
    def has_original(self) -> bool:
        return self.sources[0].label == ORIGINAL


@dataclass(frozen=True)
class Listening:
    """The content of the listening page.

    Attributes:
        saved: how many clips could be shown.
        silent: labels of codecs without any saved clip.
    """

    clips: Sequence[ListeningClip]
    saved: int
    silent: Sequence[str]


# Runs over one data set share their clips, and the run is ""; of mixed runs equal ids may be different clips.
Key = tuple[str, str]  # run, id


def gather(report: Report, out: Path, limit: int | None) -> Listening:
    """Copy the audio of saved clips, at most `limit`, below `out`, draw its spectrograms, collect its metrics."""
    have = {codec.label: _names(codec.run.folder / "audio" / codec.name) for codec in report.codecs}
    saved = {
        key: line["category"]
        for key, codec, line in _lines(report)
        if line["status"] == "ok" and audio_name(line["id"]) in have[codec.label]
    }
    chosen = _spread(saved, limit)
    lines: dict[Key, dict[str, dict[str, Any]]] = defaultdict(dict)
    for key, codec, line in _lines(report):
        if key in chosen and have[codec.label]:
            lines[key][codec.label] = line
    order = sorted(chosen, key=lambda key: (saved[key] or "", key))
    clips = [
        _clip(report, key, lines[key], have, out, f"clips/{number:04d}")
        for number, key in enumerate(tqdm(order, desc="spectrograms", unit="clip", disable=None), 1)
    ]
    return Listening(clips, len(saved), [label for label, names in have.items() if not names])


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def _lines(report: Report) -> Iterator[tuple[Key, CodecResult, dict[str, Any]]]:
    """Every line of every run, with its clip and its codec."""
    for run in report.runs:
        codecs = {codec.name: codec for codec in report.codecs if codec.run is run}
        for line in run.lines():
            if line["codec"] in codecs:
                yield (run.label if report.differences else "", line["id"]), codecs[line["codec"]], line


def _spread(saved: Mapping[Key, str | None], limit: int | None) -> set[Key]:
    """Up to `limit` clips, spread evenly over the categories."""
    groups: dict[str, list[Key]] = defaultdict(list)
    for key, category in sorted(saved.items(), key=lambda item: item[0]):
        groups[category or ""].append(key)
    turns: Iterable[Key | None] = chain.from_iterable(zip_longest(*(groups[name] for name in sorted(groups))))
    return set([key for key in turns if key is not None][:limit])


def _clip(
    report: Report,
    key: Key,
    lines: Mapping[str, Mapping[str, Any]],
    have: Mapping[str, set[str]],
    out: Path,
    folder: str,
) -> ListeningClip:
    """One clip with its sources; its files go to `folder` of `out`."""
    owner, clip = key
    name = audio_name(clip)
    runs = [run for run in report.runs if owner in ("", run.label)]
    originals = [path for run in runs if (path := run.folder / "audio" / ORIGINAL / name).is_file()]
    codecs = [codec for codec in report.codecs if codec.label in lines]
    paths: dict[str, Path] = {ORIGINAL: originals[0]} if originals else {}
    for codec in codecs:
        if lines[codec.label]["status"] == "ok" and name in have[codec.label]:
            paths[codec.label] = codec.run.folder / "audio" / codec.name / name
    (out / folder).mkdir(parents=True)
    stems = {label: f"{folder}/{i:02d}-{_slug(label)}" for i, label in enumerate(paths)}
    pictures: dict[Path, Spectrogram] = {}
    levels: dict[str, float | None] = {}
    for label, path in paths.items():
        shutil.copyfile(path, out / f"{stems[label]}.flac")
        waveform, rate = audio_io.read(path)
        levels[label] = level_of(waveform)
        pictures[out / f"{stems[label]}.png"] = spectrogram(waveform, rate)
    write_pictures(pictures)
    line = next(line for line in lines.values() if line["status"] == "ok")
    return ListeningClip(
        id=clip,
        run=owner,
        category=line["category"],
        seconds=line["seconds"],
        sample_rate=line["sample_rate"],
        channels=line["channels"],
        sources=[
            *([_source(ORIGINAL, _original(lines), stems[ORIGINAL], levels[ORIGINAL])] if originals else []),
            *(_source(c.label, lines[c.label], stems.get(c.label), levels.get(c.label)) for c in codecs),
        ],
    )


def _original(lines: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What metrics say of the original, under their own names, as a line of the results."""
    metrics: dict[str, Any] = {}
    undefined: dict[str, str] = {}
    for line in lines.values():
        for metric in line.get("metrics", {}):
            if (twin := twin_of(metric)) in line["metrics"] and metric not in metrics:
                metrics[metric] = line["metrics"][twin]
                undefined |= {metric: line["undefined"][twin]} if twin in line["undefined"] else {}
    return {"status": "ok", "metrics": metrics, "undefined": undefined}


def level_of(waveform: Tensor) -> float | None:
    """Root mean square of a waveform [C, T], in dB of full scale."""
    power = float(waveform.double().square().mean()) if waveform.numel() else 0.0
    return round(10 * math.log10(power), 2) if power > 1e-12 else None


def _source(label: str, line: Mapping[str, Any], stem: str | None, level: float | None) -> ListeningSource:
    if line["status"] == "failed":
        return ListeningSource(label, failure=f"{line['stage']}: {line['reason']}")
    if stem is None:
        return ListeningSource(label, failure="its audio was not saved")
    metrics = {name: line["metrics"][name] for name in without_twins(line.get("metrics", {}))}
    return ListeningSource(
        label, f"{stem}.flac", f"{stem}.png", line.get("bitrate"), level, metrics, line.get("undefined")
    )


def _slug(label: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", label).strip("-")[:60]
