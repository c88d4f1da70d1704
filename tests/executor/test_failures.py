"""One clip's failure is one clip's failure, whatever it is and wherever it happens: it is named, the others go on."""

from __future__ import annotations

import json
import os
import pickle
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import pytest
import torch

from codeczoo import load_codec
from codeczoo.benchmark.run import run_benchmark
from codeczoo.benchmark.settings import Settings
from codeczoo.cli import main
from codeczoo.cli.benchmark import main as benchmark
from codeczoo.data.batching import Batch
from codeczoo.data.files import find_files
from codeczoo.data.reader_pool import _Reader
from codeczoo.metrics.pair import Pair, Result
from codeczoo.metrics.pool import PendingMetrics
from codeczoo.metrics.table import METRICS, Metric
from codeczoo.tokens import TokenSet
from tests.support.faults import FAULTS, LEVELS, NAMES, FaultySource, faulty_codecs, meet, write_clips
from tests.support.runs import rows_of

Clips = tuple[Path, list[str], list[str]]  # their folder, sound ones, and those of faults


@pytest.fixture(autouse=True)
def codecs() -> Iterator[None]:
    with faulty_codecs():
        yield


@pytest.fixture
def clips(tmp_path: Path) -> Clips:
    folder = tmp_path / "clips"
    return folder, *write_clips(folder)


def test_faults_are_what_they_are_called() -> None:
    for name, fault in FAULTS.items():
        with pytest.raises(BaseException) as caught:
            fault()
        assert type(caught.value).__name__ == name.split()[0]


def named(failures: Mapping[str, tuple[str, str]], faults: list[str], stage: str, but: Collection[str] = ()) -> None:
    """Each clip of a fault is named, with the stage and the kind of error."""
    assert sorted(failures) == sorted(faults)
    for name in faults:
        found, reason = failures[name]
        assert found == stage
        assert reason and "\n" not in reason
        kind = name.removesuffix(".wav").split()[0]
        assert kind in but or kind in reason.split(": ")[:2], (name, reason)  # RuntimeError: Panic: ...


def failures_of(rows: list[dict]) -> dict[str, tuple[str, str]]:
    return {row["id"]: (row["stage"], row["reason"]) for row in rows if row["status"] == "failed"}


@pytest.mark.parametrize(("codec", "stage"), [("faulty_encoder", "encode"), ("faulty_decoder", "decode")])
def test_the_benchmark_names_what_a_codec_fails_at(clips: Clips, tmp_path: Path, codec: str, stage: str) -> None:
    folder, sound, faults = clips
    out = tmp_path / "out"
    common = ["--dataset", str(folder), "--metrics", "waveform", "--quiet", "--workers", "0", "--out", str(out)]
    assert benchmark([*common, "--codecs", codec, "g711_ulaw"]) == 3
    rows = rows_of(out)
    named(failures_of([row for row in rows if row["codec"] == codec]), faults, stage)
    good = {row["id"]: row["metrics"] for row in rows if row["codec"] == "g711_ulaw"}
    assert len(good) == len(sound) + len(faults)
    scored = {row["id"]: row["metrics"] for row in rows if row["codec"] == codec and row["status"] == "ok"}
    assert scored == {name: good[name] for name in sound}


def faulty_metric(pair: Pair, names: Collection[str]) -> dict[str, Result]:
    for clip, length in zip(pair.reference, pair.lengths.tolist(), strict=True):
        meet(clip[0, :length] * 32768)
    values = torch.ones(len(pair.reference), dtype=torch.float64)
    return {name: Result(values, [None] * len(values)) for name in names}


def metric_that_fails_late(pair: Pair, names: Collection[str], pool: object) -> PendingMetrics:
    """As one does whose library is in other processes: what it raises comes when the batch is long done."""
    return PendingMetrics([], lambda: faulty_metric(pair, names))


@pytest.mark.parametrize("where", ["device", "pool"])
def test_the_benchmark_names_what_a_metric_fails_at(
    clips: Clips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    folder, sound, faults = clips
    engine = faulty_metric if where == "device" else metric_that_fails_late
    monkeypatch.setitem(METRICS, "faulty", Metric("faulty", faulty_metric, engine, "lower", where=where))  # type: ignore[arg-type, call-overload]
    if where == "pool":  # a library that is not there is no clip's fault
        (folder / "ModuleNotFoundError.wav").unlink()
        faults.remove("ModuleNotFoundError.wav")
    out = tmp_path / "out"
    arguments = ["--dataset", str(folder), "--metrics", "faulty", "--quiet", "--workers", "0", "--out", str(out)]
    assert benchmark([*arguments, "--codecs", "g711_ulaw"]) == 3
    rows = rows_of(out)
    named(failures_of(rows), faults, "metrics")
    assert {row["id"]: row["metrics"] for row in rows if row["status"] == "ok"} == {
        name: {"faulty": 1.0} for name in sound
    }
    used = json.loads((out / "statistics" / "g711_ulaw" / "000000.json").read_text())
    assert sum(used[0].values()) == sum(row["tokens"] for row in rows if row["status"] == "ok")


@pytest.mark.parametrize("workers", [0, 2])
def test_the_benchmark_names_what_a_reader_fails_at(clips: Clips, tmp_path: Path, workers: int) -> None:
    folder, sound, faults = clips
    found = find_files(str(folder))
    assert found is not None
    source = FaultySource("faulty", found.entries())
    source.main_process = os.getpid()
    if workers:
        source.deadly = "good3.wav"
    settings = Settings(codecs=("g711_ulaw",), metrics=("waveform",), out=str(tmp_path), device="cpu", progress=False,
                        batch=8, workers=workers)  # fmt: skip
    run_benchmark(settings, source)
    rows = rows_of(tmp_path)
    failures = failures_of(rows)
    if workers:
        assert failures.pop("good3.wav") == ("read", "the process that read it died, each of 3 times")
        sound.remove("good3.wav")
    # Errors of files say by themselves what is wrong; their kind is left out.
    said = ("KeyError", "UnicodeDecodeError", "OSError", "StopIteration", "EOFError")
    named(failures, faults, "read", but=said)
    assert sorted(row["id"] for row in rows if row["status"] == "ok") == sorted(sound)


def json_lines(text: str) -> dict[str, dict]:
    return {row["id"]: row for row in map(json.loads, text.splitlines())}


@pytest.mark.parametrize(
    ("command", "codec"), [("encode", "encoder"), ("reconstruct", "encoder"), ("reconstruct", "decoder")]
)
def test_commands_name_what_a_codec_fails_at(
    clips: Clips,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    command: str,
    codec: str,
) -> None:
    folder, sound, faults = clips
    out = tmp_path / "out"
    arguments = [command, str(folder), "--codec", f"faulty_{codec}", "-o", str(out), "--json", "--workers", "0"]
    assert main(arguments) == 3
    said = capsys.readouterr()
    rows = json_lines(said.out)
    named({id: ("", row["reason"]) for id, row in rows.items() if row["status"] == "failed"}, faults, "")
    assert sorted(id for id, row in rows.items() if row["status"] == "ok") == sorted(sound)
    assert all(f"failed: {name}: " in said.err for name in faults)
    assert len(list(out.iterdir())) == len(sound)


def test_decode_names_what_a_codec_fails_at(clips: Clips, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, sound, faults = clips
    codec = load_codec("faulty_decoder", device="cpu")
    codes = tmp_path / "codes"
    codes.mkdir()
    for name in sound + faults:
        codec.encode(folder / name).save(codes / f"{name}.codes.safetensors")
    (codes / "bad.codes.safetensors").write_bytes(b"\xff" * 100)
    assert main(["decode", str(codes), "-o", str(tmp_path / "out"), "--json"]) == 3
    rows = json_lines(capsys.readouterr().out)
    failed = {Path(id).name.removesuffix(".codes.safetensors"): row["reason"] for id, row in rows.items()
              if row["status"] == "failed"}  # fmt: skip
    assert failed.pop("bad")
    named({id: ("", reason) for id, reason in failed.items()}, faults, "")
    assert len(list((tmp_path / "out").iterdir())) == len(sound)


def test_tokenize_names_what_a_codec_fails_at(clips: Clips, tmp_path: Path) -> None:
    folder, sound, faults = clips
    out = tmp_path / "out"
    assert main(["tokenize", str(folder), "--codec", "faulty_encoder", "--out", str(out), "--workers", "0"]) == 3
    tokens = TokenSet(out)
    named({one["id"]: (one["stage"], one["reason"]) for one in tokens.index["failed"]}, faults, "encode")
    assert sorted(clip.id for clip in tokens) == sorted(sound)


def test_audio_that_cannot_be_kept_costs_no_result(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder, out = tmp_path / "clips", tmp_path / "out"
    sound, _ = write_clips(folder)
    (out / "audio").mkdir(parents=True)
    (out / "audio" / "g711_ulaw").write_text("a file where a folder should be")
    common = ["--dataset", str(folder), "--metrics", "waveform", "--quiet", "--workers", "0", "--save-audio", "2"]
    assert benchmark([*common, "--codecs", "g711_ulaw", "--out", str(out)]) == 0
    assert len(rows_of(out)) == len(sound) + len(NAMES)
    (event,) = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    assert event["event"] == "audio not kept"
    assert "audio of g711_ulaw is not kept" in caplog.text


def test_a_damaged_output_of_before_is_one_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sound, faults = write_clips(tmp_path / "clips")
    out = tmp_path / "out"
    arguments = ["encode", str(tmp_path / "clips"), "--codec", "g711_ulaw", "-o", str(out)]
    assert main(arguments) == 0
    name = sound[0].removesuffix(".wav")
    (out / f"{name}.codes.safetensors").write_bytes(b"\xff" * 100)
    for more in ([], ["--json"]):
        assert main([*arguments, *more]) == 3
        said = capsys.readouterr().err
        assert said.count("failed: ") == 1
        assert f"{name}.codes.safetensors is there already and cannot be read (" in said
        assert said.splitlines()[-1].startswith(f"encoded 0 clips, {len(sound) + len(faults) - 1} clips there already")
    assert main([*arguments, "--overwrite"]) == 0


def test_names_that_no_file_can_have_fail_by_themselves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sound, _ = write_clips(tmp_path / "clips")
    paths = {"x" * 300: sound[0], "y": "z" * 300 + ".wav", "w": "\0.wav", "ok": sound[1]}
    rows = [{"id": id, "path": f"clips/{path}"} for id, path in paths.items()]
    manifest = tmp_path / "m.jsonl"
    manifest.write_text("\n".join(map(json.dumps, rows)))
    assert main(["encode", str(manifest), "--codec", "g711_ulaw", "-o", str(tmp_path / "out"), "--json"]) == 3
    found = json_lines(capsys.readouterr().out)
    assert {id: row["status"] for id, row in found.items()} == {id: "ok" if id == "ok" else "failed" for id in paths}


class Slow(FaultySource):
    """A source that takes its time."""

    def read(self, entry):  # type: ignore[no-untyped-def]
        time.sleep(0.5)
        return super().read(entry)


def test_readers_of_a_run_that_was_killed_end_quietly(tmp_path: Path) -> None:
    sound, _ = write_clips(tmp_path)
    found = find_files(str(tmp_path / sound[0]))
    assert found is not None
    (entry,) = found.entries()
    reader = _Reader(Slow("slow", [entry]), ())
    reader._connection.send_bytes(pickle.dumps(Batch(0, (entry,), 1.0)))
    reader._connection.close()  # as the death of the run does
    reader._process.join(60)
    assert reader._process.exitcode == 0  # 1 is that of a traceback


def test_levels_of_faults_are_their_own() -> None:
    assert len(set(LEVELS[3 : 3 + len(NAMES)])) == len(NAMES)
