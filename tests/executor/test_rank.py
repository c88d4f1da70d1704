"""One benchmark by several processes that share a folder, as torchrun and Slurm start them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from codeczoo.cli.benchmark import main
from codeczoo.executor.rank import Rank, find_rank
from tests.support.runs import arguments, assert_same_results, lines_in, rows_of, start, write_manifest


def test_numbers_come_from_the_flag_then_torchrun_then_slurm() -> None:
    torchrun = {"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}
    slurm = {"SLURM_PROCID": "2", "SLURM_STEP_NUM_TASKS": "4", "SLURM_LOCALID": "0", "SLURM_NTASKS": "4"}
    assert find_rank(None, torchrun) == Rank(3, 8, 1)
    assert find_rank(None, slurm) == Rank(2, 4, 0)
    assert find_rank(None, {**slurm, **torchrun}) == Rank(3, 8, 1)
    assert find_rank((1, 2), torchrun) == Rank(1, 2)
    assert find_rank(None, {}) == Rank(0, 1)


def test_a_batch_script_of_slurm_without_srun_is_alone() -> None:
    """It sees the job's variables, and those of no step."""
    sbatch = {
        "SLURM_JOB_ID": "7",
        "SLURM_NTASKS": "16",
        "SLURM_NPROCS": "16",
        "SLURM_PROCID": "0",
        "SLURM_LOCALID": "0",
    }
    assert find_rank(None, sbatch) == Rank(0, 1)
    assert find_rank(None, {**sbatch, "SLURM_STEP_NUM_TASKS": "16"}) == Rank(0, 16, 0)


@pytest.mark.parametrize(
    ("given", "environment", "message"),
    [
        ((4, 4), {}, "number 4 of 4"),
        ((0, 0), {}, "number 0 of 0"),
        (None, {"RANK": "x", "WORLD_SIZE": "2"}, "RANK='x'"),
        (None, {"SLURM_PROCID": "9", "SLURM_STEP_NUM_TASKS": "4"}, "SLURM_PROCID"),
    ],
)
def test_numbers_that_do_not_go_together(given, environment: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_rank(given, environment)


@pytest.mark.parametrize("count", [1, 3, 7])
def test_each_batch_is_one_ranks(count: int) -> None:
    ranks = [Rank(i, count) for i in range(count)]
    assert all(sum(rank.owns(number) for rank in ranks) == 1 for number in range(50))
    assert len({rank.suffix for rank in ranks}) == count


@pytest.mark.parametrize(("more", "message"), [(["--overwrite"], "--overwrite"), (["--engine", "ray"], "--engine ray")])
def test_what_does_not_go_with_several_ranks(tmp_path: Path, capsys, more: list[str], message: str) -> None:
    manifest = write_manifest(tmp_path / "m.csv", 1)
    assert main(arguments(manifest, tmp_path / "out", "--shard", "0/2", *more)) == 1
    assert f"{message} does not go with" in capsys.readouterr().err


def finish(processes: list[subprocess.Popen]) -> None:
    for process in processes:
        assert process.wait(timeout=300) in (0, 4)


def test_three_processes_one_killed_and_started_again_equal_one(tmp_path: Path) -> None:
    """The killed one goes on as one of two, since the number of processes may change between sessions; first with
    torchrun's variables, then with Slurm's."""
    manifest, whole, out = write_manifest(tmp_path / "m.csv", 32), tmp_path / "whole", tmp_path / "out"
    assert main(arguments(manifest, whole)) in (0, 4)

    def rank(index: int, count: int) -> subprocess.Popen:
        variables = {"RANK": str(index), "WORLD_SIZE": str(count), "LOCAL_RANK": str(index)}
        return start(arguments(manifest, out, "--workers", "1"), variables)

    processes = [rank(index, 3) for index in range(3)]
    part = out / "clips-00002.jsonl"
    while processes[2].poll() is None and not (part.exists() and part.read_bytes().count(b"\n") >= 4):
        time.sleep(0.01)
    os.killpg(processes[2].pid, signal.SIGKILL)
    assert processes.pop().wait() == -signal.SIGKILL
    finish(processes)
    assert not (out / "summary.json").exists()  # lines are missing
    before = lines_in(out)
    assert 0 < before < 64
    step = {"SLURM_STEP_NUM_TASKS": "2"}
    given = arguments(manifest, out, "--workers", "1")
    finish([start(given, {**step, "SLURM_PROCID": str(i), "SLURM_LOCALID": str(i)}) for i in range(2)])
    assert lines_in(out) == 64
    assert_same_results(out, whole)


def test_a_rank_without_a_batch_and_the_last_one_to_finish(tmp_path: Path) -> None:
    """Two batches for three; one after the other, in reverse."""
    manifest, whole, out = write_manifest(tmp_path / "m.csv", 4), tmp_path / "whole", tmp_path / "out"
    assert main(arguments(manifest, whole)) in (0, 4)
    codes = []
    for index in (2, 1, 0):
        codes.append(main(arguments(manifest, out, "--rank" if index else "--shard", f"{index}/3", "--workers", "0")))
        assert (out / "summary.json").exists() == (index == 0)
    assert codes[:2] == [0, 0]
    assert_same_results(out, whole)
    assert len(rows_of(out)) == 8
    timings = [json.loads(path.read_text()) for path in sorted(out.glob("timing*.json"))]
    assert len(timings) == 3
