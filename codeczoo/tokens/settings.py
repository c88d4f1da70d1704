"""What a tokenisation depends on."""

from __future__ import annotations

from dataclasses import dataclass

from codeczoo.executor.settings import WorkSettings


@dataclass(frozen=True, kw_only=True)
class TokenSettings(WorkSettings):
    """A tokenisation. See `codeczoo tokenize --help`."""

    codec: str
    out: str
    form: str = "safetensors"
    shard_clips: int = 1000
    num_codebooks: int | None = None
    bitrate: float | None = None
    weights: str | None = None
    verify: bool = False

    # A clip's codes are the same in every batch.
    FREE = WorkSettings.FREE | {"batch", "max_batch_seconds", "verify"}
