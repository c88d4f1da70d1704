"""The scripts that put ours beside others, without the others: each side in a process of its own, steps of a stream."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from codeczoo.base.device import torch_threads
from perf import beside, streaming
from perf.codec_cpp import CodecCpp
from perf.sides import Side

TINY = "funcodec_en_libritts_16k_gr1nq32ds320"  # the smallest of the published networks
LIBRARY = os.environ.get("CODEC_CPP")  # a build of codec.cpp: its shared library


@pytest.fixture(scope="module")
def ours():
    side = Side("ours", TINY, threads=1)
    yield side
    side.close()


def test_a_side_gives_what_the_codec_gives_and_tells_its_time_and_memory(ours: Side) -> None:
    codec = beside.golden_codec(TINY)[0]
    waveform = beside.clips(TINY, batch=2, seconds=0.2)
    ours.give("encode", waveform)
    run = ours.run("encode")
    codes = ours.result("encode")
    with torch_threads(1):  # as the side: sums depend on it
        assert np.array_equal(codes, codec.encode(torch.from_numpy(waveform), codec.sample_rate).codes.numpy())
    ours.give("decode", codes)
    memory = ours.memory("decode")
    with torch_threads(1):
        assert np.allclose(ours.result("decode"), codec.decode(torch.from_numpy(codes)).waveform.numpy(), atol=1e-6)
    assert run["wall"] > 0 and run["cpu"] > 0
    assert 50e6 < memory["rest"] <= memory["peak"] < 5e9  # bytes: torch alone takes a hundred million


def test_all_codebooks_are_asked_for() -> None:
    """Mimi's default is 8."""
    assert beside.without_weights("mimi").num_codebooks == 32


def test_what_a_side_refuses_is_told_with_its_name(ours: Side) -> None:
    ours.give("decode", np.full((1, 32, 3), 5000))
    with pytest.raises(RuntimeError, match=r"ours: ValueError: .*5000"):
        ours.run("decode")
    ours.give("decode", np.zeros((1, 32, 3), np.int64))
    ours.run("decode")  # and it goes on
    with pytest.raises(RuntimeError, match=r"codec\.cpp: OSError: .*none\.so"):
        Side("codec.cpp", TINY, threads=1, library="none.so", gguf="none.gguf")


def test_the_table_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ours alone; what is not there is named, and an exit code where that is asked for."""
    out = tmp_path / "beside.json"
    given = ["--codecs", TINY, "--sides", "codec.cpp", "--seconds", "0.1", "--batch", "1", "2", "--repeats", "1"]
    assert beside.main([*given, "--out", str(out), "--strict"]) == 1
    printed = capsys.readouterr()
    assert "left out codec.cpp: --codec-cpp names no library" in printed.err
    (record,) = json.loads(out.read_text())
    assert [(row["op"], row["batch"]) for row in record["rows"]] == [(op, b) for b in (1, 2) for op in beside.OPS]
    assert beside.main(["--tables", str(out)]) == 0
    assert capsys.readouterr().out.strip() in printed.out
    assert f"| {TINY} | 1 | decode | 2 |" in printed.out
    beside.store(out, {**record, "threads": 2})
    beside.store(out, record)
    assert [one["threads"] for one in json.loads(out.read_text())] == [2, 1]


@torch_threads(1)  # which the script sets, for all of its process
def test_steps_of_a_stream(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "streaming.json"
    given = ["--ours-only", "--codecs", "encodec_24k", "--batch", "2", "--steps", "5", "--warm-up", "20"]
    assert streaming.main([*given, "--out", str(out)]) == 0
    rows = json.loads(out.read_text())["rows"]
    assert [(row["op"], row["batch"], len(row["steps"])) for row in rows] == [("encode", 2, 5), ("decode", 2, 5)]
    for row in rows:
        assert 0 < row["p50"] <= row["p99"] and row["jitter"] == pytest.approx(row["p99"] - row["p50"])
    assert "| encodec_24k | decode | 2 | ours |" in capsys.readouterr().out
    with pytest.raises(ValueError, match="ours had given nothing to decode after 1 steps"):
        streaming.main(["--ours-only", "--codecs", "encodec_24k", "--steps", "1", "--warm-up", "0", "--batch", "1"])


def test_the_spread_of_steps() -> None:
    """Of 1 to 101 ms: the middle one, and the one that 99 in 100 stay within."""
    found = streaming.spread([number / 1000 for number in range(1, 102)])
    assert (found["p50"], found["p99"], found["jitter"]) == pytest.approx((51, 100, 49))


def test_a_stream_whose_sides_differ_says_so() -> None:
    """Of one's own steps and those of another: equal codes, then one in four another."""

    def steps(change: int) -> streaming.Steps:
        return {
            "encode": lambda chunk: torch.tensor([[[0], [1], [2], [3 + change]]]),
            "decode": lambda codes: codes.sum() * torch.ones(1, 1, 2),
        }

    for change, share in ((0, 1.0), (1, 0.75)):
        rows = streaming.run({"ours": steps(0), "other": steps(change)}, torch.zeros(3, 1, 1, 2), 1, "cpu")
        assert [row["codes"] for row in rows if "codes" in row] == [share]
        assert [row["apart_from"] for row in rows if "codes" in row] == [0 if change else None]
        assert (
            "apart from frame 0" in streaming.table([{"variant": "any", "batch": 1, "late": 0} | row for row in rows])
        ) == bool(change)
        assert [row["error"] for row in rows if "error" in row] == [0.0]  # both decode the codes of ours
        assert all(len(row["steps"]) == 2 for row in rows)


@pytest.mark.skipif(LIBRARY is None, reason="CODEC_CPP names no build of codec.cpp")
@pytest.mark.parametrize("variant", ["dac_16k", "mimi", "wavtokenizer_large_speech_75"])
def test_codec_cpp_reads_what_is_written(variant: str, tmp_path: Path) -> None:
    """All codes of a golden clip, of as many samples as fill its frames, and the audio, but for WavTokenizer's window:
    codec.cpp's is the symmetric one, the published periodic."""
    codec = beside.golden_codec(variant)[0]
    engine = CodecCpp(str(LIBRARY), beside.exported(variant, tmp_path))
    waveform = beside.clips(variant, batch=2, seconds=0.5)
    codes = codec.encode(torch.from_numpy(waveform), codec.sample_rate).codes
    assert np.array_equal(engine.encode(waveform), codes.numpy())
    mine = codec.decode(codes).waveform.numpy()
    theirs = engine.decode(codes.numpy())
    samples = theirs.shape[-1]
    assert 0 <= mine.shape[-1] - samples <= 8  # of a DAC with an odd stride it gives less
    allowed = 5e-3 if variant.startswith("wavtokenizer") else 1e-5
    assert np.abs(mine[..., :samples] - theirs).max() <= allowed * np.abs(mine).max()
    with pytest.raises(ValueError, match=r"codec\.cpp did not load it"):
        CodecCpp(str(LIBRARY), tmp_path / "none.gguf")
    engine.close()


def test_wrong_arguments_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for main, given, said in (
        (beside.main, ["--codecs", "zoo_16k"], "no published implementation of zoo_16k"),
        (beside.main, ["--codec-cpp", str(tmp_path / "none.so")], "there is no such file"),
        (beside.main, ["--batch", "0"], "at least 1"),
        (streaming.main, ["--codecs", "encodec_24k"], "moshi streams mimi alone"),
        (streaming.main, ["--steps", "0"], "at least 1"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(given)
        assert ended.value.code == 2
        assert said in capsys.readouterr().err
