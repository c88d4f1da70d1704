"""Results read from their folders, joined, and refused where they cannot be."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from codeczoo.report.results import read_report
from tests.report.conftest import CLIPS, CODECS, HOSTILE, run_benchmark


def test_codecs_come_by_bitrate_with_values_and_counts(results: Path) -> None:
    report = read_report([results])
    rates = [codec.overall.bitrate for codec in report.codecs]
    assert {codec.label for codec in report.codecs} == set(CODECS)
    assert rates == sorted(rates)
    assert report.metrics == ["mel", "si_sdr", "stoi"]
    assert report.categories == ["audio", "music", "speech"]
    summary = json.loads((results / "summary.json").read_text())
    for codec in report.codecs:
        value = codec.value("si_sdr")
        assert value is not None
        assert value.mean == summary["codecs"][codec.name]["overall"]["si_sdr"]["mean"]
        assert (value.count, value.lost, value.undefined) == (3, 1, {"silent_reference": 1})
        assert codec.missing == 0


def test_a_category_has_its_own_counts_and_bitrate(results: Path) -> None:
    codec = next(codec for codec in read_report([results]).codecs if codec.name == "opus_12k")
    rows = [json.loads(line) for line in (results / "clips.jsonl").read_text().splitlines()]
    mine = [row for row in rows if row["codec"] == "opus_12k" and row["category"] == "speech"]
    part = codec.part("speech")
    assert part is not None
    assert (part.ok, part.failed) == (2, 0)
    assert part.bitrate == pytest.approx(sum(r["bits"] for r in mine) / sum(r["seconds"] for r in mine), rel=1e-5)
    assert part.bitrate != codec.overall.bitrate
    assert codec.part("nothing") is None


def test_a_category_whose_every_clip_failed_is_there(hostile: Path) -> None:
    report = read_report([hostile])
    assert report.categories == ["<b>speech</b>", "audio", "broken"]
    part = report.codecs[0].part("broken")
    assert part is not None
    assert (part.ok, part.failed, part.bitrate, part.values) == (0, 1, None, {})


def test_several_machines_lines_are_one_run(results: Path, tmp_path: Path) -> None:
    folder = tmp_path / "results"
    shutil.copytree(results, folder)
    lines = (folder / "clips.jsonl").read_text().splitlines(keepends=True)
    (folder / "clips.jsonl").write_text("".join(lines[:7]))
    (folder / "clips-00001.jsonl").write_text("".join(lines[7:]))
    assert read_report([folder]).codecs[0].categories == read_report([results]).codecs[0].categories


def test_runs_over_the_same_clips_join(results: Path, manifest: Path, tmp_path: Path) -> None:
    other = run_benchmark(manifest, tmp_path / "more", "--codecs", "g711_ulaw", "opus_12k", "--metrics", "mel", "lsd")
    report = read_report([results, other])
    labels = {codec.label for codec in report.codecs}
    assert labels == {"opus_24k", "mp3_32k", "g711_alaw", "g711_ulaw", "opus_12k (results)", "opus_12k (more)"}
    assert report.metrics == ["mel", "si_sdr", "stoi", "lsd"]
    new = next(codec for codec in report.codecs if codec.label == "g711_ulaw")
    assert new.value("stoi") is None
    assert new.value("lsd") is not None


def test_folders_of_one_name_are_told_apart(results: Path, tmp_path: Path) -> None:
    folders = [tmp_path / name / "results" for name in ("a", "b")]
    for folder in folders:
        shutil.copytree(results, folder)
    labels = {codec.label for codec in read_report(folders).codecs if codec.name == "mp3_32k"}
    assert labels == {"mp3_32k (a/results)", "mp3_32k (b/results)"}


def edited(results: Path, folder: Path, **changes: object) -> Path:
    """A copy whose run.json says something else."""
    shutil.copytree(results, folder)
    run = json.loads((folder / "run.json").read_text())
    for key, value in changes.items():
        for table in (run["settings"], run):
            if key in table and not isinstance(table[key], dict):
                table[key] = value
    (folder / "run.json").write_text(json.dumps(run))
    return folder


def test_what_is_not_comparable_is_refused(results: Path, hostile: Path, tmp_path: Path) -> None:
    for changes, message in (
        ({"protocol": "superb-2026-05"}, r"differ in protocol \(zoo, superb-2026-05\)"),
        ({"dataset": "other"}, "differ in dataset"),
        ({"limit": 3}, r"differ in limit \(None, 3\)"),
    ):
        other = edited(results, tmp_path / next(iter(changes)), **changes)
        with pytest.raises(ValueError, match=message):
            read_report([results, other])
    # The settings of both may be equal, and the folder's files have changed since.
    other = edited(results, tmp_path / "clips")
    text = (other / "clips.jsonl").read_text().replace(f'"{CLIPS[0]}"', '"renamed"')
    (other / "clips.jsonl").write_text(text)
    with pytest.raises(ValueError, match=rf"1 clips are only in results \({CLIPS[0]}\)"):
        read_report([results, other])
    mixed = read_report([results, hostile], allow_mixed=True)
    assert len(mixed.codecs) == len(CODECS) + 2
    assert all(codec.label.endswith((" (results)", " (results <i>)")) for codec in mixed.codecs)
    assert len(mixed.differences) == 1 and "differ in dataset" in mixed.differences[0]


def test_what_is_no_result_says_what_to_do(results: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no run\.json"):
        read_report([tmp_path])
    with pytest.raises(ValueError, match="given twice"):
        read_report([results, results / ".." / results.name])
    with pytest.raises(ValueError, match=r"format 'codeczoo\.benchmark/0'"):
        read_report([edited(results, tmp_path / "old", format="codeczoo.benchmark/0")])
    unfinished = edited(results, tmp_path / "unfinished")
    (unfinished / "summary.json").unlink()
    with pytest.raises(FileNotFoundError, match="not finished"):
        read_report([unfinished])
    broken = edited(results, tmp_path / "broken")
    with (broken / "clips.jsonl").open("a") as file:
        file.write('{"codec": "op')
    with pytest.raises(ValueError, match=rf"line {len(CODECS) * len(CLIPS) + 1}: not JSON"):
        read_report([broken])
    doubled = edited(results, tmp_path / "doubled")
    shutil.copy(doubled / "clips.jsonl", doubled / "clips-00001.jsonl")
    assert read_report([doubled]).runs[0].tally == read_report([results]).runs[0].tally  # the same part, done twice


def test_failures_and_undefined_values_are_in_the_tally(hostile: Path) -> None:
    (run,) = read_report([hostile]).runs
    assert run.tally.failed_in == {"text": "broken", "nan": "<b>speech</b>"}
    assert run.tally.ids == {HOSTILE, "silence", "text", "nan"}
    assert run.tally.lost[("stoi", "silent_reference")] == {"silence"}


def test_stand_ins_are_counted_and_reconstructions_have_no_bitrate(tmp_path: Path) -> None:
    """Of protocol superb-2026-05, over a data set that holds the reconstructions."""
    from codeczoo.benchmark.run import run_benchmark
    from codeczoo.benchmark.settings import Settings
    from codeczoo.report.page import write_report
    from tests.benchmark.test_protocols import RECORDINGS, Presynthesised

    class Silent(Presynthesised):
        def read(self, entry):
            silence = {"array": np.zeros(16000, np.float32), "sampling_rate": 16000}
            return silence if entry.key == "r_aishell_16k" else RECORDINGS / f"{entry.key}.flac"

    metrics = ("superb/pesq", "superb/mel")
    settings = Settings(
        metrics=metrics, protocol="superb-2026-05", out=str(tmp_path / "out"), workers=0, progress=False
    )
    run_benchmark(settings, Silent())
    report = read_report([tmp_path / "out"])
    opus = next(codec for codec in report.codecs if codec.name == "opus_12k")
    assert opus.overall.bitrate is None and opus.categories["speech"].bitrate is None
    assert sum(opus.overall.values["superb/pesq"].stand_ins.values()) == 1
    write_report([tmp_path / "out"], tmp_path / "page")
    page = (tmp_path / "page" / "failures.html").read_text()
    assert "(a stand-in is in the mean)" in page
