"""`codeczoo export`: what is written loads again, and what cannot be written is said before anything is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from codeczoo import load_codec
from tests.support.command_line import run


@pytest.mark.parametrize(("form", "more"), [("gguf", ("--type", "f32")), ("safetensors", ())])
def test_it_loads_again(form: str, more: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if form == "gguf":
        pytest.importorskip("gguf", reason="the extra [gguf] is not installed")
    out = tmp_path / f"snac.{form}"
    assert run("export", "snac_24khz", "--format", form, *more, "--weights", "random", "-o", out) == 0
    assert f"{out}: " in capsys.readouterr().err
    truth = load_codec("snac_24khz", "random", device="cpu")
    own = load_codec("snac_24khz", out, device="cpu").state_dict()
    assert all(torch.equal(own[key], tensor) for key, tensor in truth.state_dict().items())
    assert run("export", "snac_24khz", "--format", form, "--weights", "random", "-o", out) == 1
    assert "--overwrite replaces it" in capsys.readouterr().err


def test_safetensors_say_where_they_are_from(tmp_path: Path) -> None:
    out = tmp_path / "snac.safetensors"
    assert run("export", "snac", "--format", "safetensors", "--weights", "random", "-o", out) == 0
    with safe_open(out, "pt") as file:
        about = file.metadata()
    assert (about["codec"], about["weights"], about["licence"]) == ("snac_24khz", "random, seed 0", "MIT")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("opus_12k", "--format", "safetensors"), "opus_12k has no weights: there is nothing to export"),
        (("audiodec_24k", "--format", "gguf", "--weights", "random"), "has no layout in GGUF"),
        (
            ("snac", "--format", "safetensors", "--type", "f16"),
            "--format safetensors has the types f32, int8; f16 was asked for",
        ),
        (("snac", "--format", "gguf", "-o", "nowhere/snac.gguf"), "there is no folder nowhere"),
    ],
)
def test_what_cannot_be_written(
    arguments: tuple[str, ...],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("export", *arguments) == 1
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
