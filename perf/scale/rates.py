"""The rates that plans follow from, as they were measured: GPUs in `gpu.json`, one core of a CPU in `scale.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MEASUREMENTS = Path(__file__).parents[2] / "docs" / "measurements"
GPU_FILE, LOCAL_FILE = MEASUREMENTS / "gpu.json", MEASUREMENTS / "scale.json"
PRECISIONS = {"exact": "exact", "tf32": "tf32", "bf16": "bf16"}  # as gpu_check calls them


@dataclass(frozen=True)
class Rates:
    """Measured rates.

    Attributes:
        gpu: codec → precision → seconds of audio that a GPU encodes in a second. An audio-hour a GPU-hour is the same.
        local: what `measure` wrote.
    """

    gpu: Mapping[str, Mapping[str, float]]
    local: Mapping[str, Any]

    def encode(self, codec: str, precision: str) -> float:
        """Audio-hours a GPU-hour.

        Raises:
            KeyError: not measured; the message lists what is.
        """
        if codec not in self.gpu:
            raise KeyError(f"{codec} was not measured on a GPU; measured are {', '.join(sorted(self.gpu))}")
        if precision not in self.gpu[codec]:
            raise KeyError(f"{codec} was measured in {', '.join(self.gpu[codec])}, not in {precision}")
        return self.gpu[codec][precision]

    def audio(self, name: str) -> Mapping[str, float]:
        """Of a form of audio ("flac", "mp3 44.1 kHz stereo"): core_rate (seconds of audio that a core decodes in a
        second) and bytes_per_second.

        Raises:
            KeyError: not measured; the message lists what is.
        """
        rows = {row["audio"]: row for row in self.local["decode"]}
        if name not in rows:
            raise KeyError(f"audio {name!r} was not measured; measured are {', '.join(rows)}")
        return rows[name]

    def tokens(self, codec: str) -> Mapping[str, float]:
        """Bytes a second of audio, by form of a shard.

        Raises:
            KeyError: not measured; the message lists what is.
        """
        rows = {row["codec"]: row["bytes_per_second"] for row in self.local["tokens"]}
        if codec not in rows:
            raise KeyError(f"shards of {codec} were not measured; measured are {', '.join(rows)}")
        return rows[codec]


def read_rates(gpu: Path = GPU_FILE, local: Path = LOCAL_FILE) -> Rates:
    """Both files. Of a network that was measured in several runs on a GPU the last one counts."""
    found: dict[str, dict[str, float]] = {}
    for run in json.loads(gpu.read_text("utf-8")).values():
        for row in run.get("gpu_check", {}).get("rows", []):
            if row["section"] == "speed" and "encode" in row and row["mode"] in PRECISIONS:
                found.setdefault(row["codec"], {})[row["mode"]] = row["encode"]
    if not local.is_file():
        raise FileNotFoundError(f"{local}: no such file: `python -m perf.scale measure --out {local}` makes it")
    return Rates(found, json.loads(local.read_text("utf-8")))
