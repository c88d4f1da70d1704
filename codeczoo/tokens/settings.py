"""What a tokenisation depends on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from codeczoo.bench.results import jsonable
from codeczoo.bench.sources import Source, open_source


@dataclass(frozen=True)
class TokenSettings:
    """A tokenisation. See `codeczoo tokenize --help`; `bench.settings.Settings` says what its namesakes are."""

    codec: str
    out: str
    dataset: str | None = None
    split: str | None = None
    streaming: bool = False
    audio_column: str | None = None
    id_column: str | None = None
    form: str = "safetensors"
    shard_clips: int = 1000
    num_codebooks: int | None = None
    bitrate: float | None = None
    weights: str | None = None
    device: str | None = None
    precision: str = "exact"
    batch: int = 200
    max_batch_seconds: float | None = None
    limit: int | None = None
    shuffle: bool = False
    seed: int = 0
    workers: int = 2
    overwrite: bool = False
    verify: bool = False
    progress: bool = True
    engine: str = "local"
    address: str | None = None
    shard: tuple[int, int] | None = None

    def of_record(self) -> dict[str, Any]:
        """What must be equal for a tokenisation to go on where it stopped."""
        free = {"out", "device", "batch", "max_batch_seconds", "workers", "overwrite", "verify", "progress", "engine"}
        free |= {"address", "shard"}
        return {key: value for key, value in jsonable(asdict(self)).items() if key not in free}

    def open_source(self) -> Source:
        """Its data set."""
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
