"""The leaderboard in other forms than the page, and the command that writes it."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
from pathlib import Path

import pytest

from codeczoo.cli import main
from codeczoo.cli import report as report_command
from tests.report.conftest import CODECS


def test_csv_has_means_intervals_and_counts(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(results), "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == len(CODECS) * 4
    summary = json.loads((results / "summary.json").read_text())["codecs"]
    for row in rows:
        entry = summary[row["codec"]]
        values = entry["categories"][row["category"]] if row["category"] else entry["overall"]
        for metric, value in values.items():
            assert row[f"{metric}_mean"] == ("" if value["mean"] is None else str(value["mean"]))
            low, high = value["ci95"]
            assert (row[f"{metric}_ci95_low"], row[f"{metric}_ci95_high"]) == (
                ("", "") if low is None else (str(low), str(high))
            )
            assert int(row[f"{metric}_count"]) == value["count"]
            assert int(row[f"{metric}_undefined"]) == sum(value["undefined"].values())
    silent = next(row for row in rows if row["category"] == "audio")
    assert (silent["stoi_mean"], silent["stoi_count"], silent["stoi_undefined"]) == ("", "0", "1")


def test_markdown_is_a_table(results: Path, tmp_path: Path) -> None:
    assert main(["report", str(results), "--format", "md", "-o", str(tmp_path / "board.md")]) == 0
    lines = (tmp_path / "board.md").read_text("utf-8").splitlines()
    cells = [line.strip("| ").split(" | ") for line in lines]
    assert cells[0] == ["codec", "kbit/s", "clips", "failed", "mel ↓", "si_sdr ↑", "stoi ↑"]
    assert len(lines) == 2 + len(CODECS) and len({len(row) for row in cells}) == 1
    first = cells[2]
    assert first[0] == "opus_12k" and first[2:4] == ["4 of 4", "0"]
    assert first[4].endswith("(n 4)") and first[5].endswith("(3 of 4)") and "[" in first[5]


def test_json_has_all_of_it(hostile: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(hostile), "--format", "json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["runs"][0]["protocol"] == "zoo"
    assert content["metrics"]["mel"] == {"better": "lower"}
    codec = next(codec for codec in content["codecs"] if codec["codec"] == "opus_12k")
    assert (codec["overall"]["ok"], codec["overall"]["failed"]) == (2, 2)
    assert {failure["id"] for failure in codec["failures"]} == {"text", "nan"}
    assert codec["overall"]["values"]["stoi"]["undefined"] == {"silent_reference": 1}
    assert codec["categories"]["broken"]["values"] == {}


def test_what_goes_wrong_is_one_line_and_exit_code_1(
    results: Path, hostile: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    for arguments, message in (
        ([str(tmp_path / "nothing")], "no results of a benchmark there"),
        ([str(results), str(hostile)], "--allow-mixed"),
        ([str(results), "-o", str(tmp_path / "full")], "is no report"),
        ([str(results), "-o", "-"], "a page is a folder"),
        ([str(results), "--clips", "-1"], "--clips must not be negative"),
    ):
        assert main(["report", *arguments]) == 1
        error = capsys.readouterr().err
        assert error.startswith("error: ") and message in error and error.count("\n") == 1
    assert (tmp_path / "full" / "thesis.tex").exists()


def test_without_its_packages_the_page_says_what_to_install(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        report_command.importlib.util, "find_spec", lambda name: None if name == "plotly" else find(name)
    )
    assert main(["report", str(results), "-o", str(tmp_path / "report")]) == 1
    assert "needs plotly: pip install 'codeczoo[report]'" in capsys.readouterr().err
    assert main(["report", str(results), "--format", "md"]) == 0
