"""The command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from codeczoo import __version__, list_codecs
from codeczoo.cli import main

NAMES_OF_CODEC_SUPERB = (Path(__file__).parent.parent / "golden" / "superb_names.txt").read_text().split()


def test_list_prints_every_codec_with_its_facts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:2] == ["name", "rate"]
    assert [line.split()[0] for line in lines[1:]] == list_codecs()
    (mimi,) = [line for line in lines if line.startswith("mimi ")]
    assert "24000" in mimi and "8 of 32 x 2048" in mimi and "CC-BY-4.0" in mimi and "96.1 M" in mimi


def test_list_in_other_forms(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "dac_*", "--format", "json"]) == 0
    infos = json.loads(capsys.readouterr().out)
    assert [info["name"] for info in infos] == ["dac_16k", "dac_24k", "dac_44k", "dac_44k_16kbps"]
    assert main(["list", "mimi", "--format", "md"]) == 0
    assert capsys.readouterr().out.startswith("| name |")


def test_every_name_of_codec_superb_is_listed() -> None:
    assert len(NAMES_OF_CODEC_SUPERB) == 43
    assert set(NAMES_OF_CODEC_SUPERB) <= set(list_codecs())


def test_info(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "kyutai/mimi"]) == 0
    info = json.loads(capsys.readouterr().out)
    assert (info["name"], info["frame_rate"], info["causal"]) == ("mimi", 12.5, True)
    assert main(["info", "mimi", "--format", "text"]) == 0
    lines = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
    assert {key.replace(" ", "_") for key in lines} == info.keys()
    told = {key: value.strip() for key, value in lines.items()}
    assert (told["frame rate"], told["causal"], told["codebook sizes"]) == ("12.5", "yes", "32 x 2048")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["list", "nothing*"], "no codec matches 'nothing*'"), (["info", "mimmi"], "did you mean 'mimi'")],
)
def test_what_is_not_there(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 1
    assert message in capsys.readouterr().err


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, expected in ((["--version"], __version__), (["benchmark", "--help"], "--dataset")):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 0
        assert expected in capsys.readouterr().out
