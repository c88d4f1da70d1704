"""What a command tells: a progress bar, each failure, a JSON line a clip, closing words, and the exit code."""

from __future__ import annotations

import json
import math
import sys
from types import TracebackType
from typing import Any

from tqdm import tqdm

from codeczoo.cli.outputs import Outputs

SOME_FAILED = 3


class Report:
    """Counts clips and tells of them. A context: leaving it closes the bar.

    Args:
        verb: what was done, in the past: "encoded".
        total: how many clips there are; None = unknown.
    """

    def __init__(self, verb: str, total: int | None, outputs: Outputs, *, json_lines: bool, quiet: bool) -> None:
        self.verb, self.outputs, self.json_lines = verb, outputs, json_lines
        self.quiet = quiet or outputs.stdout
        self.counts = {"ok": 0, "kept": 0, "failed": 0}
        self.bar = tqdm(total=total, unit="clip", disable=self.quiet or total == 1, file=sys.stderr, smoothing=0.1)

    def __enter__(self) -> Report:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.close()

    def done(self, identity: str, name: str, facts: dict[str, Any]) -> None:
        """One clip is written."""
        self._count("ok", identity, {"output": self._where(name), **facts})

    def kept(self, identity: str, name: str, facts: dict[str, Any]) -> None:
        """One clip was there already."""
        self._count("kept", identity, {"output": self._where(name), **facts})

    def failed(self, identity: str, reason: str) -> None:
        """One clip is not written."""
        tqdm.write(f"failed: {identity}: {reason}", file=sys.stderr)
        self._count("failed", identity, {"reason": reason})

    def close(self) -> int:
        """The closing words; returns the exit code."""
        self.bar.close()
        ok, kept, failed = (self.counts[key] for key in ("ok", "kept", "failed"))
        if not self.quiet:
            words = [f"{self.verb} {_clips(ok)}"]
            words += [f"{_clips(kept)} there already"] if kept else []
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


def _clips(count: int) -> str:
    return f"{count} clip" if count == 1 else f"{count} clips"
