"""A benchmark's results on disk: one JSON line a clip and codec, written as they come, found again after a crash."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

from filelock import FileLock, Timeout

from codeczoo.executor.record import write_atomically

FORMAT = "codeczoo.benchmark/2"
LONGEST_NAME = 200  # bytes of a file's name; file systems take 255


class Results:
    """The folder of one run.

    run.json                        what was run: data set, settings, versions, codecs with the hash of their weights
    clips.jsonl                     one line a clip and codec; further processes write clips-00001.jsonl, ...
    statistics/CODEC/BATCH.json     how often each code occurred in a batch
    summary.json, summary.csv       made of the lines above when all are there
    events.jsonl                    what did not go straight: batches that were halved, and why
    timing.json                     all that depends on the clock and the machine; timing-00001.json, ...
    audio/CODEC/, audio/original/   what was kept to be listened to

    Open it as a context: one process at a time holds a folder, or its part of it (`suffix`, as "-00001").
    """

    def __init__(self, folder: str | Path, suffix: str = "") -> None:
        self.folder = Path(folder)
        self.suffix = suffix
        self.clips_path = self.folder / f"clips{suffix}.jsonl"
        self.done: set[tuple[str, str]] = set()

    def __enter__(self) -> Results:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(self.folder / f".lock{self.suffix}", timeout=0)
        try:
            self._lock.acquire()
        except Timeout:
            raise ValueError(f"{self.folder}: another benchmark writes there; choose another --out") from None
        _take_off_half_a_line(self.clips_path)
        self.look()
        self._file = self.clips_path.open("a", encoding="utf-8")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._lock.release()

    def settle(self, settings: Mapping[str, Any], overwrite: bool) -> None:
        """Compare `settings` with those of an earlier run here: the same go on, others are an error."""
        path = self.folder / "run.json"
        if overwrite:
            self._file.close()
            old = [file for stem in ("clips", "timing", "events", "summary") for file in self._files(stem)]
            for pattern in ("run.json", "summary.csv", "statistics/*/*.json", "audio/*/*.flac"):
                old += self.folder.glob(pattern)
            for file in old:
                file.unlink(missing_ok=True)
            self.done.clear()
            self._file = self.clips_path.open("a", encoding="utf-8")
        elif path.exists():
            run = json.loads(path.read_text("utf-8"))
            if run.get("format") != FORMAT:
                raise ValueError(
                    f"{self.folder} holds results of another form ({run.get('format')}; this version writes {FORMAT}): "
                    "choose another --out, or --overwrite to start anew"
                )
            before = run["settings"]
            differ = sorted(key for key in settings if before.get(key) != settings[key])
            if differ:
                raise ValueError(
                    f"{self.folder} holds a run with other settings ({', '.join(differ)}): choose another --out, "
                    "or --overwrite to start anew"
                )

    def write_run(self, description: Mapping[str, Any]) -> None:
        write_atomically(self.folder / "run.json", description)

    def add(self, rows: Iterable[Mapping[str, Any]]) -> int:
        """Append lines that are not there yet, and see them onto the disk; returns how many those are."""
        fresh = [row for row in rows if (row["codec"], row["id"]) not in self.done]
        self._file.write("".join(json.dumps(row, allow_nan=False) + "\n" for row in fresh))
        self._file.flush()
        os.fsync(self._file.fileno())
        self.done.update((row["codec"], row["id"]) for row in fresh)
        return len(fresh)

    def note(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Append what did not go straight to events.jsonl."""
        lines = "".join(json.dumps(event) + "\n" for event in events)
        if lines:
            with (self.folder / f"events{self.suffix}.jsonl").open("a", encoding="utf-8") as file:
                file.write(lines)

    def write_statistics(self, codec: str, batch: int, counts: list[dict[int, int]]) -> None:
        path = self.folder / "statistics" / codec / f"{batch:06d}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, counts, indent=None)

    def statistics(self, codec: str) -> Iterator[list[dict[str, int]]]:
        """What `write_statistics` wrote, batch by batch."""
        for path in sorted((self.folder / "statistics" / codec).glob("*.json")):
            yield json.loads(path.read_text("utf-8"))

    def rows(self, codec: str | None = None) -> Iterator[dict[str, Any]]:
        """All lines of all processes, or those of one codec, each clip and codec once; one that is being written is
        left out."""
        start = "" if codec is None else f'{{"codec": {json.dumps(codec)},'  # every line begins so: see `work`
        seen: set[tuple[str, str]] = set()  # processes that were given the same part by mistake write the same lines
        for path in self._files("clips"):
            with path.open(encoding="utf-8") as file:
                for line in file:
                    if line.endswith("\n") and line.startswith(start):
                        row = json.loads(line)
                        key = (row["codec"], row["id"])
                        if key not in seen:
                            seen.add(key)
                            yield row

    def look(self) -> None:
        """Know what is there already, of all processes."""
        self.done |= {(row["codec"], row["id"]) for row in self.rows()}

    def whole(self) -> FileLock:
        """A lock on what all processes share: the summary."""
        return FileLock(self.folder / ".lock-summary")

    def _files(self, stem: str) -> list[Path]:
        return sorted(
            path for path in self.folder.glob(f"{stem}*.json*") if path.name.startswith((f"{stem}.", f"{stem}-"))
        )


def _take_off_half_a_line(path: Path) -> None:
    """A line that a kill cut short never was."""
    if not path.exists():
        return
    whole = 0
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                whole += len(line)
    if whole < path.stat().st_size:
        os.truncate(path, whole)


def audio_name(id: str) -> str:
    """The name of a clip's file in `audio/`: one name for one id, whatever characters that has."""
    name = quote(id, safe=" ,;=+@()[]", errors="surrogateescape")
    longest = LONGEST_NAME - len(".flac")
    if len(name) > longest:
        name = f"{name[: longest - 17]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    return f"{name}.flac"
