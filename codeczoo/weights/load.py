"""Load weights into a model, a codec or not: published ones, a file or folder, a dict of tensors, or seeded noise."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import math
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from codeczoo.base.catalogue import WeightsSource
from codeczoo.base.device import PRECISIONS, choose_device, choose_dtype, torch_defaults
from codeczoo.base.key_map import KeyMap
from codeczoo.base.model import Model
from codeczoo.base.variant import Variant
from codeczoo.weights.checkpoint import (
    WHOLE_FILE,
    Checkpoint,
    find_checkpoint_files,
    from_tree,
    merge,
    read_checkpoint,
    read_settings,
)
from codeczoo.weights.convert import convert
from codeczoo.weights.download import fetch, file_hash, from_archive
from codeczoo.weights.entries import Entry, choose_entry
from codeczoo.weights.gguf_layout import from_gguf
from codeczoo.weights.packed import original_hash
from codeczoo.weights.safe_pickle import UnsafeCheckpointError

log = logging.getLogger(__name__)

OWN_NAMES = KeyMap("codeczoo")  # a saved `model.state_dict()` loads as well


def load_model(
    variant: Variant,
    weights: str | Path | Mapping[str, Any] | None = None,
    *,
    weights_entry: str | None = None,
    device: str | torch.device | None = None,
    precision: str = "exact",
    dtype: torch.dtype | str = torch.float32,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    seed: int = 0,
) -> Model:
    """The model of a variant, with its weights, on a device, ready to use. The arguments are those of `load_codec`.

    Raises:
        ValueError, FileNotFoundError: a device that is not there; as `load_weights`.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {PRECISIONS}; it is {precision!r}")
    place = choose_device(device)
    started = time.perf_counter()
    kind = choose_dtype(dtype)
    with torch_defaults():
        model: Model = variant.build().to(kind)
    load_weights(
        model,
        weights,
        weights_entry=weights_entry,
        revision=revision,
        cache_dir=cache_dir,
        local_files_only=local_files_only,
        seed=seed,
    )
    model.precision = precision
    model.keep_parts_in_float32()
    model.eval().requires_grad_(False).to(place)
    log.info("%s on %s in %.1f s", variant.name, place, time.perf_counter() - started)
    return model


def load_weights(
    model: Model,
    weights: str | Path | Mapping[str, Any] | None = None,
    *,
    weights_entry: str | None = None,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    seed: int = 0,
) -> None:
    """Load weights into `model`, and set its `weights_source` and `weights_hash` (sha256 in hex; None for noise).

    Args:
        weights: None = the published ones; a file, folder or zip archive; tensors or arrays by published key (nested
            dicts are joined by dots); "random" = noise from `seed`. "PATH::ENTRY" is a path and its `weights_entry`.
        weights_entry: the entry to take, where several fit ("ema", "model/ema"). `weights_hash` is then of the file's
            hash and the entry's path.
        revision, cache_dir, local_files_only: of the hub; see `load_codec`.

    Raises:
        FileNotFoundError: no such file, or published weights that cannot be had.
        ValueError: a checkpoint that is broken or does not fit; every missing, left-over, mis-shaped and non-finite
            tensor is listed.
    """
    weights, weights_entry = _split_entry(weights, weights_entry)
    if not model.state_dict():
        if weights is not None and not _is_random(weights):
            raise ValueError(f"{model.name} has no weights: weights= cannot be given")
        return
    if revision is not None and weights is not None:
        raise ValueError(f"revision={revision!r} chooses among the published weights; with weights= it has no meaning")
    if weights_entry is not None and (weights is None or _is_random(weights)):
        raise ValueError(f"weights_entry={weights_entry!r} chooses in a checkpoint of yours: give it as weights=")
    if _is_random(weights):
        randomise(model, seed)
        log.warning("%s has random weights (seed %d): for speed tests only, its codes mean nothing", model.name, seed)
        model.weights_source, model.weights_hash = f"random, seed {seed}", None
        return
    if isinstance(weights, Mapping):
        checkpoint, source, digest = _from_dict(model.name, weights)
    else:
        paths = _paths(model, weights, revision, cache_dir, local_files_only)
        checkpoint, digest = _read(model, paths)
        source = (
            _described(model.variant.weights, revision)
            if weights is None
            else ", ".join(_own_files(model, weights, paths))
        )
    entry = _fill(model, checkpoint, source, weights_entry)
    if entry.one_of_several:
        digest = hashlib.sha256(f"{digest}\n{entry.path}".encode()).hexdigest()
        source = f"{source}::{entry.path.replace('.', '/')}"
    model.weights_source, model.weights_hash = source, digest
    known = " (the published file)" if _is_published(model.variant, digest) else ""
    log.info("%s: weights of %s, sha256 %s%s", model.name, source, digest, known)
    _say_licence(model.variant.root or model.name, model.variant.weights_licence)


def _split_entry(weights: Any, weights_entry: str | None) -> tuple[Any, str | None]:
    """ "PATH::ENTRY" as path and entry. A path that exists is a path, whatever is in its name."""
    if isinstance(weights, str) and "::" in weights and weights_entry is None and not Path(weights).exists():
        path, _, entry = weights.rpartition("::")
        return path, entry
    return weights, weights_entry


def _is_random(weights: Any) -> bool:
    return isinstance(weights, str) and weights == "random"


def _described(source: WeightsSource | None, revision: str | None) -> str:
    """Human-readable source, with the requested revision."""
    return str(replace(source, revision=revision) if source and revision else source)


def _is_published(variant: Variant, digest: str) -> bool:
    """Whether a file with that hash is one of those in which the weights are published."""
    pins = (one.sha256 for one in (variant.weights, *variant.copies) if one)
    return any(digest.startswith(pin.lower()) for pin in pins if pin)


def _published_files(source: WeightsSource | None) -> list[str]:
    """The names of a source's files, the checkpoint first; inside a zip archive, their paths in it."""
    if source is None:
        return []
    own = {"member": source.member, "file": source.file, "url": source.url}
    return [e.get("member") or e.get("file") or (e["url"] or "").rpartition("/")[2] for e in (own, *source.more)]


def _paths(
    model: Model,
    weights: str | Path | None,
    revision: str | None,
    cache_dir: str | Path | None,
    local_files_only: bool,
) -> list[Path]:
    """The files to read: those given as `weights`, or the published ones."""
    source = model.variant.weights
    if weights is None:
        if source is None:
            raise ValueError(
                f"{model.name}: no published weights are known; pass weights=path (--weights in the shell)"
            )
        return fetch(model.name, source, revision=revision, cache_dir=cache_dir, local_files_only=local_files_only)
    if not isinstance(weights, str | Path):
        raise TypeError(f"weights must be a path, a dict of tensors, 'random' or None; it is {type(weights).__name__}")
    path = Path(weights).expanduser()
    if path.is_dir():
        files = find_checkpoint_files(path, _checkpoints(source))
        settings = (files[0].with_name(name) for name in model.settings_files)
        return [*files, *(path for path in settings if path.is_file())]
    if not path.is_file():
        raise FileNotFoundError(
            f"{model.name}: weights={str(weights)!r} is neither 'random' nor a file or folder that exists"
        )
    if _is_archive(path):
        return from_archive(model.name, path, _checkpoints(source), cache_dir)
    return [path]


def _own_files(model: Model, given: str | Path, paths: Sequence[Path]) -> list[str]:
    """Human-readable names of the user's files; those of an archive with their paths in it."""
    if _is_archive(given):
        return [f"{given} ({', '.join(_checkpoints(model.variant.weights))})"]
    return [str(path) for path in paths if not _is_settings(path.name)]


def _is_archive(path: str | Path) -> bool:
    return Path(path).suffix.lower() == ".zip"


def _checkpoints(source: WeightsSource | None) -> list[str]:
    return [name for name in _published_files(source) if not _is_settings(name)]


def _is_settings(name: str) -> bool:
    return name.endswith((".json", ".yaml")) and not name.endswith(".index.json")


def _read(model: Model, paths: Sequence[Path]) -> tuple[Checkpoint, str]:
    """The checkpoint of one or several files with the settings beside it, and its sha256 (settings not included)."""
    parts: dict[str, Checkpoint] = {}
    settings: dict[str, Any] = {}
    for path in paths:
        stem = path.stem if path.stem not in parts else f"{path.parent.name}/{path.stem}"
        try:
            if _is_settings(path.name):
                settings[path.stem] = read_settings(path)
            else:
                parts[stem] = read_checkpoint(path, model.readers)
        except UnsafeCheckpointError as error:
            raise UnsafeCheckpointError(f"{model.name}: {error}") from error
        except ValueError as error:
            raise ValueError(f"{model.name}: {error}") from error
    hashes = [original_hash(path) or file_hash(path) for path in paths if not _is_settings(path.name)]
    digest = hashes[0] if len(hashes) == 1 else hashlib.sha256("\n".join(hashes).encode()).hexdigest()
    merged = merge(parts)
    return replace(merged, metadata={**merged.metadata, **settings}), digest


def _from_dict(name: str, weights: Mapping[str, Any]) -> tuple[Checkpoint, str, str]:
    try:
        checkpoint = from_tree(weights)
    except ValueError as error:
        raise ValueError(f"{name}: weights= is a dict, but {error}") from error
    tensors = {
        entry: {key: tensor.detach().cpu() for key, tensor in found.items()}
        for entry, found in checkpoint.candidates.items()
    }
    checkpoint = replace(checkpoint, candidates=tensors)
    digest = hashlib.sha256()
    for key, tensor in sorted(tensors[WHOLE_FILE].items()):
        digest.update(f"{key} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return checkpoint, "a dict of tensors", digest.hexdigest()


def _fill(model: Model, checkpoint: Checkpoint, source: str, asked: str | None) -> Entry:
    """Convert the checkpoint's best-fitting entry, or that which was asked for, to our names, and load it."""
    what = f"{model.name}: {source}"
    key_maps: tuple[KeyMap, ...] = (*model.key_maps, OWN_NAMES)
    try:
        if "gguf" in checkpoint.metadata:
            tensors, layout = from_gguf(model, checkpoint.candidates[WHOLE_FILE], checkpoint.metadata["gguf"], source)
            checkpoint, key_maps = Checkpoint({WHOLE_FILE: tensors}), (layout,)
        with _readable_settings():
            model.configure(checkpoint.metadata)
            model.check_metadata(checkpoint.metadata)
        wanted = model.state_dict()
        entry = choose_entry(checkpoint.candidates, wanted, key_maps, asked)
        with _readable_settings("tensors"):
            model.check_tensors(entry.tensors)
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from error
    what = f"{what}, {entry.told}," if entry.told else what
    converted = convert(entry.tensors, wanted, key_maps, what)
    keep = checkpoint.private and _may_keep(model, wanted)
    model.load_state_dict(_apart(converted) if keep else converted, strict=True, assign=keep)
    return entry


def _may_keep(model: Model, own: Mapping[str, Tensor]) -> bool:
    """Whether a model may take other tensors in place of its own: no two are one, and nothing else refers to them. Of
    codeczoo's models a test says so; of others it is not known."""
    return type(model).__module__.startswith("codeczoo.") and len({t.data_ptr() for t in own.values()}) == len(own)


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as a model may keep them: contiguous, and none in the memory of another. Others are copied."""
    seen: set[int] = set()
    out = {}
    for name, tensor in tensors.items():
        memory = tensor.untyped_storage()
        own = tensor.is_contiguous() and memory.nbytes() == tensor.nbytes and memory.data_ptr() not in seen
        seen.add(memory.data_ptr())
        out[name] = tensor if own else tensor.clone(memory_format=torch.contiguous_format)
    return out


@contextlib.contextmanager
def _readable_settings(what: str = "settings") -> Iterator[None]:
    """What a family does not expect in the values beside the tensors (a list for a number, a name that is missing)
    is an error of the checkpoint."""
    try:
        yield
    except ValueError:
        raise
    except (TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError) as error:
        raise ValueError(f"its {what} are not of such a model ({type(error).__name__}: {error})") from error


@functools.cache
def _say_licence(name: str, licence: str) -> None:
    """Warn of non-commercial or unclear licences, once per process and codec."""
    if re.search(r"\bNC\b|non-?commercial", licence, re.IGNORECASE):
        log.warning("the weights of %s are for non-commercial use only (%s)", name, licence)
    elif re.match(r"\s*$|unknown|unclear|unstated|none|no |not ", licence, re.IGNORECASE):
        log.warning(
            "the licence of the weights of %s is unclear (%s): ask their authors before you rely on it", name, licence
        )


# -- noise ----------------------------------------------------------------------------------------


@torch.no_grad()
def randomise(model: nn.Module, seed: int = 0) -> None:
    """Fill every persistent tensor with noise that depends only on `seed` and the tensor's name: not on its dtype, and
    not on PyTorch's default one or the default device.

    Signals keep about their size from layer to layer: matrices and kernels are uniform with variance 1 / fan-in, norms
    near 1, layer scales near 0.3, biases small, codebooks standard normal.
    """
    kinds = {f"{name}.weight": type(module) for name, module in model.named_modules()}
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            with torch_defaults():
                noise = _noise(name, tuple(tensor.shape), seed, kinds.get(name, nn.Module))
            tensor.copy_(noise)


def _noise(name: str, shape: tuple[int, ...], seed: int, kind: type[nn.Module]) -> Tensor:
    number = int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:8], "little") >> 1
    generator = torch.Generator().manual_seed(number)
    uniform = torch.empty(shape).uniform_(-1, 1, generator=generator)
    leaf = name.rpartition(".")[2]
    if issubclass(kind, nn.Embedding) or re.search(r"codebook|embed", leaf):
        return torch.empty(shape).normal_(generator=generator)
    if "running_var" in leaf:
        return 1 + 0.5 * uniform
    if re.search(r"bias|running_mean|(^|_)(mean|shift)", leaf):
        return 0.05 * uniform
    if re.search(r"gamma|scale", leaf):
        return 0.3 + 0.1 * uniform
    if sum(n > 1 for n in shape) <= 1:  # norms, and activations with one value for each channel
        return 1 + 0.1 * uniform
    transposed = issubclass(kind, nn.ConvTranspose1d | nn.ConvTranspose2d)
    fan_in = math.prod(shape) // shape[1 if transposed else 0]
    return math.sqrt(3 / fan_in) * uniform
