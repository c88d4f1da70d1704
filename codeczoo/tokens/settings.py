"""What a tokenisation depends on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from codeczoo.bench.results import jsonable
from codeczoo.bench.settings import SourceSettings


@dataclass(frozen=True, kw_only=True)
class TokenSettings(SourceSettings):
    """A tokenisation. See `codeczoo tokenize --help`; `bench.settings` says what its namesakes are."""

    codec: str
    out: str
    form: str = "safetensors"
    shard_clips: int = 1000
    num_codebooks: int | None = None
    bitrate: float | None = None
    weights: str | None = None
    device: str | None = None
    precision: str = "exact"
    batch: int = 200
    max_batch_seconds: float | None = None
    workers: int = 2
    overwrite: bool = False
    verify: bool = False
    progress: bool = True
    engine: str = "local"
    address: str | None = None
    actors: int | None = None
    shard: tuple[int, int] | None = None

    def of_record(self) -> dict[str, Any]:
        """What must be equal for a tokenisation to go on where it stopped."""
        free = {"out", "device", "batch", "max_batch_seconds", "workers", "overwrite", "verify", "progress", "engine"}
        free |= {"address", "actors", "shard"}
        return {key: value for key, value in jsonable(asdict(self)).items() if key not in free}
