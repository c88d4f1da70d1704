"""What `codeczoo env` tells: facts of this machine and of what is installed on it, in JSON's types.

Each fact that cannot be had says so in its own place: where torch does not import, or a driver is broken, the others
are still there, since that is when they are wanted.
"""

from __future__ import annotations

import importlib
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from codeczoo.base.errors import first_line
from codeczoo.base.processor import SECONDS, cpu_facts, cpu_name, said_by, usable_cores
from codeczoo.cli.extras import extras, version_of
from codeczoo.version import __version__

GIB = 1 << 30
# what is always needed, as pip names it
ALWAYS = ("torch", "numpy", "einops", "filelock", "huggingface_hub", "pyyaml", "safetensors", "soundfile", "tqdm")
# Variables that change what codeczoo or its libraries do.
VARIABLES = (
    "CODECZOO_CHANGED_WEIGHTS",
    "CODECZOO_DEVICE",
    "CODECZOO_TUNING",
    "CUDA_VISIBLE_DEVICES",
    "HF_DATASETS_OFFLINE",
    "HF_ENDPOINT",
    "HF_HOME",
    "HF_HUB_CACHE",
    "HF_HUB_OFFLINE",
    "MKL_NUM_THREADS",
    "OMP_NUM_THREADS",
    "PYTORCH_ALLOC_CONF",
    "PYTORCH_CUDA_ALLOC_CONF",
    "PYTORCH_ENABLE_MPS_FALLBACK",
)
BF16_FLAGS = ("avx512_bf16", "amx_bf16", "bf16")  # of /proc/cpuinfo


def machine() -> dict[str, Any]:
    """All facts, section by section."""
    return {
        "versions": versions(),
        "devices": devices(),
        "settings": settings(),
        "cache": cache(),
        "extras": extras(),
        "programs": programs(),
    }


def versions() -> dict[str, str]:
    """Of Python, of codeczoo and of what it always needs."""
    here = Path(__file__).parents[1]
    out = {
        "codeczoo": f"{__version__}, in {_without_home(str(here))}",
        "python": f"{platform.python_version()} ({platform.python_implementation()})",
        "platform": platform.platform(),
    }
    out |= {name: version_of(name) or "not installed" for name in ALWAYS}
    try:
        soundfile = importlib.import_module("soundfile")
        out["libsndfile"] = soundfile.__libsndfile_version__
    except Exception as error:  # noqa: BLE001 (whatever is wrong with it is the fact)
        out["libsndfile"] = first_line(error)
    return out


def devices() -> dict[str, Any]:
    """What torch computes on here; of each device its properties."""
    cpu: dict[str, Any] = {"name": cpu_name(), "cores": usable_cores()}
    try:
        torch = importlib.import_module("torch")
    except Exception as error:  # noqa: BLE001 (a CUDA library that is missing, for one, is an OSError)
        return {"chosen": f"none: torch does not import: {first_line(error)}", "cpu": cpu}
    from codeczoo.base.device import choose_device

    cpu |= {
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "bf16 in hardware": _cpu_bf16(),
    }
    try:
        chosen = str(choose_device())
    except ValueError as error:
        chosen = f"none: {error}"
    return {"chosen": chosen, "cpu": cpu, **_cuda(torch), "mps": _mps(torch)}


def _cuda(torch: Any) -> dict[str, Any]:
    """ "cuda": of the build and the driver; "cuda:0" and so on: of each GPU."""
    built = torch.version.hip or torch.version.cuda
    if not built:
        return {"cuda": "no: this build of torch is not for GPUs"}
    kind = "ROCm" if torch.version.hip else "CUDA"
    if not torch.cuda.is_available():
        try:
            torch.cuda.init()
            why = "no GPU is visible"
        except Exception as error:  # noqa: BLE001 (the driver's own words are the fact)
            why = first_line(error)
        return {"cuda": f"no: torch is built for {kind} {built}, and {why}"}
    out: dict[str, Any] = {"cuda": {kind: built, "cuDNN": torch.backends.cudnn.version()}}
    for index in range(torch.cuda.device_count()):
        found = torch.cuda.get_device_properties(index)
        out[f"cuda:{index}"] = {
            "name": found.name,
            "memory": round(found.total_memory / GIB, 1),
            "capability": f"{found.major}.{found.minor}",
            "multiprocessors": found.multi_processor_count,
            # 8.0 is the first with bfloat16 in its arithmetic; AMD's all have it.
            "bf16 in hardware": bool(torch.version.hip) or found.major >= 8,
        }
    return out


def _mps(torch: Any) -> Any:
    if torch.backends.mps.is_available():
        memory = torch.mps.recommended_max_memory() if hasattr(torch.mps, "recommended_max_memory") else None
        return {"macOS": platform.mac_ver()[0], "memory": memory and round(memory / GIB, 1)}
    built = torch.backends.mps.is_built()
    return "no: torch is built for it, and this Mac has none" if built else "no: this build of torch is not for it"


def settings() -> dict[str, str]:
    """Environment variables that change what happens, as far as they are set; of secrets only whether they are."""
    out = {name: _harmless(os.environ[name]) for name in VARIABLES if name in os.environ}
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        if name in os.environ or name.lower() in os.environ:
            out[name] = "set"
    return out


def cache() -> dict[str, Any]:
    """Where weights lie, how much there is, and whether the network may be asked for more."""
    try:
        hub = importlib.import_module("huggingface_hub")
        constants = importlib.import_module("huggingface_hub.constants")
    except Exception as error:  # noqa: BLE001 (as above)
        return {"hub": f"huggingface_hub does not import: {first_line(error)}"}
    out: dict[str, Any] = {}
    for name, path in (("hub", constants.HF_HUB_CACHE), ("codeczoo", Path(constants.HF_HOME, "codeczoo"))):
        folder = Path(path)
        there = folder.is_dir()
        told = {"folder": _without_home(str(folder)), "size": round(_size(folder) / GIB, 2)} if there else None
        out[name] = told or f"{_without_home(str(folder))} is not there yet"
    above = next(p for p in (folder, *folder.parents) if p.is_dir())
    out["free"] = round(shutil.disk_usage(above).free / GIB, 1)
    out["tuning"] = tuning()
    out["offline"] = bool(constants.HF_HUB_OFFLINE)
    out["token"] = "set" if hub.get_token() else "not set"
    return out


def tuning() -> Any:
    """The table of `codeczoo tune`: where it is, and whether it is of this machine."""
    try:
        torch = importlib.import_module("torch")
        from codeczoo.base.tuning import read_tables, this_machine, tuning_file

        path = tuning_file()
        if path is None:
            return "off"
        if not path.exists():
            return f"{_without_home(str(path))} is not there: codecs choose by their built-in rule"
        tables = read_tables(path)
        here = [len(table["entries"]) for table in tables if table["machine"] == this_machine(torch.device("cpu"))]
    except Exception as error:  # noqa: BLE001 (as above)
        return f"not used: {first_line(error)}"
    return {"file": _without_home(str(path)), "entries for this CPU": sum(here), "tables": len(tables)}


def programs() -> dict[str, str]:
    """Programs that are used where they are there."""
    return {
        "ffmpeg": _said("ffmpeg", "-version")
        or ("not found; PyAV (extra files) is used" if version_of("av") else "not found; nor is PyAV (extra files)"),
        "C compiler": next((told for name in ("cc", "gcc", "clang") if (told := _said(name, "--version"))), "not found")
        + " (only installing pesq takes one)",
    }


def _said(program: str, flag: str) -> str | None:
    """The first line that a program prints about itself; None where it is not there."""
    path = shutil.which(program)
    if path is None:
        return None
    try:
        done = subprocess.run([path, flag], capture_output=True, text=True, timeout=SECONDS, errors="replace")
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{program} does not run: {first_line(error)}"
    return next(iter((done.stdout or done.stderr).splitlines()), f"{program} says nothing")


def _cpu_bf16() -> bool | None:
    """Whether the processor multiplies bfloat16 itself; None = not known."""
    if sys.platform == "darwin":
        return {"1": True, "0": False}.get(said_by("sysctl", "-n", "hw.optional.arm.FEAT_BF16"))
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", cpu_facts(), re.MULTILINE)
    return None if flags is None else not set(BF16_FLAGS).isdisjoint(flags.group(1).split())


def _size(folder: Path) -> int:
    """Bytes of all files below a folder; links are not followed, and what cannot be read counts nothing."""
    total, folders = 0, [os.fspath(folder)]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    elif entry.is_file(follow_symlinks=False):
                        total += entry.stat(follow_symlinks=False).st_size
        except OSError:
            continue
    return total


def _harmless(value: str) -> str:
    """Without the home folder, and without a name and password in an address."""
    return repr(_without_home(re.sub(r"//[^/@\s]*@", "//***@", value)))[1:-1]


def _without_home(path: str) -> str:
    home = os.path.expanduser("~")
    return "~" + path[len(home) :] if len(home) > 1 and (path == home or path.startswith(home + os.sep)) else path
