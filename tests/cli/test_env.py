"""`codeczoo env`: what a bug report needs, and nothing that it must not tell."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import torch

from codeczoo import __version__
from codeczoo.cli import main
from codeczoo.cli.extras import EXTRAS
from tests.support.command_line import COMMAND, ENVIRONMENT, ROOT

DEVELOPMENT = {"compare", "dev", "docs", "test"}  # extras for work on codeczoo itself


def told_by(home: Path, **environment: str) -> str:
    """The text, of a process of its own."""
    variables = {**ENVIRONMENT, "HOME": str(home), "HF_HOME": str(home / "hub"), **environment}
    return subprocess.run([*COMMAND, "env"], env=variables, capture_output=True, text=True, check=True).stdout


def test_the_text_names_versions_devices_cache_and_extras(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["env"]) == 0
    text = capsys.readouterr().out
    assert re.findall(r"^\w+$", text, re.MULTILINE) == [
        "versions",
        "devices",
        "settings",
        "cache",
        "extras",
        "programs",
    ]
    for name, value in (("codeczoo", __version__), ("torch", torch.__version__), ("chosen", ""), ("token", "")):
        assert re.search(rf"^  {name} +{re.escape(value)}", text, re.MULTILINE), name
    assert f"threads {torch.get_num_threads()}, " in text
    assert main(["env", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["versions"]["torch"] == torch.__version__
    assert facts["devices"]["cpu"]["threads"] == torch.get_num_threads()
    assert facts["cache"]["offline"] == (os.environ.get("HF_HUB_OFFLINE") == "1")


def test_it_knows_every_extra_and_what_it_installs() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    names = {
        name: sorted(re.match(r"[\w.-]+", one).group() for one in requirements)  # type: ignore[union-attr]
        for name, requirements in declared.items()
        if name not in DEVELOPMENT
    }
    assert {name: sorted(extra.packages) for name, extra in EXTRAS.items()} == names


def test_what_is_missing_is_named_with_its_use_and_its_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    installed = importlib.metadata.version

    def without_pesq(name: str) -> str:
        if name == "pesq":
            raise importlib.metadata.PackageNotFoundError(name)
        return installed(name)

    monkeypatch.setattr(importlib.metadata, "version", without_pesq)
    assert main(["env"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  pesq: ")]
    assert line.split()[1] == "no"
    assert "pesq_wb" in line and "pip install 'codeczoo[pesq]' (lacks pesq)" in line


def test_no_secret_is_told(tmp_path: Path) -> None:
    (tmp_path / "hub").mkdir()
    assert re.search(r"^  token +not set$", told_by(tmp_path, HF_TOKEN=""), re.MULTILINE)
    (tmp_path / "hub" / "token").write_text("hf_kept_in_a_file")
    assert re.search(r"^  token +set$", told_by(tmp_path, HF_TOKEN=""), re.MULTILINE)
    text = told_by(
        tmp_path,
        HF_TOKEN="hf_of_the_environment",
        HF_ENDPOINT="https://somebody:password@hub.example",
        HTTPS_PROXY="http://somebody:password@proxy.example:8080",
    )
    assert re.search(r"^  token +set$", text, re.MULTILINE)
    assert "https://***@hub.example" in text and re.search(r"^  HTTPS_PROXY +set$", text, re.MULTILINE)
    for secret in ("hf_kept", "hf_of", "somebody", "password", str(tmp_path)):
        assert secret not in text


def test_the_cache_has_a_size(tmp_path: Path) -> None:
    assert "~/hub/hub is not there yet" in told_by(tmp_path)
    blobs = tmp_path / "hub" / "hub" / "models--a--b" / "blobs"
    blobs.mkdir(parents=True)
    with (blobs / "0123").open("wb") as file:
        file.truncate(3 << 29)  # 1.5 GiB that take no room
    (blobs.parent / "link").symlink_to(blobs / "0123")  # as the hub's cache has them: counted once
    assert "folder ~/hub/hub, size 1.5 GiB" in told_by(tmp_path)


def test_a_broken_torch_is_told_beside_the_other_facts(tmp_path: Path) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text('raise OSError("libcudart.so.13: cannot open shared object file")')
    text = told_by(tmp_path, PYTHONPATH=os.pathsep.join([str(tmp_path), ENVIRONMENT["PYTHONPATH"]]))
    assert "torch does not import: OSError: libcudart.so.13: cannot open shared object file" in text
    assert "cpu     name " in text and "\nextras\n" in text
