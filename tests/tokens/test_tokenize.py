"""Tokens of a data set: every format holds every clip's own codes, whatever was killed on the way."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from safetensors.torch import save_file

from codeczoo import load_codec
from codeczoo.cli import main
from codeczoo.tokens import FORMS, TokenSet, read_shard
from codeczoo.tokens.settings import TokenSettings
from codeczoo.tokens.tokenize import tokenize

SECONDS = (0.05, 0.31, 0.12, 0.2, 0.07, 0.4, 0.11, 0.25, 0.09)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine clips of mixed rates, categories, and among them one that is no audio."""
    folder = tmp_path_factory.mktemp("recordings")
    r = np.random.default_rng(0)
    lines = ["id,path,category"]
    for i, seconds in enumerate(SECONDS):
        rate = (16000, 24000)[i % 2]
        sf.write(folder / f"{i}.wav", 0.1 * r.standard_normal(int(rate * seconds)), rate)
        lines.append(f"clip/{i} é,{i}.wav,{'speech' if i % 2 else 'music'}")
        if i == 4:
            (folder / "text.wav").write_text("no audio")
            lines.append("broken,text.wav,speech")
    (folder / "clips.csv").write_text("\n".join(lines) + "\n")
    return folder / "clips.csv"


def settings_of(recordings: Path, out: Path, **more: object) -> TokenSettings:
    return TokenSettings(
        **{"codec": "g711_ulaw", "dataset": str(recordings), "out": str(out), "shard_clips": 4, "workers": 0,
           "progress": False, **more}  # type: ignore[arg-type]
    )  # fmt: skip


def files_of(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.glob("tokens-*"))}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_holds_what_encode_gives(form: str, recordings: Path, tmp_path: Path) -> None:
    index = tokenize(settings_of(recordings, tmp_path, form=form))
    assert index is not None
    assert (index["clips"], len(index["shards"])) == (9, 3)
    assert [(f["id"], f["stage"]) for f in index["failed"]] == [("broken", "read")]
    codec = load_codec("g711_ulaw")
    tokens = TokenSet(tmp_path, verify=True)
    assert [clip.id for clip in tokens] == [f"clip/{i} é" for i in range(9)]
    assert [clip.category for clip in tokens] == ["music", "speech"] * 4 + ["music"]
    for i, clip in enumerate(tokens):
        alone = codec.encode(recordings.parent / f"{i}.wav")
        assert torch.equal(clip.codes.codes, alone.codes)
        assert torch.equal(clip.codes.num_samples, alone.num_samples)
        assert (clip.codes.codec, clip.codes.sample_rate, clip.codes.codebook_sizes) == ("g711_ulaw", 8000, (256,))
    assert torch.equal(
        codec.decode(tokens[-1].codes).waveform, codec.decode(codec.encode(recordings.parent / "8.wav")).waveform
    )
    assert index["tokens"] == sum(int(clip.codes.counts.sum()) for clip in tokens)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("codec", ["encodec_48k", "snac_24khz", "bicodec"])
def test_side_values_and_strides_survive(codec: str, form: str, tmp_path: Path) -> None:
    """Of EnCodec 48 kHz (a scale for each second), SNAC (codebooks at several rates) and BiCodec (tokens of a whole
    clip); also the ragged batch."""
    from tests.support.small import codec_of

    made = codec_of(codec, "small", torch.float32)
    noise = np.random.default_rng(0).standard_normal((2, 60000)).astype(np.float32) * 0.1
    batch = made.encode([noise, noise[:, :9000]], made.sample_rate)
    from codeczoo.tokens.formats import Facts, Tokens
    from codeczoo.tokens.shards import without_padding

    clips = [Tokens(f"{i}", None, without_padding(codes)) for i, codes in enumerate(batch)]
    path = tmp_path / f"a{FORMS[form].suffix}"
    FORMS[form].write(path, Facts.of(batch), clips)
    for found, clip in zip(read_shard(path), clips, strict=True):
        assert torch.equal(found.codes.codes, clip.codes.codes)
        assert found.codes.strides == clip.codes.strides
        assert list(found.codes.side_info) == list(clip.codes.side_info)
        for name, value in clip.codes.side_info.items():
            assert torch.equal(found.codes.side_info[name], value) and not bool(value.isnan().any())
        assert torch.equal(found.codes.num_bits, clip.codes.num_bits)
        assert torch.equal(made.decode(found.codes).waveform, made.decode(clip.codes).waveform)


def test_parquet_opens_in_datasets_and_tar_as_webdataset(recordings: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    tokenize(settings_of(recordings, tmp_path / "p", form="parquet"))
    rows = datasets.load_dataset(
        "parquet", data_files=str(tmp_path / "p" / "*.parquet"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert rows["id"][:2] == ["clip/0 é", "clip/1 é"]
    assert len(rows[0]["codes"]) == 1 and len(rows[0]["codes"][0]) == round(SECONDS[0] * 8000)
    tokenize(settings_of(recordings, tmp_path / "w", form="webdataset"))
    with tarfile.open(tmp_path / "w" / "tokens-000000.tar") as tar:
        assert tar.getnames()[:2] == ["00000000.npy", "00000000.json"]


def test_other_settings_are_refused_unless_told(recordings: Path, tmp_path: Path) -> None:
    tokenize(settings_of(recordings, tmp_path))
    with pytest.raises(ValueError, match="other settings \\(codec\\)"):
        tokenize(settings_of(recordings, tmp_path, codec="g711_alaw"))
    index = tokenize(settings_of(recordings, tmp_path, codec="g711_alaw", overwrite=True))
    assert index is not None and index["codec"]["name"] == "g711_alaw"


def test_a_damaged_shard_is_made_again(recordings: Path, tmp_path: Path) -> None:
    tokenize(settings_of(recordings, tmp_path))
    whole = files_of(tmp_path)
    path = tmp_path / "tokens-000001.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x55")  # as long as before: only the hash tells
    with pytest.raises(ValueError, match="not as the index says"):
        list(TokenSet(tmp_path, verify=True))
    tokenize(settings_of(recordings, tmp_path))
    assert files_of(tmp_path) != whole
    tokenize(settings_of(recordings, tmp_path, verify=True))
    assert files_of(tmp_path) == whole
    path.unlink()
    with pytest.raises(ValueError, match="is missing"):
        list(TokenSet(tmp_path))
    tokenize(settings_of(recordings, tmp_path))
    assert files_of(tmp_path) == whole


def test_a_data_set_that_has_changed_is_noticed(recordings: Path, tmp_path: Path) -> None:
    manifest = recordings.parent / "fewer.csv"
    lines = recordings.read_text().splitlines(keepends=True)
    manifest.write_text("".join(lines[:7]))
    tokenize(settings_of(manifest, tmp_path))
    manifest.write_text("".join(lines))
    with pytest.raises(ValueError, match="shard 1 was made of 2 clips and now has 4: the data set has changed"):
        tokenize(settings_of(manifest, tmp_path))


def test_shards_of_several_processes_are_those_of_one(recordings: Path, tmp_path: Path) -> None:
    tokenize(settings_of(recordings, tmp_path / "one"))
    assert tokenize(settings_of(recordings, tmp_path / "two", shard=(1, 2))) is None
    index = tokenize(settings_of(recordings, tmp_path / "two", shard=(0, 2)))
    assert index is not None and index["clips"] == 9
    assert files_of(tmp_path / "two") == files_of(tmp_path / "one")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"form": "csv"}, "the format must be one of safetensors, parquet, webdataset"),
        ({"num_codebooks": 3}, "num_codebooks=3 was asked for"),
        ({"engine": "spark"}, "engine must be one of local, ray"),
        ({"dataset": "no/such/thing"}, "no/such/thing"),
    ],
)
def test_bad_settings(given: dict, message: str, recordings: Path, tmp_path: Path) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        tokenize(settings_of(recordings, tmp_path, **given))


def test_no_index_and_no_shard(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no index\.json: not a finished folder"):
        TokenSet(tmp_path)
    with pytest.raises(FileNotFoundError, match="no shard of tokens"):
        read_shard(tmp_path / "a.tar")
    for form in FORMS.values():
        path = tmp_path / f"a{form.suffix}"
        path.write_bytes(b"nothing of the kind" * 100)
        with pytest.raises(ValueError, match="not a"):
            list(read_shard(path))


def test_killed_and_resumed_gives_the_same_bytes(tmp_path: Path) -> None:
    r = np.random.default_rng(1)
    folder = tmp_path / "clips"
    folder.mkdir()
    for i in range(60):
        sf.write(folder / f"{i:02d}.wav", 0.1 * r.standard_normal(4000), 8000)

    def command(out: str) -> list[str]:
        return [
            sys.executable, "-c", "import sys; from codeczoo.cli import main; sys.exit(main())", "tokenize",
            str(folder),
            "--codec", "g711_ulaw", "--out", str(tmp_path / out), "--shard-clips", "2", "--workers", "1", "--quiet",
        ]  # fmt: skip

    assert subprocess.run(command("whole"), check=False).returncode == 0
    kills, chance = 0, random.Random(0)
    for part in (1, 9, 18):
        process = subprocess.Popen(command("broken"), start_new_session=True)
        while process.poll() is None and len(list((tmp_path / "broken").glob("shards/*.json"))) < part:
            time.sleep(0.005)
        time.sleep(chance.uniform(0, 0.02))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            kills += 1
        process.wait()
    assert kills == 3
    assert subprocess.run(command("broken"), check=False).returncode == 0
    assert files_of(tmp_path / "broken") == files_of(tmp_path / "whole")
    index = [json.loads((tmp_path / name / "index.json").read_text()) for name in ("broken", "whole")]
    assert index[0] == index[1] and index[0]["clips"] == 60
    assert [p.name for p in (tmp_path / "broken").glob(".*tokens*")] == []  # no half-written shard is left behind


def test_other_weights_are_refused_wherever_their_file_lies(recordings: Path, tmp_path: Path) -> None:
    first, second, copy = (tmp_path / name for name in ("1.safetensors", "2.safetensors", "copy.safetensors"))
    for seed, path in ((1, first), (2, second), (1, copy)):
        save_file(load_codec("encodec_24k", "random", seed=seed, device="cpu").state_dict(), path)
    common = {"codec": "encodec_24k", "device": "cpu", "limit": 2}
    index = tokenize(settings_of(recordings, tmp_path / "out", weights=str(first), **common))
    assert index is not None
    assert tokenize(settings_of(recordings, tmp_path / "out", weights=str(copy), **common)) is not None
    with pytest.raises(ValueError, match=f"by encodec_24k with the weights sha256 {index['codec']['weights_hash']}; "):
        tokenize(settings_of(recordings, tmp_path / "out", weights=str(second), **common))
    with pytest.raises(ValueError, match="the weights given now are random, seed 0"):
        tokenize(settings_of(recordings, tmp_path / "out", weights="random", **common))


@pytest.mark.parametrize("flag", ["--format", "--form"])
def test_the_command_says_what_it_did(
    flag: str, recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["tokenize", str(recordings), "--codec", "g711_ulaw", "--out", str(tmp_path), flag, "webdataset"]
    assert main(arguments) == 3
    captured = capsys.readouterr()
    assert captured.out == f"9 clips, 1.6 seconds, 12800 tokens in 1 shard; 1 failed; in {tmp_path}\n"
    assert "failed: broken: read: not readable as audio" in captured.err
    assert (tmp_path / "tokens-000000.tar").is_file()


def test_a_process_looks_at_its_own_shards_alone(recordings: Path, tmp_path: Path) -> None:
    """Of N processes each would read all else that the others wrote: with --verify, N times the whole data set."""
    tokenize(settings_of(recordings, tmp_path))
    whole = files_of(tmp_path)
    damaged = tmp_path / "tokens-000001.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"\x55")
    (tmp_path / "shards" / "000001.json").write_text("not to be read by process 0")
    (tmp_path / "shards" / "000002.json").unlink()
    assert tokenize(settings_of(recordings, tmp_path, verify=True, shard=(0, 3))) is None
    (tmp_path / "shards" / "000001.json").unlink()
    for number in (0, 2):
        assert tokenize(settings_of(recordings, tmp_path, verify=True, shard=(number, 3))) is None
    assert tokenize(settings_of(recordings, tmp_path, verify=True, shard=(1, 3))) is not None
    assert files_of(tmp_path) == whole


def test_no_index_of_a_data_set_that_has_changed_or_of_a_shard_that_is_gone(recordings: Path, tmp_path: Path) -> None:
    manifest = recordings.parent / "grows.csv"
    lines = recordings.read_text().splitlines(keepends=True)
    manifest.write_text("".join(lines[:7]))
    tokenize(settings_of(manifest, tmp_path))
    (tmp_path / "index.json").unlink()
    manifest.write_text("".join(lines[:8]))
    with pytest.raises(ValueError, match="shard 1 was made of 2 clips and now has 3: the data set has changed"):
        tokenize(settings_of(manifest, tmp_path, shard=(0, 2)))  # not its own shard
    manifest.write_text("".join(lines[:7]))
    (tmp_path / "tokens-000001.safetensors").unlink()
    assert tokenize(settings_of(manifest, tmp_path, shard=(0, 2))) is None
    assert not (tmp_path / "index.json").exists()
    assert tokenize(settings_of(manifest, tmp_path, shard=(1, 2))) is not None
