"""The notebooks of examples/ as pages, with the outputs that are stored in them."""

from __future__ import annotations

from pathlib import Path


def pages(root: Path) -> dict[str, str]:
    """Path → Markdown."""
    return {}
