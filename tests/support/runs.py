"""What tests of the benchmark share: runs on real recordings, and what must be true of their results."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
RECORDINGS = ROOT / "tests" / "golden" / "metrics" / "audio"
CODECS = ("opus_12k", "g711_ulaw")
METRICS = ("mel", "stoi", "waveform")


def write_manifest(path: Path, clips: int) -> Path:
    """The first `clips` recordings, of mixed rates, lengths and channel counts."""
    names = sorted(p.name for p in RECORDINGS.glob("*.flac"))[:clips]
    assert len(names) == clips
    path.write_text("id,path\n" + "".join(f"{name},{RECORDINGS / name}\n" for name in names))
    return path


def arguments(manifest: Path, out: Path, *more: str) -> list[str]:
    """Of the command line: small batches, so that there are many."""
    common = ["--dataset", str(manifest), "--codecs", *CODECS, "--metrics", *METRICS, "--batch", "4", "--quiet"]
    return [*common, "--out", str(out), *more]


def start(given: list[str], environment: Mapping[str, str] | None = None) -> subprocess.Popen:
    """`benchmarking.py` in a session of its own, as on a machine that knows no torchrun and no Slurm."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "RANK", "WORLD"))}
    env = {**inherited, "OMP_NUM_THREADS": "1", **(environment or {})}
    return subprocess.Popen([sys.executable, str(ROOT / "benchmarking.py"), *given], env=env, start_new_session=True)


def rows_of(out: Path) -> list[dict]:
    """All lines of all processes."""
    return [json.loads(line) for path in sorted(out.glob("clips*.jsonl")) for line in path.read_text().splitlines()]


def lines_in(out: Path) -> int:
    """Lines so far."""
    return sum(path.read_bytes().count(b"\n") for path in out.glob("clips*.jsonl"))


def assert_same_results(out: Path, whole: Path) -> None:
    """Nothing lost, nothing doubled, the summary the same to the byte."""
    keys = [(row["codec"], row["id"]) for row in rows_of(out)]
    assert len(keys) == len(set(keys))
    assert set(keys) == {(row["codec"], row["id"]) for row in rows_of(whole)}
    for name in ("summary.json", "summary.csv"):
        assert (out / name).read_bytes() == (whole / name).read_bytes(), name
