"""One recording through several codecs, as a page to listen to: what the app shows."""

from __future__ import annotations

import functools
import secrets
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from codeczoo.base import audio_io
from codeczoo.base.audio import Audio, stack
from codeczoo.base.codec import BaseCodec
from codeczoo.base.codes import Codes
from codeczoo.base.errors import first_line
from codeczoo.metrics import evaluate
from codeczoo.registry import load_codec
from codeczoo.report.formatting import FIRST_METRICS, decimals, kbps
from codeczoo.report.listening import ORIGINAL, ListeningClip, ListeningSource, level_of
from codeczoo.report.spectrogram import spectrogram, write_pictures
from codeczoo.report.templating import template_environment

KEPT_SECONDS = 3600.0  # that results stay
KEPT_CODECS = 3  # that stay loaded
SHORTEST = 0.05  # seconds
MOST_CHANNELS = 2
SHOWN_METRICS = 5  # without opening the list of the others
SHOWN_FRAMES = 24  # of codes, as numbers
COLUMNS = 640  # of a picture of codes, at most


class Choice(NamedTuple):
    """A codec at one of its rates, in bit/s; None = its own rate."""

    codec: str
    bitrate: float | None = None

    @property
    def label(self) -> str:
        return self.codec if self.bitrate is None else f"{self.codec} at {kbps(self.bitrate)} kbit/s"


@dataclass(frozen=True)
class ShownCodes:
    """The codes of one codec: `picture` and `file` are names below the result's folder."""

    label: str
    told: str
    picture: str
    file: str
    first: str


def read_recording(path: str | Path, max_seconds: float) -> Audio:
    """A file as one clip of at most two channels, without reading more of it than may be.

    Raises:
        ValueError: it is no audio, damaged, or too short; or it is longer than `max_seconds`.
    """
    name = Path(path).name
    announced = audio_io.info(path)
    seconds = announced.samples / announced.sample_rate if announced.samples is not None else None
    if seconds is None and _reaches(path, max_seconds):
        raise ValueError(f"{name} is longer than {max_seconds:g} s: cut it, or take a shorter one")
    if seconds is not None and seconds > max_seconds + 0.5 / announced.sample_rate:
        raise ValueError(f"{name} is {_span(seconds)} long; at most {max_seconds:g} s are taken: cut it")
    waveform, rate = audio_io.read(path)
    if waveform.shape[-1] < SHORTEST * rate:
        raise ValueError(f"{name} has {waveform.shape[-1]} samples, less than {SHORTEST:g} s: record more")
    if not bool(torch.isfinite(waveform).all()):
        raise ValueError(f"{name} holds NaN or infinite samples: it is no sound")
    audio = stack([waveform], rate)
    return audio if audio.channels <= MOST_CHANNELS else audio.mix(1)


def _reaches(path: str | Path, seconds: float) -> bool:
    """Whether a file that tells no length has samples behind that time. They alone are kept in memory."""
    try:
        audio_io.read(path, offset=seconds, duration=0.01)
    except ValueError:  # it ends before, or is damaged, which reading it all then says
        return False
    return True


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} minutes"


@functools.lru_cache(maxsize=KEPT_CODECS)
def _codec(name: str, device: str | None) -> BaseCodec:
    return load_codec(name, device=device)


def compare(
    path: str | Path,
    choices: Sequence[Choice],
    results: Path,
    *,
    max_seconds: float,
    device: str | None = None,
    address: Callable[[Path], str] = str,
    progress: Callable[[float, str], Any] = lambda share, text: None,
) -> str:
    """A page of the recording and of what each codec leaves of it: players, spectrograms, codes, metrics.

    Args:
        results: the folder in which a new one is made for this page's files.
        address: of a file in it, as the page is to name it.
        progress: is told what is done now, and the share of the whole that is done before it.

    Raises:
        ValueError: of `read_recording`; no codec was chosen.
    """
    if not choices:
        raise ValueError("no codec was chosen: choose one")
    original = read_recording(path, max_seconds)
    folder = _new_folder(results)
    sources, codes, heard = [], [], {ORIGINAL: original}
    for number, choice in enumerate(dict.fromkeys(choices)):
        progress(number / len(choices), f"{choice.codec}: loading")
        try:
            codec = _codec(choice.codec, device)
            progress((number + 0.3) / len(choices), f"{choice.label}: encoding and decoding")
            made = codec.encode(original, bitrate=choice.bitrate)
            audio = codec.match_input(codec.decode(made), original).cpu()
            progress((number + 0.6) / len(choices), f"{choice.label}: measuring")
            scores = evaluate(original, audio).to_dict()
            codes.append(_shown_codes(choice.label, made.cpu(), folder, number, address))
        except Exception as error:  # noqa: BLE001 (one codec's failure is told in its place; the others are heard)
            sources.append(ListeningSource(choice.label, failure=first_line(error)))
            continue
        heard[choice.label] = audio
        values = {name: value[0] for name, value in scores["values"].items()}
        reasons = {name: reason[0] for name, reason in scores["reasons"].items() if reason[0] is not None}
        sources.append(_source(choice.label, audio, folder, address, float(made.bitrate[0]), values, reasons))
    clip = ListeningClip(
        id=Path(path).name,
        run="",
        category=None,
        seconds=float(original.seconds[0]),
        sample_rate=original.sample_rate,
        channels=original.channels,
        sources=[_source(ORIGINAL, original, folder, address), *sources],
    )
    pictures = {folder / f"{_stem(label)}.png": audio for label, audio in heard.items()}
    write_pictures({path: spectrogram(audio.split()[0], audio.sample_rate) for path, audio in pictures.items()})
    return _page(clip, codes)


def _page(clip: ListeningClip, codes: Sequence[ShownCodes]) -> str:
    measured = list(dict.fromkeys(name for source in clip.sources for name in source.metrics or ()))
    numbers = {
        name: [v for source in clip.sources if isinstance(v := (source.metrics or {}).get(name), float)]
        for name in measured
    }
    assets = resources.files("codeczoo.report") / "assets"
    return (
        template_environment("codeczoo.app")
        .get_template("result.html")
        .render(
            clip=clip,
            codes=codes,
            number=1,
            places={name: decimals(values) for name, values in numbers.items()},
            clip_metrics=[name for name in FIRST_METRICS if name in measured][:SHOWN_METRICS],
            source_keys="0123456789",
            style=(assets / "report.css").read_text("utf-8"),
            player=(assets / "player.js").read_text("utf-8"),
        )
    )


def _source(
    label: str,
    audio: Audio,
    folder: Path,
    address: Callable[[Path], str],
    bitrate: float | None = None,
    metrics: dict[str, Any] | None = None,
    undefined: dict[str, str] | None = None,
) -> ListeningSource:
    """A player's source; its samples are written, its picture is to be."""
    stem = folder / _stem(label)
    audio.save(stem.with_suffix(".flac"))
    return ListeningSource(
        label,
        address(stem.with_suffix(".flac")),
        address(stem.with_suffix(".png")),
        bitrate,
        level_of(audio.split()[0]),
        metrics,
        undefined,
    )


def _stem(label: str) -> str:
    return label.replace(" ", "_").replace("/", "_").replace(".", "_")


def _shown_codes(label: str, codes: Codes, folder: Path, number: int, address: Callable[[Path], str]) -> ShownCodes:
    from matplotlib import colormaps
    from PIL import Image

    path = folder / f"codes-{number}.safetensors"
    codes.save(path)
    grid = codes.codes[0, :, : int(codes.lengths[0])]
    picture = folder / f"codes-{number}.png"
    shade = _shades(grid, codes)
    Image.fromarray((colormaps["viridis"](shade)[..., :3] * 255).astype(np.uint8)).save(picture)
    rows = [" ".join(f"{code:5d}" if code >= 0 else "    ·" for code in row[:SHOWN_FRAMES].tolist()) for row in grid]
    return ShownCodes(label, str(codes), address(picture), address(path), "\n".join(rows))


def _shades(grid: Tensor, codes: Codes) -> np.ndarray:
    """Codes [K, N] as shares of their codebooks' sizes, at most COLUMNS of them, evenly taken."""
    sizes = torch.tensor(codes.codebook_sizes)[:, None].clamp(min=2)
    share = (grid.clamp(min=0) / (sizes - 1)).numpy()
    taken = np.linspace(0, max(share.shape[1] - 1, 0), min(share.shape[1], COLUMNS)).astype(int)
    return share[:, taken] if share.shape[1] else np.zeros((len(share), 1))


def remove_old(folder: Path) -> None:
    """Remove what lies in a folder for more than an hour."""
    for old in folder.iterdir() if folder.is_dir() else ():
        if time.time() - old.stat().st_mtime > KEPT_SECONDS:
            shutil.rmtree(old, ignore_errors=True)


def _new_folder(results: Path) -> Path:
    """A folder with a name that nobody guesses."""
    folder = results / secrets.token_urlsafe(16)
    folder.mkdir()
    return folder
