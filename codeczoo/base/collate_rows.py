"""`collate_rows`: what a `DataLoader` makes of rows that hold audio or codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import default_collate

from codeczoo.base.audio import Audio
from codeczoo.base.codes import Codes


def collate_rows(rows: Sequence[Any]) -> Any:
    """Rows of a data set as one batch: `Audio` and `Codes` are joined by `cat`, whatever their lengths.

        loader = DataLoader(TokenSet("tokens/"), batch_size=8, collate_fn=collate_rows)
        for batch in loader:
            batch.codes                       # Codes of 8 clips; batch.id is a list of 8 strings

    Rows may be `Audio` or `Codes` themselves, or dicts, tuples or named tuples that hold them, beside numbers and
    tensors of one shape, which become tensors as in `torch.utils.data.default_collate`, and all else (text, None,
    tensors of different shapes), which becomes a list.

    Raises:
        ValueError: no rows; audio of different rates or channel counts; codes of different codecs.
        TypeError: audio or codes in some rows and something else in others.
        KeyError: dicts of different keys.
    """
    if not len(rows):
        raise ValueError("no rows were given")
    first = rows[0]
    for kind in (Audio, Codes):
        if any(isinstance(row, kind) for row in rows):
            if not all(isinstance(row, kind) for row in rows):
                found = sorted({type(row).__name__ for row in rows})
                raise TypeError(f"rows with {kind.__name__} and without do not join: they are {' and '.join(found)}")
            return kind.cat(list(rows))
    if all(isinstance(row, Mapping) for row in rows):
        if any(row.keys() != first.keys() for row in rows):
            raise KeyError(f"rows of different keys do not join: {sorted({str(sorted(row)) for row in rows})}")
        return {key: collate_rows([row[key] for row in rows]) for key in first}
    if isinstance(first, tuple) and all(type(row) is type(first) and len(row) == len(first) for row in rows):
        columns = [collate_rows(column) for column in zip(*rows, strict=True)]
        return type(first)(*columns) if hasattr(first, "_fields") else tuple(columns)
    numbers = all(isinstance(row, int | float | np.number) for row in rows)
    arrays = all(isinstance(row, Tensor | np.ndarray) for row in rows)
    if numbers or (arrays and len({(type(row), row.shape, row.dtype) for row in rows}) == 1):
        return default_collate(list(rows))
    return list(rows)
