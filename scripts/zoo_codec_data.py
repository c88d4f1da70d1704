"""Recordings to train `zoo_16k` on, from packages of Debian: speech in many languages, music, sounds.

    apt-get download $(python scripts/zoo_codec_data.py --packages)         # in FOLDER; 0.7 GB
    python scripts/zoo_codec_data.py FOLDER DATA                            # wants ffmpeg, dpkg-deb, espeak-ng

FOLDER/*.deb become, at 16 kHz in one channel:

    DATA/train/NAME.npy       int16 [T], all recordings of a source end to end, long pauses shortened
    DATA/heldout/NAME-I.flac  pieces of 3 to 6 s by voices, languages and composers that training does not see
    DATA/data.json            of each source: package, version, licence, hours, what was held out

Italian and Danish are held out of every package, so that no voice is on both sides whatever package it speaks in.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from codeczoo.base.resampling import resample

import torch  # isort: skip

Wave = NDArray[np.float32]  # [T]

RATE = 16_000
FRAME = 320  # samples: 20 ms, the step of the pause detector
PAUSE_LEVEL, PAUSE_FRAMES = 10 ** (-55 / 20), 10  # what counts as silence, and how much of it is kept
MIN_SECONDS = 0.15  # shorter recordings are clicks
PIECE_SECONDS = (3.0, 6.0)  # of held-out pieces
READABLE = (".ogg", ".wav", ".flac", ".opus", ".g722")
HELD_OUT_VOICES = ("f2", "m3", "f4", "m1", "f5", "m2")  # of eSpeak NG; the embedded clips' are among them


@dataclass(frozen=True)
class Source:
    """Recordings of one package. `keep`, `held_out`: regular expressions of paths in it."""

    name: str
    package: str
    kind: str  # speech, music or audio
    licence: str
    keep: str
    held_out: str = "$^"  # nothing
    most_hours: float = 1.0
    most_pieces: int = 0


SOURCES = (
    Source("asterisk_en", "asterisk-core-sounds-en-g722", "speech", "CC-BY-SA-3.0", r"\.g722$"),
    Source("asterisk_es", "asterisk-core-sounds-es-g722", "speech", "CC-BY-SA-3.0", r"\.g722$"),
    Source("asterisk_fr", "asterisk-core-sounds-fr-g722", "speech", "CC-BY-SA-3.0", r"\.g722$"),
    Source("asterisk_ru", "asterisk-core-sounds-ru-g722", "speech", "CC-BY-3.0", r"\.g722$"),
    Source("asterisk_it", "asterisk-core-sounds-it-g722", "speech", "CC-BY-3.0", r"\.g722$", ".", most_pieces=24),
    Source(
        "tuxpaint",
        "tuxpaint-stamps-default",
        "speech",
        "GPL-2.0-or-later",
        r"_desc_\w+\.ogg$|_desc\.ogg$",
        r"_desc_(it|da)\.ogg$",
        most_hours=8,
        most_pieces=16,
    ),
    Source(
        "tuxpaint_sounds", "tuxpaint-stamps-default", "audio", "GPL-2.0-or-later", r"(?<!_desc)\.ogg$(?<!_\w\w\.ogg)"
    ),
    Source(
        "ktuberling", "ktuberling-data", "speech", "GPL-2.0-or-later", r"sounds/", r"sounds/(it|da)/", most_pieces=8
    ),
    Source("klettres", "klettres-data", "speech", "GPL-2.0-or-later", r"\.ogg$", r"/(it|da)/", most_pieces=8),
    Source("hedgewars", "hedgewars-data", "speech", "GFDL-1.3", r"Sounds/voices/", r"voices/Pirate", most_pieces=8),
    Source("hedgewars_sounds", "hedgewars-data", "audio", "GFDL-1.3", r"Sounds/\w+\.ogg$"),
    Source("opsound", "asterisk-moh-opsound-g722", "music", "CC-BY-SA-3.0", r"\.g722$", "reno_project", most_pieces=6),
    Source(
        "wesnoth",
        "wesnoth-1.16-music",
        "music",
        "GPL-2.0-or-later",
        r"\.ogg$",
        r"/(elf-land|knolls|sad|suspense)\.ogg",
        most_hours=1.5,
        most_pieces=10,
    ),
    Source("supertux", "supertux-data", "music", "GPL-2.0-or-later or CC-BY-SA", r"music/.+\.ogg$", most_hours=0.7),
)
# Voices of eSpeak NG read the descriptions of Tux Paint's stamps.
SPOKEN = "en-us en-gb de fr es pt nl sv pl cs ru el tr hu fi cmn ja ko".split()  # noqa: SIM905
SPOKEN_VARIANTS = ("m4", "m5", "m6", "m7", "f1", "f3", "steph", "linda", "david", "max")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packages", action="store_true", help="print the packages to download, and end")
    parser.add_argument("debs", type=Path, nargs="?", help="folder with the .deb files")
    parser.add_argument("data", type=Path, nargs="?", help="folder to write")
    args = parser.parse_args()
    if args.packages:
        print(*sorted({source.package for source in SOURCES}))
        return
    if args.debs is None or args.data is None:
        parser.error("the folder with the .deb files, and the folder to write, are needed")
    table = []
    for source in SOURCES:
        folder = unpacked(args.debs, source.package)
        files = [p for p in sorted(folder.rglob("*")) if p.suffix in READABLE and re.search(source.keep, str(p))]
        parts: dict[bool, list[Wave]] = {True: [], False: []}
        for path in files:
            wave = without_pauses(read(path))
            if len(wave) >= MIN_SECONDS * RATE:
                parts[bool(re.search(source.held_out, str(path)))].append(wave)
        table.append(write(source, version_of(args.debs, source.package), parts, args.data))
        print(json.dumps(table[-1]), flush=True)
    espeak = Source("espeak", "espeak-ng", "speech", "spoken by a program", "", most_hours=0.6, most_pieces=12)
    texts = unpacked(args.debs, "tuxpaint-stamps-default")
    parts = {held_out: list(spoken(texts, held_out)) for held_out in (True, False)}
    table.append(write(espeak, first_word(["espeak-ng", "--version"]), parts, args.data))
    print(json.dumps(table[-1]), flush=True)
    (args.data / "data.json").write_text(json.dumps(table, indent=1) + "\n")


def unpacked(debs: Path, package: str) -> Path:
    """The folder with a package's files; unpacked beside the .deb if it is not yet there."""
    folder = debs / package
    if not folder.is_dir():
        subprocess.run(["dpkg-deb", "-x", str(deb_of(debs, package)), str(folder)], check=True)
    return folder


def deb_of(debs: Path, package: str) -> Path:
    found = sorted(debs.glob(f"{package}_*.deb"))
    if not found:
        sys.exit(f"{debs} has no {package}_*.deb: get it with `apt-get download {package}`")
    return found[-1]


def version_of(debs: Path, package: str) -> str:
    return deb_of(debs, package).name.split("_")[1].replace("%3a", ":")


def first_word(command: list[str]) -> str:
    """The version that a program tells of itself."""
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.search(r"\d[\w.]+", said)
    return found[0] if found else said.strip()


def read(path: Path) -> Wave:
    """A file of any of these forms as one channel at 16 kHz; empty where it cannot be read."""
    if path.suffix == ".g722":
        command = ["ffmpeg", "-v", "error", "-f", "g722", "-i", str(path), "-f", "wav", "-"]
        content: Path | io.BytesIO = io.BytesIO(subprocess.run(command, check=True, capture_output=True).stdout)
    else:
        content = path
    try:
        wave, rate = soundfile.read(content, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        print(f"{path.name} is left out: {error}", file=sys.stderr)
        return np.zeros(0, np.float32)
    mono = torch.from_numpy(wave.mean(axis=1))
    if rate != RATE and len(mono):
        mono = resample(mono[None], rate, RATE)[0]
    return mono.numpy()


def without_pauses(wave: Wave) -> Wave:
    """The recording without silent ends, and of each longer pause its first 0.2 s."""
    frames = wave[: len(wave) // FRAME * FRAME].reshape(-1, FRAME)
    if not len(frames):
        return wave[:0]
    level = np.sqrt((frames**2).mean(axis=1))
    loud = level > PAUSE_LEVEL * max(float(np.abs(wave).max()), 1e-6)
    since = np.arange(len(loud)) - np.maximum.accumulate(np.where(loud, np.arange(len(loud)), -len(loud)))
    kept = since <= PAUSE_FRAMES
    kept[: int(np.argmax(loud))] = False
    return frames[kept].reshape(-1)


def spoken(texts: Path, held_out: bool) -> Iterator[Wave]:
    """Sentences by eSpeak NG: held-out voices read others than the voices of training."""
    r = np.random.default_rng(int(held_out))
    names = HELD_OUT_VOICES if held_out else SPOKEN_VARIANTS
    files = sorted(texts.rglob("*.txt"))[held_out::2]
    for i in range(36 if held_out else 900):
        language = SPOKEN[i % len(SPOKEN)]
        lines = files[int(r.integers(len(files)))].read_text("utf-8", errors="ignore").splitlines()
        key = {"en-us": "", "en-gb": "", "cmn": "zh_cn"}.get(language, language)
        line = next(
            (x.partition("=")[2] for x in lines if key and x.startswith(f"{key}.utf8=")), lines[0] if lines else ""
        )
        voice = f"{language}+{names[int(r.integers(len(names)))]}"
        pitch, speed = r.integers(25, 75), r.integers(130, 200)
        command = ["espeak-ng", "-v", voice, "-p", str(pitch), "-s", str(speed), "--stdout", line[:200]]
        said = subprocess.run(command, check=True, capture_output=True).stdout
        if len(said) < 1000:
            continue
        wave, rate = soundfile.read(io.BytesIO(said), dtype="float32")
        noise = 10 ** (r.uniform(-80, -55) / 20) * r.standard_normal(len(wave))  # a recording is never digitally silent
        clean = resample(torch.from_numpy((wave + noise).astype(np.float32))[None], rate, RATE)[0]
        yield without_pauses(clean.numpy())


def write(source: Source, version: str, parts: dict[bool, list[Wave]], data: Path) -> dict[str, object]:
    """Write a source's two sides → its row of data.json."""
    train, heldout = data / "train", data / "heldout"
    train.mkdir(parents=True, exist_ok=True)
    heldout.mkdir(parents=True, exist_ok=True)
    r = np.random.default_rng(0)
    hours = 0.0
    if parts[False]:
        order = r.permutation(len(parts[False]))  # so that a limit takes of every voice
        joined = np.concatenate([parts[False][i] for i in order])[: int(source.most_hours * 3600 * RATE)]
        np.save(train / f"{source.name}.npy", (joined.clip(-1, 1) * 32767).round().astype(np.int16))
        hours = len(joined) / RATE / 3600
    pieces = 0
    if parts[True]:
        joined = np.concatenate([parts[True][i] for i in r.permutation(len(parts[True]))])
        lengths = [int(r.uniform(*PIECE_SECONDS) * RATE) for _ in range(source.most_pieces)]
        starts = np.linspace(0, max(len(joined) - max(lengths), 0), source.most_pieces).astype(int)
        for start, length in zip(starts, lengths, strict=True):
            piece = joined[start : start + length]
            if len(piece) == length:
                soundfile.write(heldout / f"{source.kind}-{source.name}-{pieces:02d}.flac", piece, RATE)
                pieces += 1
    return {
        "name": source.name,
        "kind": source.kind,
        "package": source.package,
        "version": version,
        "licence": source.licence,
        "recordings": len(parts[False]),
        "hours": round(hours, 3),
        "held_out": source.held_out if pieces else "",
        "held_out_pieces": pieces,
    }


if __name__ == "__main__":
    main()
