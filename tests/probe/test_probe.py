"""`codeczoo probe` of a codec whose codes are known, and of real ones."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
import torch

from codeczoo.data.open import open_source
from codeczoo.probe.run import probe
from codeczoo.probe.settings import ProbeSettings
from tests.probe.conftest import FRAMES
from tests.support.command_line import run


def probed(folder: Path, **changes: Any) -> dict[str, Any]:
    options = {"codecs": ("known",), "dataset": str(folder), "out": "", "workers": 0, "progress": False}
    return probe(ProbeSettings(**{**options, **changes}))


def test_what_is_known_is_found(folder: Path) -> None:
    (codec,) = probed(folder, repeats=3)["codecs"]
    assert (codec["clips"], codec["frames"], codec["failed"]) == (6, 6 * FRAMES, [])
    assert codec["nominal_bitrate"] == pytest.approx(100 * 24)
    levels, negatives, turns = codec["codebooks"]
    assert [book["entropy_bits"] for book in codec["codebooks"]] == pytest.approx([1, 1, 2])
    assert [book["dead"] for book in codec["codebooks"]] == [254, 254, 252]
    assert levels["perplexity"] == pytest.approx(2) and turns["equal_by_chance"] == pytest.approx(1 / 4)
    assert levels["entropy_bits_miller_madow"] == pytest.approx(1 + 1 / (2 * 6 * FRAMES * math.log(2)))
    assert codec["entropy_bitrate"] == pytest.approx(100 * 4)
    assert negatives["dead_if_even"] == pytest.approx(256 * (255 / 256) ** (6 * FRAMES))

    pairs = {(row["first"], row["second"]): row for row in codec["mutual_information"]["pairs"]}
    assert pairs[0, 1]["plugin"] == pytest.approx(1) and pairs[0, 1]["excess"] == pytest.approx(1, abs=0.01)
    assert pairs[0, 2]["plugin"] == pytest.approx(0, abs=1e-9)

    stability = codec["stability"]
    assert [book["share"] for book in stability["shift"]["codebooks"]] == [1, 1, 1]
    assert [book["share"] for book in stability["gain"]["codebooks"]] == [0.5, 0.5, 1]  # 2 stays 2, and 40 is 45
    # The loud clips' noise has a deviation of 0.4 levels, and half a level changes a code.
    stays = math.erf(0.5 / 0.4 / math.sqrt(2))
    noise = [book["share"] for book in stability["noise"]["codebooks"]]
    assert noise[:2] == pytest.approx([(1 + stays) / 2] * 2, abs=0.03) and noise[2] == 1
    assert [step["repetition"] for step in stability["reencode"]] == [1, 2, 3]
    for step in stability["reencode"]:
        assert step["first"]["all"]["share"] == step["previous"]["all"]["share"] == 1

    orders = codec["ngram"]["orders"]
    assert [row["order"] for row in orders] == [0, 1, 2, 3]
    assert orders[0]["bits"] == [8, 8, 8] and orders[0]["bits_per_second"] == pytest.approx(2400)
    assert orders[1]["bits"][2] == pytest.approx(2, abs=0.05) and orders[2]["bits"][2] < 0.1
    assert orders[2]["bits_per_frame"] == pytest.approx(sum(orders[2]["bits"]))
    assert (codec["ngram"]["train_clips"], codec["ngram"]["test_clips"]) == (5, 1)


def test_results_do_not_depend_on_the_batches(folder: Path) -> None:
    one, other = (probed(folder, batch=batch)["codecs"][0] for batch in (1, 4))
    assert one == other


def test_a_small_sample_bounds_what_is_kept_and_says_so(folder: Path) -> None:
    (codec,) = probed(folder, sample_frames=100, repeats=0)["codecs"]
    found = codec["mutual_information"]
    assert found["frames"] <= 100 and not found["whole"]
    assert all(row["observations"] == found["frames"] for row in found["pairs"])
    assert codec["codebooks"][0]["codes"] == 6 * FRAMES  # counted over everything
    assert codec["stability"]["reencode"] == []


def test_a_silent_clip_gets_no_noise_and_one_clip_no_n_grams(tmp_path: Path) -> None:
    sf.write(tmp_path / "silent.wav", np.zeros(3200), 16000)
    (codec,) = probed(tmp_path)["codecs"]
    noise = codec["stability"]["noise"]
    assert noise["left_out"] == {"silent: noise has no level": 1} and noise["all"]["share"] is None
    assert codec["ngram"] == {**codec["ngram"], "orders": [], "reason": "too_few_clips"}


def test_a_clip_of_one_sample_is_not_shifted(tmp_path: Path) -> None:
    sf.write(tmp_path / "short.wav", np.full(1, 0.5), 16000)
    (codec,) = probed(tmp_path)["codecs"]
    assert codec["stability"]["shift"]["left_out"] == {"too short to be shifted": 1}
    assert codec["stability"]["gain"]["clips"] == 1 and codec["failed"] == []


def test_codebooks_of_different_rates_and_a_tokenizer_without_a_decoder(folder: Path) -> None:
    """The slow code is the fast one's half, so that it is known from it: two bits."""
    (codec,) = probed(folder, codecs=("uneven",))["codecs"]
    assert [book["codes"] for book in codec["codebooks"]] == [6 * FRAMES // 2, 6 * FRAMES]
    (pair,) = codec["mutual_information"]["pairs"]
    assert pair["observations"] == 6 * FRAMES and pair["plugin"] == pytest.approx(2)
    assert codec["entropy_bitrate"] == pytest.approx(50 * 2 + 100 * 3)
    orders = codec["ngram"]["orders"]
    assert orders[0]["bits_per_frame"] == 8 / 2 + 8 and orders[2]["bits_per_frame"] < 0.2
    assert codec["stability"]["reencode"] == [] and codec["stability"]["reencode_reason"] == "no_decoder"


def test_random_weights_are_told() -> None:
    source = open_source(None, limit=1)
    options = {"out": "", "workers": 0, "progress": False, "repeats": 0, "shuffles": 1, "num_codebooks": 2}
    found = [
        probe(ProbeSettings(codecs=("zoo_16k",), weights=weights, **options), source)["codecs"][0]
        for weights in ({}, {"zoo_16k": "random"})
    ]
    assert [codec["random_weights"] for codec in found] == [False, True]
    assert len(found[0]["codebooks"]) == 2 and found[0]["nominal_bitrate"] == 1000


def test_the_command_writes_everything_and_names_what_failed(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "text.wav").write_text("this is no audio\n" * 100)
    out = tmp_path / "out"
    arguments = ["probe", "known", "--dataset", folder, "--repeats", 1, "--workers", 0, "-o", out]
    assert run(*arguments) == 3
    shown = capsys.readouterr()
    assert "failed: text.wav: read: " in shown.err and "known" in shown.out
    result = json.loads((out / "probe.json").read_text())
    assert [failure["id"] for failure in result["codecs"][0]["failed"]] == ["text.wav"]
    tables = {path.name: list(csv.DictReader(path.open(encoding="utf-8"))) for path in out.glob("*.csv")}
    assert set(tables) == {"codebooks.csv", "mutual_information.csv", "stability.csv", "ngrams.csv"}
    assert tables["codebooks.csv"][0]["entropy_bits"] == "1.0"
    assert len(tables["mutual_information.csv"]) == 3
    gain = [row for row in tables["stability.csv"] if row["change"] == "+1 dB"]
    assert [(row["codebook"], row["share"]) for row in gain][1:] == [("0", "0.5"), ("1", "0.5"), ("2", "1.0")]
    assert (out / "index.html").is_file()

    before = (out / "probe.json").read_bytes()
    assert run(*arguments) == 1  # results are there
    assert "--overwrite" in capsys.readouterr().err and (out / "probe.json").read_bytes() == before
    assert run("probe", "nothing_such", "--overwrite", "-o", out) == 1
    assert (out / "probe.json").read_bytes() == before  # nothing is removed before there is something new
    assert run(*arguments, "--overwrite", "--quiet") == 3
    assert (out / "probe.json").read_bytes() == before  # the same results give the same bytes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["probe", "opus_12k"], "bytes of a compressed file"),
        (["probe", "nocodec_*"], "no codec is called"),
        (["probe", "zoo_16k", "--num-codebooks", 99], "zoo_16k has 12"),
        (["probe", "zoo_16k", "--gain", "nan"], "gain must be a finite number"),
        (["probe", "known", "--workers", 0, "--weights", "known=random"], None),
        (["drift", "opus_12k"], "leave them out"),
        (["drift", "zoo_16k", "--seconds", 100], "--seconds"),
    ],
)
def test_wrong_input_is_named(
    arguments: list[object], message: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(*arguments, "--limit", 1, "--quiet", "-o", out) == (1 if message else 0)
    assert message is None or message in capsys.readouterr().err
    assert message is None or not out.exists()


def test_a_codec_without_weights_is_named_and_the_others_are_measured(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command, own in (("probe", ["--repeats", 0, "--workers", 0]), ("drift", ["--batches", 1, "--threads", 1])):
        out = tmp_path / command
        arguments = [command, "dac_16k", "known", "--weights", f"dac_16k={tmp_path}/nothing.pth", "--dataset", folder]
        assert run(*arguments, *own, "--quiet", "-o", out) == 1
        result = json.loads((out / f"{command}.json").read_text())
        assert [codec["name"] for codec in result["codecs"]] == ["known"]
        assert "nothing.pth" in result["unavailable"]["dac_16k"] and "nothing.pth" in (out / "index.html").read_text()
    assert run("probe", "dac_16k", "--weights", f"dac_16k={tmp_path}/nothing.pth", "-o", tmp_path / "alone") == 1
    assert "nothing.pth" in capsys.readouterr().err and not (tmp_path / "alone").exists()


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    for command in ("probe", "drift"):
        assert run(command, "zoo_16k", "--overwrite", "-o", tmp_path) == 1
        assert "holds no" in capsys.readouterr().err
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_torch_is_left_as_it_was(folder: Path) -> None:
    state = torch.random.get_rng_state()
    probed(folder, repeats=0)
    assert torch.equal(torch.random.get_rng_state(), state)
