"""Codes of every kind through `.czt` files: `save` and `load`, the header alone, and the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

from codeczoo import Codes, list_codecs, load_codec
from codeczoo.base.codes_file import CodesFile
from codeczoo.cli import main
from tests.support.small import codec_of

ODD = ("encodec_48k", "snac_24khz", "bicodec", "funcodec_en_libritts_16k_nq32ds320", "g711_ulaw", "opus_12k", "mimi")


def assert_same(found: Codes, codes: Codes) -> None:
    assert torch.equal(found.codes, codes.codes) and torch.equal(found.lengths, codes.lengths)
    assert torch.equal(found.num_samples, codes.num_samples)
    for name in ("codec", "sample_rate", "frame_rate", "codebook_sizes", "strides", "weights", "side_sizes"):
        assert getattr(found, name) == getattr(codes, name), name
    assert list(found.side_info) == list(codes.side_info)
    for name, value in codes.side_info.items():
        assert torch.equal(found.side_info[name].nan_to_num(), value.nan_to_num()), name
        assert found.side_info[name].dtype == value.dtype


@pytest.mark.parametrize("name", ODD)
def test_codes_come_back(name: str, tmp_path: Path) -> None:
    """Side values, strides, bytes in place of frames; a ragged batch, and a file that is several end to end."""
    codec = load_codec(name) if name in ("g711_ulaw", "opus_12k") else codec_of(name, "small", torch.float32)
    noise = np.random.default_rng(0).standard_normal((1, 60000)).astype(np.float32) * 0.1
    codes = codec.encode([noise, noise[:, :9000]], codec.sample_rate)
    path = tmp_path / "a.czt"
    codes.save(path)
    assert_same(Codes.load(path), codes)
    assert_same(Codes.load(path.read_bytes()), codes)
    assert CodesFile.read(path) == CodesFile.of(codes)
    packed = int(codes.num_bits.sum()) / 8
    assert path.stat().st_size < 1.1 * packed + 600, "a code takes its bits, and a file some hundred bytes more"
    path.write_bytes(path.read_bytes() * 2)
    assert_same(Codes.load(path), Codes.cat([codes, codes]))


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    codec = codec_of("mimi", "small", torch.float32)
    path = tmp_path / "a.czt"
    codec.encode(np.zeros(9000, np.float32), 24000).save(path)
    content = bytearray(path.read_bytes())
    whole = bytes(content)
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(ValueError, match=r"a\.czt: not a whole \.czt file \(the chunk at byte \d+ is damaged"):
        Codes.load(path)
    path.write_bytes(whole[:-3])
    with pytest.raises(ValueError, match=r"a\.czt: not a whole \.czt file \(cut short"):
        CodesFile.read(path)


def test_the_command_line_writes_and_reads_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder, one file by its suffix, and a second run that keeps what is there."""
    rng = np.random.default_rng(1)
    for name in ("a", "b"):
        sf.write(tmp_path / f"{name}.wav", 0.1 * rng.standard_normal(4000), 8000)
    inputs = [str(tmp_path / "a.wav"), str(tmp_path / "b.wav")]
    out = tmp_path / "codes"
    assert main(["encode", *inputs, "--codec", "g711_ulaw", "-o", str(out), "--format", "czt"]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["a.codes.czt", "b.codes.czt"]
    assert (out / "a.codes.czt").stat().st_size < 4000 + 300
    capsys.readouterr()
    again = ["encode", *inputs, "--codec", "g711_ulaw", "-o", str(out), "--format", "czt", "--json"]
    assert main(again) == 0
    assert [json.loads(line)["frames"] for line in capsys.readouterr().out.splitlines()] == [4000, 4000]
    assert main(["decode", str(out), "-o", str(tmp_path / "decoded")]) == 0
    decoded, _ = sf.read(tmp_path / "decoded" / "a.wav", dtype="float32")
    codec = load_codec("g711_ulaw")
    assert np.allclose(decoded, codec.decode(codec.encode(inputs[0])).waveform[0, 0].numpy(), atol=2e-5)
    one = tmp_path / "one.czt"
    assert main(["encode", inputs[0], "--codec", "g711_ulaw", "-o", str(one)]) == 0
    assert_same(Codes.load(one), Codes.load(out / "a.codes.czt"))
    assert main(["encode", inputs[0], "--codec", "g711_ulaw", "-o", str(one), "--format", "safetensors"]) == 1
    assert "says czt and --format says safetensors" in capsys.readouterr().err


def test_all_these_codecs_are_there() -> None:
    assert set(ODD) <= set(list_codecs())
