"""Sound to try things on: a dozen short clips that come with the package.

`scripts/make_clips.py` makes them by synthesis alone: sentences written for this project and spoken by
eSpeak NG, music, noise and effects from a few lines of NumPy. No third party's recording is in them, and they
are under the package's own licence. They are for trying and testing, not for judging codecs.
"""

from __future__ import annotations

import csv
from pathlib import Path

__all__ = ["embedded_clips", "embedded_manifest"]


def embedded_manifest() -> Path:
    """The embedded clips' manifest: a CSV file with the columns id, path, category, language, description.

    `path` is relative to the manifest; `category` is speech, music or audio; `language` may be empty.
    """
    return Path(__file__).parent / "clips" / "clips.csv"


def embedded_clips() -> list[Path]:
    """The embedded clips' FLAC files, in the manifest's order: mixed rates, channel counts and lengths."""
    manifest = embedded_manifest()
    with manifest.open(encoding="utf-8", newline="") as file:
        return [manifest.parent / row["path"] for row in csv.DictReader(file)]
