"""Reading the clips of a `.czt` file in order. `CztIndex` reads single clips and stretches."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import BinaryIO

import numpy as np

from codeczoo.czt.chunks import CLIP, DATA, END, END_OF_CLIP, HEADER, MODEL, Chunk, ChunkReader, CztError, Fields
from codeczoo.czt.coding import Array, Model
from codeczoo.czt.content import CztClip, CztHeader, read_block, read_clip_head


@dataclass
class _Opened:
    """A clip whose chunks are being read."""

    clip: CztClip
    announced: bool
    blocks: list[list[Array]] = field(default_factory=list)
    frames: int = 0

    def finished(self, header: CztHeader, num_samples: int | None = None) -> CztClip:
        rows = [
            np.concatenate([block[k] for block in self.blocks]) if self.blocks else np.zeros(0, np.int64)
            for k in range(len(header.codebook_sizes))
        ]
        samples = self.clip.num_samples if num_samples is None else num_samples
        return replace(self.clip, rows=rows, frames=self.frames, num_samples=samples)


def read_czt(file: BinaryIO) -> Iterator[tuple[CztHeader, CztClip]]:
    """The clips of a file, in order, each with its section's header. The file need not be able to seek.

    Raises:
        CztError: a damaged file, or one that is cut short; the clips before the damage have been given.
    """
    empty = True
    for section in _sections(ChunkReader(file)):
        empty = False
        yield from section
    if empty:
        raise CztError("an empty file")


def _sections(chunks: Iterable[Chunk]) -> Iterator[Iterator[tuple[CztHeader, CztClip]]]:
    source = iter(chunks)
    for first in source:
        if first.kind != HEADER:
            raise CztError(f"no header at byte {first.offset}")
        yield _section(CztHeader.from_json(first.payload), source)


def _section(header: CztHeader, source: Iterator[Chunk]) -> Iterator[tuple[CztHeader, CztClip]]:
    """The clips of one section, up to its end."""
    model: Model | None = None
    opened: _Opened | None = None
    count = 0
    for part in source:
        fields = Fields(part.payload)
        if opened is not None and part.kind not in (DATA, END_OF_CLIP):
            raise CztError(f"clip {count} ends after {opened.frames} of {opened.clip.frames} frames")
        if part.kind == MODEL and not count and model is None:
            model = Model.from_bytes(part.payload, header.codebook_sizes)
            continue
        if part.kind == CLIP:
            clip = read_clip_head(fields)
            opened = _Opened(clip, announced=clip.frames >= 0)
            count += 1
        elif part.kind == DATA and opened is not None:
            frames, rows = read_block(fields, header, model)
            if opened.frames % math.lcm(*header.strides):
                raise CztError(f"clip {count} has frames behind its last block")
            opened.blocks.append(rows)
            opened.frames += frames
        elif part.kind == END_OF_CLIP and opened is not None and not opened.announced:
            frames, samples = fields.varint() - 1, fields.varint() - 1
            fields.end()
            if frames != opened.frames:
                raise CztError(f"clip {count} has {opened.frames} of {frames} frames")
            yield header, opened.finished(header, samples)
            opened = None
            continue
        elif part.kind == END:
            if fields.varint() != count:
                raise CztError(f"a section of another number of clips than {count}")
            fields.end()
            return
        else:
            raise CztError(f"a chunk of type {part.kind!r} is out of place at byte {part.offset}")
        if opened.announced and opened.frames >= opened.clip.frames:
            if opened.frames > opened.clip.frames:
                raise CztError(f"clip {count} has {opened.frames} frames and announces {opened.clip.frames}")
            yield header, opened.finished(header)
            opened = None
    raise CztError(f"cut short: the end of the section is missing behind {count} clips")
