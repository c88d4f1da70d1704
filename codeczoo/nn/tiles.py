"""Long signals tile by tile, so that what passes from layer to layer stays in a processor's cache.

A CPU spends as long on fetching a 100 MB activation, and on being given fresh memory for it, as on computing it. A
chain of layers that sees only a few steps to each side can instead run to its end on one stretch of time before it
turns to the next, at the price of computing the few steps at the seams twice. Nothing else changes: the tiles are the
whole's own values. On other devices, and in a compiled graph, the chain runs on all at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import torch
from torch import Tensor, nn

from codeczoo.nn.conv import ConvTranspose1d
from codeczoo.nn.receptive import Layer, layers_of, out_length, seen

TILE = 1 << 19  # values of the largest activation in a tile, for each core: 2 MiB of float32
SEAM = 1 / 16  # at most this part of a tile is computed twice


def in_tiles(chain: Sequence[nn.Module], x: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """[B, C, T] through modules one after the other → [B, C', T'] and the lengths there.

    A long item runs by itself and no further than its own length; zeros stand behind it.

    Args:
        chain: modules of (x, lengths) → x', padded with zeros or with copies of the edge, the first of which does not
            write into x.
    """
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return _run(chain, x, lengths)
    layers = layers_of(*chain)
    total = out_length(layers, x.shape[-1])
    usual = _width(layers, total)
    if _tiles(total, usual) == 1:
        return _run(chain, x, lengths)
    up, down = _rates(layers)
    make = x.new_empty if lengths is None else x.new_zeros
    out = make(len(x), _channels(layers[-1]), total)
    for i, length in enumerate([x.shape[-1]] * len(x) if lengths is None else lengths.tolist()):
        end = out_length(layers, length)
        width = max(ceil(end / _tiles(end, usual)), 1)
        for start in range(0, end, width):
            stop = min(start + width, end)
            first, last = seen(layers, start, stop - 1)
            first = max(first, 0) // down * down
            tile, _ = _run(chain, x[i : i + 1, :, first : min(last + 1, length)], None)
            skip = start - first * up // down
            out[i, :, start:stop] = tile[0, :, skip : skip + stop - start]
    return out, None if lengths is None else out_length(layers, lengths)


def _tiles(total: int, usual: int) -> int:
    """How many: none much smaller or larger than usual. (So a chain inside a tile of another is not split again.)"""
    return max(round(total / usual), 1)


def _run(chain: Sequence[nn.Module], x: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
    for module in chain:
        x = module(x, lengths)
        lengths = None if lengths is None else out_length(layers_of(module), lengths)
    return x, lengths


def _rates(layers: Sequence[Layer]) -> tuple[int, int]:
    """Output steps for input steps, from the strides: up and down."""
    up = down = 1
    for layer in layers:
        up *= layer.stride if isinstance(layer, ConvTranspose1d) else 1
        down *= 1 if isinstance(layer, ConvTranspose1d) else layer.stride
    return up, down


def _channels(layer: Layer) -> int:
    """That it gives."""
    return layer.weight.shape[1] * layer.groups if isinstance(layer, ConvTranspose1d) else layer.weight.shape[0]


def _width(layers: Sequence[Layer], total: int) -> int:
    """Output steps of a tile, of `total`."""
    up, down = _rates(layers)
    largest, rate = 1.0, down / up  # rate: steps for one output step
    for layer in layers:
        rate = rate * layer.stride if isinstance(layer, ConvTranspose1d) else rate / layer.stride
        largest = max(largest, _channels(layer) * rate)
    first, last = seen(layers, 0, total - 1)
    seam = (last + 1 - first) * up / down - total
    return max(int(TILE * torch.get_num_threads() / largest), ceil(seam / SEAM))
