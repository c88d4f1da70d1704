"""Bare integers in the forms in which people hold codes, as one dense tensor with lengths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from codeczoo.base.codes import Codes
from codeczoo.base.codes_join import PAD
from codeczoo.base.ragged import pad_stack

CodesLike: TypeAlias = Codes | Tensor | np.ndarray | Sequence[Any]
"""What `decode` takes: `Codes`, or bare integers as `BaseCodec.codes_from_tensor` takes them."""

FORM = "Codes, or integers [B, K, N]: a tensor, an array, lists of numbers or a list of clips [K, N]"


def dense_codes(
    given: Tensor | np.ndarray | Sequence[Any], strides: Sequence[int] = ()
) -> tuple[Tensor, Tensor | None]:
    """Integers in any form → [B, K, N], and their lengths [B] in frames where they are a list.

    Args:
        strides: of the codec's codebooks: where they differ, a list of tensors is one of levels [B, N_k].

    Raises:
        TypeError, ValueError: not integers, or of another shape.
    """
    if isinstance(given, Tensor | np.ndarray):
        codes = _integers(given)
        if codes.ndim != 3:
            one = "; of one clip: codes[None]" if codes.ndim == 2 else ""
            raise ValueError(f"codes must be [B, K, N]; their shape is {tuple(codes.shape)}{one}")
        return codes, None
    if not isinstance(given, list | tuple) or not given:
        what = f"{type(given).__name__}" if given or not isinstance(given, list | tuple) else "an empty list"
        raise TypeError(f"decode takes {FORM}; it was given {what}")
    if any(isinstance(item, Codes) for item in given):
        raise TypeError(
            f"decode takes {FORM}; it was given {type(given).__name__} of Codes: Codes.cat() makes a batch of them, "
            "Codes.concat() joins them in time"
        )
    items = [_integers(item) if isinstance(item, Tensor | np.ndarray) else _of_numbers(item) for item in given]
    axes = {item.ndim for item in items}
    if axes != {2}:
        raise ValueError(f"a list of codes holds clips [K, N]; its items have {sorted(axes)} axes")
    if max(strides, default=1) > 1:  # a list of clips, or of levels of different lengths
        if len({item.shape[-1] for item in items}) > 1:
            return _of_levels(items, strides)
        if len(items) == 1 and isinstance(given[0], Tensor | np.ndarray):
            raise ValueError(
                "a list of one tensor may be a clip or the slowest level of a multi-scale codec: pass a clip as "
                "[1, K, N], codes[None], and a level as Codes of the codec, .first(1)"
            )
    if len(counts := {len(item) for item in items}) > 1:
        raise ValueError(f"the clips of a list of codes [K, N] differ in their codebooks: {sorted(counts)}")
    return pad_stack(items, PAD)


def _integers(given: Tensor | np.ndarray) -> Tensor:
    if isinstance(given, np.ndarray):
        if given.dtype.kind not in "iu":
            raise TypeError(f"codes must be integers; their type is {given.dtype}")
        # (unsigned types that PyTorch hardly knows, another byte order, read-only memory)
        given = torch.from_numpy(given.astype(np.int64))
    if given.is_floating_point() or given.is_complex() or given.dtype == torch.bool:
        raise TypeError(f"codes must be integers; their type is {given.dtype}")
    return given.long()


def _of_numbers(given: Any) -> Tensor:
    """Lists of numbers as a tensor."""
    try:
        array = np.asarray(given)
    except ValueError:
        array = np.asarray(None)
    if array.dtype.kind not in "iu":
        kind = f"lists of unequal lengths, or {type(given).__name__}" if array.dtype == object else f"{array.dtype}"
        raise TypeError(f"decode takes {FORM}; an item of the list is {kind}")
    return torch.from_numpy(array.astype(np.int64))


def _of_levels(levels: Sequence[Tensor], strides: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Levels [B, N_k], one of each codebook → [B, K, N] with PAD behind, all items full."""
    if len(levels) > len(strides):
        raise ValueError(f"the codec has {len(strides)} codebooks; {len(levels)} levels were given")
    strides = strides[: len(levels)]
    frames = levels[-1].shape[-1] * strides[-1]
    shapes = [tuple(level.shape) for level in levels]
    wanted = [(len(levels[0]), -(-frames // stride)) for stride in strides]
    if shapes != wanted:
        raise ValueError(
            f"levels [B, N_k] of codebooks of one code for {tuple(strides)} frames must be {wanted}; they are {shapes}"
        )
    codes = levels[0].new_full((len(levels[0]), len(levels), frames), PAD)
    for k, level in enumerate(levels):
        codes[:, k, : level.shape[-1]] = level
    return codes, torch.full((len(codes),), frames, device=codes.device)
