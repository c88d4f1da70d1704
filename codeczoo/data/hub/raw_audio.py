"""Audio columns of `datasets` that neither encode nor decode.

The library needs torchcodec even to store the bytes or the path of a clip. Builders that work row by row (folders of
audio, tars) get this column type instead, which stores bytes and paths as they are. The files they write are equal.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import datasets


@dataclass
class RawAudio(datasets.Audio):  # caches store its parent's name, so that the library reads them
    """An audio column of bytes or paths."""

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
    """In this block a builder's audio columns are `RawAudio`, from the moment that it knows its columns."""
    find_splits = builder._split_generators

    def split_generators(*args: Any, **kwargs: Any) -> Any:
        found = find_splits(*args, **kwargs)
        if builder.info.features is not None:
            builder.info.features = with_raw_audio(builder.info.features)
        return found

    builder._split_generators = split_generators
    try:
        yield
    finally:
        del builder._split_generators  # the class's method comes back


def with_raw_audio(features: datasets.Features) -> datasets.Features:
    """The same columns, with `RawAudio` for audio."""
    return datasets.Features(
        {name: RawAudio() if isinstance(kind, datasets.Audio) else kind for name, kind in features.items()}
    )
