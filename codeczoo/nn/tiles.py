"""Long signals tile by tile, so that what passes from layer to layer stays in a processor's cache.

A CPU spends as long on fetching a 100 MB activation (and on being given fresh memory for it) as on computing it. A
stack of layers that sees only a few steps to each side can instead run to its end on one stretch of time before it
turns to the next, at the price of computing the few steps at the seams twice. Nothing else changes: the tiles are the
whole's own values. On other devices the block runs on all at once.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

TILE = 1 << 18  # values of one activation for each core: 1 MiB of float32

Block = Callable[[Tensor, Tensor | None], Tensor]


def in_tiles(block: Block, x: Tensor, lengths: Tensor | None, reach: int, lost: int = 0) -> Tensor:
    """`block(x, lengths)`, [B, C, T] → [B, C, T - 2 * lost], of a block that does not write into x.

    Each item runs by itself and no further than its own length; zeros stand behind it.

    Args:
        reach: steps that an output sees to each side of its own.
        lost: steps that are missing at each end of the output (a block without padding loses all of its reach).
    """
    width = max(TILE * torch.get_num_threads() // x.shape[1], 16 * reach)  # the seams take a small part
    total = x.shape[-1] - 2 * lost
    if x.device.type != "cpu" or total <= width:
        return block(x, lengths)
    out = x.new_zeros(*x.shape[:-1], total) if lengths is not None else x.new_empty(*x.shape[:-1], total)
    ends = [x.shape[-1]] * len(x) if lengths is None else lengths.tolist()
    for i, end in enumerate(ends):
        for start in range(0, end - 2 * lost, width):
            stop = min(start + width, end - 2 * lost)
            first, last = max(start + lost - reach, 0), min(stop + lost + reach, end)
            tile = block(x[i : i + 1, :, first:last], None)
            out[i, :, start:stop] = tile[0, :, start - first : stop - first]
    return out
