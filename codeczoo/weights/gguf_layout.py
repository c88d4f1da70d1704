"""`GGUFLayout`: how codec.cpp lays out a family in a GGUF file, in both directions.

codec.cpp (mybigday/codec.cpp, an engine on ggml) has no specification: a family's layout says what its converter writes
and what its loader asks for (docs/formats.md).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from codeczoo.base.key_map import RenamedKeyMap, compare_settings

if TYPE_CHECKING:
    from codeczoo.base.model import Model

log = logging.getLogger(__name__)

QUANTISED_BLOCK = 32  # values of Q8_0: the rows of a quantised tensor are whole blocks

# How most families' names end there; the last of a family's renames.
SHORT_ENDS = ((r"\.weight$", ".w"), (r"\.bias$", ".b"))

Tensors = Mapping[str, Tensor]


def _nothing(*_: Any) -> dict[str, Tensor]:
    return {}


@dataclass(frozen=True)
class GGUFLayout:
    """One architecture of codec.cpp.

    Attributes:
        architecture: what its files say in `general.architecture`.
        key_map: from our parameters to the file's tensors and back.
        settings: the metadata of a model, in the converter's order.
        unchecked: regular expressions of keys that its converter fills with constants, whatever the network.
        arranged: brings a file's tensors into the one form that `key_map` reads, where there are several.
        notices: what its converter threw away or changed in these tensors, a sentence each.
        more: tensors that its loader asks for and that our parameters do not hold, of a model and what is written.
        refusal: why a model's files would not run there; None if they do.
        limit: which part of a model would not run there; None if all do.
        quantised: a regular expression of the tensors that Q8_0 concerns, and `kept` of those that it does not.
        float32: of the tensors that stay F32 in a file of F16.
        named: whether its converter writes `general.name`.
    """

    architecture: str
    key_map: RenamedKeyMap
    settings: Callable[[Any], Mapping[str, Any]]
    unchecked: tuple[str, ...] = ()
    arranged: Callable[[Tensors], Tensors] = dict
    notices: Callable[[Tensors, Mapping[str, Any], Any], list[str]] = lambda tensors, metadata, model: []
    more: Callable[[Any, Tensors], Mapping[str, Tensor]] = _nothing
    refusal: Callable[[Any], str | None] = lambda model: None
    limit: Callable[[Any], str | None] = lambda model: None
    quantised: str = r".+\.w"
    kept: str = r"$."
    float32: str = r"$."
    named: bool = True


def layout_of(model: Model) -> GGUFLayout | None:
    """The layout of a model's own class: a network that was made from another one is not that one to codec.cpp."""
    return vars(type(model)).get("gguf")


def from_gguf(
    model: Model, tensors: Tensors, metadata: Mapping[str, Any], source: str
) -> tuple[Tensors, RenamedKeyMap]:
    """The tensors of a GGUF file, and the key map that reads them. What its converter changed is told.

    Raises:
        ValueError: a file of another architecture or network, or a model of which codec.cpp knows nothing.
    """
    layout = layout_of(model)
    there = metadata.get("general.architecture")
    if layout is None:
        raise ValueError(f"it is a GGUF file ({there}), and {model.name} has no layout in GGUF")
    if there != layout.architecture:
        raise ValueError(f"it is a GGUF file of {there!r}; {model.name} would be of {layout.architecture!r}")
    checked = {key: value for key, value in metadata.items() if not _matches(layout.unchecked, key)}
    compare_settings(checked, _settings(model, layout))
    types = ", ".join(f"{count} {name}" for name, count in sorted(metadata["types"].items()))
    notes = list(layout.notices(tensors, metadata, model))
    if set(metadata["types"]) - {"F32", "F64"}:
        notes.insert(0, "weights are rounded to these types: codes near a tie may differ from the published weights'")
    (log.warning if notes else log.info)("%s: %s: tensors of %s%s", model.name, source, types, _told(notes))
    return layout.arranged(tensors), layout.key_map


def to_gguf(model: Model, kind: str) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, str]]:
    """Metadata, tensors and the type of each, of a model in codec.cpp's layout; `kind` of `gguf.TYPES`.

    Raises:
        ValueError: codec.cpp knows nothing of this model, or cannot run it.
    """
    layout = layout_of(model)
    if layout is None:
        raise ValueError(f"{model.name} has no layout in GGUF: codec.cpp does not know its family")
    if reason := layout.refusal(model):
        raise ValueError(f"{model.name} cannot be written as GGUF: {reason}")
    if limit := layout.limit(model):
        log.warning("%s: %s", model.name, limit)
    tensors: dict[str, Tensor] = {}
    for ours, value in model.state_dict().items():
        tensors |= layout.key_map.published(ours, value)
    tensors |= layout.more(model, tensors)
    types = {name: _type_of(layout, name, tensor, kind) for name, tensor in tensors.items()}
    return dict(_settings(model, layout)), tensors, types


def _settings(model: Model, layout: GGUFLayout) -> dict[str, Any]:
    named = {"general.name": model.variant.root or model.name} if layout.named else {}
    own = {key: float(np.float32(v)) if isinstance(v, float) else v for key, v in layout.settings(model).items()}
    return {"general.architecture": layout.architecture, **named, **own}


def _type_of(layout: GGUFLayout, name: str, tensor: Tensor, kind: str) -> str:
    if kind == "F32" or re.fullmatch(layout.float32, name):
        return "F32"
    if kind == "F16" or tensor.ndim < 2 or tensor.shape[-1] % QUANTISED_BLOCK:
        return "F16"
    return kind if re.fullmatch(layout.quantised, name) and not re.search(layout.kept, name) else "F16"


def _matches(patterns: tuple[str, ...], key: str) -> bool:
    return key == "general.name" or any(re.fullmatch(pattern, key) for pattern in patterns)


def _told(notes: list[str]) -> str:
    return f"; {'; '.join(notes)}" if notes else ""
