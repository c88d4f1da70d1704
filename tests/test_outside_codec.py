"""A package of somebody else's with a codec, installed for real: known by name wherever codeczoo's own are.

tests/support/outside_codec/ is all that its author wrote.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.runs import rows_of

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "tests" / "support" / "outside_codec"


def install(source: Path, target: Path) -> None:
    """By pip, without the network."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*command, "--target", target, source], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of installed packages with it. Built from a copy: setuptools leaves files where it builds."""
    folder = tmp_path_factory.mktemp("outside")
    install(shutil.copytree(PACKAGE, folder / "source"), folder / "site")
    return folder / "site"


def run(site: Path, *command: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A fresh process that finds the package."""
    paths = os.pathsep.join([str(site), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "CODECZOO_DEVICE": "cpu"}
    words = [sys.executable, *map(str, command)]
    return subprocess.run(words, env=environment, cwd=cwd, capture_output=True, text=True, check=False)


def test_it_is_listed_without_being_imported(site: Path) -> None:
    code = "import sys, codeczoo; print(codeczoo.list_codecs('out*'), sys.modules.keys() & {'torch', 'outside_codec'})"
    assert run(site, "-c", code).stdout == "['outside_16k'] set()\n"
    listed = run(site, "-m", "codeczoo", "list", "outside*")
    assert "outside_16k" in listed.stdout and "also: outside_16k_800bps" in listed.stdout, listed.stderr
    info = json.loads(run(site, "-m", "codeczoo", "info", "someone/outside").stdout)
    assert (info["name"], info["family"], info["bitrate"], info["parameters"]) == ("outside_16k", "outside", 800, 2728)


def test_it_is_loaded_by_name_and_a_batch_is_only_a_faster_loop(site: Path) -> None:
    code = """
import torch, codeczoo
codec = codeczoo.load_codec("outside_16k_800bps", "random", device="cpu")
clips = [torch.randn(n) for n in (16000, 5001)]
codes = codec.encode(clips, 16000)
for clip, row in zip(clips, codes):
    assert torch.equal(codec.encode(clip, 16000).codes, row.codes)
assert codes.codec == "outside_16k_800bps"
print(codec.decode(codes).lengths.tolist())
"""
    done = run(site, "-c", code)
    assert done.stdout == "[16000, 5001]\n", done.stderr


def test_it_is_benchmarked_and_reported(site: Path, tmp_path: Path) -> None:
    out, codecs = tmp_path / "results", ["outside_16k", "g711_ulaw"]
    arguments = ["--codecs", *codecs, "--weights", "outside_16k=random", "--limit", 2, "--metrics", "snr", "mel"]
    done = run(site, ROOT / "benchmarking.py", *arguments, "--out", out, "--quiet", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = rows_of(out)
    assert [(row["codec"], row["status"]) for row in rows].count(("outside_16k", "ok")) == 2 and len(rows) == 4
    assert json.loads((out / "run.json").read_text())["codecs"]["outside_16k"]["family"] == "outside"
    done = run(site, "-m", "codeczoo", "report", out, "-o", tmp_path / "page")
    assert done.returncode == 0, done.stderr
    assert "outside_16k" in (tmp_path / "page" / "index.html").read_text()


@pytest.mark.slow
def test_it_is_benchmarked_on_a_ray_cluster(site: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    arguments = ["--codecs", "outside_16k", "--weights", "outside_16k=random", "--limit", 2, "--metrics", "snr"]
    done = run(site, ROOT / "benchmarking.py", *arguments, "--engine", "ray", "--out", tmp_path / "r", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [row["status"] for row in rows_of(tmp_path / "r")] == ["ok", "ok"]


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("outside_codec.toml", "aliases", "alias", "outside_codec.toml: [variants.outside_16k]: 'alias' is no key"),
        ("outside_codec.toml", "[variants.outside_16k]", "[variants.mimi]", "'mimi' is a name of mimi (outside-codec"),
        ("outside_codec.toml", "[family]", "[family", "outside_codec.toml: not TOML"),
        ("../pyproject.toml", '"*.toml"', '"*.yaml"', "there is no outside_codec.toml beside"),
        (
            "../pyproject.toml",
            'outside = "outside_codec"',
            'outside = "nothing_there"',
            "there is no module nothing_there",
        ),
    ],
)
def test_a_broken_package_is_a_warning_that_names_it(tmp_path: Path, name: str, old: str, new: str, said: str) -> None:
    source = shutil.copytree(PACKAGE, tmp_path / "source")
    file = source / "outside_codec" / name
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    install(source, tmp_path / "site")
    done = run(tmp_path / "site", "-m", "codeczoo", "list", "g711*")
    assert done.returncode == 0 and "g711_ulaw" in done.stdout
    assert done.stderr.startswith("WARNING: the codecs of outside-codec (outside = ") and said in done.stderr
    assert "outside" not in done.stdout


def test_a_package_whose_module_is_broken_is_left_out_of_the_list(tmp_path: Path) -> None:
    source = shutil.copytree(PACKAGE, tmp_path / "source")
    (source / "outside_codec" / "__init__.py").write_text("import a_module_that_nobody_has\n")
    install(source, tmp_path / "site")
    done = run(tmp_path / "site", "-m", "codeczoo", "list")
    assert done.returncode == 0 and "g711_ulaw" in done.stdout and "outside_16k" not in done.stdout
    assert "outside_16k (outside-codec: outside_codec.toml) is left out: ModuleNotFoundError" in done.stderr
    done = run(tmp_path / "site", "-m", "codeczoo", "info", "outside_16k")
    assert done.returncode == 1 and done.stderr == "error: No module named 'a_module_that_nobody_has'\n"


def test_the_author_wrote_three_files() -> None:
    files = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*") if path.suffix in (".py", ".toml")}
    assert files == {"pyproject.toml", "outside_codec/__init__.py", "outside_codec/outside_codec.toml"}
