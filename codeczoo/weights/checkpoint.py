"""Checkpoints as they are published: one file, several, a folder; safetensors or pickles; nested in any way.

A training checkpoint holds the model beside an optimiser and discriminators, in an entry whose name differs by
framework. So every entry with tensors is read as a candidate; `weights.entries` takes the one whose keys fit best.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors import SafetensorError, safe_open
from torch import Tensor

from codeczoo.weights.gguf import MAGIC, read_gguf
from codeczoo.weights.int8 import restored
from codeczoo.weights.packed import is_packed, read_packed
from codeczoo.weights.safe_pickle import read_pickle, tensors_of

WHOLE_FILE = "the whole file"  # the candidate that is no entry of another
SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".th", ".pkl", ".dev", ".onnx", ".nemo", ".gguf")
USUAL_FILES = ("model.safetensors.index.json", "model.safetensors", "pytorch_model.bin.index.json", "pytorch_model.bin")
MOST_ITEMS = 1_000_000  # in all entries of a file together; one that refers to itself has no end
LONGEST_NAME, MOST_LETTERS = 4096, 1 << 27  # of one tensor's name with the path to it, and of all together
MAX_ENTRY_DEPTH = 4  # of an entry that may be the model: {"checkpoint": {"model": {"generator": ...}}} has 3

_HOLDERS = (Tensor, np.ndarray, Mapping, list, tuple)
Reader = Callable[[Path], Mapping[str, Any]]  # of a file format in which only one family is published


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint's tensors, by entry and key, and the plain values beside them.

    Attributes:
        private: the tensors are in memory that nothing else uses, neither a file nor the caller: a model may keep them.
    """

    candidates: Mapping[str, Mapping[str, Tensor]]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    private: bool = False


def read_checkpoint(path: str | Path, readers: Mapping[str, Reader] | None = None) -> Checkpoint:
    """The tensors of one file (or of the index of a sharded one), by entry.

    Args:
        path: safetensors, a torch pickle in either form, or `*.index.json`.
        readers: for other file formats, by suffix: {".onnx": function from the path to tensors by key}.

    Raises:
        FileNotFoundError: no such file.
        UnsafeCheckpointError: a pickle that names code.
        ValueError: not a checkpoint, or one cut short; the message names the file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    if readers and path.suffix.lower() in readers:
        return _from_file(path, _read_with(readers[path.suffix.lower()], path))
    if path.name.endswith(".index.json"):
        return _read_shards(path)
    with path.open("rb") as file:
        head = file.read(64)
    if path.suffix.lower() == ".onnx":
        raise ValueError(
            f"{path}: ONNX is read only for codecs that are published in it, and needs the extra onnx: "
            'pip install "codeczoo[onnx]"'
        )
    if not head:
        raise ValueError(f"{path}: it is empty")
    if head.startswith(b"version https://git-lfs"):
        raise ValueError(f"{path}: this is a git LFS pointer, not the file: fetch it with `git lfs pull`")
    if head.lstrip()[:1] == b"<":
        raise ValueError(f"{path}: this is a web page or XML, saved in place of the checkpoint: download it again")
    if head.startswith(MAGIC):
        tensors, metadata = read_gguf(path)
        return Checkpoint({WHOLE_FILE: tensors}, {"gguf": metadata})
    if path.suffix.lower() == ".safetensors" or _looks_like_safetensors(head, path.stat().st_size):
        return _read_safetensors(path)
    return _from_file(path, read_pickle(path))


def _read_with(reader: Reader, path: Path) -> Mapping[str, Any]:
    """What a family's reader gives; what it stumbles over in a damaged file is an error of the file."""
    try:
        return reader(path)
    except (TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError, MemoryError) as error:
        raise ValueError(f"{path}: not a whole {path.suffix} file ({type(error).__name__}: {error})") from error


def read_json(path: Path) -> Any:
    """The content of a JSON file; a ValueError that names the file if it is not JSON."""
    try:
        return json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error})") from error


def read_settings(path: Path) -> Mapping[str, Any]:
    """The table of plain values in a JSON or YAML file; a ValueError that names the file if it holds none."""
    if path.suffix == ".json":
        settings = read_json(path)
    else:
        try:
            settings = yaml.safe_load(path.read_text("utf-8"))
        except (yaml.YAMLError, ValueError) as error:
            raise ValueError(f"{path}: not YAML of plain values ({' '.join(str(error).split())})") from error
    if not isinstance(settings, Mapping):
        raise ValueError(f"{path}: a table of settings was expected; it holds {type(settings).__name__}")
    return settings


def from_tree(tree: Any) -> Checkpoint:
    """Candidates and plain values of nested dicts. NumPy arrays count as tensors.

    Raises:
        ValueError: it holds no tensors.
    """
    candidates: dict[str, Mapping[str, Tensor]] = {}
    _check_size(tree)
    try:
        tree = _as_tensors(tree)
        _collect(tree, "", candidates)
        plain = _plain(tree)
    except RecursionError:
        raise ValueError("its entries are nested without end") from None
    if not candidates:
        raise ValueError("it holds no tensors by name")
    return Checkpoint(candidates, plain)


def _from_file(path: Path, tree: Any) -> Checkpoint:
    try:
        return from_tree(tree)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def merge(parts: Mapping[str, Checkpoint]) -> Checkpoint:
    """One checkpoint of several files, by stem. Candidates: the union of their keys, and keys prefixed by the stem."""
    if len(parts) == 1:
        return next(iter(parts.values()))
    parts = {stem: _with_entry_of_all(part) for stem, part in parts.items()}
    shared = [
        name for name in next(iter(parts.values())).candidates if all(name in p.candidates for p in parts.values())
    ]
    candidates: dict[str, Mapping[str, Tensor]] = {}
    for name in shared:
        side_by_side: dict[str, Tensor] = {}
        for part in parts.values():
            side_by_side |= part.candidates[name]
        if len(side_by_side) == sum(len(part.candidates[name]) for part in parts.values()):
            candidates[f"{name}, merged"] = side_by_side
        candidates[f"{name}, by file"] = {
            f"{stem}.{key}": tensor for stem, part in parts.items() for key, tensor in part.candidates[name].items()
        }
    return Checkpoint(candidates, {stem: part.metadata for stem, part in parts.items()})


def common_prefix(keys: Iterable[str]) -> str:
    """The parts that all keys begin with, joined by dots: "model" of "model.a.x" and "model.b". At least the last part
    of each key is left."""
    shared: list[str] = []
    for column in zip(*(key.split(".")[:-1] for key in keys), strict=False):
        if len(set(column)) > 1:
            break
        shared.append(column[0])
    return ".".join(shared)


def _with_entry_of_all(part: Checkpoint) -> Checkpoint:
    """Where all keys begin alike, what stands behind each part of that is an entry too."""
    whole = part.candidates.get(WHOLE_FILE, {})
    names = common_prefix(whole).split(".") if whole else []
    more = {}
    for depth in range(1, min(len(names), MAX_ENTRY_DEPTH) + 1):
        start = ".".join(names[:depth]) + "."
        more[f"entry {start.strip('.').replace('.', '/')!r}"] = {k.removeprefix(start): t for k, t in whole.items()}
    return replace(part, candidates={**more, **part.candidates})


def find_checkpoint_files(folder: Path, published: Sequence[str]) -> list[Path]:
    """The checkpoint files in a folder: the published ones (by path from the folder or from a folder in it, or by
    name), else one of `USUAL_FILES`, else the only checkpoint there.

    Raises:
        FileNotFoundError: no checkpoint.
        ValueError: several checkpoints and none to prefer, or only some of the published files.
    """
    found = [next((p for p in _places(folder, f) if p.is_file()), None) for f in published]
    there = [path for path in found if path is not None]
    if there and len(set(there)) == len(published):
        return there
    if [path.name for path in there] == ["model.safetensors"]:
        return there  # may be Hugging Face transformers' form, which holds in one file what others hold in several
    alike = [_another_form(folder, Path(f).stem) for f in published]
    if not there and published and all(alike):
        return [path for path in alike if path is not None]
    if there:
        raise ValueError(f"{folder}: of {', '.join(published)} only {', '.join(p.name for p in there)} can be found")
    for name in USUAL_FILES:
        if (folder / name).is_file():
            return [folder / name]
    others = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    if len(others) == 1:
        return others
    expected = ", ".join(published) or "model.safetensors"
    if not others:
        raise FileNotFoundError(f"{folder}: there is no checkpoint in it ({expected} is expected)")
    names = ", ".join(path.name for path in others)
    raise ValueError(f"{folder}: several checkpoints ({names}): pass one as weights=path (--weights in the shell)")


def _another_form(folder: Path, stem: str) -> Path | None:
    """The one checkpoint of that stem, whatever its form: "955717e8.th", or "955717e8-8726e21a.th" with its hash."""
    found = [path for path in folder.iterdir() if re.fullmatch(rf"{re.escape(stem)}(-[0-9a-f]{{8,64}})?", path.stem)]
    found = [path for path in found if path.suffix.lower() in SUFFIXES and path.is_file()]
    return found[0] if len(found) == 1 else None


def _places(folder: Path, file: str) -> list[Path]:
    """The paths in a user's folder where a published file may lie."""
    below = list(folder.glob(f"*/{file}")) if "/" in file else []
    return [folder / file, *(below if len(below) == 1 else []), folder / Path(file).name]


def _collect(tree: Any, name: str, into: dict[str, Mapping[str, Tensor]]) -> None:
    """Add each dict that holds tensors at any depth, by its path."""
    if not isinstance(tree, Mapping) or name.count("/") >= MAX_ENTRY_DEPTH:
        return
    tensors = tensors_of(tree)
    if not tensors:
        return
    into[f"entry {name!r}" if name else WHOLE_FILE] = tensors
    for key, value in tree.items():
        if isinstance(key, str):
            _collect(value, f"{name}/{key}" if name else key, into)


def _check_size(tree: Any) -> None:
    """Raises a ValueError if there is more in `tree` than can be walked over: few bytes of a pickle can say so."""
    items = letters = 0
    ahead = [(tree, 0)]
    while ahead:
        value, length = ahead.pop()
        if length > LONGEST_NAME:
            raise ValueError(f"its entries are nested without end (there is a name of {length} characters)")
        if isinstance(value, Tensor | np.ndarray):
            letters += length
        elif isinstance(value, Mapping | list | tuple):
            items += len(value)
            named = value.items() if isinstance(value, Mapping) else enumerate(value)
            if items <= MOST_ITEMS:
                ahead += [(v, length + 1 + _letters(k)) for k, v in named if isinstance(v, _HOLDERS)]
        if items > MOST_ITEMS or letters > MOST_LETTERS:
            raise ValueError("its entries are nested without end")


def _letters(key: Any) -> int:
    return sum(map(_letters, key)) if isinstance(key, tuple) else len(key) if isinstance(key, str | bytes) else 8


def _as_tensors(tree: Any) -> Any:
    """`tree` with tensors in place of its NumPy arrays."""
    if isinstance(tree, np.ndarray):
        return torch.from_numpy(tree if tree.flags.writeable else tree.copy())
    return {key: _as_tensors(value) for key, value in tree.items()} if isinstance(tree, Mapping) else tree


def _plain(tree: Any) -> Any:
    """`tree` without its tensors and objects; in lists, None takes their place."""
    if isinstance(tree, Mapping):
        kept = {key: _plain(value) for key, value in tree.items() if isinstance(key, str | int)}
        return {key: value for key, value in kept.items() if value is not None and value != {}}
    if isinstance(tree, list | tuple):
        return [_plain(value) for value in tree]
    return tree if isinstance(tree, str | int | float | bool) else None


def _looks_like_safetensors(head: bytes, size: int) -> bool:
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= size


def _read_safetensors(path: Path) -> Checkpoint:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            if is_packed(metadata):
                tensors, metadata = read_packed(path)
                return Checkpoint({WHOLE_FILE: restored(tensors, metadata)}, metadata, private=True)
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            return Checkpoint({WHOLE_FILE: restored(tensors, metadata)}, metadata)
    except (SafetensorError, ValueError, OSError) as error:
        raise ValueError(f"{path}: not a whole safetensors file ({error})") from error


def _read_shards(index: Path) -> Checkpoint:
    """The tensors of all shards that an index names; every key of the index must be in one."""
    try:
        places = read_json(index)["weight_map"]
        shards = sorted(set(places.values()))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{index}: not the index of a sharded checkpoint ({type(error).__name__}: {error})") from error
    tensors: dict[str, Tensor] = {}
    for shard in shards:
        if Path(shard).name != shard:
            raise ValueError(f"{index}: names a shard in another folder, {shard!r}")
        tensors |= read_checkpoint(index.with_name(shard)).candidates[WHOLE_FILE]
    lost = [key for key in places if key not in tensors]
    if lost:
        raise ValueError(f"{index}: {len(lost)} tensors are not in the shards: {', '.join(lost[:12])}")
    return Checkpoint({WHOLE_FILE: tensors})
