"""Helpers of a run on one machine that are killed: replaced, and nothing is lost."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import threading
from pathlib import Path

import pytest

from codeczoo.cli.benchmark import main
from codeczoo.data.files import find_files
from codeczoo.executor import settings
from codeczoo.metrics.pool import shared_pool
from tests.support.deadly_source import Deadly
from tests.support.runs import METRICS, arguments, assert_same_results, lines_in, rows_of, write_manifest


def test_readers_killed_at_random_moments(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "m.csv", 40)
    assert main(arguments(manifest, tmp_path / "whole", "--workers", "2")) in (0, 4)
    r = random.Random(0)
    over = threading.Event()
    killed = []

    def strike() -> None:
        # Five times at most: a clip is given up when that many readers died of it one after the other.
        while len(killed) < 5 and not over.wait(r.uniform(0, 1)):
            readers = multiprocessing.active_children()
            if readers:
                victim = r.choice(readers)
                if victim.pid is not None:
                    os.kill(victim.pid, signal.SIGKILL)
                    killed.append(victim.pid)

    thread = threading.Thread(target=strike)
    thread.start()
    try:
        assert main(arguments(manifest, tmp_path / "broken", "--workers", "2")) in (0, 4)
    finally:
        over.set()
        thread.join()
    assert killed
    assert_same_results(tmp_path / "broken", tmp_path / "whole")


def test_a_metric_process_killed_at_a_random_moment(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "m.csv", 12)
    more = ("--metrics", "pesq_wb", "mel", "--metric-workers", "1")
    over = threading.Event()
    killed = []

    def strike() -> None:
        while not killed and not over.wait(0.01):
            pids = shared_pool(1).pids
            if pids and lines_in(tmp_path / "broken"):  # some is done, some is under way
                os.kill(pids[0], signal.SIGKILL)
                killed.append(pids[0])

    thread = threading.Thread(target=strike)
    thread.start()
    try:
        assert main(arguments(manifest, tmp_path / "broken", *more)) in (0, 4)
    finally:
        over.set()
        thread.join()
    assert killed
    assert main(arguments(manifest, tmp_path / "whole", *more)) in (0, 4)
    assert_same_results(tmp_path / "broken", tmp_path / "whole")


def test_a_clip_that_kills_each_reader_is_named_and_its_batch_is_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = write_manifest(tmp_path / "m.csv", 12)
    found = find_files(str(manifest))
    assert found is not None
    source = Deadly(found.name, found.entries())
    source.deadly, source.main_process = list(source.entries())[5].id, os.getpid()
    monkeypatch.setattr(settings, "open_source", lambda *args, **kwargs: source)
    assert main(arguments(manifest, tmp_path / "out", "--workers", "2")) == 3
    rows = rows_of(tmp_path / "out")
    assert len(rows) == len({(row["codec"], row["id"]) for row in rows}) == 24
    failed = [row for row in rows if row["status"] == "failed"]
    assert {row["id"] for row in failed} == {source.deadly}
    assert all(row["stage"] == "read" and "died" in row["reason"] for row in failed)
    monkeypatch.undo()
    assert main(arguments(manifest, tmp_path / "whole")) in (0, 4)
    whole = {(row["codec"], row["id"]): row for row in rows_of(tmp_path / "whole")}
    for row in rows:
        if row["status"] == "ok":
            assert row["metrics"] == pytest.approx(whole[row["codec"], row["id"]]["metrics"], rel=1e-5)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    for entry in summary["codecs"].values():
        assert (entry["clips"], entry["ok"]) == (12, 11)
        assert all(entry["overall"][name]["count"] == 11 for name in METRICS)
