"""Which clips go through the codecs together.

Batches follow from the data set alone, never from what is left to do: a run that was killed and started again computes
the very same batches, and so the very same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import soundfile as sf

from codeczoo.base.passes import groups_within
from codeczoo.bench.dataset import Entry


@dataclass(frozen=True)
class Batch:
    """Clips of one rate, one channel count and similar length; or one clip whose header could not be read."""

    index: int
    entries: tuple[Entry, ...]
    seconds: float  # of all clips, by their headers


@dataclass(frozen=True)
class _Header:
    rate: int
    channels: int
    frames: int


def plan_batches(entries: Sequence[Entry], batch_size: int, max_seconds: float, workers: int = 8) -> list[Batch]:
    """Batches of at most `batch_size` clips and `max_seconds` of audio with padding, longest last.

    A clip longer than `max_seconds` stands alone.
    """
    with ThreadPoolExecutor(workers) as pool:
        headers = list(pool.map(_header, entries))
    buckets: dict[tuple[int, int], list[int]] = {}
    unreadable = [i for i, header in enumerate(headers) if header is None]
    for i, header in enumerate(headers):
        if header is not None:
            buckets.setdefault((header.rate, header.channels), []).append(i)
    groups: list[list[int]] = [[i] for i in unreadable]
    for (rate, _), members in sorted(buckets.items()):
        members.sort(key=lambda i: (headers[i].frames, i))  # type: ignore[union-attr]
        for start in range(0, len(members), batch_size):
            chunk = members[start : start + batch_size]
            lengths = [headers[i].frames for i in chunk]  # type: ignore[union-attr]
            groups += [chunk[rows] for rows in groups_within(lengths, max_seconds * rate)]
    return [
        Batch(
            index,
            tuple(entries[i] for i in group),
            sum(h.frames / h.rate for i in group if (h := headers[i])),
        )
        for index, group in enumerate(groups)
    ]


def _header(entry: Entry) -> _Header | None:
    """Rate, channels and frames without decoding; None when the reader has to say what is wrong."""
    try:
        info = sf.info(str(entry.path))
    except (sf.LibsndfileError, OSError):
        return None
    return _Header(info.samplerate, info.channels, min(info.frames, 2**40))
