"""What an adapter is given and gives, and what several of them need."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from codeczoo import BaseCodec, Codes

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Published:
    """A published codec. `decode` is None where it only encodes."""

    encode: Callable[[Tensor], Any]  # [B, C, T] → codes in its own form
    to_ours: Callable[[Any], Tensor]  # its codes → [B, K, N]
    decode: Callable[[Any], Tensor] | None = None  # its codes → [B, C, T'] or [B, T']
    from_ours: Callable[[Codes], Any] = lambda codes: codes.codes


@dataclass(frozen=True)
class Given:
    """What a published codec is built from."""

    state: State  # the tensors, named as in the manifest
    codec: BaseCodec  # ours, with the same tensors
    settings: Mapping[str, Any]  # the manifest's "config"; empty where it has none
    checkout: Path | None  # of the repository, where there is no package


@dataclass(frozen=True)
class Case:
    """One of our variants beside a published implementation of it, with weights of a golden folder."""

    variant: str
    folder: str  # under tests/golden
    package: str  # its name on the package index, or that of its repository
    build: Callable[[Given], Published]
    manifest: str = "manifest.json"
    repository: str = ""  # owner/name on GitHub: not on the index, a checkout must be given
    zeroed: str = ""  # keys that end so are set to 0 on both sides

    @property
    def family(self) -> str:
        """Its adapter's file."""
        return self.build.__module__.rpartition(".")[2]

    @property
    def name(self) -> str:
        return f"{self.variant} ({self.package})"


def loaded(module: torch.nn.Module, state: State) -> Any:
    """`module` with `state` in it, ready for inference."""
    module.load_state_dict(dict(state))
    return module.eval()


def part(state: State, prefix: str) -> dict[str, Tensor]:
    """The tensors under `prefix`, without it."""
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def own(module: torch.nn.Module, state: State) -> dict[str, Tensor]:
    """Those of the tensors that `module` names. KeyError if one is missing."""
    return {key: state[key] for key in module.state_dict()}


@contextlib.contextmanager
def torch_load(value: object) -> Iterator[None]:
    """Within, torch.load gives `value`: for classes whose constructor reads a file."""
    with patch("torch.load", lambda *args, **kwargs: value):
        yield


def on_path(checkout: Path | None) -> Path:
    """`checkout`, importable from now on."""
    assert checkout is not None
    if str(checkout) not in sys.path:
        sys.path.insert(0, str(checkout))
    return checkout


def identity(value: Any) -> Any:
    return value


def swapped(codes: Any) -> Any:
    """[K, B, N] ↔ [B, K, N]."""
    return (codes.codes if isinstance(codes, Codes) else codes).transpose(0, 1)


def from_hub_names(kind: Any, config: Any, state: State) -> Any:
    """A model of transformers, through the renaming that its own loader does."""
    return kind.from_pretrained(None, config=config, state_dict=dict(state)).eval()


def hub_names(codec: BaseCodec) -> dict[str, Tensor]:
    """The tensors of `codec` as transformers names them. A codebook that it keeps as sums gets counts of 1."""
    key_map = next(one for one in codec.key_maps if "transformers" in one.name)
    tensors: dict[str, Tensor] = {}
    for ours, value in codec.state_dict().items():
        names, _ = key_map.sources(ours)
        if ours.endswith("codebooks") and len(names) == 2 * len(value):
            counts = torch.ones(value.shape[1], device=value.device)
            tensors |= dict(zip(names, [*value, *[counts] * len(value)], strict=True))
        else:
            tensors |= key_map.published(ours, value)
    return tensors
