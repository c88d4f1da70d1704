"""How far convolutions see, and what they do without their padding: arithmetic on layers, without running them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TypeVar

from torch import nn

from codeczoo.nn.conv import Conv1d, ConvTranspose1d, Length

Layer = Conv1d | ConvTranspose1d
Network = TypeVar("Network", bound=nn.Module)


def convolutions_of(*modules: nn.Module) -> list[Layer]:
    """The convolutions of modules, in the order in which they name them, which must be the order they run in.

    Side paths (the input of a residual unit) see less than the convolutions that they lead around, and do not count.
    """
    return [layer for module in modules for layer in module.modules() if isinstance(layer, Conv1d | ConvTranspose1d)]


def receptive_span(layers: Sequence[Layer], first: int, last: int) -> tuple[int, int]:
    """The first and the last input step that the output steps `first` to `last` see; negative = before the signal."""
    for layer in reversed(layers):
        if isinstance(layer, ConvTranspose1d):  # input n lies in outputs n * stride - left + (0 ... kernel - 1)
            first = -((layer.kernel_size - 1 - first - layer.left) // layer.stride)
            last = (last + layer.left) // layer.stride
        else:
            first = first * layer.stride - layer.left
            last = last * layer.stride - layer.left + layer.span - 1
    return first, last


def out_length(layers: Sequence[Layer], length: Length) -> Length:
    """Output steps that `length` input steps give: int or tensor."""
    for layer in layers:
        length = layer.out_length(length)
    return length


def without_padding(network: Network) -> Network:
    """The network with all of its convolutions' padding and trimming taken off, sharing the parameters."""
    shared = {id(parameter): parameter for parameter in network.parameters()}
    bare = copy.deepcopy(network, shared)
    for layer in convolutions_of(bare):
        layer.left = layer.right = 0
    return bare
