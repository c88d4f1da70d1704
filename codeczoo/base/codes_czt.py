"""Codes into `.czt` files and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import torch

from codeczoo.base.codes_join import PAD, narrowest
from codeczoo.base.ragged import cat_ragged
from codeczoo.czt import CztClip, CztHeader, CztIndex, read_czt, write_czt

if TYPE_CHECKING:
    from codeczoo.base.codes import Codes


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
    sizes = codes.side_sizes
    side = {
        name: (value.to(narrowest([sizes[name]])) if name in sizes else value).numpy()
        for name, value in codes.side_info.items()
    }
    return [
        CztClip(
            rows=[values[b, k, :n] for k, n in enumerate(counts[b])],
            frames=int(codes.lengths[b]),
            num_samples=int(codes.num_samples[b]),
            id=ids[b] if ids else "",
            category=category,
            side_info={name: value[b] for name, value in side.items()},
        )
        for b in range(len(codes))
    ]


def fields_of(header: CztHeader, clips: Sequence[CztClip]) -> dict[str, Any]:
    """The fields of `Codes` that hold these clips (or stretches of clips) as one batch.

    Raises:
        ValueError: clips with side values of different names.
    """
    names = list(clips[0].side_info)
    if any(list(clip.side_info) != names for clip in clips):
        raise ValueError("its clips have side values of different names")
    values = np.full((len(clips), len(header.codebook_sizes), max(clip.frames for clip in clips)), PAD, np.int64)
    for row, clip in zip(values, clips, strict=True):
        for k, codes in enumerate(clip.rows):
            row[k, : len(codes)] = codes
    side = {name: [torch.from_numpy(np.array(clip.side_info[name])[None]) for clip in clips] for name in names}
    return {
        "codes": torch.from_numpy(values),
        "lengths": torch.tensor([clip.frames for clip in clips]),
        "num_samples": torch.tensor([clip.num_samples for clip in clips]),
        "side_info": {name: cat_ragged(parts) for name, parts in side.items()},
        **vars(header),
    }


def write_czt_file(codes: Codes, file: BinaryIO) -> None:
    """A batch as a section of a `.czt` file: entropy-coded where that is smaller and `constriction` is installed."""
    write_czt(file, header_of(codes), clips_of(codes))


def read_czt_file(file: BinaryIO) -> dict[str, Any]:
    """All clips of a `.czt` file as the fields of one `Codes`.

    Raises:
        CztError (a ValueError): a damaged file.
        ValueError: a file of no clips, or of codes that are not of one codec, weights and rate.
    """
    found = list(read_czt(file))
    headers = {repr(header): header for header, _ in found}
    if len(headers) > 1:
        raise ValueError(
            f"it holds codes of several kinds ({', '.join(headers)}): codeczoo.czt.read_czt gives each clip"
        )
    if not found:
        raise ValueError("it holds no clips")
    return fields_of(found[0][0], [clip for _, clip in found])


def read_czt_head(file: BinaryIO) -> tuple[CztHeader, int, int, int]:
    """The header of a `.czt` file, its number of clips, and the most samples and frames of one.

    Raises:
        CztError (a ValueError): a damaged file.
        ValueError: a file of no clips.
    """
    index = CztIndex(file)
    if not index.clips:
        raise ValueError("it holds no clips")
    samples = max(clip.clip.num_samples for clip in index.clips)
    return index.clips[0].header, len(index), samples, max(clip.frames for clip in index.clips)
