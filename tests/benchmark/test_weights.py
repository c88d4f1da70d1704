"""A results folder and the weights of its codecs: more codecs may come, the same one with other weights may not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import save_file

from codeczoo import load_codec
from codeczoo.benchmark.results import Results
from codeczoo.cli.benchmark import main
from tests.support.command_line import write_sound
from tests.support.runs import rows_of

CODEC = "encodec_24k"


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    sound = write_sound(tmp_path / "a.wav", 0.3, 24000)
    return ["--dataset", str(sound), "--metrics", "mel", "--device", "cpu", "--quiet", "--out", str(tmp_path / "out")]


def save_weights(path: Path, seed: int) -> Path:
    save_file(load_codec(CODEC, "random", seed=seed, device="cpu").state_dict(), path)
    return path


def run_json(out: Path) -> dict:
    return json.loads((out / "run.json").read_text())


def test_a_codec_with_weights_is_added_and_a_subset_runs_again(command: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main([*command, "--codecs", "opus_12k", "g711_ulaw"]) == 0
    both = ["--codecs", "opus_12k", CODEC, "--weights", f"{CODEC}=random"]
    assert main([*command, *both]) == 0
    assert [row["codec"] for row in rows_of(out)] == ["opus_12k", "g711_ulaw", CODEC]
    run, summary = run_json(out), (out / "summary.json").read_bytes()
    assert set(run["codecs"]) == {"opus_12k", "g711_ulaw", CODEC}
    assert run["settings"]["weights"] == {CODEC: "random"}
    assert list(json.loads(summary)["codecs"]) == ["opus_12k", CODEC]
    assert main([*command, "--codecs", "opus_12k"]) == 0
    assert list(json.loads((out / "summary.json").read_bytes())["codecs"]) == ["opus_12k"]
    assert run_json(out) == {**run, "codecs": run_json(out)["codecs"]} and run_json(out)["codecs"] == run["codecs"]
    assert main([*command, *both]) == 0
    assert (out / "summary.json").read_bytes() == summary
    assert len(rows_of(out)) == 3


def test_other_weights_of_the_same_codec_are_refused(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    one, two = (save_weights(tmp_path / f"{seed}.safetensors", seed) for seed in (1, 2))
    use = lambda path, *more: main([*command, "--codecs", CODEC, *more, "--weights", f"{CODEC}={path}"])  # noqa: E731
    assert use(one) == 0
    first = run_json(out)["codecs"][CODEC]["weights_hash"]
    lines = rows_of(out)
    assert use(two, "g711_ulaw") == 1
    error = capsys.readouterr().err
    second = load_codec(CODEC, two).weights_hash
    assert f"results of {CODEC} with the weights sha256 {first}" in error and f"now are sha256 {second}" in error
    assert use("random") == 1
    assert "now are random, seed 0" in capsys.readouterr().err
    assert rows_of(out) == lines and run_json(out)["codecs"][CODEC]["weights_hash"] == first
    copy = tmp_path / "copy"
    copy.mkdir()
    assert use(shutil.copy(one, copy), "g711_ulaw") == 0  # the same content in another place
    assert use(two, "--overwrite") == 0
    assert run_json(out)["codecs"][CODEC]["weights_hash"] == second


def test_the_weights_of_a_published_run_are_compared_by_hash_not_by_name(tmp_path: Path) -> None:
    published = {"name": "x", "weights_hash": "ab", "weights_source": "owner/name at 12"}
    with Results(tmp_path) as results:
        results.write_run({"settings": {"weights": {}}, "codecs": {"x": published, "y": {"weights_hash": None}}})
        results.check_weights({"x": {**published, "weights_source": "./file"}, "z": {"weights_hash": "cd"}})
        with pytest.raises(ValueError, match=r"results of x with the weights ab; .* now are cd"):
            results.check_weights({"x": {**published, "weights_hash": "cd"}})
        with pytest.raises(ValueError, match=r"results of y with the weights not known; .* now are random, seed 3"):
            results.check_weights({"y": {"weights_hash": None, "weights_source": "random, seed 3"}})
