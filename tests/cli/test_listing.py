"""The command line."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from codeczoo import __version__, codec_info, list_codecs
from codeczoo.cli import main
from codeczoo.separation import list_separators
from tests.support.command_line import COMMAND, ENVIRONMENT

NAMES_OF_CODEC_SUPERB = (Path(__file__).parent.parent / "golden" / "superb_names.txt").read_text().split()


def test_list_prints_every_codec_with_its_facts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    *lines, empty, counts = capsys.readouterr().out.splitlines()
    assert not empty and counts.startswith(f"{len(list_codecs())} codecs of ")
    assert lines[0].split()[:2] == ["name", "rate"]
    assert [line.split()[0] for line in lines[1:] if not line.startswith(" ")] == list_codecs()
    also = dict(re.findall(r"^(\S+) .*\n  also: (.+(?:\n {8}.+)*)", "\n".join(lines), re.MULTILINE))
    assert {name: re.split(r",\s+", text) for name, text in also.items()} == {
        name: list(codec_info(name).also) for name in list_codecs() if codec_info(name).also
    }
    (mimi,) = [line for line in lines if line.startswith("mimi ")]
    assert "24000" in mimi and "8 of 32 x 2048" in mimi and "CC-BY-4.0" in mimi and "96.1 M" in mimi


def test_list_in_other_forms(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "dac_*", "--format", "json"]) == 0
    infos = json.loads(capsys.readouterr().out)
    assert [info["name"] for info in infos] == ["dac_16k", "dac_24k", "dac_44k", "dac_44k_16kbps"]
    assert main(["list", "mimi", "--format", "md"]) == 0
    assert capsys.readouterr().out.startswith("| name |")


def test_list_of_families(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--families"]) == 0
    *lines, empty, counts = capsys.readouterr().out.splitlines()
    families = sorted({codec_info(name).family for name in list_codecs()})
    neural = {codec_info(name).family for name in list_codecs() if codec_info(name).parameters}
    assert [line.split()[0] for line in lines[1:]] == families and not empty
    assert len(neural) >= 25 and families == sorted(neural | {"g711", "sndfile"})
    assert counts == f"{len(list_codecs())} codecs of {len(families)} families, {len(neural)} of them neural"
    assert main(["list", "--families", "dac_*", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"dac": ["dac_16k", "dac_24k", "dac_44k", "dac_44k_16kbps"]}
    assert main(["list", "mimi"]) == 0
    assert capsys.readouterr().out.endswith("\n1 codec of 1 family, 1 of them neural\n")


def test_list_of_separators(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--separators"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:] if not line.startswith(" ")] == list_separators()
    assert "  also: adefossez/HTDemucs, 955717e8" in lines
    assert main(["list", "htdemucs_6s", "--separators", "--format", "json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert len(found["stems"]) == 6 and found["sample_rate"] == 44100
    assert main(["list", "hdemucs*", "--separators", "--format", "md"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_every_name_of_codec_superb_is_taken_and_kept(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(NAMES_OF_CODEC_SUPERB) == 43
    assert [codec_info(name).name for name in NAMES_OF_CODEC_SUPERB] == NAMES_OF_CODEC_SUPERB
    assert main(["list", "encodec_24k_6bps", "--format", "json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["name"] == "encodec_24k" and {"encodec_24k_6bps", "encodec_24k_6kbps"} <= set(found["also"])


def test_info(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "kyutai/mimi"]) == 0
    info = json.loads(capsys.readouterr().out)
    assert (info["name"], info["frame_rate"], info["causal"]) == ("mimi", 12.5, True)
    assert main(["info", "mimi", "--format", "text"]) == 0
    lines = capsys.readouterr().out.splitlines()
    told = {key: value.strip() for key, value in (line.split("  ", 1) for line in lines) if key}
    assert {key.replace(" ", "_") for key in told} == info.keys() - {
        "also",
        "output_sample_rate",
        "streams",
        "arithmetic",
    }  # as other lines say
    assert (told["frame rate"], told["causal"], told["codebook sizes"]) == ("12.5 frames/s", "yes", "32 x 2048")
    assert told["bitrates"] == "137.5 to 4400 bit/s (32 of them)" and told["parameters"] == "96,085,825"
    assert str(codec_info("mimi")).splitlines() == lines


def test_info_is_text_on_a_terminal_and_json_in_a_pipe() -> None:
    main_end, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
    environment = {key: value for key, value in ENVIRONMENT.items() if key not in ("COLUMNS", "LINES")}  # xdist's
    assert subprocess.run([*COMMAND, "info", "mimi"], env=environment, stdout=terminal, check=True).returncode == 0
    os.close(terminal)
    lines = os.read(main_end, 1 << 16).decode().splitlines()
    os.close(main_end)
    assert lines[0].split() == ["name", "mimi"] and max(map(len, lines)) <= 60
    piped = subprocess.run([*COMMAND, "info", "mimi"], env=ENVIRONMENT, stdout=subprocess.PIPE, check=True).stdout
    assert json.loads(piped)["name"] == "mimi"


def test_the_facts_of_any_codec_fit_a_terminal() -> None:
    for name in list_codecs():
        lines = codec_info(name).table(80).splitlines()
        assert len(lines) <= 26, name
        assert all(len(line) <= 80 or " " not in line[20:] for line in lines), name  # an address is not broken


@pytest.mark.parametrize("arguments", [["list"], ["info", "mimi"]], ids=["list", "info"])
def test_facts_come_without_torch(arguments: list[str]) -> None:
    """So each command takes 0.13 s of CPU time, of which Python itself takes a third; torch takes more than one."""
    code = (
        f"import sys; from codeczoo.cli import main; main({arguments}); sys.stderr.write(str('torch' in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert done.stderr == "False" and "mimi" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["list", "nothing*"], "no codec matches 'nothing*'; `codeczoo list` shows all"),
        (["list", "dac*", "--separators"], "no separator matches 'dac*'"),
        (["info", "mimmi"], "did you mean 'mimi'"),
        (["info", "qqqq"], "no codec is called 'qqqq'; `codeczoo list` (or list_codecs()) shows all names"),
    ],
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
