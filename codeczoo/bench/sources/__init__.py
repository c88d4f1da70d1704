"""What a benchmark or a tokenisation runs over, in whatever form it lies. `open_source` finds out which."""

from __future__ import annotations

from pathlib import Path

from codeczoo.bench.sources.base import Content, Entry, ListSource, Source
from codeczoo.bench.sources.files import embedded, find_files

__all__ = ["Content", "Entry", "ListSource", "Source", "open_source"]


def open_source(
    dataset: str | Path | None, *, limit: int | None = None, shuffle: bool = False, seed: int = 0
) -> Source:
    """The data set of that name.

    Args:
        dataset: a folder (searched to its depths), a glob, a manifest (.csv, .tsv, .jsonl), one file; None = the
            embedded clips.
        limit: only that many clips.
        shuffle, seed: in a random order, the same for the same seed.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: a manifest without a column of paths, or with an id twice.
    """
    source = embedded() if dataset is None else find_files(str(dataset))
    if source is None:
        raise FileNotFoundError(f"{dataset}: no such folder, glob, manifest or audio file")
    source.select(limit, shuffle, seed)
    return source
