"""Audio columns of `datasets` that neither encode nor decode.

That library asks for torchcodec even to note down the bytes or the path of a clip. Builders that go row by row (folders
of audio, tars) are given this column type instead, which stores what it gets; what they write is the same.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import datasets


@dataclass
class Undecoded(datasets.Audio):  # in caches it goes by its parent's name, so that others can read them
    """Bytes or a path, as they are."""

    decode: bool = False

    def encode_example(self, value: Any) -> dict[str, Any]:
        if isinstance(value, str):
            return {"bytes": None, "path": value}
        if isinstance(value, bytes):
            return {"bytes": value, "path": None}
        return {"bytes": value.get("bytes"), "path": value.get("path")}

    def decode_example(self, value: Any, token_per_repo_id: Any = None) -> Any:  # streams switch decoding on again
        return value


@contextlib.contextmanager
def without_decoder(builder: datasets.DatasetBuilder) -> Iterator[None]:
    """In this block a builder makes its audio columns undecoded ones, once it has found out what its columns are."""
    find_splits = builder._split_generators

    def split_generators(*args: Any, **kwargs: Any) -> Any:
        found = find_splits(*args, **kwargs)
        if builder.info.features is not None:
            builder.info.features = undecoded(builder.info.features)
        return found

    builder._split_generators = split_generators
    try:
        yield
    finally:
        del builder._split_generators  # what lies below it is the class's own


def undecoded(features: datasets.Features) -> datasets.Features:
    """The same columns, audio as bytes or a path."""
    return datasets.Features(
        {name: Undecoded() if isinstance(kind, datasets.Audio) else kind for name, kind in features.items()}
    )
