"""The benchmark on a Ray cluster of three nodes on this machine: the same results, whoever is killed.

One cluster serves all tests of this file. To start it and its processes takes most of their time.
"""

from __future__ import annotations

import json
import os
import pickle
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from codeczoo.cli.benchmark import main
from codeczoo.data.files import find_files
from codeczoo.executor import settings
from tests.support.deadly_source import Deadly
from tests.support.runs import arguments, assert_same_results, lines_in, rows_of, start, write_manifest

ray = pytest.importorskip("ray")
pytest.importorskip("ray.data")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

CLIPS = 40
QUICK = {  # a node's death is seen within seconds
    "worker_register_timeout_seconds": 120,  # this machine may be busy
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_failure_threshold": 4,
}


class Machines:
    """A cluster; what it runs are children of its raylets."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        import codeczoo.executor.ray  # noqa: F401 (no usage statistics, no chatter: before Ray starts)

        head = {"num_cpus": 0, "object_store_memory": 100 << 20, "include_dashboard": False, "_system_config": QUICK}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.nodes = [self.add() for _ in range(2)]
        ray.init(self.cluster.address, log_to_driver=False)

    def add(self):
        return self.cluster.add_node(num_cpus=1, object_store_memory=100 << 20)

    def raylets(self) -> set[int]:
        return {self.raylet(node) for node in [self.cluster.head_node, *self.nodes]}

    def raylet(self, node) -> int:
        return node.all_processes["raylet"][0].process.pid

    def workers(self, name: str, raylets: set[int] | None = None) -> list[int]:
        """Process ids of Ray's workers that are at something of that name."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                title = (folder / "cmdline").read_bytes().decode(errors="replace")
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            if title.startswith("ray::") and name in title and parent in (raylets or self.raylets()):
                found.append(int(folder.name))
        return found


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    machines = Machines()
    yield machines
    ray.shutdown()
    machines.cluster.shutdown()


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_manifest(tmp_path_factory.mktemp("data") / "m.csv", CLIPS)


@pytest.fixture(scope="module")
def whole(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on one machine, without Ray."""
    out = tmp_path_factory.mktemp("whole") / "out"
    assert main(arguments(manifest, out)) in (0, 4)
    return out


@contextmanager
def meanwhile(strike: Callable[[], bool]) -> Iterator[list[int]]:
    """`strike` again and again, until it says that it is done or the context ends; how often it was called."""
    over, calls = threading.Event(), [0]

    def loop() -> None:
        while not over.wait(0.02):
            calls[0] += 1
            if strike():
                return

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield calls
    finally:
        over.set()
        thread.join()


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def test_ray_that_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("executor.ray", "executor.ray_actor"):
        monkeypatch.delitem(sys.modules, f"codeczoo.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["--out", str(tmp_path / "out"), "--engine", "ray"]) == 1
    assert "pip install 'codeczoo[ray]'" in capsys.readouterr().err


def test_slices_double_and_the_next_one_is_planned_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    from codeczoo.executor.ray import BYTES_PER_SLICE, _ahead, _slices

    monkeypatch.setattr("codeczoo.executor.ray.LARGEST_SLICE", 1024)
    assert [len(tasks) for tasks in _slices(range(4000))] == [256, 512, 1024, 1024, 1024, 160]
    monkeypatch.setattr("codeczoo.executor.ray.BYTES_PER_SLICE", 4 * 1000)
    assert BYTES_PER_SLICE > 4000
    assert [len(tasks) for tasks in _slices(bytes(990) for _ in range(10))] == [4, 4, 2]
    monkeypatch.setattr("codeczoo.executor.ray.BYTES_PER_SLICE", BYTES_PER_SLICE)

    planned, go_on, reached = [0], threading.Event(), threading.Event()

    def tasks() -> Iterator[int]:
        for number in range(100_000):
            if number == 768:
                reached.set()
                go_on.wait()
            planned[0] += 1
            yield number

    slices = _ahead(tasks())
    assert [pickle.loads(task) for task in next(slices)] == list(range(256))
    assert planned[0] <= 768
    assert [pickle.loads(task) for task in next(slices)] == list(range(256, 768))
    assert reached.wait(60)  # the third slice is begun without being asked for
    threading.Timer(1, go_on.set).start()
    slices.close()  # the run failed: the rest of the third slice is not planned
    assert planned[0] < 768 + 1024

    def broken() -> Iterator[int]:
        yield from range(256)
        raise ValueError("the data set has changed")

    slices = _ahead(broken())
    assert len(next(slices)) == 256
    with pytest.raises(ValueError, match="the data set has changed"):
        next(slices)


@pytest.mark.usefixtures("machines")
def test_results_equal_those_of_one_machine_and_files_come_to_the_driver(
    manifest: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import codeczoo.executor.ray

    monkeypatch.setattr(codeczoo.executor.ray, "TASKS_PER_SLICE", 8)  # so that there are two slices
    out = tmp_path / "out"
    assert main(arguments(manifest, out, "--engine", "ray", "--save-audio", "2")) in (0, 4)
    assert_same_results(out, whole)
    run, local = (json.loads((folder / "run.json").read_text()) for folder in (out, whole))
    assert run["codecs"] == local["codecs"]
    assert run["versions"] == local["versions"]
    assert run["environment"]["threads"] == local["environment"]["threads"]
    for folder in ("original", "opus_12k", "g711_ulaw"):
        assert len(list((out / "audio" / folder).glob("*.flac"))) == 2


def test_every_machine_of_the_cluster_works(machines: Machines, manifest: Path, tmp_path: Path) -> None:
    """By its own rules Ray Data's pool would stay at one actor."""
    from codeczoo.tokens.settings import TokenSettings
    from codeczoo.tokens.tokenize import tokenize

    together = 0

    def watch() -> bool:
        nonlocal together
        together = max(together, len(machines.workers("MapWorker")))
        return together == 2

    common = {"codec": "g711_ulaw", "dataset": str(manifest), "batch": 1, "progress": False}
    with meanwhile(watch):
        tokenize(TokenSettings(out=str(tmp_path), engine="ray", **common))  # type: ignore[arg-type]
    assert together == 2


def test_actors_and_readers_killed_at_random_moments(
    machines: Machines, manifest: Path, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    r = random.Random(0)
    actors: list[int] = []
    readers: list[int] = []

    def strike() -> bool:
        if len(readers) < 1:
            for pid in machines.workers("Map(read_row)")[:1]:
                kill(pid)
                readers.append(pid)
        if len(actors) < 2 and lines_in(out) > 20 * len(actors):
            for pid in machines.workers("Actor")[:1]:
                time.sleep(r.uniform(0, 0.3))
                if Path(f"/proc/{pid}").exists():
                    kill(pid)
                    actors.append(pid)
        return False

    with meanwhile(strike):
        assert main(arguments(manifest, out, "--engine", "ray")) in (0, 4)
    assert len(actors) == 2
    assert readers
    assert_same_results(out, whole)


def test_a_driver_is_killed_and_the_run_goes_on_without_ray(
    machines: Machines, manifest: Path, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    driver = start(arguments(manifest, out, "--engine", "ray", "--address", machines.cluster.address))
    while driver.poll() is None and lines_in(out) < 10:
        time.sleep(0.01)
    os.killpg(driver.pid, signal.SIGKILL)
    assert driver.wait() == -signal.SIGKILL
    assert main(arguments(manifest, out)) in (0, 4)
    assert_same_results(out, whole)


@pytest.mark.slow
@pytest.mark.usefixtures("machines")
def test_clips_that_kill_each_reader_or_each_actor_are_named(
    manifest: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from codeczoo.benchmark import run
    from tests.support import crashing_codec as crashing

    found = find_files(str(manifest))
    assert found is not None
    entries = [entry for entry in found.entries() if "16k" in entry.id]
    crash = next(i for i, entry in enumerate(entries) if entry.id == crashing.CLIP)
    source = Deadly(found.name, [*entries[:3], *entries[crash : crash + 2]])
    source.deadly, source.main_process = entries[1].id, os.getpid()
    monkeypatch.setattr(settings, "open_source", lambda *args, **kwargs: source)
    monkeypatch.setattr(run, "BenchmarkJob", crashing.CrashingJob)
    assert main(arguments(manifest, tmp_path / "out", "--engine", "ray", "--batch", "3")) == 3
    rows = {(row["codec"], row["id"]): row for row in rows_of(tmp_path / "out")}
    assert len(rows) == len(rows_of(tmp_path / "out")) == 10
    failed = {key: row["stage"] for key, row in rows.items() if row["status"] == "failed"}
    assert failed == {
        ("opus_12k", source.deadly): "read",
        ("g711_ulaw", source.deadly): "read",
        (crashing.CODEC, crashing.CLIP): "process",
    }
    assert all("died" in rows[key]["reason"] for key in failed)
    alone = {(row["codec"], row["id"]): row for row in rows_of(whole)}
    for key, row in rows.items():
        if row["status"] == "ok":  # in another batch than there, so that sums differ in their last digit
            assert row["bits"] == alone[key]["bits"]
            assert row["metrics"] == pytest.approx(alone[key]["metrics"], rel=1e-9)
    events = [json.loads(line)["event"] for line in (tmp_path / "out" / "events.jsonl").read_text().splitlines()]
    assert events == ["process died"] * 3


@pytest.mark.slow
@pytest.mark.usefixtures("machines")
def test_what_a_reader_a_codec_or_a_worker_raises_is_the_failure_of_its_clip(
    tmp_path: Path, manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from codeczoo.benchmark import run
    from tests.support import crashing_codec as crashing
    from tests.support import faults

    sound, _ = faults.write_clips(tmp_path / "clips")
    found, recordings = find_files(str(tmp_path / "clips")), find_files(str(manifest))
    assert found is not None and recordings is not None
    clip = next(entry for entry in recordings.entries() if entry.id == crashing.CLIP)
    source = faults.FaultySource(found.name, [*found.entries(), clip])
    source.names = tuple(faults.NAMES[::2])
    monkeypatch.setattr(settings, "open_source", lambda *args, **kwargs: source)
    monkeypatch.setattr(run, "BenchmarkJob", crashing.RaisingJob)
    out = tmp_path / "out"
    common = ["--metrics", "waveform", "--quiet", "--out", str(out), "--engine", "ray", "--batch", "8"]
    with faults.faulty_codecs():
        assert main([*common, "--codecs", "faulty_encoder", crashing.CODEC]) == 3
    rows = {(row["codec"], row["id"]): row for row in rows_of(out)}
    assert len(rows) == len(rows_of(out)) == 2 * (len(sound) + len(faults.NAMES) + 1)
    failed = {key: row["stage"] for key, row in rows.items() if row["status"] == "failed"}
    read = {(codec, f"{name}.wav"): "read" for codec in ("faulty_encoder", crashing.CODEC) for name in source.names}
    coded = {("faulty_encoder", f"{name}.wav"): "encode" for name in faults.NAMES[1::2]}
    assert failed == {**read, **coded, (crashing.CODEC, crashing.CLIP): "process"}
    assert rows[crashing.CODEC, crashing.CLIP]["reason"] == "MemoryError: no room for the batch"


def test_a_node_is_killed(machines: Machines, manifest: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    killed: list[int] = []

    def strike() -> bool:
        for node in machines.nodes:
            raylet = machines.raylet(node)
            if lines_in(out) > 8 and machines.workers("Actor", {raylet}):
                kill(raylet)  # its workers end with it
                killed.append(raylet)
                return True
        return False

    with meanwhile(strike):
        assert main(arguments(manifest, out, "--engine", "ray")) in (0, 4)
    assert killed
    assert_same_results(out, whole)


def test_tokens_are_those_of_one_machine_though_an_actor_dies(
    machines: Machines, manifest: Path, tmp_path: Path
) -> None:
    from codeczoo.tokens.settings import TokenSettings
    from codeczoo.tokens.tokenize import tokenize

    common = {"codec": "g711_ulaw", "dataset": str(manifest), "shard_clips": 6, "batch": 2, "progress": False}
    whole = tokenize(TokenSettings(out=str(tmp_path / "whole"), **common))  # type: ignore[arg-type]
    killed: list[int] = []

    def strike() -> bool:
        for pid in machines.workers("Actor")[:1] if list((tmp_path / "ray").glob("shards/*.json")) else []:
            kill(pid)
            killed.append(pid)
        return bool(killed)

    with meanwhile(strike):
        index = tokenize(TokenSettings(out=str(tmp_path / "ray"), engine="ray", **common))  # type: ignore[arg-type]
    assert killed
    assert index is not None and whole is not None and index["clips"] == CLIPS
    assert {key: index[key] for key in index if key != "codec"} == {key: whole[key] for key in whole if key != "codec"}
    for name in ["index.json", *(shard["file"] for shard in whole["shards"])]:
        assert (tmp_path / "ray" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
