"""The command line as a process: pipes, help without torch, closed pipes, Ctrl-C and kills."""

from __future__ import annotations

import argparse
import io
import os
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest
import soundfile as sf
import torch

from codeczoo import Codes, load_codec
from codeczoo.cli import COMMANDS, main
from tests.support.command_line import ENVIRONMENT, files_below, process, write_sound


def test_encode_and_decode_through_a_pipe(tmp_path: Path) -> None:
    sound = write_sound(tmp_path / "a.wav", 0.5)
    with sound.open("rb") as source:
        encode = process("encode", "-", "--codec", "g711_ulaw", "-o", "-", stdin=source, stdout=subprocess.PIPE)
        decode = process("decode", "-", "-o", "-", stdin=encode.stdout, stdout=subprocess.PIPE)
    assert encode.stdout is not None
    encode.stdout.close()
    out, errors = decode.communicate(timeout=120)
    assert (encode.wait(timeout=120), decode.returncode) == (0, 0), errors
    assert encode.stderr is not None and encode.stderr.read() == errors == b""
    encode.stderr.close()
    samples, rate = sf.read(io.BytesIO(out), dtype="float32")
    codec = load_codec("g711_ulaw", device="cpu")
    truth = codec.decode(codec.encode(sound)).waveform[0, 0]
    assert rate == 8000 and float((torch.from_numpy(samples) - truth).abs().max()) <= 1 / 32768


def test_help_needs_no_torch_and_names_all_commands() -> None:
    code = (
        "import sys; from codeczoo.cli import main\ntry: main(['--help'])\nfinally: assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(f"    {name}" in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_the_help_of_each_command_teaches(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert f"usage: codeczoo {command} " in text and "examples:\n" in text and "exit code: 0" in text
    assert f"codeczoo {command}" in text.partition("examples:")[2]  # %(prog)s was filled in


def test_wrong_usage_leaves_with_one(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["sing"], ["list", "--loud"], ["benchmark", "--batch", "many"]):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 1
        assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize("command", ["list", "decode"])
def test_a_closed_pipe_ends_quietly(command: str, tmp_path: Path) -> None:
    load_codec("g711_ulaw", device="cpu").encode(write_sound(tmp_path / "a.wav")).save(tmp_path / "a.safetensors")
    arguments = {"list": [], "decode": [tmp_path / "a.safetensors", "-o", "-"]}[command]
    reader, writer = os.pipe()
    os.close(reader)
    child = process(command, *arguments, stdout=writer)
    os.close(writer)
    _, errors = child.communicate(timeout=120)
    assert child.returncode == 130
    assert errors == b""


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_stopped_in_the_middle_it_goes_on(sent: signal.Signals, tmp_path: Path) -> None:
    """To the whole group, as a terminal does: the reading processes get it too."""
    for i in range(60):
        write_sound(tmp_path / "in" / f"{i:02}.wav", 2.0, 16000, seed=i)
    out = tmp_path / "codes"
    arguments = ["encode", tmp_path / "in", "--codec", "encodec_24k", "--weights", "random", "--batch", "2", "-o", out]
    child = process(*arguments, start_new_session=True)
    deadline = time.monotonic() + 120
    while len(list(out.glob("*.safetensors"))) < 4:
        assert time.monotonic() < deadline and child.poll() is None
        time.sleep(0.02)
    os.killpg(child.pid, sent)
    _, errors = child.communicate(timeout=120)
    done = set(out.glob("*.safetensors"))
    assert 4 <= len(done) < 60
    if sent == signal.SIGINT:
        assert child.returncode == 130 and b"Traceback" not in errors, errors.decode()
        assert [name for name in files_below(out) if name.endswith(".part")] == []
    before = {path: path.stat().st_mtime_ns for path in done}
    again = process(*arguments, "--limit", len(done) + 2)
    _, errors = again.communicate(timeout=240)
    assert again.returncode == 0 and f"{len(done)} clips there already" in errors.decode()
    assert {path: path.stat().st_mtime_ns for path in done} == before
    for path in sorted(out.glob("*.safetensors")):
        assert Codes.load(path).num_samples.tolist() == [48000]


def flags_of(command: str) -> dict[str, argparse.Action]:
    parser = argparse.ArgumentParser()
    import_module(COMMANDS[command][0]).add_arguments(parser)
    return {flag: action for action in parser._actions for flag in action.option_strings}


def test_a_flag_means_the_same_in_every_command() -> None:
    by_command = {command: flags_of(command) for command in COMMANDS}
    for flag in {flag for flags in by_command.values() for flag in flags}:
        actions = [flags[flag] for flags in by_command.values() if flag in flags]
        # It takes a value everywhere or nowhere; --json of `verify` may.
        assert len({action.nargs == 0 for action in actions if action.nargs != "?"}) <= 1, flag
    for command, flags in by_command.items():
        assert ("-o" in flags) == ("--out" in flags) and flags.get("-o") is flags.get("--out"), command
        assert "--form" not in flags or flags["--form"] is flags["--format"], command
        if command not in ("list", "info"):  # of these two it is the form of what is printed
            assert "--format" not in flags or flags["--format"].choices, command
        if "--weights" in flags and command != "verify":
            assert "FILE::ENTRY or random" in (flags["--weights"].help or ""), command
    for command in ("encode", "decode", "reconstruct", "separate", "tokenize", "benchmark", "check"):
        assert "--limit" in by_command[command], command
