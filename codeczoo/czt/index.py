"""Random access in a `.czt` file: where its clips and their blocks lie, found without reading the codes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import BinaryIO, NamedTuple

import numpy as np

from codeczoo.czt.chunks import CLIP, DATA, END, END_OF_CLIP, HEADER, MODEL, ChunkReader, CztError, Fields
from codeczoo.czt.coding import Model
from codeczoo.czt.content import CztClip, CztHeader, read_block, read_clip_head


class _Block(NamedTuple):
    offset: int  # of its chunk in the file
    number: int  # of its chunk in the section
    start: int  # in frames
    frames: int


@dataclass
class _Section:
    header: CztHeader
    model: Model | None = None


@dataclass
class IndexedClip:
    """A clip of a file: all but its codes (`clip.rows` is empty)."""

    clip: CztClip
    section: _Section = field(repr=False)
    blocks: list[_Block] = field(default_factory=list, repr=False)

    @property
    def header(self) -> CztHeader:
        """The header of its section."""
        return self.section.header

    @property
    def frames(self) -> int:
        """How many frames its blocks hold."""
        return self.blocks[-1].start + self.blocks[-1].frames if self.blocks else 0


class CztIndex:
    """The clips of an open file that can seek: `index.clips`, and the codes of a stretch by `index.read`.

    Check sums are compared when codes are read. What lies behind a damaged head is not found: that is an error here.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.clips: list[IndexedClip] = []
        reader, section, ended = ChunkReader(file), None, True
        file.seek(0)
        while (part := reader.read(skip=(DATA,))) is not None:
            fields = Fields(part.payload)
            if part.kind == HEADER:
                if not ended:
                    raise CztError(f"a header at byte {part.offset}, before the end of the section")
                section, ended = _Section(CztHeader.from_json(part.payload)), False
            elif section is None:
                raise CztError(f"no header at byte {part.offset}")
            elif part.kind == MODEL:
                section.model = Model.from_bytes(part.payload, section.header.codebook_sizes)
            elif part.kind == CLIP:
                self.clips.append(IndexedClip(read_clip_head(fields), section))
            elif part.kind == DATA and self.clips:
                clip = self.clips[-1]
                clip.blocks.append(_Block(part.offset, part.number, clip.frames, fields.varint()))
            elif part.kind == END_OF_CLIP and self.clips:
                frames, samples = fields.varint() - 1, fields.varint() - 1
                last = self.clips[-1]
                last.clip = replace(last.clip, frames=frames, num_samples=samples)
            elif part.kind == END:
                ended = True
        if not ended or section is None:
            raise CztError("cut short: the end of the section is missing" if section else "an empty file")
        for i, clip in enumerate(self.clips):
            if clip.frames != clip.clip.frames:
                raise CztError(f"clip {i} has {clip.frames} of {clip.clip.frames} frames")

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
