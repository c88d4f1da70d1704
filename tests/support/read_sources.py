"""Reads data sets in a process of its own, as the benchmark's workers do: the libraries of the hub look at their
environment when they are imported.

    echo '{"dataset": "someone/tiny", "streaming": true}' | python -m tests.support.read_sources
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

from huggingface_hub import constants

from codeczoo.base.inputs import read_clips
from codeczoo.data.open import Entry, Source, open_source
from tests.support.clips import Read, read_entry
from tests.support.hub_server import HubServer

ROOT = Path(__file__).parents[2]


class Reader:
    """The process, which knows only `hub` and the cache at `home`; a context."""

    def __init__(self, hub: HubServer, home: Path, **environment: str) -> None:
        self.environment = {**os.environ, "HF_HUB_OFFLINE": "0", **hub.environment(home), **environment}

    def __enter__(self) -> Reader:
        self.log = tempfile.TemporaryFile("w+", encoding="utf-8")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.read_sources"],
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        with self.log:
            self.process.communicate(timeout=60)

    def ask(self, dataset: str | Path, timeout: float | None = None, **options: Any) -> dict[str, Any]:
        """What `open_source` gives, or its error. `timeout`: seconds that the hub's client waits for an answer."""
        assert self.process.stdin is not None and self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps({"dataset": str(dataset), "timeout": timeout, **options}) + "\n")
            self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            self.log.seek(0)
            raise AssertionError(f"the reader died:\n{self.log.read()[-3000:]}")
        return json.loads(line)


def answer(request: dict[str, Any]) -> dict[str, Any]:
    timeout = request.pop("timeout") or constants.HF_HUB_DOWNLOAD_TIMEOUT
    try:
        with mock.patch.object(constants, "HF_HUB_DOWNLOAD_TIMEOUT", timeout):
            source = open_source(**request)
            copy = pickle.loads(pickle.dumps(source))
            found: list[dict[str, Any]] = []
            for entry in source.entries():
                found.append(describe(read_entry(copy, entry)))
                for estimate in source.estimates:
                    found[-1][estimate] = estimated(copy, entry, estimate)
        return {"count": source.count, "facts": source.facts(), "clips": found}
    except (OSError, ValueError, ImportError) as error:
        return {"error": [kind.__name__ for kind in type(error).__mro__], "message": str(error)}


def estimated(source: Source, entry: Entry, estimate: str) -> str:
    """The fingerprint of a reconstruction, or why there is none."""
    try:
        (clip,) = read_clips(source.read_estimate(entry, estimate))
        return fingerprint(clip.waveform)
    except (OSError, ValueError) as error:
        return str(error)


def describe(read: Read) -> dict[str, Any]:
    found: dict[str, Any] = {"id": read.entry.id, "category": read.entry.category, "failure": read.failure}
    if read.waveform is not None:
        found |= {"shape": list(read.waveform.shape), "rate": read.sample_rate, "hash": fingerprint(read.waveform)}
    return found


def fingerprint(waveform: Any) -> str:
    return hashlib.sha256(waveform.contiguous().numpy().tobytes()).hexdigest()[:16]


if __name__ == "__main__":
    time.sleep = lambda seconds: None  # the pauses of the hub's clients between their attempts
    for line in sys.stdin:
        sys.stdout.write(json.dumps(answer(json.loads(line))) + "\n")
        sys.stdout.flush()
