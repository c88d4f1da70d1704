"""The script for the one session that gets a GPU must not fail there for reasons that a CPU could have shown."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch

from codeczoo.base.catalogue import find_variant
from perf.gpu_check import order, promises, run, speed
from perf.gpu_check.promises import NAMES, Check
from tests.support.fake_device import DEVICE, FakeDevice
from tests.support.small import codec_of

TINY = "funcodec_en_libritts_16k_gr1nq32ds320"  # the smallest of the published networks
QUICK = "encodec_24k"  # one of the quickest; it streams
MUTE = ["--device", "cpu", "--quick", "--codecs", TINY]


@pytest.mark.slow
def test_everything_runs_and_what_it_finds_is_kept(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    wanted = [section for section in order.EVERYTHING if section != "pipeline"]  # it has a test of its own
    assert run.main([*MUTE[:-1], QUICK, "--out", str(out), "--sections", *wanted]) == 0
    record = json.loads(out.read_text())
    sections = {row["section"] for row in record["rows"]}
    assert sections == set(wanted)
    assert all(row["kept"] for row in record["rows"] if "kept" in row)
    assert not [row for row in record["rows"] if row.get("failed") and row.get("mode") not in ("fastest", "weights")]
    assert record["took"].keys() == {*(f"{QUICK} {section}" for section in order.SECTIONS), "all metric"}
    of = {section: [row for row in record["rows"] if row["section"] == section] for section in sections}
    assert [row["mode"] for row in of["precision"]] == ["exact", "fast", "fastest"]
    assert "policy" in of["precision"][1]
    assert {row["kind"] for row in of["drift"]} == {"batch size", "padding", "order", "precision", "device"}
    assert all(row["graphs"] for row in of["shapes"])
    table = out.with_suffix(".md").read_text()
    assert all(f"### {section}\n" in table for section in sections)
    assert "| exact |" in table


@pytest.mark.slow
def test_the_pipeline_is_measured_too(capsys) -> None:
    assert run.main(["--device", "cpu", "--quick", "--sections", "pipeline"]) == 0
    assert "| g711_ulaw | 3 |" in capsys.readouterr().out


def test_what_no_longer_fits_is_named(capsys) -> None:
    assert run.main([*MUTE, "--minutes", "0", "--sections", "golden", "drift", "metric"]) == 0
    assert f"left out: all codecs (metric), {TINY} (golden, drift)" in capsys.readouterr().out


def test_a_broken_promise_is_told(monkeypatch, capsys) -> None:
    """Another codec's truth, and a section that ends in an error, after which the next one goes on."""
    truth = dict(promises.golden_case(TINY)[0])
    truth["codes"] = 1023 - truth["codes"]
    monkeypatch.setattr(promises, "golden_case", lambda folder: (truth, {}))
    monkeypatch.setattr(Check, "ragged", lambda check: iter([1 / 0]))
    assert run.main([*MUTE, "--sections", "golden", "ragged", "graph"]) == 1
    shown = capsys.readouterr()
    assert f"promises broken: {TINY} golden, {TINY} ragged" in shown.out
    assert f"errors: {TINY} ragged" in shown.out
    assert "ZeroDivisionError: division by zero" in shown.err


def test_what_is_most_wanted_comes_first_and_everything_comes_once() -> None:
    found = list(order.steps(None, order.EVERYTHING))
    each = [(step.codec, section) for step in found for section in step.sections]
    assert len(each) == len(set(each))
    assert found[0] == ("mimi", ("golden", "hours", "precision", "shapes", "drift"))
    for open_before in ("sqcodec_16k_3kbps", "unicodec_24k", "s3tokenizer_v3_25hz", "xcodec2_16k"):
        assert [step.codec for step in found].index(open_before) < [step.codec for step in found].index(None)
    usual = {*order.SECTIONS} - order.ALONE.keys()
    for folder in order.folders():
        assert {section for name, section in each if name == folder} >= usual
        assert find_variant(NAMES.get(folder, folder))
    assert {name for name, section in each if section == "hours"} == {"mimi"}
    assert list(order.steps(["dac_16k"], ["hours"])) == [("dac_16k", ("hours",))], "asked for by name"


def test_hours_are_counted_by_precision_and_batch() -> None:
    rows = list(speed.check_hours(Check(codec_of("mimi", "small", torch.float32), {}, quick=True)))
    assert [row["mode"] for row in rows] == ["exact", "fast", "fastest", "weights"]
    assert rows[0]["codes"] == 1
    assert all(row["hours"] > 0 for row in rows)
    rows = list(speed.check_precision(Check(codec_of("mimi", "small", torch.float32), {}, quick=True)))
    assert [row["mode"] for row in rows] == ["exact", "fast", "fastest"]
    assert (rows[0]["codes"], rows[0]["audio_db"]) == (1, pytest.approx(300))
    assert "policy" in rows[1] and not any("failed" in row for row in rows)
    assert codec_of("mimi", "small", torch.float32).precision == "exact"


@pytest.mark.parametrize("name", ["mimi", "encodec_24k", "audiodec_24k"])
def test_streams_and_the_step_that_is_captured_are_checked(name: str) -> None:
    """All but the capture itself."""
    check = Check(codec_of(name, "small", torch.float64), {}, quick=True)
    rows = [*check.stream(), *check.graph()]
    assert [(row.get("graph"), row.get("op")) for row in rows] == [
        (False, None),
        (True, None),
        (None, "encode"),
        (None, "decode"),
    ]
    assert all(row["kept"] and row["differ"] == 0 for row in rows)


def test_the_check_leaves_nothing_on_the_cpu(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    with FakeDevice():
        codec = copy.deepcopy(codec_of("encodec_24k", "small", torch.float64)).to(DEVICE)
        check = Check(codec, {}, quick=True)
        assert all(row["kept"] for section in (check.ragged, check.passes, check.stream) for row in section())
        for row in speed.check_shapes(check):
            assert row["kept"] and row["graphs"] and not row["without"]
