"""The notebooks run top to bottom, and show what they did."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

EXAMPLES = Path(__file__).parent.parent / "examples"
NOTEBOOKS = sorted(path.stem for path in EXAMPLES.glob("*.ipynb"))
QUICK = "hear_and_see_codecs"  # runs in `make test`, the others in `make test-full`
MAX_BYTES = 1_000_000  # of all notebooks together


def read(name: str) -> nbformat.NotebookNode:
    notebook = nbformat.read(EXAMPLES / f"{name}.ipynb", as_version=4)
    nbformat.validate(notebook)
    return notebook


def kinds(notebook: nbformat.NotebookNode) -> list[set[str]]:
    """What each code cell shows: "text" that it prints, pictures, players. Warnings do not count."""
    return [
        {kind for output in cell.outputs if output.get("name") != "stderr" for kind in output.get("data", {"text": ""})}
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == QUICK else pytest.mark.slow) for name in NOTEBOOKS]
)
def test_it_runs_and_shows_what_it_showed(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODECZOO_DEVICE", "cpu")
    kept, notebook = read(name), read(name)
    folder = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=folder).execute()
    assert kinds(notebook) == kinds(kept)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_its_outputs_are_kept(name: str) -> None:
    notebook = read(name)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    outputs = [output for cell in code for output in cell.outputs]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1)), "run it from top to bottom"
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    shown = "".join(str(output) for output in outputs)
    assert "data:audio/flac;base64," in shown and "image/png" in shown


def test_they_are_small() -> None:
    assert len(NOTEBOOKS) >= 4
    assert sum((EXAMPLES / f"{name}.ipynb").stat().st_size for name in NOTEBOOKS) < MAX_BYTES
