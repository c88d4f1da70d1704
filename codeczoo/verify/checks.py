"""`Check`: one question and its answer. `Report`: those of one codec, as a table, JSON, or text for an issue."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Outcome = Literal["passed", "failed", "skipped"]
MARKS: Mapping[str, str] = {"passed": "ok", "failed": "FAILED", "skipped": "-"}


@dataclass(frozen=True)
class Check:
    """One question and its answer.

    Attributes:
        name: what was looked at.
        outcome: "skipped" = it could not be asked; `found` says why.
        found, expected: in words, with the numbers.
    """

    name: str
    outcome: Outcome
    found: str
    expected: str = ""

    @classmethod
    def of(cls, name: str, right: bool, found: str, expected: str = "") -> Check:
        """A check that passed or failed."""
        return cls(name, "passed" if right else "failed", found, expected)

    @classmethod
    def skipped(cls, name: str, why: str) -> Check:
        """A check that could not be made, and why."""
        return cls(name, "skipped", why)


@dataclass(frozen=True)
class Report:
    """All checks of one codec, in their order.

    Attributes:
        facts: weights, hash, device, versions: what the answers hold for.
    """

    codec: str
    checks: Sequence[Check]
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether no check failed. (Those that were skipped say nothing.)"""
        return not any(check.outcome == "failed" for check in self.checks)

    def table(self, width: int = 100) -> str:
        """A line for each check; what it found goes on below."""
        names = max(len(check.name) for check in self.checks)
        lines = [f"{self.codec}: {self.verdict}"]
        for check in self.checks:
            told = check.found + (f" (expected: {check.expected})" if check.expected else "")
            first, *rest = textwrap.wrap(told, max(width - names - 12, 30)) or [""]
            lines.append(f"  {MARKS[check.outcome]:6}  {check.name:{names}}  {first}")
            lines += [" " * (names + 12) + more for more in rest]
        return "\n".join(lines)

    @property
    def verdict(self) -> str:
        """How many checks passed, failed and could not be made, in a sentence."""
        counts = {kind: sum(check.outcome == kind for check in self.checks) for kind in MARKS}
        return f"{counts['passed']} checks passed, {counts['failed']} failed, {counts['skipped']} could not be made"

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "codec": self.codec,
            "passed": self.passed,
            **self.facts,
            "checks": [asdict(check) for check in self.checks],
        }

    def issue(self) -> str:
        """Markdown to paste into an issue. No path of this machine is in it."""
        rows = [
            f"| {check.name} | {MARKS[check.outcome]} | {_cell(check.found)} | {_cell(check.expected)} |"
            for check in self.checks
        ]
        facts = [f"- {name.replace('_', ' ')}: {value}" for name, value in self.facts.items()]
        head = [f"### codeczoo verify {self.codec}: {self.verdict}", "", *facts, "", "| check | | found | expected |"]
        return "\n".join([*head, "|---|---|---|---|", *rows, ""])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
