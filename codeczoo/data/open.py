"""What a benchmark or a tokenisation runs over, in whatever form it lies. `open_source` finds out which."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from codeczoo.data.archives import ArchiveSource, find_archives
from codeczoo.data.files import MANIFESTS, SUFFIXES, embedded, find_files, is_clip_name
from codeczoo.data.folders import walk
from codeczoo.data.hub.repo_id import HubDataset, is_layout, is_saved
from codeczoo.data.source import Content, Entry, ListSource, Source
from codeczoo.data.webdataset import TARS, open_tars

__all__ = ["Content", "Entry", "ListSource", "Source", "open_source"]

log = logging.getLogger(__name__)

FORMS = (
    "a folder, a glob, a manifest (.csv, .tsv, .jsonl, .json, .txt, .scp) or an audio file; tars or Parquet files "
    "(also as name-{000..012}.tar); a folder that save_to_disk wrote or that is laid out as on the hub; or a data set "
    "of the hub as owner/name, owner/name@revision or owner/name:config"
)
TABLES = (".parquet",)


def open_source(
    dataset: str | Path | None,
    *,
    split: str | Sequence[str] | None = None,
    streaming: bool = False,
    audio_column: str | None = None,
    id_column: str | None = None,
    limit: int | None = None,
    shuffle: bool = False,
    seed: int = 0,
) -> Source:
    """The data set of that name.

    Args:
        dataset: a folder (searched to its depths), a glob, a manifest (.csv, .tsv, .jsonl, .json, .txt, .scp, Kaldi's
            segments) or one audio file; tars in WebDataset's form or Parquet files: one, a folder of them, a glob or
            `name-{000..012}.tar`; a folder that `datasets` saved or that is laid out as a repository of the hub
            (`folder:config` if need be); or such a repository, `owner/name`, with `@revision` and `:config`. What lies
            on this machine comes before the hub.
            None = the embedded clips.
        split: one or several of its splits; None = all, one clip of each in turn.
        streaming: read a data set of the hub over the network as it goes, keeping nothing.
        audio_column, id_column: which columns to read (of tars: which extension, and which key of the .json), where
            that is not clear; the id column "row" numbers the rows.
        limit: only that many clips.
        shuffle, seed: in a random order, the same for the same seed.

    Raises:
        FileNotFoundError: nothing there, or it cannot be had from the hub; the message says why.
        ValueError: no such split or column, a manifest without a column of paths, an id twice, a broken archive.
        ImportError: it takes the extra `hf`.
    """
    if dataset is None:
        _refuse("the embedded clips", split=split, streaming=streaming, audio_column=audio_column, id_column=id_column)
        return _selected(embedded(), limit, shuffle, seed)
    name, path = str(dataset), Path(dataset).expanduser()
    columns: dict[str, Any] = {"split": split, "audio_column": audio_column, "id_column": id_column}
    drawn: dict[str, Any] = {"limit": limit, "shuffle": shuffle, "seed": seed}
    if path.is_dir() and is_saved(path):
        _refuse(name, streaming=streaming)
        return _extra("hub.repository", name).open_saved(name, path, **columns, **drawn)
    if path.is_dir() and is_layout(path):
        return _extra("hub.repository", name).open_layout(name, path, streaming=streaming, **columns, **drawn)
    folder, _, config = name.rpartition(":")
    if folder and not path.exists() and Path(folder).expanduser().is_dir():
        layout = Path(folder).expanduser()
        return _extra("hub.repository", name).open_layout(name, layout, config, streaming=streaming, **columns, **drawn)
    tars, tables = _archives(name, path)
    if tables:
        _refuse(name, streaming=streaming)
        return _selected(_extra("parquet", name).open_tables(name, tables, **columns), **drawn)
    if tars:
        _refuse(name, split=split, streaming=streaming)
        return _selected(open_tars(name, tars, audio_column, id_column), **drawn)
    source = find_files(name, audio_column, id_column)
    if source is not None:
        _refuse(name, split=split, streaming=streaming)
        return _selected(source, **drawn)
    is_file = name.lower().endswith((*SUFFIXES, *MANIFESTS, *TARS, *TABLES))
    hub_dataset = None if is_file else HubDataset.parse(name)
    if hub_dataset is None:
        raise FileNotFoundError(f"{name}: there is no such folder or file here. A data set is {FORMS}")
    return _extra("hub.repository", name).open_hub(name, hub_dataset, streaming=streaming, **columns, **drawn)


def _archives(name: str, path: Path) -> tuple[list[Path], list[Path]]:
    """The tars or the Parquet files of that name. Beside loose audio files, which are then the data set, neither.

    Raises:
        ValueError: there are both.
    """
    tars, tables = find_archives(name, TARS), find_archives(name, TABLES)
    if not tars and not tables:
        return [], []
    if path.is_dir() and next(walk(path, is_clip_name), None):
        log.warning(
            "%s: it holds audio files; %d tars or Parquet files beside them are left out", name, len(tars + tables)
        )
        return [], []
    if tars and tables:
        raise ValueError(f"{name}: {len(tars)} tars and {len(tables)} Parquet files: name one kind, as in {name}/*.tar")
    return tars, tables


def _selected(source: ListSource | ArchiveSource, limit: int | None, shuffle: bool, seed: int) -> Source:
    source.select(limit, shuffle, seed)
    return source


def _refuse(name: str, **options: Any) -> None:
    """Raise a ValueError for an option that says nothing about this form of data set."""
    for option, value in options.items():
        if value:
            raise ValueError(f"{name}: --{option.replace('_', '-')} does not go with this form of data set")


def _extra(module: str, name: str) -> ModuleType:
    """A module that takes the `datasets` library (and pyarrow, which comes with it)."""
    try:
        return importlib.import_module(f"codeczoo.data.{module}")
    except ModuleNotFoundError as error:
        if error.name not in ("datasets", "pyarrow"):
            raise
        raise ImportError(f"{name}: reading it takes the datasets library: pip install 'codeczoo[hf]'") from error
