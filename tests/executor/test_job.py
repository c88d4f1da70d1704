"""What executors rely on in every job: parts of a task make the whole, and Ray is not imported."""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from codeczoo import Codes, load_codec
from codeczoo.benchmark.job import BenchmarkJob
from codeczoo.benchmark.measure import BenchmarkTask
from codeczoo.benchmark.settings import Settings
from codeczoo.cli.batch_job import AudioCommandJob, CommandResult, DecodeJob, DecodeTask
from codeczoo.cli.encode import _encode
from codeczoo.cli.inputs import CodesEntry, open_audio
from codeczoo.cli.outputs import audio_outputs
from codeczoo.data.batching import Batch, plan_batches
from codeczoo.data.files import find_files
from codeczoo.executor.job import BatchTask, Job
from codeczoo.executor.local import LocalExecutor
from codeczoo.tokens.job import TokenJob, TokenTask
from codeczoo.tokens.settings import TokenSettings
from tests.support.command_line import write_sound
from tests.support.runs import ROOT

CODECS = ("g711_ulaw", "g711_alaw")


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    """Clips of one rate and length, that one batch holds, and a broken file."""
    for i in range(5):
        write_sound(tmp_path / "in" / f"{i}.wav", 0.2, seed=i)
    (tmp_path / "in" / "text.wav").write_text("no audio")
    return tmp_path / "in"


def batch_of(source: Any) -> Batch:
    """All clips of a source in one batch."""
    return Batch(7, tuple(entry for batch in plan_batches(source, 100, 100.0) for entry in batch.entries), 1.0)


def jobs(sounds: Path, out: Path) -> Iterator[tuple[str, Job[Any, Any, Any], BatchTask]]:
    source = find_files(str(sounds))
    assert source is not None
    batch = batch_of(source)
    settings = Settings(codecs=CODECS, metrics=("mel", "waveform"), out=str(out), device="cpu")
    yield "benchmark", BenchmarkJob(source, settings), BenchmarkTask(batch, CODECS)
    yield "tokens", TokenJob(source, TokenSettings(codec=CODECS[0], out=str(out))), TokenTask(batch, 3)
    inputs = open_audio([str(sounds)])
    yield "encode", AudioCommandJob(inputs, {"name": CODECS[0]}, _encode), BatchTask(batch_of(inputs))
    files = []
    for i in range(5):
        path = out / f"{i}.safetensors"
        load_codec(CODECS[0], device="cpu").encode(sounds / f"{i}.wav").save(path)
        files.append(CodesEntry(str(i), path, names=(f"{i}",), missing=(0,), codec=CODECS[0]))
    (out / "cut.safetensors").write_bytes(path.read_bytes()[:-1])
    files.append(CodesEntry("cut", out / "cut.safetensors", names=("cut",), missing=(0,), codec=CODECS[0]))
    args = argparse.Namespace(out=str(out / "audio"), format=None, overwrite=False, json=False)
    _, make_writer = audio_outputs(args, "decoded", [], 6)
    yield "decode", DecodeJob({}, "exact", None, make_writer), DecodeTask(Batch(0, tuple(files), 1.0), CODECS[0])


KINDS = ("benchmark", "tokens", "encode", "decode")


def plain(result: Any) -> Any:
    """A result as values that can be compared: without clocks, tensors as lists, writers as what they write."""
    if isinstance(result, CommandResult):
        written = {}
        for id, name, output in result.outputs:
            file = io.BytesIO()
            output.write(file)
            content = file.getvalue()
            with suppress(ValueError):  # safetensors writes metadata in any order
                content = Codes.load(content).codes.tolist()  # type: ignore[assignment]
            written[id] = (name, content, output.facts)
        return written, sorted(result.failed)
    if hasattr(result, "rows"):
        return result.batch, result.codec, sorted(map(str, result.rows)), result.counts
    clips = {place: (clip.id, clip.codes.codes.tolist()) for place, clip in result.clips.items()}
    return result.shard, clips, sorted(map(str, result.failed))


@pytest.fixture
def job_and_task(request: pytest.FixtureRequest, sounds: Path, tmp_path: Path) -> tuple[Job[Any, Any, Any], BatchTask]:
    out = tmp_path / "out"
    out.mkdir()
    return next((job, task) for kind, job, task in jobs(sounds, out) if kind == request.param)


def run(job: Job[Any, Any, Any], *tasks: BatchTask) -> list[Any]:
    return list(LocalExecutor(job, "cpu", Path(), readers=0).run(tasks))


@pytest.mark.parametrize("job_and_task", KINDS, indirect=True)
def test_results_of_subsets_merge_to_that_of_the_whole(job_and_task: tuple[Job[Any, Any, Any], BatchTask]) -> None:
    job, task = job_and_task
    singles = job.split_for_retry(task)
    assert len(singles) == (2 if isinstance(task, BenchmarkTask) else 1)
    for single in singles:
        # The commands give a result for each part that went well and for each that failed: merged, they are one.
        whole = job.merge(single, run(job, single))
        entries = single.batch.entries
        parts = [job.subset(single, entries[:1]), job.subset(single, entries[1:4]), job.subset(single, entries[4:])]
        merged = job.merge(single, [job.merge(part, run(job, part)) for part in parts])
        assert plain(merged) == plain(whole)


@pytest.mark.parametrize("job_and_task", KINDS, indirect=True)
def test_each_clip_of_a_task_over_which_processes_die_is_named(
    job_and_task: tuple[Job[Any, Any, Any], BatchTask],
) -> None:
    job, task = job_and_task
    for single in job.split_for_retry(task):
        text = str(job.failed(single, "process", "it died"))
        assert text.count("it died") >= len(single.batch.entries)
        for entry in single.batch.entries:
            assert repr(entry.id) in text


@pytest.mark.parametrize("job_and_task", ["benchmark"], indirect=True)
def test_a_batch_has_one_result_for_each_codec(job_and_task: tuple[Job[Any, Any, Any], BatchTask]) -> None:
    """So that a process that is killed loses one codec of a batch, and not all of them."""
    job, task = job_and_task
    results = LocalExecutor(job, "cpu", Path(), readers=0).run([task])
    assert next(results).codec == CODECS[0]
    assert [outcome.codec for outcome in results] == [CODECS[1]]


def test_jobs_do_not_import_ray() -> None:
    modules = ("executor.job", "executor.engine", "benchmark.run", "tokens.tokenize", "cli.batch_job")
    code = f"import sys, {', '.join(f'codeczoo.{name}' for name in modules)}; sys.exit('ray' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0
