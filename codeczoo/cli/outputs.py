"""Where a command writes: files in a folder, one file, or standard output. A file is never there in part."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO

from torch import Tensor

from codeczoo.base import audio_io

Writer = Callable[[BinaryIO], None]  # writes one clip into an open file


class UnreadableOutputError(ValueError):
    """An output that is there already cannot be read: one clip's failure."""


class Outputs:
    """The places of a command's outputs, one a clip.

    Args:
        out: the value of -o; None = `folder`, or standard output where the only input is standard input.
        inputs: the arguments that name the inputs; clips: how many outputs there will be, None = unknown.
        suffix: of files in a folder.
        file_suffixes: a path that does not exist and has one of these is a file, else a folder.
        overwrite, json_lines: whether --overwrite and --json are given.

    Raises:
        ValueError: one file or standard output for several clips; standard output that --json needs, or a terminal.
    """

    def __init__(
        self,
        out: str | None,
        *,
        folder: str,
        inputs: Sequence[str],
        clips: int | None,
        suffix: str,
        file_suffixes: Sequence[str],
        overwrite: bool,
        json_lines: bool,
    ) -> None:
        out = out if out is not None else "-" if list(inputs) == ["-"] else folder
        self.suffix, self.overwrite = suffix, overwrite
        self.stdout = out == "-"
        self.place = Path(out).expanduser()
        slash = out.endswith(("/", os.sep))
        self.one = self.stdout or (not slash and not self.place.is_dir() and out.lower().endswith(tuple(file_suffixes)))
        if self.stdout and json_lines:
            raise ValueError("--json lines and the clip itself (-o -) cannot both go to standard output")
        if self.stdout and sys.stdout.isatty():
            raise ValueError("standard output is a terminal here: redirect it, or name a file with -o")
        if self.one and clips != 1:
            many = "an unknown number of" if clips is None else clips
            raise ValueError(f"-o {out} takes one clip and there are {many} clips: name a folder")
        if not self.one and self.place.exists() and not self.place.is_dir():
            raise ValueError(f"-o {out} is a file, and none of {' '.join(file_suffixes)}: name a folder")

    def path(self, name: str) -> Path | None:
        """The file of the clip of that name; None = standard output."""
        if self.stdout:
            return None
        return self.place if self.one else self.place / (name + self.suffix)

    def is_done(self, name: str) -> bool:
        """Whether the clip's file is there already and is kept (without --overwrite)."""
        path = self.path(name)
        try:
            return path is not None and not self.overwrite and path.exists()
        except OSError:  # a name that no file can have; writing it will say so
            return False

    def write(self, name: str, writer: Writer) -> None:
        """Raises what `writer` raises, and OSError."""
        content = io.BytesIO()
        writer(content)
        path = self.path(name)
        if path is None:
            sys.stdout.buffer.write(content.getbuffer())
            sys.stdout.buffer.flush()
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        try:
            part.write_bytes(content.getbuffer())
            os.replace(part, path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise

    def __str__(self) -> str:
        return "standard output" if self.stdout else str(self.place) if self.one else f"{self.place}/"


def audio_outputs(
    args: argparse.Namespace, folder: str, inputs: Sequence[str], clips: int | None
) -> tuple[Outputs, Callable[[Tensor, int], Writer]]:
    """Outputs of audio in the format that --format or OUT's suffix names; and a function that makes the writer of a
    waveform [C, T] at a sample rate.

    Raises:
        ValueError: as `Outputs`, or --format and the suffix contradict each other.
    """
    outputs = Outputs(
        args.out,
        folder=folder,
        inputs=inputs,
        clips=clips,
        suffix=f".{args.format or 'wav'}",
        file_suffixes=tuple(audio_io.FORMATS),
        overwrite=args.overwrite,
        json_lines=args.json,
    )
    suffix = f".{args.format or 'wav'}"
    if outputs.one and not outputs.stdout:
        named = outputs.place.suffix.lower()
        if args.format is not None and audio_io.FORMATS[named] != audio_io.FORMATS[suffix]:
            raise ValueError(f"-o {args.out} says {named} and --format says {args.format}")
        suffix = named
    container, subtype = audio_io.FORMATS[suffix]

    def make_writer(waveform: Tensor, sample_rate: int) -> Writer:
        return partial(audio_io.write, waveform=waveform, sample_rate=sample_rate, format=container, subtype=subtype)

    return outputs, make_writer
