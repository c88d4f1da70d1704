"""The script for the one session that gets a GPU must not fail there for reasons that a CPU could have shown."""

from __future__ import annotations

import copy
import json

import pytest
import torch

from perf import gpu_check
from tests.support.fake_device import DEVICE, FakeDevice
from tests.support.small import codec_of

TINY = "funcodec_en_libritts_16k_gr1nq32ds320"  # the smallest of the published networks


def test_the_check_runs_and_keeps_what_it_finds(tmp_path) -> None:
    out = tmp_path / "gpu.json"
    assert gpu_check.main(["--device", "cpu", "--quick", "--codecs", TINY, "--out", str(out)]) == 0
    record = json.loads(out.read_text())
    sections = {row["section"] for row in record["rows"]}
    assert sections == {"golden", "ragged", "speed", "metric"}  # it looks ahead, and its passes are not exact
    assert all(row["kept"] for row in record["rows"] if "kept" in row)
    assert not any("failed" in row for row in record["rows"] if row.get("mode") != "bf16")
    assert "| exact |" in out.with_suffix(".md").read_text()


def test_what_no_longer_fits_is_named(monkeypatch, capsys) -> None:
    monkeypatch.setattr(gpu_check, "check_metrics", lambda device, quick: ())
    assert gpu_check.main(["--device", "cpu", "--quick", "--codecs", TINY, "--minutes", "0"]) == 0
    assert f"left out: {TINY}" in capsys.readouterr().out


def test_a_broken_promise_is_told(monkeypatch, capsys) -> None:
    """Another codec's truth."""
    truth = dict(gpu_check.golden_case(TINY)[0])
    truth["codes"] = 1023 - truth["codes"]
    monkeypatch.setattr(gpu_check, "golden_case", lambda folder: (truth, {}))
    monkeypatch.setattr(gpu_check, "check_metrics", lambda device, quick: ())
    for section in ("ragged", "passes", "speed"):
        monkeypatch.setattr(gpu_check.Check, section, lambda check: iter(()))
    assert gpu_check.main(["--device", "cpu", "--quick", "--codecs", TINY]) == 1
    assert f"promises broken: {TINY} golden" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["mimi", "encodec_24k", "audiodec_24k"])
def test_streams_and_the_step_that_is_captured_are_checked(name: str) -> None:
    """All but the capture itself."""
    check = gpu_check.Check(codec_of(name, "small", torch.float64), {}, quick=True)
    rows = [*check.stream(), *check.graph()]
    assert [(row.get("graph"), row.get("op")) for row in rows] == [
        (False, None),
        (True, None),
        (None, "encode"),
        (None, "decode"),
    ]
    assert all(row["kept"] and row["differ"] == 0 for row in rows)


def test_the_check_leaves_nothing_on_the_cpu() -> None:
    with FakeDevice():
        codec = copy.deepcopy(codec_of("encodec_24k", "small", torch.float64)).to(DEVICE)
        check = gpu_check.Check(codec, {}, quick=True)
        assert all(row["kept"] for section in (check.ragged, check.passes, check.stream) for row in section())
