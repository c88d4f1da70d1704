"""Metrics that judge the original as well: how they come about in a run, what its summary says, and what is said where
their network is missing."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch

from codeczoo import metrics
from codeczoo.base.audio import Audio
from codeczoo.benchmark.against_original import against_original
from codeczoo.cli.benchmark import main
from codeczoo.data import embedded_manifest
from codeczoo.metrics import judged, opinion
from codeczoo.metrics.networks import models
from codeczoo.metrics.networks.models import network
from codeczoo.metrics.table import with_twins, without_twins
from codeczoo.report.export import to_csv, to_latex, to_markdown
from codeczoo.report.results import read_report
from tests.support.missing_networks import without_packages

CLIPS = ("speech_es_word_16k", "music_pluck_mono_32k", "audio_silence_mono_24k")
CODECS = ("opus_6k", "g711_alaw")


def row(mine: float | str | None, original: float | None, speaker: str | None = None) -> dict:
    undefined = {name: "silent" for name, value in (("m", mine), ("m_reference", original)) if value is None}
    return {"metrics": {"m": mine, "m_reference": original}, "undefined": undefined, "speaker": speaker}


def test_the_difference_is_over_clips_that_have_both() -> None:
    rows = [row(3.0, 4.0), row(2.0, 4.0), row(1.0, None), row(None, 4.5), row("inf", 4.0)]
    found = against_original(rows, "m", "m_reference")
    assert found is not None
    assert (found["original"], found["difference"], found["count"]) == (4.0, -1.5, 2)
    assert found["undefined"] == {"silent": 2}
    assert found["ci95"] == (-2.0, -1.0)
    assert "speakers" not in found


def test_clips_of_a_speaker_are_drawn_together() -> None:
    rows = [row(3.0 - i / 10, 4.0, f"s{i // 3}") for i in range(6)]
    found = against_original(rows, "m", "m_reference")
    assert found is not None and found["speakers"] == 2
    assert found["ci95_speakers"] == pytest.approx((-1.4, -1.1))
    assert found["ci95"][0] > -1.4 and found["ci95"][1] < -1.1
    one = against_original(rows[:3], "m", "m_reference")
    assert one is not None and one["ci95_speakers"] == (None, None)


def test_without_a_pair_there_is_no_number_and_without_a_twin_nothing() -> None:
    none = against_original([row(None, 4.0)], "m", "m_reference")
    assert none is not None
    assert (none["original"], none["difference"], none["ci95"], none["count"]) == (None, None, (None, None), 0)
    assert against_original([{"metrics": {"m": 1.0}, "undefined": {}}], "m", "m_reference") is None


def test_names_with_and_without_their_twins() -> None:
    assert with_twins(["mel", "utmos", "utmos"]) == ["mel", "utmos", "utmos_reference"]
    assert without_twins(["mel", "utmos", "utmos_reference"]) == ["mel", "utmos"]
    assert without_twins(["utmos_reference"]) == ["utmos_reference"], "what was asked for by itself stays"


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = embedded_manifest().parent
    path = tmp_path_factory.mktemp("data") / "clips.csv"
    path.write_text("id,path\n" + "".join(f"{name},{folder / name}.flac\n" for name in CLIPS))
    return path


@pytest.fixture(scope="module")
def results(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[int]]:
    """A run with DistillMOS's real weights; and how many clips the network saw."""
    try:
        model = network("distillmos", torch.device("cpu")).model
    except models.NoModelError as error:
        pytest.skip(str(error))
    opinion._memory = judged.Memory()
    seen: list[int] = []
    hook = model.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    out = tmp_path_factory.mktemp("run") / "results"
    arguments = ["--dataset", str(manifest), "--codecs", *CODECS, "--metrics", "mel", "distillmos"]
    try:
        assert main([*arguments, "--save-audio", "--workers", "0", "--out", str(out), "--quiet"]) == 4
    finally:
        hook.remove()
    return out, seen


def test_originals_are_judged_without_being_asked_for_and_once(results: tuple[Path, list[int]]) -> None:
    out, seen = results
    assert sum(seen) == len(CODECS) * 3 + 2, "of the originals two: silence has no opinion"
    lines = [json.loads(line) for line in (out / "clips.jsonl").read_text().splitlines()]
    summary = json.loads((out / "summary.json").read_text())
    assert summary["metrics"] == ["mel", "distillmos"] and "missing" not in summary
    for codec in CODECS:
        mine = {line["id"]: line["metrics"] for line in lines if line["codec"] == codec}
        both = [mine[name] for name in CLIPS[:2]]
        own = [values["distillmos"] - values["distillmos_reference"] for values in both]
        found = summary["codecs"][codec]["overall"]["distillmos"]["against_original"]
        assert found["difference"] == pytest.approx(sum(own) / 2, rel=1e-5)
        assert (found["count"], found["undefined"]) == (2, {"silent_reference": 1})
        original = Audio.load(embedded_manifest().parent / f"{CLIPS[0]}.flac")
        expected = float(metrics.evaluate(original, original, metrics="distillmos")["distillmos"])
        assert mine[CLIPS[0]]["distillmos_reference"] == pytest.approx(expected, abs=1e-5)
        assert "against_original" not in summary["codecs"][codec]["overall"]["mel"]


def test_exports_tell_the_difference_beside_the_metric(results: tuple[Path, list[int]], tmp_path: Path) -> None:
    out, _ = results
    report = read_report([out])
    assert report.metrics == ["mel", "distillmos"]
    entry = json.loads((out / "summary.json").read_text())["codecs"]["opus_6k"]["overall"]["distillmos"]
    against = entry["against_original"]
    (found,) = [line for line in csv.DictReader(to_csv(report).splitlines()) if line["codec"] == "opus_6k"]
    assert float(found["distillmos_original"]) == against["original"]
    assert float(found["distillmos_difference"]) == against["difference"]
    assert "mel_original" not in found
    number = f"{against['difference']:+.2f}".replace("-", "−")
    (line,) = [line for line in to_markdown(report).splitlines() if "opus_6k" in line]
    assert f", {number} [" in line and f"from {against['original']:.2f} on 2" in line
    assert "→" not in line, "the mean is over three clips, the difference over two"
    tex = to_latex(report)
    (first,) = [line for line in tex.splitlines() if line.startswith("original &")]
    assert first == rf"original & -- & -- & {against['original']:.2f} & -- \\"
    assert r"$\Delta$" in tex and number.replace("−", "$-$") in tex
    rows = {row["codec"]: row for row in csv.DictReader((out / "summary.csv").open()) if row["metric"] == "distillmos"}
    assert float(rows["opus_6k"]["difference"]) == against["difference"]


def test_a_network_that_is_missing_is_said_and_has_its_exit_code(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ["--dataset", str(manifest), "--codecs", "g711_alaw", "--metrics", "mel", "distillmos"]
    with without_packages():
        assert main([*arguments, "--workers", "0", "--out", str(out)]) == 5
    told = capsys.readouterr().out
    assert "no values, the log says why: distillmos (not installed)" in told
    assert told.splitlines()[3].endswith("(not installed)")
    summary = json.loads((out / "summary.json").read_text())
    assert summary["missing"] == {"distillmos": "not_installed"}
    entry = summary["codecs"]["g711_alaw"]["overall"]["distillmos"]
    assert (entry["mean"], entry["undefined"]) == (None, {"not_installed": 3})
