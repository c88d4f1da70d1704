"""`Codes` into `.czt` files and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import BinaryIO

import numpy as np
import torch

from codeczoo.base.codes import PAD, Codes
from codeczoo.czt import CztClip, CztHeader, read_czt, write_czt


def header_of(codes: Codes) -> CztHeader:
    """What all clips of `codes` share."""
    return CztHeader(
        codec=codes.codec,
        sample_rate=codes.sample_rate,
        codebook_sizes=codes.codebook_sizes,
        frame_rate=codes.frame_rate,
        strides=codes.strides,
        weights=codes.weights,
        side_sizes=codes.side_sizes,
    )


def clips_of(codes: Codes, ids: Sequence[str] | None = None, category: str | None = None) -> list[CztClip]:
    """The clips of a batch, as a `.czt` file holds them."""
    codes = codes.cpu()
    values, counts = codes.codes.numpy(), codes.counts.tolist()
    return [
        CztClip(
            rows=[values[b, k, :n] for k, n in enumerate(counts[b])],
            frames=int(codes.lengths[b]),
            num_samples=int(codes.num_samples[b]),
            id=ids[b] if ids else "",
            category=category,
            side_info={name: value[b].numpy() for name, value in codes.side_info.items()},
        )
        for b in range(len(codes))
    ]


def codes_of(header: CztHeader, clip: CztClip) -> Codes:
    """One clip of a `.czt` file, or a stretch of it, as a batch of one."""
    values = np.full((1, len(header.codebook_sizes), clip.frames), PAD, np.int64)
    for k, row in enumerate(clip.rows):
        values[0, k, : len(row)] = row
    return Codes(
        codes=torch.from_numpy(values),
        lengths=torch.tensor([clip.frames]),
        num_samples=torch.tensor([clip.num_samples]),
        sample_rate=header.sample_rate,
        codec=header.codec,
        codebook_sizes=header.codebook_sizes,
        frame_rate=header.frame_rate,
        strides=header.strides,
        side_info={name: torch.from_numpy(np.array(value)[None]) for name, value in clip.side_info.items()},
        side_sizes=header.side_sizes,
        weights=header.weights,
    )


def write_codes(file: BinaryIO, codes: Codes, entropy: bool | None = None) -> None:
    """A batch as a section of a `.czt` file; see `write_czt`."""
    write_czt(file, header_of(codes), clips_of(codes), entropy)


def read_codes(file: BinaryIO) -> Codes:
    """All clips of a `.czt` file as one batch.

    Raises:
        CztError (a ValueError): a damaged file.
        ValueError: a file of no clips, or of several codecs.
    """
    return Codes.cat([codes_of(header, clip) for header, clip in _some(read_czt(file))])


def _some(clips: Iterable[tuple[CztHeader, CztClip]]) -> list[tuple[CztHeader, CztClip]]:
    found = list(clips)
    if not found:
        raise ValueError("it holds no clips")
    return found
