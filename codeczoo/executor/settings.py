"""Settings that every kind of work over a data set has: which clips, in which batches, where."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch

from codeczoo.data.open import open_source
from codeczoo.data.source import Source
from codeczoo.executor.record import jsonable

# Seconds of audio, with padding, in one batch when nothing is said, by device.
BATCH_SECONDS = {"cuda": 1200.0}


BATCH_SECONDS_ELSEWHERE = 120.0


def batch_seconds(asked: float | None, device: torch.device) -> float:
    """Audio in one batch at most, in seconds with padding."""
    return asked or BATCH_SECONDS.get(device.type, BATCH_SECONDS_ELSEWHERE)


@dataclass(frozen=True, kw_only=True)
class SourceSettings:
    """Which clips of which data set; see `sources.open_source`. `split`: several are joined by commas."""

    dataset: str | None = None
    split: str | None = None
    streaming: bool = False
    audio_column: str | None = None
    id_column: str | None = None
    limit: int | None = None
    shuffle: bool = False
    seed: int = 0

    def open_source(self) -> Source:
        """The data set."""
        return open_source(
            self.dataset,
            split=None if self.split is None else [part.strip() for part in self.split.split(",") if part.strip()],
            streaming=self.streaming,
            audio_column=self.audio_column,
            id_column=self.id_column,
            limit=self.limit,
            shuffle=self.shuffle,
            seed=self.seed,
        )


@dataclass(frozen=True, kw_only=True)
class WorkSettings(SourceSettings):
    """And how the work is done.

    Attributes:
        batch: clips in one batch at most; max_batch_seconds: audio in it at most, with padding (None = by device).
        workers: processes that read.
        engine: "local" or "ray"; address: of a Ray cluster that runs already; actors: at most, each with a device.
        shard: (this process, of how many) on machines that share the results; None = as torchrun or Slurm say.
    """

    batch: int = 200
    max_batch_seconds: float | None = None
    device: str | None = None
    precision: str = "exact"
    workers: int = 2
    overwrite: bool = False
    progress: bool = True
    engine: str = "local"
    address: str | None = None
    actors: int | None = None
    shard: tuple[int, int] | None = None

    # What results do not depend on.
    FREE: ClassVar[frozenset[str]] = frozenset(
        {"out", "device", "workers", "overwrite", "progress", "engine", "address", "actors", "shard"}
    )

    def of_record(self) -> dict[str, Any]:
        """What must be equal for a run to go on where it stopped: all that its results depend on."""
        return {key: value for key, value in jsonable(asdict(self)).items() if key not in self.FREE}
