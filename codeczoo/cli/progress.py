"""What a command reports: a progress bar, each failure, one JSON line a clip, a closing line, and the exit code."""

from __future__ import annotations

import json
import math
import sys
from types import TracebackType
from typing import Any

from tqdm import tqdm

from codeczoo.base.errors import printable
from codeczoo.cli.outputs import Outputs

SOME_FAILED = 3


class Progress:
    """Counts clips and reports them. A context: leaving it closes the bar.

    Args:
        verb: what is done to a clip, in the past tense: "encoded".
        total: number of clips; None = unknown.
        json_lines, quiet: whether --json and --quiet are given.
    """

    def __init__(self, verb: str, total: int | None, outputs: Outputs, *, json_lines: bool, quiet: bool) -> None:
        self.verb, self.outputs, self.json_lines = verb, outputs, json_lines
        self.quiet = quiet or outputs.stdout
        self.counts = {"ok": 0, "kept": 0, "failed": 0}
        # None: a bar on terminals only. In a file its lines are joined by carriage returns, and failures with them.
        hidden = True if self.quiet or total == 1 else None
        self.bar = tqdm(total=total, unit="clip", disable=hidden, file=sys.stderr, smoothing=0.1)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.close()

    def done(self, identity: str, name: str, facts: dict[str, Any]) -> None:
        """A clip's output is written."""
        self._count("ok", identity, {**facts, "output": facts.get("output", self._where(name))})

    def kept(self, identity: str, name: str, facts: dict[str, Any]) -> None:
        """A clip's output was there already."""
        self._count("kept", identity, {**facts, "output": facts.get("output", self._where(name))})

    def failed(self, identity: str, reason: str) -> None:
        """A clip has no output."""
        tqdm.write(printable(f"failed: {identity}: {reason}"), file=sys.stderr)
        self._count("failed", identity, {"reason": reason})

    def close(self) -> int:
        """Close the bar and write the closing line; returns the exit code."""
        self.bar.close()
        ok, kept, failed = (self.counts[key] for key in ("ok", "kept", "failed"))
        if not self.quiet:
            words = [f"{self.verb} {counted(ok, 'clip')}"]
            words += [f"{counted(kept, 'clip')} there already"] if kept else []
            words += [f"{failed} failed"] if failed else []
            sys.stderr.write(f"{', '.join(words)}; in {self.outputs}\n")
        return SOME_FAILED if failed else 0

    def _count(self, status: str, identity: str, facts: dict[str, Any]) -> None:
        self.counts[status] += 1
        self.bar.update()
        if self.json_lines:
            row = {"id": identity, "status": status, **{key: _number(value) for key, value in facts.items()}}
            sys.stdout.write(json.dumps(row, allow_nan=False) + "\n")
            sys.stdout.flush()

    def _where(self, name: str) -> str:
        return str(self.outputs.path(name) or "-")


def _number(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def counted(count: int, noun: str) -> str:
    """A number with its noun: "1 clip", "2 clips"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def duration(seconds: float) -> str:
    """In seconds below a minute, in minutes below an hour, else in hours."""
    if seconds < 60:
        return f"{seconds:.1f} seconds"
    return f"{seconds / 60:.1f} minutes" if seconds < 3600 else f"{seconds / 3600:.2f} hours"
