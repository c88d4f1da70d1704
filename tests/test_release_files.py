"""Changelog, citation, workflows, forms and hooks: whole, valid, and of one mind with each other."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from codeczoo import __version__
from scripts.release_check import OWN_WEIGHTS, papers, tracked, wrong_content

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted(path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")


def test_changelog_and_citation_are_of_this_version() -> None:
    assert papers(ROOT, __version__) == []


def test_a_release_without_its_papers_is_refused(tmp_path: Path) -> None:
    (tmp_path / "CHANGELOG.md").write_text("## [0.1.0]\n")
    (tmp_path / "CITATION.cff").write_text("title: x\nversion: 0.1.0\n")
    assert papers(tmp_path, "0.1.0") == []
    assert papers(tmp_path, "0.1.0", dated=True) == [
        "CHANGELOG.md: the section of 0.1.0 has no date: '## [0.1.0] - YYYY-MM-DD'"
    ]
    assert papers(tmp_path, "0.2.0") == [
        "CHANGELOG.md has no section '## [0.2.0]'",
        "CITATION.cff does not say 'version: 0.2.0'",
    ]


def test_what_does_not_belong_into_a_wheel_is_found() -> None:
    licence = "codeczoo-0.1.0.dist-info/licenses/LICENSE"
    wanted = {"codeczoo/__init__.py", "codeczoo/configs/mimi.toml", *OWN_WEIGHTS}
    good = dict.fromkeys([*wanted, licence], 1)
    assert wrong_content(good, wanted) == []
    assert wrong_content({name: 1 for name in good if "mimi" not in name}, wanted) == [
        "not in the wheel: codeczoo/configs/mimi.toml"
    ]
    assert wrong_content(good | {"tests/test_a.py": 1, "codeczoo/left.ckpt": 1}, wanted) == [
        "in the wheel, and not in git: codeczoo/left.ckpt",
        "in the wheel, and not in git: tests/test_a.py",
        "a test in the wheel: tests/test_a.py",
        "weights in the wheel: codeczoo/left.ckpt",
    ]
    assert wrong_content(dict.fromkeys(wanted, 1), wanted) == ["the licence is not in the wheel"]


def test_every_file_of_the_package_is_declared() -> None:
    """So that a template or a table that git has is in the wheel too; `make release-check` looks into a real one."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("git does not say which files belong to the project")
    tables = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    declared = {
        str(path.relative_to(ROOT))
        for pattern in tables["package-data"]["codeczoo"]
        for path in (ROOT / "codeczoo").glob(pattern)
    }
    assert {name for name in tracked(ROOT) if not name.endswith(".py")} <= declared


def schema(name: str, *paths: Path) -> None:
    pytest.importorskip("check_jsonschema")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{name}", *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_workflows_forms_and_citation_are_valid() -> None:
    assert [path.stem for path in WORKFLOWS] == ["docs", "release", "test"]
    schema("github-workflows", *WORKFLOWS)
    schema("dependabot", ROOT / ".github" / "dependabot.yml")
    schema("github-issue-forms", *FORMS)
    schema("citation-file-format", ROOT / "CITATION.cff")


def test_actionlint_finds_nothing() -> None:
    if shutil.which("actionlint") is None:
        pytest.skip("actionlint is not installed")
    done = subprocess.run(["actionlint"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_workflows_run_what_is_there_and_may_do_little() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    for path in WORKFLOWS:
        text = path.read_text("utf-8")
        asked = set(re.findall(r"run: make ([a-z-]+)", text))
        assert asked <= targets | {"docs"}, path.name  # `docs` comes with the site
        assert yaml.safe_load(text)["permissions"] == {"contents": "read"}, path.name
        assert "secrets." not in text, path.name


def test_the_pythons_that_are_tested_are_those_that_are_promised() -> None:
    matrix = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text("utf-8"))["jobs"]["test"]["strategy"][
        "matrix"
    ]
    promised = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", line)]
    assert matrix["python"] == promised
    assert PROJECT["requires-python"] == f">={promised[0]}"


def test_forms_ask_for_what_the_commands_print() -> None:
    texts = {path.stem: path.read_text("utf-8") for path in FORMS}
    assert "`codeczoo env`" in texts["bug"] and "`codeczoo verify NAME --report`" in texts["numbers"]


def test_hooks_use_the_pinned_tools() -> None:
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "constraints.txt").read_text("utf-8"), re.MULTILINE))
    hooks = re.findall(r"([\w-]+)==([\d.]+)\]", (ROOT / ".pre-commit-config.yaml").read_text("utf-8"))
    assert len(hooks) == 4
    assert all(pins[name] == version for name, version in hooks)


def test_what_a_human_must_fill_in_is_said_where_it_is_missing() -> None:
    """No address is made up: each file without one says so, and docs/releases.md lists them all."""
    listed = (ROOT / "docs" / "releases.md").read_text("utf-8").partition("## What a human must fill in")[2]
    gaps = {
        "pyproject.toml": "urls" not in PROJECT,
        "CITATION.cff": "repository-code:" not in (ROOT / "CITATION.cff").read_text("utf-8"),
        **{
            name: "A maintainer fills in" in (ROOT / name).read_text("utf-8")
            for name in ("SECURITY.md", "CODE_OF_CONDUCT.md")
        },
    }
    assert [name for name, missing in gaps.items() if missing and name not in listed] == []
