"""Metrics of a run and error rates through the benchmark: what the summary says, and that batches do not matter."""

from __future__ import annotations

import csv
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from codeczoo import Audio, load_codec
from codeczoo.benchmark.embeddings import Sides, sets_of, summaries, write_sets
from codeczoo.benchmark.job import BenchmarkJob
from codeczoo.benchmark.measure import BenchmarkTask
from codeczoo.benchmark.outcome import CLOCKS, Outcome
from codeczoo.benchmark.settings import Settings
from codeczoo.cli.benchmark import main
from codeczoo.data.batching import Batch
from codeczoo.data.embedded import embedded_manifest
from codeczoo.data.files import embedded
from codeczoo.metrics import Moments, frechet_distance

CODECS = ("opus_6k", "opus_64k")


def run(out: Path, *more: str) -> dict[str, Any]:
    arguments = ["--codecs", *CODECS, "--workers", "1", "--quiet", "--device", "cpu", "--out", str(out), *more]
    assert main(arguments) in (0, 4, 5)  # 5: no model
    return json.loads((out / "summary.json").read_text())


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four embedded clips, two of each category, with what might be said in them."""
    path = tmp_path_factory.mktemp("data") / "clips.csv"
    with embedded_manifest().open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    chosen = [row for kind in ("speech", "music") for row in [r for r in rows if r["category"] == kind][:2]]
    said = ["a bad cab", "", "The Bed!", None]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "path", "category", "text"])
        for row, text in zip(chosen, said, strict=True):
            writer.writerow([row["id"], embedded_manifest().parent / row["path"], row["category"], text])
    return path


def test_a_frechet_distance_is_of_all_clips_together(manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    summary = run(out, "--dataset", str(manifest), "--metrics", "fad_zoo", "snr", "--batch", "3", "--save-audio")
    assert summary["metrics"] == ["fad_zoo", "snr"]
    zoo = load_codec("zoo_16k", device="cpu")

    def frames(folder: str) -> torch.Tensor:
        clips = [zoo.latents(Audio.load(path)).split()[0] for path in sorted((out / "audio" / folder).iterdir())]
        return torch.cat(clips, dim=1).T

    original = frames("original")
    for codec in CODECS:
        entry = summary["codecs"][codec]["overall"]["fad_zoo"]
        expected = frechet_distance(original, frames(codec))
        assert entry["mean"] == pytest.approx(expected, rel=1e-3), "audio is kept as FLAC, which rounds"
        assert (entry["count"], entry["undefined"], entry["embedding"]) == (4, {}, "zoo_16k")
        assert entry["frames"] == len(original) and "warning" not in entry
        assert set(summary["codecs"][codec]["categories"]) == {"speech", "music"}
        parts = [part["fad_zoo"] for part in summary["codecs"][codec]["categories"].values()]
        assert sum(part["frames"] for part in parts) == entry["frames"]
    low, high = (summary["codecs"][codec]["overall"]["fad_zoo"]["mean"] for codec in CODECS)
    assert low > 3 * high > 0, "fewer bits lie further off"
    network = json.loads((out / "run.json").read_text())["networks"]["fad_zoo"]
    assert network["network"] == "zoo_16k" and len(network["sha256"]) == 64
    other = run(tmp_path / "other", "--dataset", str(manifest), "--metrics", "fad_zoo", "--batch", "1")
    for codec in CODECS:
        mean = other["codecs"][codec]["overall"]["fad_zoo"]["mean"]
        assert mean == pytest.approx(summary["codecs"][codec]["overall"]["fad_zoo"]["mean"], rel=1e-4)


def test_parts_of_a_batch_add_up_to_it() -> None:
    """As a process that died leaves them, and a machine of a cluster sends them."""
    generator = torch.Generator().manual_seed(0)
    sides = [Sides(*(Moments.of(torch.randn(20, 4, generator=generator)) for _ in range(2))) for _ in range(3)]
    task = BenchmarkTask(Batch(0, (), 0.0), ("opus_6k",))
    outcomes = [
        Outcome(0, "opus_6k", [], [], dict.fromkeys(CLOCKS, 0.0), [], {"fad_zoo": {category: side}})
        for category, side in zip(("a", "b", "a"), sides, strict=True)
    ]
    merged = BenchmarkJob(embedded(), Settings()).merge(task, pickle.loads(pickle.dumps(outcomes)))
    found = merged.sets["fad_zoo"]
    assert (found["a"].reference.count, found["b"].estimate.count) == (40, 20)
    whole = sides[0] + sides[2]
    assert frechet_distance(*found["a"]) == pytest.approx(frechet_distance(*whole), rel=1e-12)


def test_few_frames_are_told(tmp_path: Path) -> None:
    """Sets come back from the disk as they were; too few frames have no distance, and few ones have a warning."""
    generator = torch.Generator().manual_seed(0)
    rows = [{"category": kind, "undefined": {}} for kind in ("few", "one", "many")]

    def sides(frames: int) -> Sides:
        return Sides(*(Moments.of(torch.randn(frames, 6, generator=generator) + 3) for _ in range(2)))

    sets = {"fad_zoo": {"few": sides(6), "one": sides(1), "many": sides(50)}}
    write_sets(tmp_path / "a" / "000000.npz", sets)
    found = summaries(["fad_zoo"], sets_of(tmp_path / "a"), rows, ["few", "one", "many"])
    for category in ("few", "many"):
        assert found[category]["fad_zoo"]["mean"] == frechet_distance(*sets["fad_zoo"][category])
    assert found["few"]["fad_zoo"]["warning"] == "6 frames of 6 dimensions: few frames make the distance larger"
    assert "warning" not in found["many"]["fad_zoo"] and "warning" not in found[None]["fad_zoo"]
    one = found["one"]["fad_zoo"]
    assert (one["mean"], one["count"], one["undefined"]) == (None, 0, {"too_few_frames": 1})
    assert (found[None]["fad_zoo"]["frames"], found[None]["fad_zoo"]["count"]) == (57, 3)


def test_an_embedding_that_cannot_be_had_is_undefined(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "nothing"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "nothing"))
    summary = run(tmp_path / "out", "--dataset", str(manifest), "--metrics", "fad_encodec", "snr")
    for codec in CODECS:
        entry = summary["codecs"][codec]["overall"]["fad_encodec"]
        assert (entry["mean"], entry["count"], entry["undefined"]) == (None, 0, {"no_model": 4})
    networks = json.loads((tmp_path / "out" / "run.json").read_text())["networks"]
    assert "encodec_24k" in networks["fad_encodec"]["missing"]


def test_error_rates_of_a_run(manifest: Path, tmp_path: Path) -> None:
    """The texts come from the manifest; a clip keeps its counts, and the summary has both rates."""
    pytest.importorskip("transformers")
    pytest.importorskip("jiwer")
    from tests.support.small_asr import save_whisper

    model = save_whisper(tmp_path / "whisper")
    out = tmp_path / "out"
    summary = run(out, "--dataset", str(manifest), "--metrics", "wer", "dcer", "--asr", str(model))
    rows = [json.loads(line) for line in (out / "clips.jsonl").read_text().splitlines()]
    for codec in CODECS:
        entry = summary["codecs"][codec]["overall"]["wer"]
        mine = [row["details"]["wer"] for row in rows if row["codec"] == codec and "wer" in row.get("details", {})]
        assert sorted(made["reference"] for made in mine) == ["", "", "a bad cab", "the bed"]
        assert entry["count"] == 2 and entry["undefined"] == {"empty_reference": 2}
        errors = sum(made["substitutions"] + made["deletions"] + made["insertions"] for made in mine)
        assert (entry["errors"], entry["units"]) == (errors, 5)
        assert entry["corpus"] == pytest.approx(errors / 5, rel=1e-5)
        low, high = entry["ci95_corpus"]
        assert low <= entry["corpus"] <= high
        assert "corpus" in summary["codecs"][codec]["overall"]["dcer"]
    facts = json.loads((out / "run.json").read_text())["networks"]["wer"]
    assert facts["model"] == str(model) and facts["normaliser"] == "english" and facts["language"] == "en"


def test_a_language_that_a_recogniser_does_not_know_is_said_before_anything_runs(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("transformers")
    pytest.importorskip("jiwer")
    from tests.support.small_asr import save_whisper

    model = save_whisper(tmp_path / "whisper")
    arguments = ["--dataset", str(manifest), "--codecs", "opus_6k", "--metrics", "dwer", "--out", str(tmp_path / "out")]
    assert main([*arguments, "--asr", str(model), "--asr-language", "fi", "--quiet"]) == 1
    assert "knows no language 'fi'; it knows: de, en" in capsys.readouterr().err
    assert not (tmp_path / "out" / "clips.jsonl").read_text()
