"""Clips in whatever form they lie: files, manifests, tars, Parquet, data sets of the hub, and a dozen embedded ones.

>>> from codeczoo.data import embedded_clips, open_source
>>> source = open_source("recordings/")
>>> [entry.id for entry in source.entries()]
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from codeczoo.data.embedded import embedded_clips, embedded_manifest

if TYPE_CHECKING:
    from codeczoo.data.check import CheckedClip, check_clips
    from codeczoo.data.open import open_source
    from codeczoo.data.source import Entry, Segment, Source

__all__ = [
    "CheckedClip",
    "Entry",
    "Segment",
    "Source",
    "check_clips",
    "embedded_clips",
    "embedded_manifest",
    "open_source",
]

# Imported when first asked for: they take torch, and the embedded clips do not.
_HOMES = {
    "CheckedClip": "check",
    "Entry": "source",
    "Segment": "source",
    "Source": "source",
    "check_clips": "check",
    "open_source": "open",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"codeczoo.data.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
