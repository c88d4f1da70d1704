"""The table that `codeczoo tune` writes: which strategy was fastest on this machine, by codec, batch size and length.

    {"format": "codeczoo-tuning-1",
     "tables": [{"machine": {"device": "cpu", "name": ..., "cores": 2, "instructions": "AVX512", "torch": "2.13.0"},
                 "entries": [{"codec": "mimi", "operation": "encode", "precision": "exact", "threads": 2,
                              "batch": 8, "seconds": 1.0, "strategy": {"seconds": 4.0, "beside": 2, "threads": 1,
                              "tiles": 1.0}, "took": 0.21, "rule_took": 0.34}]}]}

"strategy" is null where nothing was faster than the rule. A home folder may serve several machines, so that a file has
a table for each. `load_codec` reads none of it: a batch asks for its strategy, and the file is read again when it has
changed.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Mapping
from math import log2
from pathlib import Path
from typing import Any

import torch

from codeczoo.base.processor import cpu_name, usable_cores
from codeczoo.base.strategy import Strategy
from codeczoo.base.warn_once import warn_once

FORMAT = "codeczoo-tuning-1"
VARIABLE = "CODECZOO_TUNING"
OFF = "off"
NEAR = 1.0  # how far, in factors of two, a batch size or a length may be from a measured one
KEYS = ("codec", "operation", "precision", "threads", "batch", "seconds")
NUMBERS = {"beside": int, "threads": int | None, "seconds": int | float, "tiles": int | float}


def tuning_file() -> Path | None:
    """CODECZOO_TUNING, else `tuning.json` beside codeczoo's weights in the cache; None = switched off ("off")."""
    told = os.environ.get(VARIABLE)
    if told:
        return None if told == OFF else Path(told).expanduser()
    from huggingface_hub import constants

    return Path(constants.HF_HOME, "codeczoo", "tuning.json")


def this_machine(device: torch.device) -> dict[str, Any]:
    """What a table holds for: measurements of another device or another PyTorch say nothing here."""
    if device.type == "cpu":
        own = {"name": cpu_name(), "cores": usable_cores(), "instructions": torch.backends.cpu.get_cpu_capability()}
    else:
        own = {"name": torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name()}
    return {"device": device.type, **own, "torch": torch.__version__}


def tuned_strategy(
    codec: str,
    device: torch.device,
    dtype: torch.dtype,
    precision: str,
    encoding: bool,
    rows: int,
    longest: float,
) -> Strategy | None:
    """The measured strategy nearest to `rows` clips of `longest` seconds; None where nothing near was measured on this
    machine with PyTorch's present number of threads, or the rule was best."""
    path = tuning_file()
    if path is None or dtype != torch.float32:
        return None
    table = _table(path, device)
    key = (codec, "encode" if encoding else "decode", precision, torch.get_num_threads())
    best: tuple[float, Strategy | None] | None = None
    for batch, seconds, strategy in table.get(key, ()):
        off = abs(log2(rows / batch)), abs(log2(longest / seconds))
        if max(off) <= NEAR and (best is None or sum(off) < best[0]):
            best = sum(off), strategy
    return best and best[1]


Table = Mapping[tuple[Any, ...], list[tuple[int, float, Strategy | None]]]


def _table(path: Path, device: torch.device) -> Table:
    """This machine's entries of a file, by codec, operation, precision and threads."""
    try:
        found = path.stat()
    except OSError:
        return {}
    return _parsed(path, (found.st_mtime_ns, found.st_size), device)


@functools.lru_cache(maxsize=8)
def _parsed(path: Path, version: tuple[int, int], device: torch.device) -> Table:
    try:
        tables = read_tables(path)
    except (OSError, ValueError) as error:
        warn_once(f"tuning {path} {version}", f"{error}. Codecs choose by their built-in rule")
        return {}
    here = this_machine(device)
    own = next((table["entries"] for table in tables if table["machine"] == here), None)
    others = [table["machine"] for table in tables if table["machine"].get("device") == device.type]
    if own is None and others:
        warn_once(
            f"tuning of another machine {path}",
            f"{path} was measured on another machine or with another PyTorch ({_told(others[-1])}; this is "
            f"{_told(here)}): codecs choose by their built-in rule. `codeczoo tune` measures here",
        )
    out: dict[tuple[Any, ...], list[tuple[int, float, Strategy | None]]] = {}
    for entry in own or []:
        key = entry["codec"], entry["operation"], entry["precision"], entry["threads"]
        strategy = None if entry["strategy"] is None else Strategy(**entry["strategy"], source="tuned")
        out.setdefault(key, []).append((entry["batch"], entry["seconds"], strategy))
    return out


def _told(machine: Mapping[str, Any]) -> str:
    cores = f", {machine['cores']} cores" if "cores" in machine else ""
    return f"{machine.get('name')}{cores}, PyTorch {machine.get('torch')}"


def read_tables(path: Path) -> list[dict[str, Any]]:
    """All tables of a file, every entry checked.

    Raises:
        OSError: it cannot be read; ValueError: it is no table of this format.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no table of `codeczoo tune`: it is not JSON ({error})") from error
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        raise ValueError(f"{path} is no table of this `codeczoo tune`: its format is {found!r}, not {FORMAT!r}")
    try:
        for table in content["tables"]:
            if not isinstance(table["machine"], dict):
                raise TypeError("a machine is no object")
            for entry in table["entries"]:
                _check(entry)
    except (KeyError, TypeError, ValueError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{path}, a table of `codeczoo tune`, is damaged: {what}") from error
    return list(content["tables"])


def _check(entry: Mapping[str, Any]) -> None:
    for name in KEYS:
        value = entry[name]
        kind: Any = str if name in KEYS[:3] else int | float
        if not isinstance(value, kind) or isinstance(value, bool) or (kind is not str and not 0 < value < float("inf")):
            raise ValueError(f"{name} is {value!r}")
    strategy = entry["strategy"]
    if strategy is None:
        return
    if set(strategy) != set(NUMBERS):
        raise ValueError(f"a strategy has {', '.join(map(repr, strategy))}, not {', '.join(map(repr, NUMBERS))}")
    for name, types in NUMBERS.items():
        if not isinstance(strategy[name], types) or isinstance(strategy[name], bool):
            raise TypeError(f"{name} of a strategy is {strategy[name]!r}")
    Strategy(**strategy)
