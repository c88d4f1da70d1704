"""The inputs of a command (files, folders, globs, manifests, data sets, standard input) as one source of clips, each
with the name of its output."""

from __future__ import annotations

import glob
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from codeczoo.data.file_names import safe_path
from codeczoo.data.files import SUFFIXES, FileSource
from codeczoo.data.open import Content, Entry, ListSource, Source
from codeczoo.executor.settings import SourceSettings

CODES_SUFFIX = ".codes.safetensors"
CODES_SUFFIXES = (CODES_SUFFIX, ".codes.czt", ".ecdc")


@dataclass(frozen=True)
class InputClip(Entry):
    """A clip of one of several sources.

    Attributes:
        name: of its output, a path below OUT without suffix; no other clip has it.
        source: number of its source; inner: the entry in that source.
    """

    name: str = ""
    source: int = 0
    inner: Entry | None = None


@dataclass(frozen=True)
class CodesEntry(Entry):
    """A file of codes, by its head. `key` is its path, or its bytes.

    Attributes:
        names: of the outputs, one a clip; missing: numbers of the clips whose output is not there yet.
        codec: that made it, or that is to decode it; codebook_sizes, weights: of its codes (see `Codes`).
        seconds: of its longest clip; 0 where it is not known.
    """

    names: tuple[str, ...] = ()
    missing: tuple[int, ...] = ()
    codec: str = ""
    codebook_sizes: tuple[int, ...] = ()
    weights: str | None = None
    seconds: float = 0.0


class Inputs(Source):
    """All clips of a command line, in its order.

    Files and folders are mirrored: an output's name is the input's path below the deepest folder that holds all
    inputs, without its suffix. Two clips that would share a name keep their suffixes. The outputs of manifests and data
    sets are named by the clips' ids.
    """

    def __init__(
        self, sources: Sequence[tuple[str, Source]], stem: Callable[[str], str], limit: int | None = None
    ) -> None:
        self.name = " ".join(argument for argument, _ in sources)
        self._arguments = [argument for argument, _ in sources]
        self._sources = [source for _, source in sources]
        self._stem, self._limit = stem, limit
        self._root = _common_folder(sources)
        counts = [source.count for source in self._sources]
        total = None if None in counts else sum(count for count in counts if count is not None)
        self.count = total if limit is None or total is None else min(total, limit)
        self._shared: frozenset[str] = frozenset()
        times = Counter(clip.name for clip in self._all(listed=True))
        self._shared = frozenset(name for name, count in times.items() if count > 1)
        seen: dict[str, str] = {}
        for clip in self._all(listed=True) if self._shared else ():
            if clip.name in seen:
                raise ValueError(f"{clip.id!r} and {seen[clip.name]!r} would both be written as {clip.name!r}")
            seen[clip.name] = clip.id

    def entries(self) -> Iterator[InputClip]:
        return islice(self._all(), self._limit)

    def read(self, entry: Entry) -> Content:
        assert isinstance(entry, InputClip) and entry.inner is not None
        return self._sources[entry.source].read(entry.inner)

    def _all(self, listed: bool = False) -> Iterator[InputClip]:
        """All clips; where `listed`, only those of lists, which can be walked before anything is read."""
        for number, (argument, source) in enumerate(zip(self._arguments, self._sources, strict=True)):
            is_list = isinstance(source, ListSource)
            if listed and not is_list:
                continue
            mirrored = _is_of_files(source)
            for entry in source.entries():
                if mirrored:
                    identity = Path(os.path.relpath(entry.key, self._root)).as_posix()
                else:
                    identity = entry.id if len(self._sources) == 1 else f"{argument}/{entry.id}"
                # A stream cannot be searched for equal names beforehand, so its clips keep their suffixes.
                name = safe_path(self._stem(identity) if is_list else identity)
                if name in self._shared:
                    name = safe_path(identity)
                yield InputClip(
                    identity,
                    entry.key,
                    entry.category,
                    entry.origin,
                    failure=entry.failure,
                    name=name,
                    source=number,
                    inner=entry,
                )


class StandardInput(ListSource):
    """One clip: the bytes that come through the pipe."""

    def __init__(self) -> None:
        if sys.stdin.isatty():
            raise ValueError("- reads standard input, which is a terminal here: pipe a file into it")
        super().__init__("-", [Entry("stdin", sys.stdin.buffer.read(), None, "standard input")])

    def read(self, entry: Entry) -> Content:
        return entry.key


def open_audio(arguments: Sequence[str], *, limit: int | None = None, **options: Any) -> Inputs:
    """Clips of audio. `options` are those of `SourceSettings`.

    Raises:
        FileNotFoundError, ValueError: an argument that names nothing, or no data set.
    """
    sources = [(a, StandardInput() if a == "-" else _opened(a, limit, options)) for a in _once(arguments)]
    return Inputs(sources, _audio_stem, limit)


def _opened(argument: str, limit: int | None, options: Mapping[str, Any]) -> Source:
    return SourceSettings(dataset=argument, limit=limit, **options).open_source()


def open_codes(arguments: Sequence[str]) -> Inputs:
    """Files of codes, each as one `InputClip`; folders are searched for `*.codes.safetensors`, `*.codes.czt`
    and `*.ecdc`, subfolders too.

    Raises:
        FileNotFoundError: an argument that names nothing.
    """
    return Inputs([(a, StandardInput() if a == "-" else _codes_in(a)) for a in _once(arguments)], _codes_stem)


def _once(arguments: Sequence[str]) -> Sequence[str]:
    if list(arguments).count("-") > 1:
        raise ValueError("standard input can be read once; - is given twice")
    return arguments


def _codes_in(argument: str) -> FileSource:
    path = Path(argument).expanduser()
    if path.is_dir():
        endings = tuple(suffix.removeprefix(".") if suffix.count(".") > 1 else suffix for suffix in CODES_SUFFIXES)
        found = sorted(p for p in path.rglob("*") if p.name.endswith(endings) and p.is_file())
    elif path.is_file():
        found = [path]
    else:
        found = sorted(Path(p) for p in glob.glob(str(path), recursive=True) if Path(p).is_file())
    if not found:
        raise FileNotFoundError(f"{argument}: no codes there (of *{' or *'.join(CODES_SUFFIXES)})")
    return FileSource(argument, [Entry(p.as_posix(), p, None, p.name) for p in found])


def _audio_stem(identity: str) -> str:
    suffix = PurePosixPath(identity).suffix
    return identity.removesuffix(suffix) if suffix.lower() in SUFFIXES else identity


def _codes_stem(identity: str) -> str:
    return identity.removesuffix(".ecdc").removesuffix(".safetensors").removesuffix(".czt").removesuffix(".codes")


def _is_of_files(source: Source) -> bool:
    """Whether the clips of a source are the files that the argument names, and not rows of a manifest."""
    return isinstance(source, FileSource) and not source.listed


def _common_folder(sources: Sequence[tuple[str, Source]]) -> str:
    """The deepest folder that holds all inputs that are files; for a single folder, that folder."""
    folders: set[str] = set()
    for argument, source in sources:
        if _is_of_files(source):
            path = Path(argument).expanduser()
            folders |= {str(path)} if path.is_dir() else {os.path.dirname(entry.key) for entry in source.entries()}
    return os.path.commonpath([os.path.abspath(folder) for folder in folders]) if folders else os.curdir


__all__ = ["CODES_SUFFIXES", "CodesEntry", "InputClip", "Inputs", "StandardInput", "open_audio", "open_codes"]
