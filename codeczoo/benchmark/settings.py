"""Settings of a benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from codeczoo.executor.settings import WorkSettings


@dataclass(frozen=True, kw_only=True)
class Settings(WorkSettings):
    """A benchmark.

    Attributes:
        codecs: names; for a data set that holds reconstructions, names of those (none = all).
        metrics: names; none = those of the protocol.
        weights: codec → file, folder or "random".
        metric_workers: processes for the slow metrics; None = by the number of cores.
        save_audio: number of clips, from the first, whose original and reconstructions are kept (-1 = all).
    """

    codecs: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    protocol: str = "zoo"
    out: str = "results"
    weights: Mapping[str, str] = field(default_factory=dict)
    metric_workers: int | None = None
    save_audio: int = 0

    # `weights` are compared codec by codec, and by their content: `Results.check_weights`.
    FREE = WorkSettings.FREE | {"codecs", "metric_workers", "save_audio"}
