"""What a run records: versions, machine, codecs and their weights; JSON files, written atomically."""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from codeczoo.base.codec import BaseCodec
from codeczoo.version import __version__

PACKAGES = ("torch", "numpy", "soundfile", "pesq", "praat-parselmouth", "safetensors", "huggingface_hub")


def describe_codec(codec: BaseCodec) -> dict[str, Any]:
    """`codec.info` (without other names of the codec), its weights, its precision and what that means on its device."""
    info = asdict(codec.info)
    return jsonable(
        {
            **{key: value for key, value in info.items() if key not in ("also", "aliases")},
            "weights_hash": codec.weights_hash,
            "weights_source": codec.weights_source,
            "precision": codec.precision,
            "arithmetic": codec.arithmetic,
            "dtype": str(codec.dtype),
        }
    )


def weights_id(codec: Mapping[str, Any]) -> str | None:
    """`BaseCodec.weights_id`, of what `describe_codec` says of a codec."""
    return codec.get("weights_hash") or codec.get("weights_source")


def versions() -> dict[str, str]:
    """Of Python and of the packages that results depend on."""
    out = {"codeczoo": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            out[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            out[name] = "not installed"
    return out


def environment(device: torch.device) -> dict[str, Any]:
    """The device, the platform and torch's number of threads."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "device": str(device),
        "device_name": name,
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
    }


def write_atomically(path: Path, content: Any, indent: int | None = 2) -> None:
    """Write JSON under another name, then rename: the file is never there in part."""
    part = path.with_name(f"{path.name}.part")
    part.write_text(json.dumps(content, indent=indent, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(part, path)


def number(value: float) -> float | str | None:
    """A float for JSON: NaN becomes null, infinities become "inf" and "-inf"."""
    if math.isnan(value):
        return None
    return value if math.isfinite(value) else ("inf" if value > 0 else "-inf")


def jsonable(tree: Any) -> Any:
    """A tree of plain values, tuples and paths, for JSON: tuples become lists, paths strings."""
    if isinstance(tree, Mapping):
        return {str(key): jsonable(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [jsonable(value) for value in tree]
    return str(tree) if isinstance(tree, Path) else tree
