"""A tokenised data set as a map-style data set of PyTorch, over all shards."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

from codeczoo.tokens.formats import Tokens, read_shard
from codeczoo.weights.download import sha256_of


class TokenSet:
    """The clips of a folder that `codeczoo tokenize` wrote.

        tokens = TokenSet("tokens/")
        tokens[0].codes.tensor         # [1, K, N] int64; codec.decode(tokens[0].codes) is audio again
        for clip in tokens: ...
        DataLoader(tokens, batch_size=8, collate_fn=codeczoo.collate_rows)

    It is a map-style data set of `torch.utils.data`. One shard is held in memory at a time, so reading in order is
    fast and random access is slow: shuffle the shards, then the clips of each, or copy the clips into memory.

    Args:
        folder: with index.json in it.
        verify: compare the sha256 of each shard with the index before it is read.

    Raises:
        FileNotFoundError: no index.json: the tokenisation is not finished.
        ValueError: a shard is missing or, where `verify`, differs from the index.
    """

    def __init__(self, folder: str | Path, verify: bool = False) -> None:
        self.folder, self.verify = Path(folder), verify
        path = self.folder / "index.json"
        if not path.is_file():
            raise FileNotFoundError(f"{folder}: no index.json: not a finished folder of tokens")
        self.index: dict[str, Any] = json.loads(path.read_text("utf-8"))
        self._ends = list(accumulate(shard["clips"] for shard in self.index["shards"]))
        self._held: tuple[int, list[Tokens]] = (-1, [])

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, number: int) -> Tokens:
        if not -len(self) <= number < len(self):
            raise IndexError(f"clip {number} of {len(self)}")
        number %= len(self)
        shard = bisect_right(self._ends, number)
        return self._shard(shard)[number - (self._ends[shard - 1] if shard else 0)]

    def __iter__(self) -> Iterator[Tokens]:
        for shard in range(len(self._ends)):
            yield from self._shard(shard)

    def _shard(self, number: int) -> list[Tokens]:
        if self._held[0] != number:
            about = self.index["shards"][number]
            path = self.folder / about["file"]
            if not path.is_file():
                raise ValueError(f"{path}: this shard of the index is missing: run `codeczoo tokenize` again")
            if self.verify and sha256_of(path) != about["sha256"]:
                raise ValueError(f"{path}: not as the index says: run `codeczoo tokenize --verify` again")
            self._held = (number, list(read_shard(path)))
        return self._held[1]
