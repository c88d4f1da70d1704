"""The one walk over a `.czt` file: its clips in order, each as the blocks of which it consists.

`read_czt` decodes the blocks on the way, `CztIndex` notes where they are. What a file may not be is told here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from codeczoo.czt.chunks import CLIP, DATA, END, END_OF_CLIP, HEADER, MODEL, Chunk, CztError, Fields
from codeczoo.czt.coding import Model
from codeczoo.czt.content import CztClip, CztHeader, read_clip_head

Block = TypeVar("Block")


@dataclass
class Section:
    """What the clips of a section share."""

    header: CztHeader
    model: Model | None = None


@dataclass
class WalkedClip(Generic[Block]):
    """A clip of a file.

    Attributes:
        clip: all but its codes (`clip.rows` is empty).
        blocks: what was made of each of its blocks; frames: of the blocks so far.
    """

    section: Section
    clip: CztClip
    blocks: list[Block] = field(default_factory=list)
    frames: int = 0


# A block's chunk and fields, and the frames of its clip before it → the frames of the block, and what is made of it.
TakeBlock = Callable[[Section, Chunk, Fields, int], tuple[int, Block]]


def walk(chunks: Iterable[Chunk], take_block: TakeBlock[Block]) -> Iterator[WalkedClip[Block]]:
    """The clips of all sections.

    Raises:
        CztError: a damaged file, or one that is cut short; the clips before the damage have been given.
    """
    source, empty = iter(chunks), True
    for first in source:
        if first.kind != HEADER:
            raise CztError(f"no header at byte {first.offset}")
        empty = False
        yield from _walk_section(Section(CztHeader.from_json(first.payload)), source, take_block)
    if empty:
        raise CztError("an empty file")


def _walk_section(
    section: Section, source: Iterator[Chunk], take_block: TakeBlock[Block]
) -> Iterator[WalkedClip[Block]]:
    """The clips of one section, up to its end."""
    opened: WalkedClip[Block] | None = None
    count, step = 0, math.lcm(*section.header.strides)
    for part in source:
        fields = Fields(part.payload)
        if opened is not None and part.kind not in (DATA, END_OF_CLIP):
            raise CztError(f"clip {count} ends after {opened.frames} of {opened.clip.frames} frames")
        if part.kind == MODEL and not count and section.model is None:
            section.model = Model.from_bytes(part.payload, section.header.codebook_sizes)
        elif part.kind == CLIP:
            opened = WalkedClip(section, read_clip_head(fields))
            count += 1
        elif part.kind == DATA and opened is not None:
            if opened.frames % step:
                raise CztError(f"clip {count} has frames behind its last block")
            frames, block = take_block(section, part, fields, opened.frames)
            opened.blocks.append(block)
            opened.frames += frames
        elif part.kind == END_OF_CLIP and opened is not None and opened.clip.frames < 0:
            frames, samples = fields.varint() - 1, fields.varint() - 1
            fields.end()
            opened.clip = replace(opened.clip, frames=frames, num_samples=samples)
            if frames != opened.frames:
                raise CztError(f"clip {count} has {opened.frames} of {frames} frames")
        elif part.kind == END:
            if fields.varint() != count:
                raise CztError(f"a section of another number of clips than {count}")
            fields.end()
            return
        else:
            raise CztError(f"a chunk of type {part.kind!r} is out of place at byte {part.offset}")
        if opened is not None and 0 <= opened.clip.frames <= opened.frames:
            if opened.frames > opened.clip.frames:
                raise CztError(f"clip {count} has {opened.frames} frames and announces {opened.clip.frames}")
            yield opened
            opened = None
    raise CztError(f"cut short: the end of the section is missing behind {count} clips")
