"""Long signals tile by tile, so that activations stay in a processor's cache.

A CPU spends as long on allocating and fetching a 100 MB activation as on computing it. A chain of layers that sees only
a few steps to each side can run on one tile of time to its end before it starts the next, and computes the few steps at
the seams twice. Results are equal to those of the whole. On other devices, and in a compiled graph, the chain runs on
the whole signal at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import torch
from torch import Tensor, nn

from codeczoo.base.exporting import exporting
from codeczoo.base.strategy import tile_scale
from codeczoo.nn.bfloat16 import channels_lie_last
from codeczoo.nn.conv import ConvTranspose1d
from codeczoo.nn.inplace import overwritable
from codeczoo.nn.receptive_field import Layer, convolutions_of, out_length, receptive_span

TILE_VALUES = 1 << 19  # values of the largest activation in a tile, for each core: 2 MiB of float32
MAX_SEAM_SHARE = 1 / 16  # of a tile: the largest share that is computed twice


def run_tiled(chain: Sequence[nn.Module], x: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """[B, C, T] through modules one after the other → [B, C', T'] and the lengths there.

    A long item runs alone, up to its own length, with zeros behind it.

    Args:
        chain: modules of (x, lengths) → x', padded with zeros or with copies of the edge, the first of which does not
            write into x.
    """
    if x.device.type != "cpu" or torch.compiler.is_compiling() or exporting():
        return _run(chain, x, lengths)
    layers = convolutions_of(*chain)
    if not overwritable(x, *(layer.weight for layer in layers)):
        return _run(chain, x, lengths)  # gradients keep all of it in memory as it is
    total = out_length(layers, x.shape[-1])
    usual = _width(layers, total)
    if _tiles(total, usual) == 1:
        return _run(chain, x, lengths)
    up, down = _rates(layers)
    out: Tensor | None = None
    for i, length in enumerate([x.shape[-1]] * len(x) if lengths is None else lengths.tolist()):
        end = out_length(layers, length)
        width = max(ceil(end / _tiles(end, usual)), 1)
        for start in range(0, end, width):
            stop = min(start + width, end)
            first, last = receptive_span(layers, start, stop - 1)
            first = max(first, 0) // down * down
            tile, _ = _run(chain, x[i : i + 1, :, first : min(last + 1, length)], None)
            if out is None:
                out = _room(tile, len(x), total, lengths is None)
            skip = start - first * up // down
            out[i, :, start:stop] = tile[0, :, skip : skip + stop - start]
    assert out is not None
    return out, None if lengths is None else out_length(layers, lengths)


def _room(tile: Tensor, batch: int, total: int, full: bool) -> Tensor:
    """Room for tiles like this one, [batch, C, total]; zeros where they will not fill it."""
    make = tile.new_empty if full else tile.new_zeros
    if channels_lie_last(tile):
        return make(batch, total, tile.shape[1]).mT
    return make(batch, tile.shape[1], total)


def tile_values() -> int:
    """Values of the largest activation in a tile, for PyTorch's threads, and the caller's `Strategy.tiles`."""
    return int(tile_scale() * TILE_VALUES * torch.get_num_threads())


def _tiles(total: int, usual: int) -> int:
    """How many: none much smaller or larger than usual. (So a chain inside a tile of another is not split again.)"""
    return max(round(total / usual), 1)


def _run(chain: Sequence[nn.Module], x: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
    for module in chain:
        x = module(x, lengths)
        lengths = None if lengths is None else out_length(convolutions_of(module), lengths)
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
    first, last = receptive_span(layers, 0, total - 1)
    seam = (last + 1 - first) * up / down - total
    return max(int(tile_values() / largest), ceil(seam / MAX_SEAM_SHARE))
