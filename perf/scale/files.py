"""Many tiny clips as files, in a tar, in Parquet, in a manifest: what they take to make, to list, to read."""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf

FORMS_OF_FILES = ("folder", "csv", "tar", "parquet")
FOLDER_CLIPS = 1000  # files in one folder
READ = 2000  # clips that are read, at random places

LIST = """
import gc, json, sys, time
from codeczoo.data.open import open_source
def kib(name):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name))
open_source(None)
if sys.argv[1].endswith(".parquet"):
    import codeczoo.data.parquet
gc.collect()
before, cpu, wall = kib("VmHWM"), time.process_time(), time.perf_counter()
source = open_source(sys.argv[1])
cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
print(json.dumps({"count": source.count, "cpu": cpu, "wall": wall, "peak": 1024 * (kib("VmHWM") - before)}))
"""


def write_forms(folder: Path, clips: int, seconds: float = 0.1) -> dict[str, Path]:
    """The same `clips` clips in each of FORMS_OF_FILES."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    data = one_clip(seconds)
    places = {
        "folder": folder / "files",
        "csv": folder / "clips.csv",
        "tar": folder / "clips.tar",
        "parquet": folder / "clips.parquet",
    }
    lines = ["id,path"]
    for i in range(clips):
        below = places["folder"] / f"{i // FOLDER_CLIPS:06d}"
        if i % FOLDER_CLIPS == 0:
            below.mkdir(parents=True)
        (below / f"{i:08d}.wav").write_bytes(data)
        lines.append(f"{i:08d},files/{below.name}/{i:08d}.wav")
    places["csv"].write_text("\n".join(lines) + "\n")
    with tarfile.open(places["tar"], "w") as tar:
        for i in range(clips):
            member = tarfile.TarInfo(f"{i:08d}.wav")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    schema = pa.schema([("id", pa.string()), ("audio", pa.binary())])
    with pq.ParquetWriter(places["parquet"], schema, compression="none", use_dictionary=["id"]) as writer:
        for first in range(0, clips, FOLDER_CLIPS):
            ids = [f"{i:08d}" for i in range(first, min(clips, first + FOLDER_CLIPS))]
            writer.write_table(pa.table({"id": ids, "audio": [data] * len(ids)}, schema))
    return places


def one_clip(seconds: float) -> bytes:
    file = io.BytesIO()
    noise = 0.1 * np.random.default_rng(0).standard_normal(round(16000 * seconds))
    sf.write(file, noise.astype(np.float32), 16000, format="WAV")
    return file.getvalue()


def list_form(place: Path, clips: int) -> dict[str, float]:
    """Listing in a process of its own."""
    out = subprocess.run([sys.executable, "-c", LIST, str(place)], capture_output=True, text=True, check=True)
    found = json.loads(out.stdout.splitlines()[-1])
    if found["count"] != clips:
        raise RuntimeError(f"{place}: {found['count']} clips are listed of {clips}")
    return {
        "clips": clips,
        "us_per_clip": found["cpu"] / clips * 1e6,
        "wall_us_per_clip": found["wall"] / clips * 1e6,
        "bytes_per_clip": found["peak"] / clips,
    }


def read_form(place: Path) -> float:
    """Core-microseconds to read and decode a clip, in the data set's order."""
    from codeczoo.data.open import open_source
    from codeczoo.data.read import decoded

    source = open_source(place)
    entries = []
    began = time.process_time()
    for entry in source.entries():
        entries.append(decoded(source.read(entry)).sample_rate)
        if len(entries) == READ:
            break
    return (time.process_time() - began) / len(entries) * 1e6


def compare_forms(clips: int, folder: Path | None) -> list[dict[str, Any]]:
    """A table of all forms."""
    random.seed(0)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        began = time.process_time()
        places = write_forms(Path(temporary), clips)
        print(f"{clips} clips in each form, written in {time.process_time() - began:.0f} core-seconds")
        rows = []
        print("| form | files | bytes a clip | on disk | list: core µs a clip | memory a clip | read: core µs a clip |")
        print("|---|--:|--:|--:|--:|--:|--:|")
        for form in FORMS_OF_FILES:
            if form == "csv":
                files, size, disk = 1, places[form].stat().st_size, places[form].stat().st_blocks * 512
            else:
                files, size, disk = _size(places[form])
            row = {"form": form, "files": files, "bytes": size / clips, "disk_bytes": disk / clips,
                   **list_form(places[form], clips), "read_us": read_form(places[form])}  # fmt: skip
            rows.append(row)
            print(
                f"| {form} | {files:,} | {row['bytes']:,.0f} | {row['disk_bytes']:,.0f} | {row['us_per_clip']:.1f} | "
                f"{row['bytes_per_clip']:,.0f} | {row['read_us']:.0f} |",
                flush=True,
            )
        return rows


def _size(place: Path) -> tuple[int, int, int]:
    """Files (and folders), bytes, and bytes on the disk."""
    paths = [place]
    if place.is_dir():
        paths = [Path(root, name) for root, folders, names in os.walk(place) for name in (*folders, *names)]
    stats = [os.stat(path) for path in paths]
    return len(stats), sum(s.st_size for s in stats), sum(s.st_blocks * 512 for s in stats)
