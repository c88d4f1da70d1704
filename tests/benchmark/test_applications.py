"""The protocol of applications: which of its steps are done, what they found, and why others are not done."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import soundfile as sf
import torch

from codeczoo.base.audio import Audio
from codeczoo.benchmark.applications import CODEC_SUPERB, run_steps
from codeczoo.benchmark.trials import Trial, read_trials
from codeczoo.cli.benchmark import main
from codeczoo.data import embedded_manifest
from codeczoo.metrics.networks import models
from codeczoo.metrics.speaker_embedding import speaker_embeddings
from codeczoo.metrics.verification import equal_error_rate, speaker_score
from tests.support.missing_networks import without_packages

SPEAKERS = ("speech_en_female_16k", "speech_en_male_24k", "speech_de_female_22k")
CPU = torch.device("cpu")


def test_trial_lists_of_voxceleb_and_kaldi(tmp_path: Path) -> None:
    path = tmp_path / "trials.txt"
    path.write_text("1 a/00001.wav a/00002.wav\n\n0 a/00001.wav b/1.wav\nx y target\nx z nontarget\n")
    assert read_trials(path) == [
        Trial(True, "a/00001.wav", "a/00002.wav"),
        Trial(False, "a/00001.wav", "b/1.wav"),
        Trial(True, "x", "y"),
        Trial(False, "x", "z"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 a b\n2 a b\n", "line 2: '2 a b' is no trial"),
        ("1 a\n", "line 1: '1 a' is no trial"),
        ("a b same\n", "line 1"),
        ("\n", "there is no trial in it"),
    ],
)
def test_what_is_no_trial_list_is_named(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "trials.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_trials(path)
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_trials(tmp_path / "nothing.txt")


def test_wrong_usage_is_said_before_anything_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "trials.txt").write_text("1 a b\n")
    for arguments, message in (
        (["--protocol", "zoo", "--trials", str(tmp_path / "trials.txt")], "verifies no speakers"),
        (["--protocol", "codec-superb-full", "--trials", str(tmp_path / "none.txt")], "no such file"),
    ):
        assert main([*arguments, "--codecs", "g711_alaw", "--out", str(tmp_path / "out"), "--quiet"]) == 1
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three voices, each cut into two clips; a run over these with the weights of Resemblyzer."""
    try:
        models.network("resemblyzer", CPU)
    except models.NoModelError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("voices")
    for name in SPEAKERS:
        samples, rate = sf.read(embedded_manifest().parent / f"{name}.flac", dtype="float32")
        half = len(samples) // 2
        for i in range(2):
            sf.write(folder / f"{name}_{i}.wav", samples[i * half : (i + 1) * half], rate, subtype="FLOAT")
    ids = sorted(path.name for path in folder.glob("*.wav"))
    lines = [f"{int(a[:-6] == b[:-6])} {a} {b}" for a, b in itertools.combinations(ids, 2)]
    (folder / "trials.txt").write_text("\n".join([*lines, f"1 {ids[0]} gone.wav"]) + "\n")
    command = ["--dataset", str(folder / "*.wav"), "--codecs", "opus_6k", "g711_alaw", "--workers", "0", "--quiet"]
    command += ["--protocol", "codec-superb-full", "--metrics", "mel", "--out", str(folder / "out")]
    assert main([*command, "--trials", str(folder / "trials.txt"), "--speaker-network", "resemblyzer"]) == 0
    return folder


def test_every_step_says_what_it_found_or_why_not(run: Path) -> None:
    summary = json.loads((run / "out" / "summary.json").read_text())
    steps = {step["name"]: step for step in summary["applications"]}
    assert list(steps) == ["asr", "speaker_verification", "emotion", "audio_event"]
    assert steps["asr"] | {"done": False, "reason": "wer was not measured"} == steps["asr"]
    for name in ("emotion", "audio_event"):
        assert not steps[name]["done"] and "no implementation of it here" in steps[name]["reason"]
    verified = steps["speaker_verification"]
    assert verified["done"] and verified["model"] == "resemblyzer" and len(verified["pinned"]) == 64
    for codec in ("opus_6k", "g711_alaw"):
        found = verified["codecs"][codec]
        assert (found["targets"], found["others"]) == (3, 12)
        assert found["left_out"] == {"no saved audio": 1}
        assert 0 <= found["eer"] <= 0.5 and 0 <= found["min_dcf"] <= 1


def test_the_rate_is_that_of_the_clips_coded_on_both_sides(run: Path) -> None:
    """The same by hand from the saved audio."""
    summary = json.loads((run / "out" / "summary.json").read_text())
    found = summary["applications"][1]["codecs"]["opus_6k"]
    trials = read_trials(run / "trials.txt")[:-1]
    for folder, rate in (("opus_6k", found["eer"]), ("original", found["original"])):
        embeddings = {
            path.stem: speaker_embeddings(Audio.load(path), "resemblyzer", CPU)
            for path in sorted((run / "out" / "audio" / folder).glob("*.flac"))
        }
        assert len(embeddings) == 6
        scores = [speaker_score(embeddings[t.enrolled], embeddings[t.tested]) for t in trials]
        assert equal_error_rate(scores, [t.target for t in trials]).rate == pytest.approx(rate, abs=1e-9)


def test_a_step_whose_network_is_missing_says_so(run: Path) -> None:
    summary = json.loads((run / "out" / "summary.json").read_text())
    options = {"speaker_network": "resemblyzer", "device": CPU}
    with without_packages():
        steps = run_steps(CODEC_SUPERB, run / "out", summary, trials=run / "trials.txt", **options)
    assert not steps[1]["done"] and steps[1]["reason"].startswith("not_installed: the weights of resemblyzer")
    steps = run_steps(CODEC_SUPERB, run / "out", summary, trials=None, **options)
    assert steps[1]["reason"] == "no trial list was given (--trials)"


def test_what_is_no_voice_has_no_embedding(run: Path) -> None:
    assert speaker_embeddings(Audio.of(torch.zeros(1, 16000), 16000), "resemblyzer", CPU) is None
    with pytest.raises(ValueError, match="there is no speaker network 'ecapa'"):
        speaker_embeddings(Audio.of(torch.zeros(1, 16000), 16000), "ecapa", CPU)
