"""Text of the code as Markdown."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from pathlib import Path


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *rows])


def plain(text: str) -> str:
    """Words that mean themselves: what Markdown or HTML would take for marks is written out, but not between
    backticks."""
    parts = text.split("`")
    for i in range(0, len(parts), 2):
        for mark in "\\*_[]<|":
            parts[i] = parts[i].replace(mark, {"<": "&lt;"}.get(mark, "\\" + mark))
    parts[1::2] = [part.replace("|", "\\|") for part in parts[1::2]]
    return "`".join(parts)


def module_docstring(path: Path) -> str:
    """The docstring of a Python file, which is not imported."""
    return ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
