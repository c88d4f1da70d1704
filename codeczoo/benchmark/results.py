"""A benchmark's results on disk: one JSON line a clip and codec, appended as soon as it is computed."""

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

from codeczoo.base.codes import describe_weights
from codeczoo.executor.growth import Limits, differing, grown
from codeczoo.executor.record import weights_id, write_atomically

RESULTS_FORMAT = "codeczoo.benchmark/2"
MAX_NAME_BYTES = 200  # of a file; file systems take 255


class Results:
    """The folder of one run.

    run.json                        data set, settings, versions, and all codecs with the hash of their weights
    clips.jsonl                     one line a clip and codec; of further ranks clips-00001.jsonl, ...
    statistics/CODEC/BATCH.json     how often each code occurred in a batch
    embeddings/CODEC/BATCH.npz      what a batch adds to the sets of a Fréchet distance
    summary.json, summary.csv       computed when all lines are there
    events.jsonl                    batches that were halved, processes that died, and why
    timing.json                     seconds, real-time factors, memory of the last session; timing-00001.json, ...
    audio/CODEC/, audio/original/   clips that --save-audio keeps

    A context: inside, this process has the lock of the folder, or of its rank's files (`suffix`, as "-00001").
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
        _drop_partial_last_line(self.clips_path)
        self.reload_done()
        self._file = self.clips_path.open("a", encoding="utf-8")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._lock.release()

    def check_settings(self, settings: Mapping[str, Any], overwrite: bool, may_grow: bool = True) -> Limits:
        """Compare `settings` with those of the run in this folder. Of the weights see `check_weights`.

        Args:
            may_grow: the run may go on with a larger limit.

        Returns:
            The limits of the run's sessions, this one's last.

        Raises:
            ValueError: they differ, or the folder has results of another format. (With `overwrite` it is emptied.)
        """
        limit = settings["limit"]
        if overwrite:
            self._file.close()
            old = [file for stem in ("clips", "timing", "events", "summary") for file in self._files(stem)]
            for pattern in ("run.json", "summary.csv", "statistics/*/*.json", "embeddings/*/*.npz", "audio/*/*.flac"):
                old += self.folder.glob(pattern)
            for file in old:
                file.unlink(missing_ok=True)
            self.done.clear()
            self._file = self.clips_path.open("a", encoding="utf-8")
            return (limit,)
        run = self._run()
        if run is None:
            return (limit,)
        if run.get("format") != RESULTS_FORMAT:
            raise ValueError(
                f"{self.folder} holds results of another format ({run.get('format')}; this version writes "
                f"{RESULTS_FORMAT}): choose another --out, or --overwrite to discard them"
            )
        limits = grown(run, limit)
        if not may_grow and limits is not None and limits != (limit,):
            limits = None
        if differ := differing(run, settings, limits):
            raise ValueError(
                f"{self.folder} holds a run with other settings ({', '.join(differ)}): choose another --out, "
                "or --overwrite to discard it"
            )
        assert limits is not None
        return limits

    def check_weights(self, codecs: Mapping[str, Mapping[str, Any]]) -> None:
        """Compare the weights of `codecs` (name → `describe_codec`) with those that made the lines in this folder.

        Raises:
            ValueError: a codec has other weights than before.
        """
        before = (self._run() or {}).get("codecs", {})
        for name in codecs.keys() & before.keys():
            old, new = weights_id(before[name]), weights_id(codecs[name])
            if old != new:
                raise ValueError(
                    f"{self.folder} holds results of {name} with the weights {describe_weights(old)}; the weights "
                    f"given now are {describe_weights(new)}: choose another --out, or --overwrite to discard them"
                )

    def write_run(self, description: Mapping[str, Any]) -> None:
        """Write run.json. Codecs of earlier sessions that this one does not have stay in it, with their weights."""
        before = self._run() or {}
        kept = {name: codec for name, codec in before.get("codecs", {}).items() if name not in description["codecs"]}
        weights = {name: path for name, path in before.get("settings", {}).get("weights", {}).items() if name in kept}
        settings = description["settings"]
        merged = {
            "settings": {**settings, "weights": {**weights, **settings["weights"]}},
            "codecs": {**kept, **description["codecs"]},
        }
        write_atomically(self.folder / "run.json", {**description, **merged})

    def _run(self) -> dict[str, Any] | None:
        """What run.json says; None where there is none yet."""
        path = self.folder / "run.json"
        return json.loads(path.read_text("utf-8")) if path.exists() else None

    def add(self, rows: Iterable[Mapping[str, Any]]) -> int:
        """Append the rows that are not there yet, and flush them to the disk; returns their number."""
        fresh = [row for row in rows if (row["codec"], row["id"]) not in self.done]
        self._file.write("".join(json.dumps(row, allow_nan=False) + "\n" for row in fresh))
        self._file.flush()
        os.fsync(self._file.fileno())
        self.done.update((row["codec"], row["id"]) for row in fresh)
        return len(fresh)

    def log_events(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Append to events.jsonl."""
        lines = "".join(json.dumps(event) + "\n" for event in events)
        if lines:
            with (self.folder / f"events{self.suffix}.jsonl").open("a", encoding="utf-8") as file:
                file.write(lines)

    def write_statistics(self, codec: str, batch: int, counts: list[dict[int, int]]) -> None:
        path = self.folder / "statistics" / codec / f"{batch:06d}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, counts, indent=None)

    def statistics(self, codec: str) -> Iterator[list[dict[str, int]]]:
        """The counts that `write_statistics` wrote, batch by batch."""
        for path in sorted((self.folder / "statistics" / codec).glob("*.json")):
            yield json.loads(path.read_text("utf-8"))

    def sets_folder(self, codec: str) -> Path:
        """Where the sets of its Fréchet distances are kept, a file a batch."""
        return self.folder / "embeddings" / codec

    def rows(self, codec: str | None = None) -> Iterator[dict[str, Any]]:
        """The lines of all ranks (of one codec, where one is named), each clip and codec once. A line that another
        process has written in part is left out."""
        # Each line begins with the codec: see `outcome.PendingOutcome.finish`.
        start = "" if codec is None else f'{{"codec": {json.dumps(codec)},'
        seen: set[tuple[str, str]] = set()  # two processes that were given the same rank write the same lines
        for path in self._files("clips"):
            with path.open(encoding="utf-8") as file:
                for line in file:
                    if line.endswith("\n") and line.startswith(start):
                        row = json.loads(line)
                        key = (row["codec"], row["id"])
                        if key not in seen:
                            seen.add(key)
                            yield row

    def reload_done(self) -> None:
        """Add the lines of all ranks to `done`."""
        self.done |= {(row["codec"], row["id"]) for row in self.rows()}

    def summary_lock(self) -> FileLock:
        """A lock on the summary, which all ranks share."""
        return FileLock(self.folder / ".lock-summary")

    def _files(self, stem: str) -> list[Path]:
        return sorted(
            path for path in self.folder.glob(f"{stem}*.json*") if path.name.startswith((f"{stem}.", f"{stem}-"))
        )


def _drop_partial_last_line(path: Path) -> None:
    """Truncate the file after its last complete line (a killed process may leave a partial one)."""
    if not path.exists():
        return
    complete = 0
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                complete += len(line)
    if complete < path.stat().st_size:
        os.truncate(path, complete)


def audio_name(id: str) -> str:
    """The name of a clip's file in `audio/`: different for different ids, and safe whatever characters they have."""
    name = quote(id, safe=" ,;=+@()[]", errors="surrogateescape")
    longest = MAX_NAME_BYTES - len(".flac")
    if len(name) > longest:
        name = f"{name[: longest - 17]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    return f"{name}.flac"
