"""Settings of a tokenisation."""

from __future__ import annotations

from dataclasses import dataclass

from codeczoo.executor.settings import WorkSettings


@dataclass(frozen=True, kw_only=True)
class TokenSettings(WorkSettings):
    """A tokenisation.

    Attributes:
        codec: its name; out: the folder of the shards.
        form: of a shard, one of `formats.FORMS`; shard_clips: clips in one shard.
        num_codebooks, bitrate: the rate (bitrate in bit/s); None = the codec's own.
        weights: file, folder or "random"; None = the published ones.
        verify: compare the sha256 of shards that are there, and write those again that differ.
    """

    codec: str
    out: str
    form: str = "safetensors"
    shard_clips: int = 1000
    num_codebooks: int | None = None
    bitrate: float | None = None
    weights: str | None = None
    verify: bool = False

    # A clip's codes do not depend on its batch. `weights` are compared by their content: `shards.check_weights`.
    FREE = WorkSettings.FREE | {"batch", "max_batch_seconds", "verify"}
