"""Saved clips to listen to: the original and what every codec made of it, each with its spectrogram."""

from __future__ import annotations

import re
import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from tqdm import tqdm

from codeczoo.base import files
from codeczoo.bench.results import audio_name
from codeczoo.report.data import CodecResult, Report
from codeczoo.report.spectrogram import Spectrogram, spectrogram, write_pictures

ORIGINAL = "original"  # the folder beside those of the codecs


@dataclass(frozen=True)
class Source:
    """One thing to listen to, or the reason why there is none. Paths are relative to the report.

    Attributes:
        bitrate: that this clip took, in bit/s.
        metrics: name → value of this clip; "inf", "-inf"; None where `undefined` has the reason.
    """

    label: str
    audio: str | None = None
    picture: str | None = None
    bitrate: float | None = None
    metrics: Mapping[str, float | str | None] | None = None
    undefined: Mapping[str, str] | None = None
    failure: str | None = None


@dataclass(frozen=True)
class Clip:
    """A saved clip. `sources` begin with the original, where that was saved."""

    id: str
    category: str | None
    seconds: float
    sample_rate: int
    channels: int
    sources: Sequence[Source]

    @property
    def has_original(self) -> bool:
        return self.sources[0].label == ORIGINAL


@dataclass(frozen=True)
class Listening:
    """What the listening page shows.

    Attributes:
        saved: how many clips could be shown.
        silent: labels of codecs without any saved clip.
    """

    clips: Sequence[Clip]
    saved: int
    silent: Sequence[str]


def gather(report: Report, out: Path, limit: int | None) -> Listening:
    """Copy the audio of saved clips, at most `limit`, below `out`, draw its spectrograms, collect its metrics."""
    have = {codec.label: _names(codec.run.folder / "audio" / codec.name) for codec in report.codecs}
    saved = _saved(report, have)
    chosen = _spread(saved, limit)
    lines: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    for codec, line in _lines(report):
        if line["id"] in chosen:
            lines[line["id"]][codec.label] = line
    order = sorted(chosen, key=lambda clip: (saved[clip] or "", clip))
    clips = [
        _clip(report, number, clip, saved[clip], lines[clip], have, out)
        for number, clip in enumerate(tqdm(order, desc="spectrograms", unit="clip", disable=None), 1)
    ]
    return Listening(clips, len(saved), [label for label, names in have.items() if not names])


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def _lines(report: Report) -> Iterator[tuple[CodecResult, dict[str, Any]]]:
    """Every line of every run, with its codec."""
    for run in report.runs:
        codecs = {codec.name: codec for codec in report.codecs if codec.run is run}
        for line in run.lines():
            if line["codec"] in codecs:
                yield codecs[line["codec"]], line


def _saved(report: Report, have: Mapping[str, set[str]]) -> dict[str, str | None]:
    """The clips of which some codec's audio was saved: id → category."""
    return {
        line["id"]: line["category"] for codec, line in _lines(report) if audio_name(line["id"]) in have[codec.label]
    }


def _spread(saved: Mapping[str, str | None], limit: int | None) -> set[str]:
    """Up to `limit` of them, as evenly over the categories as can be."""
    groups: dict[str, list[str]] = defaultdict(list)
    for clip, category in sorted(saved.items()):
        groups[category or ""].append(clip)
    turns: Iterable[str | None] = chain.from_iterable(zip_longest(*(groups[name] for name in sorted(groups))))
    return set([clip for clip in turns if clip is not None][:limit])


def _clip(
    report: Report,
    number: int,
    clip: str,
    category: str | None,
    lines: Mapping[str, Mapping[str, Any]],
    have: Mapping[str, set[str]],
    out: Path,
) -> Clip:
    name = audio_name(clip)
    originals = [path for run in report.runs if (path := run.folder / "audio" / ORIGINAL / name).is_file()]
    paths: dict[str, Path] = {ORIGINAL: originals[0]} if originals else {}
    for codec in report.codecs:
        if name in have[codec.label]:
            paths[codec.label] = codec.run.folder / "audio" / codec.name / name
    folder = out / "clips" / f"{number:04d}"
    folder.mkdir(parents=True)
    pictures: dict[Path, Spectrogram] = {}
    where: dict[str, str] = {}
    for i, (label, path) in enumerate(paths.items()):
        stem = folder / f"{i:02d}-{_slug(label)}"
        shutil.copyfile(path, stem.with_name(stem.name + ".flac"))
        waveform, rate = files.read(path)
        if i == 0:
            samples, sample_rate = waveform.shape[-1], rate
            channels = len(waveform)
        pictures[stem.with_name(stem.name + ".png")] = spectrogram(waveform, rate)
        where[label] = stem.relative_to(out).as_posix()
    write_pictures(pictures)
    sources = [Source(ORIGINAL, f"{where[ORIGINAL]}.flac", f"{where[ORIGINAL]}.png")] if originals else []
    sources += [
        _source(codec, lines[codec.label], where.get(codec.label))
        for codec in report.codecs
        if codec.label in lines and have[codec.label]
    ]
    return Clip(clip, category, samples / sample_rate, sample_rate, channels, sources)


def _source(codec: CodecResult, line: Mapping[str, Any], where: str | None) -> Source:
    if line["status"] == "failed":
        return Source(codec.label, failure=f"{line['stage']}: {line['reason']}")
    if where is None:
        return Source(codec.label, failure="its audio was not saved")
    return Source(codec.label, f"{where}.flac", f"{where}.png", line["bitrate"], line["metrics"], line["undefined"])


def _slug(label: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", label).strip("-")[:60]
