"""The code of the docs runs: the blocks of each page, top to bottom, with random weights for those of the hub.

A block that takes another package, or a file that is not there, stands behind a comment `<!-- not run: why -->`.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.code_blocks import blocks_of, in_place

DOCS = Path(__file__).parent.parent.parent / "docs"
ELSEWHERE = {"quickstart.md": "tests/test_readme.py", "tokens.md": "tests/tokens/test_flatten.py"}
FAQ = DOCS / "faq.md"
PAGES = [
    page
    for page in sorted(DOCS.rglob("*.md"))
    if page.name not in ELSEWHERE and page != FAQ and any(block.kind == "python" for block in blocks_of(page))
]


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CODECZOO_DEVICE", "cpu")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_code_of_a_page_runs(page: Path) -> None:
    names = {"__name__": page.stem}
    for block in blocks_of(page):
        if block.kind == "python" and block.runs:
            exec(compile(in_place(block), str(page), "exec"), names)


def test_the_faq_shows_the_errors_that_there_are() -> None:
    names: dict[str, object] = {"__name__": "faq"}
    blocks = blocks_of(FAQ)
    assert [block.kind for block in blocks] == ["python", "text"] * (len(blocks) // 2) and len(blocks) > 20
    for code, shown in zip(blocks[::2], blocks[1::2], strict=True):
        kind, _, message = shown.code.strip().partition(": ")
        with pytest.raises(Exception) as raised:
            exec(compile(in_place(code), str(FAQ), "exec"), names)
        error = raised.value
        said = str(error.args[0] if isinstance(error, KeyError) else error)
        assert type(error).__name__ == kind
        assert re.match(".+".join(map(re.escape, message.split("…"))), said), said


def test_most_code_runs() -> None:
    blocks = [block for page in [*PAGES, FAQ] for block in blocks_of(page) if block.kind == "python"]
    assert sum(block.runs for block in blocks) > 0.7 * len(blocks)
