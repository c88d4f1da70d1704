"""Everything that the numbers of a benchmark depend on, and how it is carried out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from codeczoo.executor.settings import WorkSettings


@dataclass(frozen=True, kw_only=True)
class Settings(WorkSettings):
    """A benchmark.

    Attributes:
        codecs: names; of a data set that holds reconstructions, names of those (none = all).
        metrics: names; none = those of the protocol.
        weights: codec → file, folder or "random".
        save_audio: of how many clips, the first ones, originals and reconstructions are kept (-1 = all).
    """

    codecs: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    protocol: str = "zoo"
    out: str = "results"
    weights: Mapping[str, str] = field(default_factory=dict)
    metric_workers: int | None = None
    save_audio: int = 0

    FREE = WorkSettings.FREE | {"codecs", "metric_workers", "save_audio"}
