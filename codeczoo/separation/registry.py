"""`load_separator`: a name in, a separator with its weights out."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

import torch
from torch import Tensor

from codeczoo.base.catalogue import matching, no_such_name, read_configs
from codeczoo.base.variant import Variant
from codeczoo.separation.separator import Separator
from codeczoo.weights.load import load_model

__all__ = ["find_separator", "list_separators", "load_separator"]


def load_separator(
    name: str,
    weights: str | Path | Mapping[str, Tensor] | None = None,
    *,
    weights_entry: str | None = None,
    device: str | torch.device | None = None,
    precision: str = "exact",
    dtype: torch.dtype | str = torch.float32,
    max_batch_seconds: float | None = None,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    seed: int = 0,
) -> Separator:
    """A separator, ready to use.

    Args:
        name: of a variant ("htdemucs"), an alias of it or its hub repository id; see `list_separators()`.
        weights, weights_entry, device, precision, dtype, revision, cache_dir, local_files_only, seed: as of
            `load_codec`.
        max_batch_seconds: how much audio goes through the network at once, one segment at least; None = one segment, on
            CUDA 64 s. Bounds memory, and changes nothing else.

    Raises:
        KeyError: no such separator (the message says which come near).
        ValueError: a device that is not there, weights that do not fit.
        FileNotFoundError: weights that cannot be found or had.
    """
    separator = load_model(
        find_separator(name),
        weights,
        weights_entry=weights_entry,
        device=device,
        precision=precision,
        dtype=dtype,
        revision=revision,
        cache_dir=cache_dir,
        local_files_only=local_files_only,
        seed=seed,
    )
    assert isinstance(separator, Separator)
    separator.max_batch_seconds = max_batch_seconds
    return separator


def list_separators(pattern: str = "*") -> list[str]:
    """The names of all separators that match a glob pattern ("htdemucs*"), in alphabetical order.

    Raises:
        TypeError: a pattern that is no string.
    """
    return matching(separators().values(), pattern, "htdemucs*")


def find_separator(name: str) -> Variant:
    """The variant of a name, alias or hub repository id; upper and lower case are the same.

    Raises:
        KeyError: no such name; the message offers those that come near.
    """
    if not isinstance(name, str):
        raise TypeError(f"a separator's name is a string; this is {name!r}")
    names = {other.lower(): one for one in separators().values() for other in (one.name, *one.aliases)}
    if name.lower() in names:
        return names[name.lower()]
    raise no_such_name("separator", name, names, f": there are {', '.join(separators())}")


@functools.cache
def separators() -> Mapping[str, Variant]:
    """Every variant by its name. The files in `configs/` have the form of the codecs' (docs/codec_toml.md)."""
    folder = files("codeczoo.separation") / "configs"
    found = read_configs(folder, "separation/configs", "codeczoo.separation")
    return {variant.name: variant for variant in found}
