"""`codeczoo drift` of a codec that looks at what it must not, and of real ones."""

from __future__ import annotations

import copy
import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from codeczoo import BaseCodec
from codeczoo.base import Encoded
from codeczoo.data.open import open_source
from codeczoo.probe.conditions import Condition, Conditions
from codeczoo.probe.drift import DriftSettings, _Changed, drift
from codeczoo.probe.files import drift_markdown, percent
from codeczoo.probe.segments import cut_segments
from codeczoo.registry import load_codec
from tests.support.command_line import run
from tests.support.fake_device import DEVICE, FakeDevice
from tests.support.known_codecs import SINS, Sinful
from tests.support.small import codec_of


def drifted(folder: Path, **changes: Any) -> dict[tuple[str, str], dict[str, Any]]:
    """(kind, label) → row."""
    options = {"codecs": ("sinful",), "dataset": str(folder), "device": "cpu", "progress": False, "seconds": 0.5}
    options |= {"batches": (1, 2, 8), "threads": (1, 2), "chunks": (1.0, 2.0)}
    (codec,) = drift(DriftSettings(**{**options, **changes}))["codecs"]
    return {(row["kind"], row["label"]): row for row in codec["rows"]}


def test_each_sin_is_found_where_it_was_done_and_nowhere_else(folder: Path) -> None:
    before = torch.get_num_threads()
    rows = drifted(folder, threads=(before, before + 1))
    assert torch.get_num_threads() == before

    def sins(kind: str, label: str) -> dict[str, float]:
        shares = rows[kind, label]["codebooks"]
        return {sin: share for sin, share in zip(SINS, shares, strict=True) if share}

    assert sins("batch size", "1, once more") == {}
    assert sins("batch size", "2") == {"batch size": 1, "place in the batch": 0.5}
    assert sins("batch size", "8") == {"batch size": 1, "place in the batch": 7 / 8}
    for times in (2, 4):
        found = sins("padding", f"{times} × its length")
        assert found.pop("place in the batch") == pytest.approx(6 / 8)  # two batches of seven and one, of 8 segments
        assert found == {"batch size": 1, "padding": 1}
    assert sins("order", "reversed") == {"place in the batch": 1}
    assert sins("threads", str(before)) == {}
    assert sins("threads", str(before + 1)) == {"threads": 1}
    assert sins("precision", "bfloat16 autocast") == {"autocast": 1}
    assert sins("chunk length", "1 s") == sins("chunk length", "2 s") == {"length": 1}
    assert rows["batch size", "8"]["share"] == pytest.approx((1 + 7 / 8) / len(SINS))
    assert rows["batch size", "8"]["codes_changed"] == 8 * 50 + 7 * 50
    assert rows["device", "another"]["reason"] == "this machine has the CPU alone" or torch.cuda.is_available()


def test_the_cpu_is_compared_with_another_device() -> None:
    """The made-up one of the tests: all kinds of change there, and the same clips on the CPU."""
    here = codec_of("encodec_24k", "small", torch.float64)
    with FakeDevice():
        there = copy.deepcopy(here).to(DEVICE)
        loaded: list[dict[str, Any]] = []

        def load(**options: Any) -> BaseCodec:
            loaded.append(options)
            return here

        segments = cut_segments(open_source(None), there, 8, 0.1)
        conditions = Conditions(there, load, segments, there.num_codebooks)

        def changes(condition: Condition) -> dict[str, Any]:
            changed = _Changed(there.num_codebooks)
            for pair in condition.pairs():
                changed.add(pair)
            return changed.summary()

        (device,) = conditions.of_devices()
        assert (device.kind, device.label, device.reason) == ("device", "cpu", None)
        found = changes(device)
        assert loaded == [{"device": "cpu"}]
        assert found["clips"] == 8 and found["codes"] == sum(codes.codes.numel() for codes in conditions.alone)
        assert found["codes_changed"] == 0, "in float64 both give the same codes"
        for condition in (*conditions.of_batches([1, 2, 8]), *conditions.of_padding(), *conditions.of_order()):
            found = changes(condition)
            assert found["codes"] and not found["codes_changed"]
        (threads,) = conditions.of_threads([2])
        assert threads.reason == "the codec runs on cuda"
        other = copy.deepcopy(here)
        for parameter in other.parameters():
            parameter.mul_(0.9)
        (device,) = Conditions(there, lambda **options: other, segments, there.num_codebooks).of_devices()
        assert changes(device)["share"] > 0.1


def test_only_the_kinds_that_were_asked_for(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert {kind for kind, _ in drifted(folder, kinds=("order", "padding"))} == {"padding", "order"}
    with pytest.raises(ValueError, match="'wind'"):
        drifted(folder, kinds=("wind",))
    with pytest.raises(SystemExit):
        run("drift", "sinful", "--only", "wind")
    assert "wind" in capsys.readouterr().err


def test_frames_that_are_missing_count_as_changed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Sinful._encode

    def shorter(self: Sinful, waveform: torch.Tensor, lengths: torch.Tensor, count: int) -> Encoded:
        codes, frames, side = whole(self, waveform, lengths, count)
        return Encoded(codes, frames - 10 if len(waveform) > 1 else frames, side)

    monkeypatch.setattr(Sinful, "_encode", shorter)
    assert drifted(folder)["batch size", "2"]["codebooks"][0] == pytest.approx(10 / 50)


def test_a_condition_that_ends_in_an_error_is_named_and_the_others_go_on(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    whole = Sinful._encode

    def failing(self: Sinful, waveform: torch.Tensor, lengths: torch.Tensor, count: int) -> Encoded:
        if torch.is_autocast_enabled("cpu"):
            raise RuntimeError("not implemented for 'BFloat16'")
        return whole(self, waveform, lengths, count)

    monkeypatch.setattr(Sinful, "_encode", failing)
    (folder / "text.wav").write_text("this is no audio")  # it is left out, and named
    out = tmp_path / "out"
    arguments = ["drift", "sinful", "zoo_16k", "--dataset", folder, "--device", "cpu", "--seconds", 0.5, "-o", out]
    assert run(*arguments, "--batches", 1, 2, "--threads", 1, "--chunks", 1) == 3
    shown = capsys.readouterr()
    assert "failed: sinful: precision bfloat16 autocast: RuntimeError: not implemented" in shown.err
    assert "| batch size | 2 |" in shown.out
    assert "text.wav is left out" in caplog.text
    result = json.loads((out / "drift.json").read_text())
    rows = {row["label"]: row for row in result["codecs"][0]["rows"]}
    assert rows["bfloat16 autocast"]["failed"] and rows["bfloat16 autocast"]["share"] is None
    assert rows["2"]["share"] > 0
    assert (out / "drift.md").read_text() == drift_markdown(result) and (out / "index.html").is_file()
    table = list(csv.DictReader((out / "drift.csv").open(encoding="utf-8")))
    assert {(row["codec"], row["weights"]) for row in table} == {("sinful", "none"), ("zoo_16k", "real")}
    again = [row for row in table if row["label"] == "1, once more" and row["codebook"] == "all"]
    assert [row["share"] for row in again] == ["0.0", "0.0"]


def test_segments_are_even_different_and_never_silent() -> None:
    codec = load_codec("zoo_16k", device="cpu")
    segments = cut_segments(open_source(None), codec, 40, 0.5)
    assert len(segments.equal) == 40 and {tuple(clip.shape) for clip in segments.equal} == {(1, 8000)}
    assert all(bool(clip.any()) for clip in segments.equal)
    assert len({clip.numpy().tobytes() for clip in segments.equal}) == 40
    assert segments.long(100.0).shape == (1, 1_600_000)


def test_nothing_that_changed_reads_as_zero() -> None:
    assert percent(0.0) == "0" and percent(1e-7) == "1e-05 %" and percent(0.5) == "50.0 %"
