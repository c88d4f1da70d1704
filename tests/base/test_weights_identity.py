"""Codes know which weights made them, in every form in which they are kept, and are not decoded with others unasked."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from codeczoo import BaseCodec, Codes, load_codec
from codeczoo.base.codes_file import CodesFile
from codeczoo.codecs.formats.ecdc import from_ecdc, to_ecdc
from codeczoo.tokens import FORMS, TokenSet, read_shard
from codeczoo.tokens.formats import Facts, Tokens
from codeczoo.tokens.settings import TokenSettings
from codeczoo.tokens.tokenize import tokenize
from codeczoo.weights.load import load_weights
from tests.support.command_line import run, write_sound
from tests.support.small import small_variant
from tests.support.sound import chirp

A, B = "a" * 64, "b" * 64


def seeded(name: str, seed: int) -> BaseCodec:
    codec = small_variant(name).build()
    load_weights(codec, "random", seed=seed)
    return codec.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def first() -> BaseCodec:
    return seeded("encodec_24k", 0)


@pytest.fixture(scope="module")
def second() -> BaseCodec:
    return seeded("encodec_24k", 1)


@pytest.fixture(scope="module")
def codes(first: BaseCodec) -> Codes:
    return first.encode([chirp(9000, 24000), chirp(5000, 24000)], 24000)


def refused(codec: BaseCodec, codes: Codes) -> str:
    with pytest.raises(ValueError, match="made with other weights") as caught:
        codec.decode(codes)
    return str(caught.value)


# -- where they come from ---------------------------------------------------------------------------


def test_codes_of_seeded_noise_say_so_and_others_say_the_hash_of_the_file(first: BaseCodec, tmp_path: Path) -> None:
    sound = chirp(5000, 24000)
    assert (first.weights_id, first.encode(sound, 24000).weights) == ("random, seed 0", "random, seed 0")
    save_file(first.state_dict(), tmp_path / "w.safetensors")
    loaded = small_variant("encodec_24k").build().eval()
    load_weights(loaded, tmp_path / "w.safetensors")
    codes = loaded.encode(sound, 24000)
    assert re.fullmatch("[0-9a-f]{64}", codes.weights or "") and codes.weights == loaded.weights_hash
    message = refused(first, codes)
    assert f"sha256 {codes.weights}" in message and "random, seed 0" in message


def test_what_has_no_weights_and_what_is_bare_has_no_identity(first: BaseCodec, codes: Codes) -> None:
    without = load_codec("g711_ulaw", device="cpu")
    assert (without.weights_id, without.encode(chirp(500, 8000), 8000).weights) == (None, None)
    assert first.codes_from_tensor(codes.codes[:1]).weights is None
    assert first.codes_from_tensor(codes.codes[:1], weights=A).weights == A


def test_weights_put_in_by_hand_are_not_known(codes: Codes) -> None:
    codec = seeded("encodec_24k", 1)
    codec.load_state_dict(seeded("encodec_24k", 0).state_dict())
    assert (codec.weights_id, codec.weights_source, codec.weights_hash) == (None, None, None)
    assert codec.encode(chirp(5000, 24000), 24000).weights is None
    assert len(codec.decode(codes)) == 2


# -- the check --------------------------------------------------------------------------------------


def test_other_weights_are_refused_unless_insisted_on(first: BaseCodec, second: BaseCodec, codes: Codes) -> None:
    message = refused(second, codes)
    for fact in (
        "encodec_24k",
        "random, seed 0",
        "random, seed 1",
        "allow_other_weights=True",
        "--allow-other-weights",
    ):
        assert fact in message
    insisted = second.decode(codes, allow_other_weights=True)
    assert torch.equal(insisted.waveform, second.decode(replace(codes, weights=None)).waveform)
    assert not torch.equal(insisted.waveform, first.decode(codes).waveform)


def test_what_is_not_known_is_not_compared(second: BaseCodec, codes: Codes) -> None:
    assert len(second.decode(replace(codes, weights=None))) == 2
    unknown = seeded("encodec_24k", 1)
    unknown.load_state_dict(second.state_dict())
    assert torch.equal(unknown.decode(codes).waveform, second.decode(codes, allow_other_weights=True).waveform)


def test_another_name_of_the_same_weights_decodes(codes: Codes) -> None:
    other = seeded("encodec_24k_6bps", 0)
    assert len(other.decode(replace(codes, codec="encodec_24k_6bps"))) == 2
    assert len(other.decode(codes)) == 2
    refused(seeded("encodec_24k_6bps", 1), codes)


def test_a_stream_gives_and_checks_it(first: BaseCodec, second: BaseCodec) -> None:
    hop = first.hop_length or 1
    chunk = chirp(30 * hop, 24000)[None].float()
    codes = first.stream().encode(chunk)
    assert codes.weights == "random, seed 0"
    assert first.stream().flush(chunk[..., : hop - 1]).weights == "random, seed 0"
    assert len(first.stream().decode(codes)) == 1
    with pytest.raises(ValueError, match=r"other weights.*random, seed 0.*random, seed 1.*allow_other_weights=True"):
        second.stream().decode(codes)
    assert len(second.stream(allow_other_weights=True).decode(codes)) == 1


# -- the forms --------------------------------------------------------------------------------------


def test_indexing_splitting_moving_and_cutting_keep_it(codes: Codes) -> None:
    forms = (codes[0], codes[[1, 0]], *codes, *codes.split(), codes.to("cpu"), codes.cpu(), codes.first(2))
    assert {one.weights for one in forms} == {"random, seed 0"}


def test_joining_keeps_what_all_parts_agree_on(codes: Codes) -> None:
    known = replace(codes, weights=A)
    assert Codes.cat([known, known[0]]).weights == A
    assert Codes.cat([known, replace(codes, weights=None)]).weights is None
    assert Codes.cat([replace(codes, weights=None), known]).weights is None
    with pytest.raises(ValueError, match=f"different weights do not join.*sha256 {A} and sha256 {B}"):
        Codes.cat([known, replace(codes, weights=None), replace(codes, weights=B)])


def test_a_file_keeps_it_and_one_without_it_is_as_before(codes: Codes, tmp_path: Path) -> None:
    path = tmp_path / "codes.safetensors"
    codes.save(path)
    assert Codes.load(path).weights == Codes.load(path.read_bytes()).weights == "random, seed 0"
    assert CodesFile.read(path).weights == CodesFile.of(codes).weights == "random, seed 0"
    buffer = io.BytesIO()
    replace(codes, weights=None).save(buffer)
    assert b'"weights"' not in buffer.getvalue()
    with safe_open(path, "pt") as file:
        older = {key: value for key, value in file.metadata().items() if key != "weights"}
    save_file(load_file(path), tmp_path / "older.safetensors", metadata=older)
    assert Codes.load(tmp_path / "older.safetensors").weights is None
    assert CodesFile.read(tmp_path / "older.safetensors").weights is None


def test_it_is_a_string() -> None:
    with pytest.raises(TypeError, match=r"weights must be a string or None; they are bytes"):
        Codes(
            torch.zeros(1, 1, 3).long(), torch.tensor([3]), torch.tensor([3]), 8000, "g711_ulaw", (256,), weights=b"a"
        )  # type: ignore[arg-type]


@pytest.mark.parametrize("form", FORMS)
def test_shards_of_tokens_keep_it(form: str, codes: Codes, second: BaseCodec, tmp_path: Path) -> None:
    path = tmp_path / f"a{FORMS[form].suffix}"
    FORMS[form].write(path, Facts.of(codes), [Tokens(f"{i}", None, one) for i, one in enumerate(codes)])
    found = list(read_shard(path))
    assert [clip.codes.weights for clip in found] == ["random, seed 0"] * 2
    refused(second, found[0].codes)
    unknown = replace(codes, weights=None)
    assert "weights" not in json.loads(Facts.of(unknown).to_json())
    FORMS[form].write(path, Facts.of(unknown), [Tokens(f"{i}", None, one) for i, one in enumerate(unknown)])
    assert {clip.codes.weights for clip in read_shard(path)} == {None}


def test_a_tokenised_folder_keeps_it(tmp_path: Path) -> None:
    write_sound(tmp_path / "in" / "a.wav", 0.3, 24000)
    settings = TokenSettings(
        codec="encodec_24k", weights="random", dataset=str(tmp_path / "in"), out=str(tmp_path / "out"), device="cpu",
        workers=0, progress=False,
    )  # fmt: skip
    tokenize(settings)
    assert [clip.codes.weights for clip in TokenSet(tmp_path / "out")] == ["random, seed 0"]


def test_files_of_other_packages_have_none() -> None:
    codec = load_codec("encodec_24k", "random", device="cpu")
    codes = from_ecdc(to_ecdc(codec.encode(chirp(5000, 24000), 24000)))
    assert codes.weights is None
    assert len(codec.decode(codes)) == 1


# -- the command line ---------------------------------------------------------------------------------


def test_the_command_refuses_other_weights_and_can_be_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What a reader of the package tried: codes of one seed, decoded with another, without a word."""
    sound = write_sound(tmp_path / "a.wav", 0.3, 24000)
    codec = load_codec("encodec_24k", "random", device="cpu", seed=1)
    codes = codec.encode(sound)
    (tmp_path / "codes").mkdir()
    codes.save(tmp_path / "codes" / "one.codes.safetensors")
    replace(codes, weights=None).save(tmp_path / "codes" / "two.codes.safetensors")
    arguments = ("decode", tmp_path / "codes", "--weights", "random", "--device", "cpu", "-o")
    assert run(*arguments, tmp_path / "out") == 3
    error = capsys.readouterr().err
    assert "failed: one.codes.safetensors" in error and "random, seed 1" in error and "--allow-other-weights" in error
    assert [path.name for path in (tmp_path / "out").glob("*.wav")] == ["two.wav"]
    assert run(*arguments, tmp_path / "out", "--allow-other-weights", "--quiet") == 0
    assert (tmp_path / "out" / "one.wav").read_bytes() == (tmp_path / "out" / "two.wav").read_bytes()
