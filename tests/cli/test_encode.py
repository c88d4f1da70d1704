"""`codeczoo encode`: the codes that the library gives, where they belong, each clip once, and no clip lost."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from codeczoo import Codes, load_codec
from codeczoo.base.codes_file import CodesFile
from codeczoo.cli.inputs import Inputs, open_audio
from codeczoo.cli.outputs import Outputs
from codeczoo.data.batching import plan_batches
from codeczoo.data.open import Content, Entry, Source
from codeczoo.data.reader_pool import read_ahead
from tests.support.audio_files import mp3, wav, with_flac_length, without_length_frame, written
from tests.support.audio_files import sound as noise
from tests.support.command_line import files_below, run, write_sound

CODEC = "opus_12k"


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Clips of several rates, lengths, channel counts and forms, in folders."""
    folder = tmp_path / "recordings"
    write_sound(folder / "a.wav", 0.3)
    write_sound(folder / "b.flac", 0.5, 44100, 2, seed=1)
    write_sound(folder / "deep" / "er" / "c.ogg", 0.4, 48000, seed=2)
    write_sound(folder / "deep" / "d.wav", 0.2, seed=3)
    return folder


def test_a_folder_is_mirrored_and_each_clip_has_the_codes_that_it_has_alone(recordings: Path, tmp_path: Path) -> None:
    out = tmp_path / "codes"
    assert run("encode", recordings, "--codec", CODEC, "-o", out, "--quiet") == 0
    names = {"a": "a.wav", "b": "b.flac", "deep/er/c": "deep/er/c.ogg", "deep/d": "deep/d.wav"}
    assert files_below(out) == sorted(f"{name}.codes.safetensors" for name in names)
    codec = load_codec(CODEC, device="cpu")
    for name, source in names.items():
        codes, alone = Codes.load(out / f"{name}.codes.safetensors"), codec.encode(recordings / source)
        assert codes.codec == CODEC and torch.equal(codes.codes, alone.codes)
        assert torch.equal(codec.decode(codes).waveform, codec.decode(alone).waveform)


def test_names_that_would_collide_keep_their_suffix(tmp_path: Path) -> None:
    for name in ("x/a.wav", "x/a.flac", "x/b.wav"):
        write_sound(tmp_path / name)
    out = tmp_path / "codes"
    assert run("encode", tmp_path / "x", "--codec", CODEC, "-o", out, "--quiet") == 0
    assert files_below(out) == [f"{name}.codes.safetensors" for name in ("a.flac", "a.wav", "b")]


def test_several_inputs_are_mirrored_below_the_folder_that_holds_them_all(tmp_path: Path) -> None:
    for name in ("one/x.wav", "two/x.wav", "two/deep/y.wav", "three/z.wav"):
        write_sound(tmp_path / name)
    names = lambda *arguments: [clip.name for clip in open_audio([str(a) for a in arguments]).entries()]  # noqa: E731
    assert names(tmp_path / "one", tmp_path / "two") == ["one/x", "two/deep/y", "two/x"]
    assert names(tmp_path / "one" / "x.wav", tmp_path / "two" / "x.wav") == ["one/x", "two/x"]
    assert names(tmp_path / "one" / "x.wav") == ["x"]
    assert names(tmp_path / "t*" / "*.wav") == ["three/z", "two/x"]
    assert names(tmp_path / "two" / "**" / "*.wav") == ["deep/y", "x"]
    with pytest.raises(ValueError, match="would both be written as"):
        open_audio([str(tmp_path / "one"), str(tmp_path / "one" / "x.wav")])


def test_no_id_leads_out_of_the_folder(tmp_path: Path) -> None:
    sound = write_sound(tmp_path / "a.wav")
    rows = [{"path": str(sound), "id": i} for i in ("../../up", "/etc/root", "c:\\dos", "plain", ".", "..", "a%3Ab")]
    manifest = tmp_path / "list.jsonl"
    manifest.write_text("\n".join(json.dumps(row) for row in rows))
    out = tmp_path / "sub" / "codes"
    assert run("encode", manifest, "--codec", CODEC, "-o", out, "--quiet") == 0
    assert len(files_below(out)) == len(rows)
    everything = list(tmp_path.rglob("*.safetensors"))
    assert len(everything) == len(rows) and all(p.is_relative_to(out) for p in everything)
    assert (out / "etc" / "root.codes.safetensors").is_file() and (out / "plain.codes.safetensors").is_file()


def test_json_lines_tell_what_the_codes_say(recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "codes"
    arguments = ("encode", recordings, "--codec", CODEC, "-o", out, "--json")
    assert run(*arguments) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert sorted(row["id"] for row in rows) == ["a.wav", "b.flac", "deep/d.wav", "deep/er/c.ogg"]
    for row in rows:
        codes = Codes.load(row["output"])
        assert row["status"] == "ok" and row["codec"] == CODEC
        assert row["frames"] == int(codes.lengths[0]) and row["bits"] == float(codes.num_bits[0])
        assert row["bitrate"] == pytest.approx(row["bits"] / row["seconds"])
    assert {row["id"]: row["seconds"] for row in rows}["b.flac"] == 0.5
    # A run that goes on tells of all clips too.
    Path(rows[0]["output"]).unlink()
    assert run(*arguments) == 0
    again = {row["id"]: row for row in map(json.loads, capsys.readouterr().out.splitlines())}
    assert {row["status"] for row in again.values()} == {"ok", "kept"} and again[rows[0]["id"]]["status"] == "ok"
    for row in rows:
        assert again[row["id"]]["bits"] == row["bits"] and again[row["id"]]["frames"] == row["frames"]


def test_what_is_there_is_kept_and_what_is_missing_is_made(
    recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "codes"
    assert run("encode", recordings, "--codec", CODEC, "-o", out) == 0
    assert "encoded 4 clips" in capsys.readouterr().err
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    gone = out / "a.codes.safetensors"
    gone.unlink()
    assert run("encode", recordings, "--codec", CODEC, "-o", out) == 0
    assert "encoded 1 clip, 3 clips there already" in capsys.readouterr().err
    after = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    assert before.keys() == after.keys() and [p for p in before if after[p] != before[p]] == [gone]
    assert run("encode", recordings, "--codec", CODEC, "-o", out, "--overwrite", "--quiet") == 0
    assert all(path.stat().st_mtime_ns > after[path] for path in after)


def test_codes_of_another_codec_do_not_count_as_done(
    recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "codes"
    assert run("encode", recordings, "--codec", CODEC, "-o", out, "--quiet") == 0
    assert run("encode", recordings, "--codec", "g711_ulaw", "-o", out, "--quiet") == 1
    assert f"holds codes of {CODEC} with 1 codebooks, not of g711_ulaw" in capsys.readouterr().err
    assert {CodesFile.read(path).codec for path in out.rglob("*.safetensors")} == {CODEC}
    assert run("encode", recordings, "--codec", "g711_ulaw", "-o", out, "--quiet", "--overwrite") == 0
    assert {CodesFile.read(path).codec for path in out.rglob("*.safetensors")} == {"g711_ulaw"}


def test_codes_of_other_weights_do_not_count_as_done(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    sound, out = write_sound(tmp_path / "a.wav", 0.3, 24000), tmp_path / "codes"
    common = ("encode", sound, "--codec", "encodec_24k", "--device", "cpu", "-o", out, "--weights")
    path = tmp_path / "w.safetensors"
    save_file(load_codec("encodec_24k", "random", seed=1, device="cpu").state_dict(), path)
    assert run(*common, "random") == 0
    assert run(*common, "random") == 0
    assert "1 clip there already" in capsys.readouterr().err
    assert run(*common, path) == 1
    error = capsys.readouterr().err
    assert "made with the weights random, seed 0; the weights given now are sha256 " in error
    assert run(*common, path, "--overwrite") == 0
    assert (CodesFile.read(out / "a.codes.safetensors").weights or "") in error


def test_a_clip_that_fails_is_named_and_the_rest_goes_on(
    recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (recordings / "empty.wav").write_bytes(b"")
    (recordings / "text.wav").write_text("no audio\n" * 50)
    out = tmp_path / "codes"
    (out / "deep").mkdir(parents=True)
    (out / "deep" / "d.codes.safetensors.part").mkdir()  # this one cannot be written
    assert run("encode", recordings, "--codec", CODEC, "-o", out, "--json") == 3
    captured = capsys.readouterr()
    rows = {row["id"]: row for row in map(json.loads, captured.out.splitlines())}
    failed = {name for name, row in rows.items() if row["status"] == "failed"}
    assert failed == {"empty.wav", "text.wav", "deep/d.wav"} and len(rows) == 6
    for name in failed:
        assert f"failed: {name}: {rows[name]['reason']}" in captured.err
    assert "encoded 3 clips, 3 failed" in captured.err
    assert "empty" in rows["empty.wav"]["reason"] and "IsADirectoryError" in rows["deep/d.wav"]["reason"]


def test_one_clip_into_one_file_or_through_pipes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    sound = write_sound(tmp_path / "a.wav")
    target = tmp_path / "new" / "name.safetensors"
    alone = load_codec(CODEC, device="cpu").encode(sound)
    assert run("encode", sound, "--codec", CODEC, "-o", target) == 0
    assert torch.equal(Codes.load(target).codes, alone.codes)
    assert run("encode", sound, "--codec", CODEC, "-o", "-") == 0
    assert torch.equal(Codes.load(capfdbinary.readouterr().out).codes, alone.codes)
    assert run("encode", "-", "--codec", CODEC, stdin=sound.read_bytes(), monkeypatch=monkeypatch) == 0
    captured = capfdbinary.readouterr()
    assert torch.equal(Codes.load(captured.out).codes, alone.codes)
    assert captured.err == b""


STREAMS: dict[str, Callable[[np.ndarray], bytes]] = {
    "MP3 of no length": lambda x: without_length_frame(mp3(x, 16000)),
    "FLAC of no length": lambda x: with_flac_length(written(x, 16000, "FLAC"), 0),
    "Ogg Opus, three end to end": lambda x: written(x, 16000, "OGG", "OPUS") * 3,
    "WAV of no length": lambda x: wav(np.int16(x * 32767).tobytes(), 16000, sizes=(2**32 - 1, 2**32 - 1)),
}


@pytest.mark.parametrize("kind", STREAMS)
def test_what_programs_write_into_a_pipe_is_read_whole(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, out = STREAMS[kind](noise(16000, 16000)), tmp_path / "codes.safetensors"
    assert run("encode", "-", "--codec", "g711_ulaw", "-o", out, stdin=data, monkeypatch=monkeypatch) == 0
    codes = Codes.load(out)
    assert codes == load_codec("g711_ulaw", device="cpu").encode(data)
    assert codes.num_samples.item() >= (24000 if "Opus" in kind else 8000)


def test_a_checkpoint_of_two_models_is_told_which(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tensors = load_codec("zoo_16k", device="cpu").state_dict()
    both, speech = tmp_path / "both.pt", write_sound(tmp_path / "a.wav")
    half = {key: value / 2 if value.is_floating_point() else value for key, value in tensors.items()}
    torch.save({"model": half, "ema": tensors}, both)
    common = ("encode", speech, "--codec", "zoo_16k", "--device", "cpu", "-o", tmp_path / "codes.safetensors")
    assert run(*common, "--weights", both) == 1
    assert "(--weights PATH::ema in the shell)" in capsys.readouterr().err
    for given in (f"{both}::ema", f"zoo_16k={both}::ema"):
        assert run(*common, "--overwrite", "--weights", given) == 0
        codes = Codes.load(tmp_path / "codes.safetensors")
        assert torch.equal(codes.codes, load_codec("zoo_16k", device="cpu").encode(speech).codes)
    export = ("export", "zoo_16k", "--format", "safetensors", "--overwrite", "-o", tmp_path / "w.safetensors")
    assert run(*export, "--weights", f"zoo_16k={both}::ema") == 0


def test_a_neural_codec_at_a_chosen_rate(tmp_path: Path) -> None:
    sounds = [write_sound(tmp_path / "in" / f"{i}.wav", 0.2 + 0.1 * i, 24000, seed=i) for i in range(3)]
    common = ("--codec", "encodec_24k", "--weights", "random", "--device", "cpu", "--quiet")
    assert run("encode", tmp_path / "in", *common, "--bitrate", "3000", "-o", tmp_path / "rate") == 0
    assert run("encode", tmp_path / "in", *common, "--num-codebooks", "4", "-o", tmp_path / "count") == 0
    codec = load_codec("encodec_24k", "random", device="cpu")
    for sound in sounds:
        alone = codec.encode(sound, bitrate=3000)
        for folder in ("rate", "count"):
            codes = Codes.load(tmp_path / folder / f"{sound.stem}.codes.safetensors")
            assert codes.num_codebooks == 4 and torch.equal(codes.codes, alone.codes)
    assert run("encode", tmp_path / "in", *common, "--num-codebooks", "8", "-o", tmp_path / "rate") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.wav", "--codec", "mimmi"], "did you mean 'mimi'"),
        (["nowhere/", "--codec", CODEC], "nowhere"),
        (["a.wav"], "--codec"),
        (["--codec", CODEC], "INPUT"),
        (["a.wav", "b.wav", "--codec", CODEC, "-o", "one.safetensors"], "takes one clip and there are 2"),
        (["a.wav", "b.wav", "--codec", CODEC, "-o", "-"], "takes one clip and there are 2"),
        (["a.wav", "--codec", CODEC, "-o", "-", "--json"], "cannot both go to standard output"),
        (["a.wav", "--codec", CODEC, "-o", "b.wav"], "b.wav is a file"),
        (["a.wav", "--codec", CODEC, "--batch", "0"], "must be greater than zero"),
        (["a.wav", "--codec", CODEC, "--bitrate", "5"], "bitrate=5.0 was asked for"),
        (["a.wav", "--codec", CODEC, "--device", "tpu"], "tpu"),
        (["-", "-", "--codec", CODEC], "given twice"),
    ],
)
def test_wrong_usage_is_said_before_anything_runs(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.wav", "b.wav"):
        write_sound(tmp_path / name)
    try:
        code = run("encode", *arguments)
    except SystemExit as stop:
        code = stop.code  # type: ignore[assignment]
    assert code == 1
    assert message in capsys.readouterr().err
    assert sorted(os.listdir()) == ["a.wav", "b.wav"]


def test_limit_is_of_all_inputs_together(recordings: Path, tmp_path: Path) -> None:
    out = tmp_path / "codes"
    arguments = [recordings / "a.wav", recordings / "deep", "--codec", CODEC, "-o", out, "--limit", "2", "--quiet"]
    assert run("encode", *arguments) == 0
    assert files_below(out) == ["a.codes.safetensors", "deep/d.codes.safetensors"]


class Rows(Source):
    """A data set that comes as a stream: nobody knows how long it is before it is over."""

    name = "rows"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.walks = 0

    def entries(self) -> Iterator[Entry]:
        self.walks += 1
        for i in range(5):
            yield Entry(f"{i:02}.wav", write_sound(self.folder / f"{i}.wav", 0.1, seed=i).read_bytes())

    def read(self, entry: Entry) -> Content:
        return {"bytes": entry.key}


def test_a_stream_is_walked_once_and_keeps_its_ids(tmp_path: Path) -> None:
    rows = Rows(tmp_path / "sounds")
    inputs = Inputs([("rows", rows)], lambda identity: identity.removesuffix(".wav"))
    assert inputs.count is None and rows.walks == 0
    batches = list(plan_batches(inputs, 2, 100))
    assert rows.walks == 1
    clips = [entry for batch in batches for entry in batch.entries]
    assert [clip.name for clip in clips] == [f"{i:02}.wav" for i in range(5)]
    reads = list(read_ahead(inputs, batches, 0))
    assert [dict(read.failures) for read in reads] == [{}] * 3
    assert [int(n) for read in reads for group in read.groups for n in group.audio.lengths] == [1600] * 5
    several = Inputs([("rows", rows), ("others", Rows(tmp_path / "others"))], str)
    assert [clip.id for clip in several.entries()][4:6] == ["rows/04.wav", "others/00.wav"]
    assert len(list(Inputs([("rows", rows)], str, limit=3).entries())) == 3
    one = {"folder": "x", "inputs": ["rows"], "suffix": ".s", "file_suffixes": (".s",)}
    with pytest.raises(ValueError, match="an unknown number of clips"):
        Outputs("a.s", clips=inputs.count, overwrite=False, json_lines=False, **one)


def test_segments_of_a_manifest_are_clips_of_their_own(tmp_path: Path) -> None:
    write_sound(tmp_path / "a.wav", 0.5, 8000)
    rows = ["path,offset,duration", "a.wav,0.1,0.2", "a.wav,0.3,"]
    (tmp_path / "m.csv").write_text("\n".join(rows))
    assert run("encode", tmp_path / "m.csv", "--codec", "g711_ulaw", "-o", tmp_path / "out") == 0
    assert files_below(tmp_path / "out") == ["a.wav@0.1-0.3.codes.safetensors", "a.wav@0.3-.codes.safetensors"]
    whole = load_codec("g711_ulaw", device="cpu").encode(tmp_path / "a.wav").codes[0, 0]
    for name, begin, end in (("a.wav@0.1-0.3", 800, 2400), ("a.wav@0.3-", 2400, 4000)):
        found = Codes.load(tmp_path / "out" / f"{name}.codes.safetensors")
        assert found.codes[0, 0].tolist() == whole[begin:end].tolist()
