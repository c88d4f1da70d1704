"""What a `.czt` file holds: the facts that the clips of a section share, a clip, and a block of its codes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from codeczoo.czt.chunks import CztError, Fields, put_text, varint
from codeczoo.czt.coding import ANS, PACKED, Array, Model, pack, packed_bytes, unpack

MAX_BLOCK_FRAMES = 1 << 20
MAX_BLOCK_CODES = 1 << 22  # of all codebooks; entropy-coded, they may be a byte, which says nothing of their number
MAX_CODEBOOK_BITS = 62
SIDE_TYPES = ("float32", "float64", "float16", "int64", "int32", "int16", "int8", "uint8", "bool")


@dataclass(frozen=True)
class CztHeader:
    """What all clips of a section share: the fields of `Codes` of these names."""

    codec: str
    sample_rate: int
    codebook_sizes: tuple[int, ...]
    frame_rate: float | None = None
    strides: tuple[int, ...] = ()
    weights: str | None = None
    side_sizes: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        sizes, strides = self.codebook_sizes, self.strides or (1,) * len(self.codebook_sizes)
        if not sizes or len(strides) != len(sizes) or min(*sizes, *strides) < 1:
            raise CztError(f"codebooks of {sizes} entries with the strides {strides}")
        block = math.lcm(*strides)
        if max(sizes).bit_length() > MAX_CODEBOOK_BITS or block * len(sizes) > MAX_BLOCK_FRAMES:
            raise CztError(
                f"{len(sizes)} codebooks of up to {max(sizes)} entries with the strides {strides} do not fit"
            )
        object.__setattr__(self, "strides", tuple(strides))

    def to_json(self) -> bytes:
        """As the payload of a header's chunk."""
        facts = {name: value for name, value in vars(self).items() if value not in (None, {})}
        return json.dumps(facts, sort_keys=True, ensure_ascii=False).encode()

    @classmethod
    def from_json(cls, text: bytes) -> CztHeader:
        """From the payload of a header's chunk. A CztError says what is wrong with it."""
        try:
            facts: dict[str, Any] = json.loads(text)
            facts["codebook_sizes"] = tuple(int(size) for size in facts["codebook_sizes"])
            facts["strides"] = tuple(int(stride) for stride in facts["strides"])
            return cls(**facts)
        except (ValueError, TypeError, LookupError, RecursionError) as error:
            raise CztError(f"a header that says nothing of codes ({error})") from error

    def counts(self, frames: int) -> list[int]:
        """Codes of each codebook in `frames` frames."""
        return [-(-frames // stride) for stride in self.strides]


@dataclass(frozen=True)
class CztClip:
    """One clip: `rows` are int64 [n_k] of each codebook."""

    rows: Sequence[Array]
    frames: int
    num_samples: int = -1  # -1: not known
    id: str = ""
    category: str | None = None
    side_info: Mapping[str, Array] = field(default_factory=dict)


def clip_head(clip: CztClip) -> bytes:
    """The payload of the chunk that begins a clip: all but its codes."""
    out = [put_text(clip.id), varint(clip.category is not None)]
    out += [put_text(clip.category)] if clip.category is not None else []
    out += [varint(clip.frames + 1), varint(clip.num_samples + 1), varint(len(clip.side_info))]
    for name, value in clip.side_info.items():
        value = np.asarray(value)
        if value.dtype.name not in SIDE_TYPES:
            raise TypeError(f"side value {name!r} is of type {value.dtype}; it may be one of {SIDE_TYPES}")
        out += [put_text(name), varint(SIDE_TYPES.index(value.dtype.name)), varint(value.ndim)]
        out += [*map(varint, value.shape), np.ascontiguousarray(value, value.dtype.newbyteorder("<")).tobytes()]
    return b"".join(out)


def read_clip_head(fields: Fields) -> CztClip:
    """The clip that a chunk of type CLIP begins."""
    try:
        id = fields.text()
        category = fields.text() if fields.varint() else None
        frames, samples = fields.varint() - 1, fields.varint() - 1
        side = {}
        for _ in range(fields.varint()):
            name, kind = fields.text(), np.dtype(SIDE_TYPES[fields.varint()])
            shape = tuple(fields.varint() for _ in range(fields.varint()))
            data = fields.take(math.prod(shape) * kind.itemsize)
            side[name] = np.frombuffer(data, kind.newbyteorder("<")).astype(kind).reshape(shape)
        fields.end()
    except CztError:
        raise
    except (ValueError, IndexError, OverflowError) as error:
        raise CztError(f"the head of a clip is damaged ({error})") from error
    return CztClip((), frames, samples, id, category, side)


def block_bytes(rows: Sequence[Array], frames: int, header: CztHeader, model: Model | None) -> bytes:
    """The payload of a chunk of `frames` frames: entropy-coded where there is a model and it makes them smaller."""
    sizes = header.codebook_sizes
    if model is not None and len(coded := model.encode(rows)) < packed_bytes(header.counts(frames), sizes):
        return varint(frames) + varint(ANS) + coded
    return varint(frames) + varint(PACKED) + pack(rows, sizes)


def read_block(fields: Fields, header: CztHeader, model: Model | None) -> tuple[int, list[Array]]:
    """Number of frames and the codes of a chunk of type DATA."""
    frames, kind = fields.varint(), fields.varint()
    if not 1 <= frames <= MAX_BLOCK_FRAMES:
        raise CztError(f"a block of {frames} frames; 1 to {MAX_BLOCK_FRAMES} can be")
    counts = header.counts(frames)
    if sum(counts) > MAX_BLOCK_CODES:
        raise CztError(f"a block of {sum(counts)} codes; {MAX_BLOCK_CODES} are the most")
    if kind == PACKED:
        return frames, unpack(fields.rest(), counts, header.codebook_sizes)
    if kind != ANS:
        raise CztError(f"a block coded in the way {kind}, which is not known: 0 and 1 are")
    if model is None:
        raise CztError("an entropy-coded block in a section without a model")
    return frames, model.decode(fields.rest(), counts)
