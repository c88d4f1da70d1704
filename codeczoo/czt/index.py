"""Random access in a `.czt` file: where its clips and their blocks lie, found without reading the codes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import BinaryIO, NamedTuple

import numpy as np

from codeczoo.czt.chunks import DATA, Chunk, ChunkReader, CztError, Fields
from codeczoo.czt.content import CztClip, CztHeader, read_block
from codeczoo.czt.walk import Section, walk


class _Block(NamedTuple):
    offset: int  # of its chunk in the file
    number: int  # of its chunk in the section
    start: int  # in frames
    frames: int


@dataclass
class IndexedClip:
    """A clip of a file: all but its codes (`clip.rows` is empty)."""

    clip: CztClip
    section: Section = field(repr=False)
    blocks: list[_Block] = field(repr=False)

    @property
    def header(self) -> CztHeader:
        return self.section.header

    @property
    def frames(self) -> int:
        return self.clip.frames


class CztIndex:
    """The clips of an open file that can seek: `index.clips`, and the codes of a stretch by `index.read`.

    Check sums of codes are compared when the codes are read. All else that `read_czt` refuses is refused here.

    Raises:
        CztError: a damaged file, or one that is cut short.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        file.seek(0)
        reader = ChunkReader(file)
        chunks = iter(lambda: reader.read(skip=(DATA,)), None)
        self.clips = [IndexedClip(one.clip, one.section, one.blocks) for one in walk(chunks, _placed)]

    def __len__(self) -> int:
        return len(self.clips)

    def read(self, clip: int, start: int = 0, stop: int | None = None) -> CztClip:
        """Frames `start` to `stop` of a clip; only their blocks are read. The number of samples is that of the clip if
        it is whole, else not known.

        Raises:
            IndexError: no such clip.
            ValueError: frames that it lacks, or a start that is not a whole step of the codec's strides.
            CztError: a damaged block.
        """
        found = self.clips[clip]
        stop = found.frames if stop is None else stop
        step = math.lcm(*found.header.strides)
        if not 0 <= start <= stop <= found.frames or start % step:
            steps = f", in steps of {step}" if step > 1 else ""
            raise ValueError(f"clip {clip} has the frames 0 to {found.frames}{steps}; {start} to {stop} were asked for")
        blocks = [b for b in found.blocks if b.start < stop and b.start + b.frames > start]
        parts = []
        for block in blocks:
            self.file.seek(block.offset)
            part = ChunkReader(self.file, block.number).read()
            if part is None or part.kind != DATA:
                raise CztError(f"no codes at byte {block.offset}")
            parts.append(read_block(Fields(part.payload), found.header, found.section.model)[1])
        rows = []
        first = blocks[0].start if blocks else start
        for k, stride in enumerate(found.header.strides):
            row = np.concatenate([part[k] for part in parts]) if parts else np.zeros(0, np.int64)
            rows.append(row[(start - first) // stride :][: -(-(stop - start) // stride)])
        whole = start == 0 and stop == found.frames
        samples = found.clip.num_samples if whole else -1
        return replace(found.clip, rows=rows, frames=stop - start, num_samples=samples)


def _placed(section: Section, part: Chunk, fields: Fields, start: int) -> tuple[int, _Block]:
    frames = fields.varint()
    return frames, _Block(part.offset, part.number, start, frames)
