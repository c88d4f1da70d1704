"""MkDocs' hook: adds the pages that are made from the code, and puts them into the nav (mkdocs.yml).

A nav entry `FOLDER/*` stands for the pages that are made in that folder.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT))  # MkDocs runs this file by its path, and codeczoo need not be installed

from scripts.docs_site import api, choices, commands, families, notebooks  # noqa: E402

Pages = dict[str, str]


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Make the pages, and write them into the nav."""
    made: Pages = {**families.pages(ROOT), **commands.pages(), **api.pages(ROOT), **notebooks.pages(ROOT)}
    config.extra["made"] = made
    config.nav = _with_made(config.nav, list(made))
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages to the files."""
    for path, text in config.extra.pop("made").items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Fill tables of codecs into pages that ask for them."""
    return choices.fill(markdown, ROOT)


def _with_made(entry: Any, made: list[str]) -> Any:
    if isinstance(entry, dict):
        return {title: _with_made(inner, made) for title, inner in entry.items()}
    if isinstance(entry, list):
        out: list[Any] = []
        for one in entry:
            if isinstance(one, str) and one.endswith("/*"):
                out += [path for path in made if path.startswith(one.removesuffix("*"))]
            else:
                out.append(_with_made(one, made))
        return out
    return entry
