"""Copies of a module's weights in another type or order, made when they are first needed and kept while they hold.

`torch.autocast` casts every weight again at each call, which for a codec's batch of one is a fifth of the time. A copy
holds while the module has the same weights: other tensors in their place (`.to()`, another checkpoint), or other
values written into them, make a new one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

from torch import Tensor, nn

T = TypeVar("T")


class _Copy(NamedTuple):
    sources: tuple[Tensor, ...]  # held, so that no other tensor can come to lie at their addresses
    versions: tuple[int, ...]
    value: Any


# Outside of the modules: a copy is no part of what is pickled, moved or saved.
_COPIES: WeakKeyDictionary[nn.Module, _Copy] = WeakKeyDictionary()


def copy_of(module: nn.Module, sources: Sequence[Tensor | None], make: Callable[[], T]) -> T:
    """What `make` gives, made again only when the `sources`, weights of `module`, have changed. One copy a module.

    Weights that were made in inference mode do not tell that they were written into: of these nothing is kept.
    """
    weights = tuple(source for source in sources if source is not None)
    if any(weight.is_inference() for weight in weights):
        return make()
    versions = tuple(weight._version for weight in weights)
    found = _COPIES.get(module)
    if found is not None and found.versions == versions and _same(found.sources, weights):
        return found.value
    value = make()
    _COPIES[module] = _Copy(tuple(weight.detach() for weight in weights), versions, value)
    return value


def drop_copies(root: nn.Module) -> None:
    """Free the copies of `root` and all modules in it."""
    for module in root.modules():
        _COPIES.pop(module, None)


def _same(kept: Sequence[Tensor], given: Sequence[Tensor]) -> bool:
    """Whether the tensors are the same memory, read in the same way."""
    return len(kept) == len(given) and all(
        a.data_ptr() == b.data_ptr() and a.dtype == b.dtype and a.shape == b.shape and a.stride() == b.stride()
        for a, b in zip(kept, given, strict=True)
    )
