"""Settings of every job over a data set: which clips, in which batches, on which machine."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch

from codeczoo.data.open import open_source
from codeczoo.data.source import Source
from codeczoo.executor.record import jsonable

# Default limit of the audio in one batch, in seconds with padding, by kind of device.
BATCH_SECONDS = {"cuda": 1200.0}
BATCH_SECONDS_ELSEWHERE = 120.0


def batch_seconds(asked: float | None, device: torch.device) -> float:
    """The limit of the audio in one batch, in seconds with padding: the one asked for, else the device's default."""
    return asked or BATCH_SECONDS.get(device.type, BATCH_SECONDS_ELSEWHERE)


@dataclass(frozen=True, kw_only=True)
class SourceSettings:
    """Which clips of which data set: the arguments of `data.open.open_source`. Several splits are joined by commas."""

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
    """Clips, and how the work on them is done.

    Attributes:
        batch: clips in one batch at most.
        max_batch_seconds: audio in one batch at most, with padding; None = by device.
        compile: of `load_codec`: run networks as CUDA graphs.
        workers: processes that read.
        engine: "local" or "ray".
        address: of a running Ray cluster; None = one is started.
        actors: of Ray, at most, each with a device; None = as many as the cluster has room for.
        shard: (number of this process, number of processes); None = as torchrun or Slurm say. See `rank.Rank`.
    """

    batch: int = 200
    max_batch_seconds: float | None = None
    device: str | None = None
    precision: str = "exact"
    compile: bool = False
    workers: int = 2
    overwrite: bool = False
    progress: bool = True
    engine: str = "local"
    address: str | None = None
    actors: int | None = None
    shard: tuple[int, int] | None = None

    # Fields that results do not depend on.
    FREE: ClassVar[frozenset[str]] = frozenset(
        {"out", "device", "compile", "workers", "overwrite", "progress", "engine", "address", "actors", "shard"}
    )

    def of_record(self) -> dict[str, Any]:
        """The fields that results depend on: a run goes on in its folder only where they are equal."""
        return {key: value for key, value in jsonable(asdict(self)).items() if key not in self.FREE}
