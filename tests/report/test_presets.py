"""Tables as papers have them: written by the run of a protocol, and from results."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import pytest

from codeczoo.benchmark.protocols import PROTOCOLS
from codeczoo.cli import main
from codeczoo.cli.benchmark import main as benchmark
from codeczoo.metrics.table import METRICS
from codeczoo.report.export import to_latex, to_markdown
from codeczoo.report.presets import PRESETS, Column, with_columns
from codeczoo.report.results import read_report
from tests.report.conftest import CODECS


def test_the_run_writes_its_table(manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["--dataset", str(manifest), "--codecs", "opus_12k", "g711_alaw", "--protocol", "paper-speech"]
    assert benchmark([*arguments, "--metrics", "stoi", "lsd", "mel", "--workers", "0", "--out", str(out)]) == 4
    head = (out / "table.md").read_text("utf-8").splitlines()[0]
    assert head == "| codec | kbit/s | clips | failed | STOI ↑ | Mel ↓ |", "the preset's columns, in its order"
    tex = (out / "table.tex").read_text("utf-8")
    assert r"codec & kbit/s & STOI $\uparrow$ & Mel $\downarrow$ \\" in tex and r"\bottomrule" in tex
    rows = list(csv.DictReader((out / "table.csv").open(encoding="utf-8")))
    summary = json.loads((out / "summary.json").read_text())["codecs"]
    assert float(rows[0]["stoi_mean"]) == summary[rows[0]["codec"]]["overall"]["stoi"]["mean"]
    assert summary["opus_12k"]["overall"]["lsd"]["mean"] is not None, "measured, and in no column"


def test_a_table_of_any_results(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(results), "--format", "md", "--columns", "paper-speech"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("| STOI ↑ | Mel ↓ | SI-SDR ↑ |") and len(lines) == 2 + len(CODECS)
    assert main(["report", str(results), "--format", "csv", "--columns", "paper-speech"]) == 0
    row = next(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [name for name in row if name.endswith("_mean")] == ["stoi_mean", "mel_mean", "si_sdr_mean"]
    for more in (["--format", "md", "--metrics", "mel"], ["--format", "json"], []):
        assert main(["report", str(results), "--columns", "paper-speech", *more]) == 1
        assert "--columns chooses metrics itself" in capsys.readouterr().err


def test_a_column_may_have_another_unit(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "percent", (Column("mel", "Mel %", 1, 100),))  # type: ignore[arg-type]
    report = with_columns(read_report([results]), "percent")
    value = next(codec for codec in report.codecs if codec.name == "opus_12k").value("mel")
    assert value is not None and value.mean is not None
    (line,) = [line for line in to_markdown(report).splitlines() if line.startswith("| opus_12k ")]
    assert value.low is not None
    assert f"| {100 * value.mean:.1f} [{100 * value.low:.1f}, " in line
    assert f"{100 * value.mean:.1f}" in to_latex(report)


def test_an_error_rate_is_that_of_all_clips_together(results: Path, tmp_path: Path) -> None:
    """As a run with transcripts leaves it in summary.json: in percent, with the interval of the corpus."""
    folder = tmp_path / "results"
    shutil.copytree(results, folder)
    summary = json.loads((folder / "summary.json").read_text())
    summary["metrics"].append("wer")
    rates = {"mean": 0.5, "ci95": [0.4, 0.6], "corpus": 0.125, "ci95_corpus": [0.1, 0.15], "count": 4, "infinite": 0}
    for entry in summary["codecs"].values():
        entry["overall"]["wer"] = {**rates, "undefined": {}}
    (folder / "summary.json").write_text(json.dumps(summary))
    report = with_columns(read_report([folder]), "paper-speech")
    head, _, *lines = to_markdown(report).splitlines()
    assert "| WER % " in head
    assert all("| 12.50 [10.00, 15.00] (n 4) |" in line for line in lines)


def test_a_preset_without_any_of_its_metrics_is_an_error(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "other", (Column("utmos", "UTMOS", 2),))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"none of the metrics of other was measured \(utmos\)"):
        with_columns(read_report([results]), "other")
    with pytest.raises(ValueError, match="there is no preset 'mine'; there are: paper-speech"):
        with_columns(read_report([results]), "mine")


def test_a_protocol_with_a_table_has_a_column_for_each_of_its_metrics() -> None:
    for name, columns in PRESETS.items():
        shown = [column.metric for column in columns]
        assert set(PROTOCOLS[name].metrics) <= set(shown) and len(shown) == len(set(shown))
        assert set(PROTOCOLS[name].metrics) <= set(METRICS)
