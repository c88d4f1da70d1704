"""A run with a limit goes on with a larger one: nothing is done again, and each clip counts once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from codeczoo.cli import main
from codeczoo.tokens import TokenSet
from tests.data.test_webdataset import shard, tar
from tests.support.broken_files import write_sounds
from tests.support.runs import rows_of

CODEC = "g711_ulaw"


@pytest.fixture(params=["folder", "tar, shuffled"])
def dataset(tmp_path: Path, request: pytest.FixtureRequest) -> list[str]:
    """As arguments; a shuffled tar keeps its order, so that a smaller limit is not the beginning of a larger one."""
    if request.param == "folder":
        (tmp_path / "in").mkdir()
        write_sounds(tmp_path / "in", 23)
        return [str(tmp_path / "in")]
    (tmp_path / "a.tar").write_bytes(tar(shard("s", 23)))
    return [str(tmp_path / "a.tar"), "--shuffle"]


def test_a_benchmark_grows(dataset: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    common = ["benchmark", "--dataset", *dataset, "--codecs", CODEC, "--metrics", "waveform", "--workers", "0"]
    common += ["--batch", "3", "--quiet", "--out", str(out)]
    seen: list[dict] = []
    for limit in (5, 5, 14, 23):
        assert main([*common, "--limit", str(limit)]) == 0
        rows = rows_of(out)
        assert len(rows) == limit and rows[: len(seen)] == seen
        seen = rows
    assert main(common) == 0  # without a limit: there are no more clips
    assert rows_of(out) == seen
    assert json.loads((out / "run.json").read_text())["limits"] == [5, 14, 23, None]
    used = [json.loads(path.read_text())[0] for path in sorted((out / "statistics" / CODEC).iterdir())]
    assert sum(sum(counts.values()) for counts in used) == sum(row["tokens"] for row in seen)
    whole = tmp_path / "whole"
    assert main([*common[:-1], str(whole)]) == 0
    summaries = [json.loads((folder / "summary.json").read_text())["codecs"][CODEC] for folder in (out, whole)]
    assert summaries[0]["codes"] == summaries[1]["codes"]
    assert main([*common, "--limit", "5"]) == 1
    assert "a run with other settings (limit)" in capsys.readouterr().err


def test_a_tokenisation_grows(dataset: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    common = ["tokenize", *dataset, "--codec", CODEC, "--out", str(out), "--workers", "0", "--shard-clips", "4"]
    before: dict[str, bytes] = {}
    for limit in (6, 15, 23):
        assert main([*common, "--limit", str(limit)]) == 0
        files = {path.name: path.read_bytes() for path in out.glob("tokens-*")}
        assert files.items() >= before.items()
        before = files
        ids = [clip.id for clip in TokenSet(out)]
        assert len(ids) == len(set(ids)) == limit
    assert main(common) == 0
    assert {path.name: path.read_bytes() for path in out.glob("tokens-*")} == before
    assert main([*common, "--limit", "6"]) == 1
    assert "tokens made with other settings (limit)" in capsys.readouterr().err
