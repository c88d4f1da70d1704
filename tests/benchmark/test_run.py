"""The benchmark end to end: real files, real codecs, kills, and everything that can be wrong with a clip."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from codeczoo.cli.benchmark import main

ROOT = Path(__file__).parent.parent.parent
RECORDINGS = ROOT / "tests" / "golden" / "metrics" / "audio"
METRICS = ["mel", "si_sdr", "stoi", "waveform"]


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Real recordings of mixed rate, channel count and length; and four files that are not what they seem."""
    folder = tmp_path / "recordings"
    folder.mkdir()
    for name in ("r_aishell_16k", "r_encodec_24k", "m_poly_44k_st", "s_en_8k", "s_hi_48k"):
        (folder / f"{name}.flac").write_bytes((RECORDINGS / f"{name}.flac").read_bytes())
    whole = (RECORDINGS / "s_zh_16k.flac").read_bytes()
    (folder / "truncated.flac").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.wav").write_bytes(b"")
    (folder / "text.wav").write_text("this is no audio\n" * 100)
    sf.write(folder / "nan.wav", np.full(16000, np.nan, dtype=np.float32), 16000, subtype="FLOAT")
    return folder


def rows_of(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "clips.jsonl").read_text().splitlines()]


def test_broken_files_are_named_and_the_rest_is_scored(recordings: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code = main(
        [
            "--dataset",
            str(recordings),
            "--codecs",
            "opus_12k",
            "g711_ulaw",
            "--metrics",
            *METRICS,
            "--out",
            str(out),
            "--quiet",
        ]
    )
    assert code == 3
    summary = json.loads((out / "summary.json").read_text())
    for codec in ("opus_12k", "g711_ulaw"):
        entry = summary["codecs"][codec]
        assert (entry["clips"], entry["ok"]) == (9, 5)
        failed = {f["id"]: f["reason"] for f in entry["failed"]}
        assert sorted(failed) == ["empty.wav", "nan.wav", "text.wav", "truncated.flac"]
        assert all(f["stage"] == "read" for f in entry["failed"])
        assert "empty" in failed["empty.wav"]
        assert "NaN" in failed["nan.wav"]
        assert "not readable as audio" in failed["text.wav"]
        for name in METRICS:
            assert entry["overall"][name]["count"] == 5
            low, high = entry["overall"][name]["ci95"]
            assert low <= entry["overall"][name]["mean"] <= high
        assert entry["bitrate"] > 1000
        assert entry["codes"]["levels"][0]["size"] == 256
    ok = [row for row in rows_of(out) if row["status"] == "ok"]
    assert len(ok) == 10
    assert {row["channels"] for row in ok} == {1, 2}
    run = json.loads((out / "run.json").read_text())
    assert {"codeczoo", "torch", "python"} <= set(run["versions"])
    timing = json.loads((out / "timing.json").read_text())
    assert timing["codecs"]["opus_12k"]["encode_rtf"] > 0


def test_more_bits_sound_better(recordings: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    main(
        [
            "--dataset",
            str(recordings),
            "--codecs",
            "opus_12k",
            "opus_64k",
            "--metrics",
            *METRICS,
            "--out",
            str(out),
            "--quiet",
        ]
    )
    codecs = json.loads((out / "summary.json").read_text())["codecs"]
    low, high = codecs["opus_12k"], codecs["opus_64k"]
    assert low["bitrate"] < high["bitrate"]
    for name, better in (("mel", -1), ("waveform", -1), ("si_sdr", 1), ("stoi", 1)):
        assert better * (high["overall"][name]["mean"] - low["overall"][name]["mean"]) > 0, name


def test_an_undefined_metric_has_its_reason_and_its_exit_code(tmp_path: Path) -> None:
    sf.write(tmp_path / "silence.wav", np.zeros(16000), 16000)
    out = tmp_path / "out"
    code = main(
        [
            "--dataset",
            str(tmp_path / "silence.wav"),
            "--codecs",
            "g711_alaw",
            "--metrics",
            "stoi",
            "mel",
            "--out",
            str(out),
            "--quiet",
        ]
    )
    assert code == 4
    (row,) = rows_of(out)
    assert row["metrics"]["stoi"] is None
    assert row["undefined"] == {"stoi": "silent_reference"}
    assert row["metrics"]["mel"] is not None


def test_a_manifest_gives_categories(tmp_path: Path) -> None:
    manifest = tmp_path / "m.csv"
    manifest.write_text(
        "id,path,category\n"
        f"one,{RECORDINGS / 's_en_8k.flac'},speech\n"
        f"two,{RECORDINGS / 'r_aishell_16k.flac'},speech\n"
        f"three,{RECORDINGS / 'n_pink_16k.flac'},audio\n"
    )
    out = tmp_path / "out"
    assert (
        main(
            [
                "--dataset",
                str(manifest),
                "--codecs",
                "g711_ulaw",
                "--metrics",
                "mel",
                "--out",
                str(out),
                "--quiet",
            ]
        )
        == 0
    )
    entry = json.loads((out / "summary.json").read_text())["codecs"]["g711_ulaw"]
    assert {name: m["mel"]["count"] for name, m in entry["categories"].items()} == {"audio": 1, "speech": 2}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--codecs", "opus_13k"], "did you mean"),
        (["--metrics", "pesq"], "no metric 'pesq'"),
        (["--dataset", "no/such/folder"], "no such folder"),
        (["--device", "cuda:99"], "not available here"),
        (["--codecs", "g711_ulaw", "--weights", "mimi"], "CODEC=PATH"),
        (["--codecs", "g711_ulaw", "mimi", "--weights", "nowhere"], "neither 'random' nor a file"),
    ],
)
def test_wrong_usage_is_said_before_anything_runs(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--out", str(tmp_path / "out"), "--quiet"]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out" / "clips.jsonl").exists() or not rows_of(tmp_path / "out")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch", "0"], "--batch: must be greater than zero; it is 0"),
        (["--limit", "many"], "--limit: must be a number; it is 'many'"),
        (["--workers", "-1"], "--workers: must not be less than zero"),
        (["--shard", "1of2"], "--shard/--rank: takes I/N"),
        (["--protocol", "mine"], "invalid choice: 'mine'"),
    ],
)
def test_wrong_usage(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 1
    assert message in capsys.readouterr().err


def test_another_run_in_the_same_folder_is_refused_unless_told(recordings: Path, tmp_path: Path, capsys) -> None:
    common = [
        "--dataset",
        str(RECORDINGS / "s_en_8k.flac"),
        "--codecs",
        "g711_ulaw",
        "--out",
        str(tmp_path / "out"),
        "--quiet",
    ]
    assert main([*common, "--metrics", "mel"]) == 0
    assert main([*common, "--metrics", "waveform"]) == 1
    assert "other settings (metrics)" in capsys.readouterr().err
    assert main([*common, "--metrics", "waveform", "--overwrite"]) == 0
    assert list(rows_of(tmp_path / "out")[0]["metrics"]) == ["waveform"]


def test_killed_three_times_and_resumed_gives_the_same_summary(tmp_path: Path) -> None:
    manifest = tmp_path / "m.csv"
    names = sorted(p.name for p in RECORDINGS.glob("*.flac"))[:40]
    manifest.write_text("id,path\n" + "".join(f"{name},{RECORDINGS / name}\n" for name in names))
    r = random.Random(0)

    def command(out: Path) -> list[str]:
        return [
            sys.executable, str(ROOT / "benchmarking.py"), "--dataset", str(manifest),
            "--codecs", "opus_12k", "g711_ulaw", "--metrics", *METRICS, "fad_zoo",
            "--batch", "4", "--workers", "1", "--out", str(out), "--quiet",
        ]  # fmt: skip

    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    assert subprocess.run(command(tmp_path / "whole"), env=env, check=False).returncode in (0, 4)
    broken = tmp_path / "broken" / "clips.jsonl"
    kills = 0
    for part in (0.1, 0.4, 0.7):
        process = subprocess.Popen(command(tmp_path / "broken"), env=env, start_new_session=True)
        # Wait until some of the work is on the disk, then strike at a random moment.
        while process.poll() is None and (
            not broken.exists() or broken.read_bytes().count(b"\n") < part * 2 * len(names)
        ):
            time.sleep(0.01)
        time.sleep(r.uniform(0, 0.2))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            kills += 1
        process.wait()
    assert kills == 3
    with broken.open("ab") as file:  # a line that a kill cut short
        file.write(b'{"codec": "opus_12k", "id": "hal')
    assert subprocess.run(command(tmp_path / "broken"), env=env, check=False).returncode in (0, 4)
    rows = rows_of(tmp_path / "broken")
    assert len(rows) == len({(row["codec"], row["id"]) for row in rows}) == 2 * len(names)
    summary = json.loads((tmp_path / "broken" / "summary.json").read_text())
    assert summary["codecs"]["opus_12k"]["overall"]["fad_zoo"]["mean"] > 0
    for name in ("summary.json", "summary.csv"):
        assert (tmp_path / "broken" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
