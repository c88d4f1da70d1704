"""The rooms of the package import from those below them only: the contracts in pyproject.toml."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("importlinter")

ROOT = Path(__file__).parent.parent
LINT = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(cache_dir=None))"


def test_no_contract_on_imports_is_broken() -> None:
    """In a process of its own: it must find this package, and not one that is installed."""
    done = subprocess.run(
        [sys.executable, "-c", LINT],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        text=True,
        check=False,
    )
    report = done.stdout[max(done.stdout.find("Contracts"), 0) :]
    assert done.returncode == 0, f"{report}\n{done.stderr}"
    assert "0 broken" in report
