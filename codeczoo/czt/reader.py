"""Reading the clips of a `.czt` file in order. `CztIndex` reads single clips and stretches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import BinaryIO

import numpy as np

from codeczoo.czt.chunks import Chunk, ChunkReader, Fields
from codeczoo.czt.coding import Array
from codeczoo.czt.content import CztClip, CztHeader, read_block
from codeczoo.czt.walk import Section, walk


def read_czt(file: BinaryIO) -> Iterator[tuple[CztHeader, CztClip]]:
    """The clips of a file, in order, each with its section's header. The file need not be able to seek.

    Raises:
        CztError: a damaged file, or one that is cut short; the clips before the damage have been given.
    """
    for found in walk(ChunkReader(file), _decoded):
        header = found.section.header
        rows = [
            np.concatenate([block[k] for block in found.blocks]) if found.blocks else np.zeros(0, np.int64)
            for k in range(len(header.codebook_sizes))
        ]
        yield header, replace(found.clip, rows=rows)


def _decoded(section: Section, part: Chunk, fields: Fields, start: int) -> tuple[int, list[Array]]:
    return read_block(fields, section.header, section.model)
