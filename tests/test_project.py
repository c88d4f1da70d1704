"""What is promised of the project itself: embedded clips, version, set-up, and no word of one machine."""

from __future__ import annotations

import csv
import importlib.metadata
import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile

import codeczoo
from codeczoo.data import embedded_clips, embedded_manifest

ROOT = Path(__file__).resolve().parents[1]


def manifest() -> list[dict[str, str]]:
    with embedded_manifest().open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def make_clips() -> ModuleType:
    """The script that made the clips, as a module."""
    spec = importlib.util.spec_from_file_location("make_clips", ROOT / "scripts" / "make_clips.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


# -- embedded clips ---------------------------------------------------------------------------------


def test_manifest_lists_exactly_the_clips_that_are_there():
    rows = manifest()
    assert list(rows[0]) == ["id", "path", "category", "language", "description"]
    assert len({row["id"] for row in rows}) == len(rows) >= 12
    assert {row["category"] for row in rows} == {"speech", "music", "audio"}
    assert sorted(row["path"] for row in rows) == sorted(p.name for p in embedded_manifest().parent.glob("*.flac"))
    assert [path.name for path in embedded_clips()] == [row["path"] for row in rows]


def test_clips_are_about_a_megabyte_of_16_bit_flac():
    assert {soundfile.info(path).subtype for path in embedded_clips()} == {"PCM_16"}
    assert 0.5e6 < sum(path.stat().st_size for path in embedded_clips()) < 1.5e6


def test_clips_vary_in_rate_channels_length_and_language():
    infos = [soundfile.info(path) for path in embedded_clips()]
    assert {8_000, 16_000, 22_050, 24_000, 44_100, 48_000} <= {info.samplerate for info in infos}
    assert {info.channels for info in infos} == {1, 2}
    assert min(info.duration for info in infos) < 0.5
    assert 3 < max(info.duration for info in infos) < 30  # PESQ fails on clips of many utterances
    assert len({row["language"] for row in manifest() if row["category"] == "speech"}) >= 4


@pytest.mark.parametrize("path", embedded_clips(), ids=lambda path: path.stem)
def test_clip_peaks_at_3_db_below_full_scale_or_is_silent(path: Path):
    samples, _ = soundfile.read(path)
    peak = np.abs(samples).max()
    assert peak == 0 if "silence" in path.stem else peak == pytest.approx(10 ** (-3 / 20), abs=1e-4)
    assert np.abs(samples[[0, -1]]).max() < 1e-3  # faded: no click at either end


def test_clips_are_what_the_script_makes(make_clips: ModuleType):
    made = {clip.id: clip for clip in make_clips.all_clips()}
    rows = manifest()
    assert [(c.id, c.category, c.language, c.description) for c in made.values()] == [
        (row["id"], row["category"], row["language"], row["description"]) for row in rows
    ]
    for row, path in zip(rows, embedded_clips(), strict=True):
        clip = made[row["id"]]
        samples, rate = soundfile.read(path, dtype="int16")
        assert rate == clip.sample_rate
        if not row["language"]:  # what is spoken takes eSpeak NG
            again = make_clips.finished(clip.make(rate), rate)
            np.testing.assert_allclose(samples.astype(int), again.astype(int), atol=2, err_msg=clip.id)


# -- version ----------------------------------------------------------------------------------------


def test_version_is_that_of_the_installed_package():
    assert importlib.metadata.version("codeczoo") == codeczoo.__version__


def test_every_dependency_that_is_installed_always_has_its_version_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["report"], *extras["test"], *extras["visqol"], *extras["docs"]]
    pinned = re.findall(r"^([\w.-]+)==", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert {re.split(r"[^\w.-]", name, maxsplit=1)[0] for name in wanted} <= set(pinned)


# -- nothing names one machine ----------------------------------------------------------------------

# Folders of one machine, private addresses, package registries. The brackets keep it from finding itself.
PLACES = re.compile(
    r"/[w]ork/|/[h]ome/\w+|/[r]oot/|/[U]sers/\w+|/opt/(?:wheels|[p]ypi)"
    r"|https?://(?:10|192\.168|172\.(?:1[6-9]|2\d|3[01]))\.\d"
    r"|[p]ypi\.org/simple|files\.[p]ythonhosted"
)


def project_files() -> list[Path]:
    """Files that git tracks or would track."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    if shutil.which("git") is None:
        pytest.skip("git is not installed: nothing says which files belong to the project")
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listing.returncode != 0:
        pytest.skip(f"git does not say which files belong to the project: {listing.stderr.strip()}")
    return [ROOT / name for name in listing.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_text_file_names_a_machine_path_or_a_registry():
    found = []
    for path in project_files():
        content = path.read_bytes()
        if b"\0" in content:
            continue  # not text
        for number, line in enumerate(content.decode("utf-8", errors="replace").splitlines(), start=1):
            if match := PLACES.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {match.group()}")
    assert found == []


@pytest.mark.parametrize("parts", [("'", "work", "x'"), ("http:", "", "10.0.0.1:80", ""), ("pypi.org", "simple")])
def test_the_search_for_machine_paths_finds_them(parts: tuple[str, ...]):
    assert PLACES.search("/".join(parts))


# -- the command line of the house ------------------------------------------------------------------


def test_make_help_lists_the_targets():
    listing = subprocess.run(["make", "help"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert {"demo", "test", "test-full", "docs", "lint", "clean", "help"} <= {
        line.split()[1] for line in listing.splitlines() if line.startswith("  make ")
    }


def test_set_up_refuses_an_interpreter_that_is_too_old(tmp_path: Path):
    old = tmp_path / "python"
    old.write_text("#!/bin/sh\nexit 1\n")  # what an older Python answers when asked for its version
    old.chmod(0o755)
    outcome = subprocess.run(
        ["scripts/setup_venv.sh", "runtime"],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "PYTHON": str(old), "VENV": str(tmp_path / "venv")},
        capture_output=True,
        text=True,
    )
    assert outcome.returncode != 0
    assert f"PYTHON={old} is not a Python >= 3.11" in outcome.stderr
    assert not (tmp_path / "venv").exists()


@pytest.mark.parametrize(("tools", "said"), [((), "apt install chromium"), (("chromium",), "")])
def test_set_up_looks_for_a_browser_and_goes_on_without_one(tmp_path: Path, tools: tuple[str, ...], said: str):
    for tool in tools:
        (tmp_path / tool).write_text("#!/bin/sh\n")
        (tmp_path / tool).chmod(0o755)
    command = [shutil.which("sh") or "/bin/sh", "scripts/setup_browser.sh"]
    outcome = subprocess.run(command, cwd=ROOT, env={"PATH": str(tmp_path)}, capture_output=True, text=True)
    assert outcome.returncode == 0
    assert outcome.stdout == ""
    assert outcome.stderr.endswith(f"{said}\n" if said else "")
    assert bool(outcome.stderr) == bool(said)
