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

FORMAT = "codeczoo.benchmark/1"
NAME_BYTES = 200  # of a saved clip's name; file systems take 255


class Results:
    """The folder of one run.

    run.json                        what was run: data set, settings, versions, codecs with the hash of their weights
    clips.jsonl                     one line a clip and codec
    statistics/CODEC/BATCH.json     how often each code occurred in a batch
    summary.json, summary.csv       made of the lines above when all are there
    timing.json                     all that depends on the clock and the machine

    Open it as a context: one run at a time holds a folder.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.clips_path = self.folder / "clips.jsonl"
        self.done: set[tuple[str, str]] = set()

    def __enter__(self) -> Results:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(self.folder / ".lock", timeout=0)
        try:
            self._lock.acquire()
        except Timeout:
            raise ValueError(f"{self.folder}: another benchmark writes there; choose another --out") from None
        self._recover()
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
            for old in [self.clips_path, path, *self.folder.glob("statistics/*/*.json")]:
                old.unlink(missing_ok=True)
            self.done.clear()
            self._file = self.clips_path.open("a", encoding="utf-8")
        elif path.exists():
            before = json.loads(path.read_text("utf-8"))["settings"]
            differ = sorted(key for key in settings if before.get(key) != settings[key])
            if differ:
                raise ValueError(
                    f"{self.folder} holds a run with other settings ({', '.join(differ)}): choose another --out, "
                    "or --overwrite to start anew"
                )

    def write_run(self, description: Mapping[str, Any]) -> None:
        write_atomically(self.folder / "run.json", description)

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append lines that are not there yet, and see them onto the disk."""
        fresh = [row for row in rows if (row["codec"], row["id"]) not in self.done]
        self._file.write("".join(json.dumps(row, allow_nan=False) + "\n" for row in fresh))
        self._file.flush()
        os.fsync(self._file.fileno())
        self.done.update((row["codec"], row["id"]) for row in fresh)

    def write_statistics(self, codec: str, batch: int, counts: list[dict[int, int]]) -> None:
        path = self.folder / "statistics" / codec / f"{batch:06d}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, counts, indent=None)

    def statistics(self, codec: str) -> Iterator[list[dict[str, int]]]:
        """What `write_statistics` wrote, batch by batch."""
        for path in sorted((self.folder / "statistics" / codec).glob("*.json")):
            yield json.loads(path.read_text("utf-8"))

    def rows(self) -> Iterator[dict[str, Any]]:
        with self.clips_path.open(encoding="utf-8") as file:
            for line in file:
                yield json.loads(line)

    def _recover(self) -> None:
        """Know what is there already; a line that a kill cut short is taken off."""
        if not self.clips_path.exists():
            return
        whole = 0
        with self.clips_path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                row = json.loads(line)
                self.done.add((row["codec"], row["id"]))
                whole += len(line)
        if whole < self.clips_path.stat().st_size:
            os.truncate(self.clips_path, whole)


def write_atomically(path: Path, content: Any, indent: int | None = 2) -> None:
    """JSON that is there whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(content, indent=indent, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(part, path)


def audio_name(clip: str) -> str:
    """The file name under which a clip's audio is saved: its id, quoted as in a URL, so that no two share one."""
    name = quote(clip, safe=" ,;=+@()[]", errors="surrogateescape")
    if len(name) + len(".flac") > NAME_BYTES:
        digest = hashlib.sha256(name.encode()).hexdigest()[:16]
        name = f"{name[: NAME_BYTES - len(digest) - len('-.flac')]}-{digest}"
    return name + ".flac"
