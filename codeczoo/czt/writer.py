"""Writing a `.czt` file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import BinaryIO

import numpy as np

from codeczoo.czt.chunks import CLIP, DATA, END, END_OF_CLIP, HEADER, MODEL, chunk, varint
from codeczoo.czt.coding import MAX_MODEL_SIZE, Array, Model, can_have_model, packed_bytes
from codeczoo.czt.content import MAX_BLOCK_CODES, MAX_BLOCK_FRAMES, CztClip, CztHeader, block_bytes, clip_head

BLOCK_FRAMES = 1024


class CztWriter:
    """Writes a section: a header, clips, an end. Two files of sections, end to end, are one file.

        with CztWriter(file, header, model) as writer:
            writer.write(clip)

    Args:
        file: open for writing, in binary; it need not be able to seek.
        header: what all clips share.
        model: codes blocks with ANS where that makes them smaller (`Model.fit`); None = all are packed.
        block_frames: frames of a block: the least that a reader takes apart.
    """

    def __init__(
        self, file: BinaryIO, header: CztHeader, model: Model | None = None, block_frames: int = BLOCK_FRAMES
    ) -> None:
        if not 1 <= block_frames <= MAX_BLOCK_FRAMES:
            raise ValueError(f"block_frames is 1 to {MAX_BLOCK_FRAMES}; it is {block_frames}")
        if model is not None and model.sizes != header.codebook_sizes:
            raise ValueError(f"a model of codebooks {model.sizes} for codes of {header.codebook_sizes}")
        step = math.lcm(*header.strides)
        self.file, self.header, self.model = file, header, model
        block_frames = min(block_frames, MAX_BLOCK_CODES // len(header.codebook_sizes))
        self.block_frames = max(block_frames // step, 1) * step
        self.number = self.clips = 0
        self._put(HEADER, header.to_json())
        if model is not None:
            self._put(MODEL, model.to_bytes())

    def write(self, clip: CztClip) -> None:
        """One whole clip."""
        counts = self.header.counts(clip.frames)
        if [len(row) for row in clip.rows] != counts:
            raise ValueError(f"{clip.frames} frames have {counts} codes; there are {[len(row) for row in clip.rows]}")
        self.start(clip)
        self._data(clip.rows, clip.frames)

    def start(self, clip: CztClip) -> None:
        """Begin a clip whose codes come by `append`: `clip` without rows, and with -1 frames if their number is not
        known yet. Then `end` says how many samples they are."""
        self._put(CLIP, clip_head(clip))
        self.clips += 1
        self._frames = 0

    def append(self, rows: Sequence[Array], frames: int) -> None:
        """Further frames of the clip that `start` began. All parts but the last are whole steps of the strides."""
        step = math.lcm(*self.header.strides)
        if self._frames % step:
            raise ValueError(f"{self._frames} frames came before; only the last part may not be a multiple of {step}")
        self._data(rows, frames)

    def end(self, num_samples: int = -1) -> None:
        """End the clip that came by `append`."""
        self._put(END_OF_CLIP, varint(self._frames + 1) + varint(num_samples + 1))

    def close(self) -> None:
        """End the section. The file stays open."""
        self._put(END, varint(self.clips))

    def __enter__(self) -> CztWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()

    def _data(self, rows: Sequence[Array], frames: int) -> None:
        for row, size in zip(rows, self.header.codebook_sizes, strict=True):
            if len(row) and not 0 <= int(row.min()) <= int(row.max()) < size:
                raise ValueError(f"a codebook of {size} entries has no code {int(row.min())} or {int(row.max())}")
        for start in range(0, frames, self.block_frames):
            count = min(self.block_frames, frames - start)
            block = [
                row[start // stride : start // stride + n]
                for row, stride, n in zip(rows, self.header.strides, self.header.counts(count), strict=True)
            ]
            self._put(DATA, block_bytes(block, count, self.header, self.model))
        self._frames += frames

    def _put(self, kind: bytes, payload: bytes) -> None:
        self.file.write(chunk(kind, payload, self.number))
        self.number += 1


def write_czt(file: BinaryIO, header: CztHeader, clips: Sequence[CztClip], entropy: bool | None = None) -> None:
    """A whole section.

    Args:
        entropy: whether codes are entropy-coded with a model of these clips, which then is in the file. None: where
            `constriction` is installed and the file gets smaller with its model.
    """
    sizes = header.codebook_sizes
    can_be = bool(clips) and can_have_model(sizes)
    if entropy and not can_be:
        raise ValueError(
            f"codes of codebooks of {max(sizes)} entries are not entropy-coded; "
            f"{MAX_MODEL_SIZE} entries are the most, and a clip is the least"
        )
    model = None
    if can_be and entropy is not False:
        rows = [np.concatenate([clip.rows[k] for clip in clips]) for k in range(len(sizes))]
        model = Model.fit(rows, sizes)
        if entropy is None and not _pays(model, rows, sum(packed_bytes(header.counts(c.frames), sizes) for c in clips)):
            model = None
    with CztWriter(file, header, model) as writer:
        for clip in clips:
            writer.write(clip)


def _pays(model: Model, rows: Sequence[Array], packed: int) -> bool:
    """Whether the codes and their model take less than `packed` bytes, and the library that codes them is there."""
    if len(model.to_bytes()) + model.bits(rows) / 8 >= packed:
        return False
    try:
        model.encode([row[:0] for row in rows])
    except ImportError:
        return False
    return True
