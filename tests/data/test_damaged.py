"""Damaged manifests, tars and Parquet files: each gives its clips and failures, or an error that names it."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.data.damaged_child import ARCHIVES, KINDS, MANIFESTS
from tests.support.command_line import ENVIRONMENT

CHILD = Path(__file__).with_name("damaged_child.py")


def read_damaged(folder: Path, kinds: list[str], count: int) -> Counter[tuple[str, str]]:
    """How often each kind of data set came to each kind of outcome."""
    command = [sys.executable, str(CHILD), str(folder), ",".join(kinds), "0", str(count)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    lines = [line.split(": ", 2) for line in done.stdout.splitlines()]
    assert done.returncode == 0, (done.returncode, lines[-1:], done.stderr[-2000:])
    wrong = [line for line in lines if line[2].split()[0] not in ("result", "error")]
    assert not wrong, wrong[:10]
    return Counter((kind, outcome.split()[0]) for kind, _, outcome in lines)


@pytest.mark.parametrize(("kinds", "count"), [(MANIFESTS, 150), (ARCHIVES, 150)], ids=["manifests", "archives"])
def test_damaged_data_sets_are_read_or_named(tmp_path: Path, kinds: dict[str, object], count: int) -> None:
    outcomes = read_damaged(tmp_path, list(kinds), count)
    assert outcomes.total() == len(kinds) * count
    assert all(outcomes[kind, "error"] for kind in kinds)
    assert all(outcomes[kind, "result"] for kind in kinds if kind != "tar.gz")  # which has a checksum


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(KINDS))
def test_many_damaged_data_sets_are_read_or_named(tmp_path: Path, kind: str) -> None:
    assert read_damaged(tmp_path, [kind], 2500).total() == 2500
