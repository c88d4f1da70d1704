"""docs/metrics.md says what the code does: every metric of the table, what it is, and why it may be undefined."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from codeczoo.metrics import METRICS, RUN_METRICS
from codeczoo.metrics.pool import SCRIPT

ROOT = Path(__file__).parent.parent.parent
DOCS = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
ROWS = {row[0].strip("`"): row for row in (
    [cell.strip() for cell in line.strip("|").split("|")] for line in DOCS.splitlines() if line.startswith("| `")
)}  # fmt: skip
SOURCES = "".join(path.read_text(encoding="utf-8") for path in SCRIPT.parent.rglob("*.py"))


def test_every_metric_is_in_the_table_and_none_else() -> None:
    assert [name for name in ROWS if name in METRICS] == list(METRICS)
    listed = re.findall(r"^\| `([\w/]+)` \| (?:higher|lower)", DOCS, re.MULTILINE)
    assert listed == [*METRICS, *RUN_METRICS]
    for name, metric in RUN_METRICS.items():
        assert (ROWS[name][1], ROWS[name][3]) == (metric.better, metric.summary)


@pytest.mark.parametrize("name", METRICS)
def test_a_row_says_what_the_code_says(name: str) -> None:
    metric = METRICS[name]
    where = "on the device, batched" if metric.where == "device" else "in worker processes"
    where += f" (extra `{metric.extra}`)" if metric.extra else ""
    expected = [metric.better, metric.unit or "-", where, "yes" if metric.default else "no", metric.summary]
    assert ROWS[name][1:6] == expected


def reasons_of(name: str) -> set[str]:
    """Those that a metric's docstring names, `as other` followed."""
    text = METRICS[name].function.__doc__ or ""
    _, _, after = text.partition("ndefined")
    found = set(re.findall(r"`(\w+)`", after)) - set(METRICS)
    for other in re.findall(r"(?:as|cases as) `(\w+)`", text):
        found |= reasons_of(other) if other in METRICS else set()
    return found


@pytest.mark.parametrize("name", [name for name in METRICS if not name.startswith("superb/")])
def test_every_reason_is_explained(name: str) -> None:
    _, _, undefined = DOCS.partition("## Undefined")
    explained = set(re.findall(r"`(\w+)`", undefined))
    missing = {"non_finite", *reasons_of(name)} - explained
    assert not missing, f"{name} may be undefined for reasons that docs/metrics.md does not explain: {missing}"


def test_every_reason_in_the_documentation_is_one_of_the_code() -> None:
    _, _, undefined = DOCS.partition("## Undefined")
    table = undefined.split("##")[0]
    for reason in re.findall(r"`(\w+)`", "\n".join(line.split("|")[1] for line in table.splitlines() if "|" in line)):
        assert re.search(rf"[\"']{reason}[\"']", SOURCES) or reason.startswith("rate_below"), reason
