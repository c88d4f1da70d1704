"""`codeczoo tune`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from codeczoo.cli import main


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "tuning.json"
    monkeypatch.setenv("CODECZOO_TUNING", str(path))
    return path


def test_it_measures_keeps_shows_and_forgets(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", "--show"]) == 0
    assert f"nothing was measured: {table} is not there" in capsys.readouterr().out
    measured = ["tune", "zoo_16k", "--batch", "2", "--seconds", "0.1", "--device", "cpu", "--threads", "1"]
    assert main([*measured, "--minutes", "2"]) == 0
    out, errors = capsys.readouterr()
    assert f"kept in {table}" in out and "zoo_16k encode 2 x 0.1 s" in errors  # the progress bar
    for text in (out, shown(capsys)):
        lines = [line.split() for line in text.splitlines() if line.startswith("zoo_16k")]
        assert [line[:6] for line in lines] == [
            ["zoo_16k", operation, "exact", "1", "2", "0.1"] for operation in ("encode", "decode")
        ]
    assert main(["env", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["cache"]["tuning"]
    assert told["file"].endswith("tuning.json") and told["entries for this CPU"] == 2
    assert main(["tune", "--forget", "mimi"]) == 0 and "0 entries" in capsys.readouterr().out
    assert main(["tune", "--forget"]) == 0 and "2 entries" in capsys.readouterr().out
    assert not table.exists()


def shown(capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["tune", "--show", "zoo_16k"]) == 0
    return capsys.readouterr().out


def test_what_is_not_reached_in_time_is_named(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "tune",
        "zoo_16k",
        "--batch",
        "1",
        "--seconds",
        "0.1",
        "--minutes",
        "1e-6",
        "--device",
        "cpu",
        "--json",
    ]
    assert main(arguments) == 3
    out, errors = capsys.readouterr()
    assert json.loads(out)["entries"] == [] and len(json.loads(out)["left_out"]) == 2
    assert "left out: zoo_16k decode, 1 of 0.1 s: no time was left" in errors


def test_wrong_usage(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune"]) == 1
    assert "name the codecs to tune" in capsys.readouterr().err
    monkeypatch.setenv("CODECZOO_TUNING", "off")
    assert main(["tune", "zoo_16k"]) == 1
    assert "CODECZOO_TUNING=off" in capsys.readouterr().err
