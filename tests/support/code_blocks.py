"""The Python code blocks of Markdown pages, and what is done to run them without a network."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from codeczoo.base.catalogue import find_variant

FENCE = re.compile(
    r"(?P<before><!-- not run[^>]*-->\n)?^```(?P<kind>python|text)[^\n]*\n(?P<code>.*?)^```",
    flags=re.DOTALL | re.MULTILINE,
)


class Block(NamedTuple):
    """A block of a page: its kind ("python" or "text"), its code, the line that it begins in, and whether it runs."""

    kind: str
    code: str
    line: int
    runs: bool


def blocks_of(page: Path) -> list[Block]:
    """The Python and text blocks of a page, in their order."""
    text = page.read_text("utf-8")
    return [
        Block(found["kind"], found["code"], text.count("\n", 0, found.start("code")), found["before"] is None)
        for found in FENCE.finditer(text)
    ]


def in_place(block: Block) -> str:
    """The code, in the lines that it has in its page, so that tracebacks name them."""
    return "\n" * block.line + offline(block.code)


def offline(code: str) -> str:
    """The code with random weights in the place of those that would be downloaded."""

    def loaded(call: re.Match[str]) -> str:
        try:
            source = find_variant(call["name"]).weights
        except KeyError:
            return call[0]
        if source is None or source.package or "weights" in call["rest"] or "local_files_only" in call["rest"]:
            return call[0]
        return f'load_codec("{call["name"]}"{call["rest"]}, weights="random")'

    return re.sub(r'\bload_codec\("(?P<name>[\w/.-]+)"(?P<rest>[^()]*)\)', loaded, code)
