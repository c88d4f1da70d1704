"""docs/weights.md says how the weights are pinned today."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

from codeczoo.base.catalogue import variants

ROOT = Path(__file__).parent.parent


def test_the_tables_are_the_generated_ones() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "update_weights.py"))
    text = (ROOT / "docs" / "weights.md").read_text("utf-8")
    assert text == script["page"](text), "run: python scripts/update_weights.py"
    assert script["counts"]() in text and script["pins"]() in text


def test_the_counts_are_those_of_the_rows() -> None:
    text = (ROOT / "docs" / "weights.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)` \| .+? \| (.+?) \|", text, flags=re.MULTILINE)
    assert {name for name, own in variants().items() if own.weights and own.defined_in.startswith("configs/")} <= {
        name for name, _ in rows
    }
    counted = {name: int(count) for name, count in re.findall(r"^\| ([\w, ]+) \| (\d+) \|", text, flags=re.MULTILINE)}
    assert counted["sha256"] == sum(pin == "sha256" for _, pin in rows)
    assert f"| | {len(rows)} | |" in text
