"""The README and the quickstart say what is so: their code runs, and tables are those that are made."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import save

from codeczoo import codec_info, list_codecs
from codeczoo.base.catalogue import find_variant
from codeczoo.cli.listing import codec_table, family_table
from codeczoo.weights.download import INSIST
from tests.support.code_blocks import blocks_of
from tests.support.golden import golden_state_dict
from tests.support.hub_server import HubServer

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
QUICKSTART = ROOT / "docs" / "quickstart.md"
FIRST_SCREEN = 40  # lines of the README that stand before the first scroll


@pytest.mark.parametrize(
    ("page", "name", "made"),
    [
        (README, "families", functools.partial(family_table, markdown=True)),
        (ROOT / "docs" / "codecs.md", "codecs", functools.partial(codec_table, markdown=True)),
    ],
    ids=["families", "codecs"],
)
def test_the_tables_are_the_generated_ones(page: Path, name: str, made: Callable[..., str]) -> None:
    table = re.search(rf"<!-- {name}: .*? -->\n(.*?)<!-- /{name} -->", page.read_text("utf-8"), flags=re.DOTALL)
    assert table is not None
    infos = [codec_info(codec) for codec in list_codecs()]
    assert table.group(1).strip() == made(infos), "run: python scripts/update_readme.py"


def test_the_code_runs(tmp_path: Path) -> None:
    """All blocks of both in one fresh interpreter; Mimi's weights come through the real hub client from a server of
    ours, in the published naming and form, at the pinned revision (with other values, so that they must be insisted
    on)."""
    source = find_variant("mimi").weights
    assert source is not None
    blocks = [block for page in (README, QUICKSTART) for block in blocks_of(page) if block.kind == "python"]
    assert len(blocks) >= 6 and all(block.runs for block in blocks)
    (tmp_path / "readme.py").write_text("\n".join(block.code for block in blocks), "utf-8")
    with HubServer() as hub:
        weights = save(golden_state_dict("mimi", "manifest_hf.json"))
        hub.add("kyutai/mimi", {"model.safetensors": weights}, commit=source.revision)
        environment = {**os.environ, **hub.environment(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
        environment[INSIST] = "allow"
        environment.pop("HF_HUB_OFFLINE", None)
        done = subprocess.run(
            [sys.executable, "readme.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        asked = [path for _, path in hub.requests]
    assert done.returncode == 0, done.stderr
    assert "Codes(zoo_16k: 3 x 12 codebooks of 1024" in done.stdout
    assert any(path.endswith("model.safetensors") for path in asked)
    assert (tmp_path / "c.opus").stat().st_size > 100


def test_the_files_that_the_docs_name_are_there() -> None:
    for page in [README, ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]:
        named = re.findall(r"\b((?:codeczoo|tests|perf|docs|examples|scripts)/[\w/.-]*\w/?)", page.read_text("utf-8"))
        assert [path for path in named if "NAME" not in path and not (ROOT / path).exists()] == [], page.name


def test_the_first_screen_says_what_it_is_and_how_to_hear_it() -> None:
    head = "\n".join(README.read_text("utf-8").splitlines()[:FIRST_SCREEN])
    (code,) = [block.code for block in blocks_of(README)]
    lines = [line for line in code.splitlines() if line]
    assert code in head and len(lines) == 6 and "zoo_16k" in code
    for said in (
        "Neural audio codecs",
        "docs/images/report.webp",
        "pip install",
        "docs/quickstart.md",
        "Nothing silent",
    ):
        assert said in head


def test_the_links_of_the_readme_lead_somewhere() -> None:
    for page in (README, ROOT / "CONTRIBUTING.md"):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[\w-]+)?\)", page.read_text("utf-8")):
            assert (ROOT / target).exists(), target
