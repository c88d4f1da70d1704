"""Which clips go through a codec together.

Batches follow from the data set alone, not from what is left to do: a run that was killed and started again has equal
batches, and so equal numbers. They are planned block by block (of entries), so that a data set may exceed memory.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import soundfile as sf

from codeczoo.base import audio_io
from codeczoo.base.errors import STOPS
from codeczoo.base.ragged import groups_within
from codeczoo.data.open import Entry, Source
from codeczoo.data.source import Segment

BLOCK_BATCHES = 8  # full batches planned together: with more of them, lengths in one batch are more alike
BLOCK_BYTES = 256 << 20  # of clips in one block whose keys hold their bytes (streamed ones)
MAX_FRAMES = 2**40  # of a clip: a broken header may announce any number


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


def plan_batches(
    source: Source, batch_size: int, max_seconds: float, workers: int = 8, first: int = 0, position: int = 0
) -> Iterator[Batch]:
    """Batches of at most `batch_size` clips and `max_seconds` of audio with padding, the longest last in each block.

    A clip longer than `max_seconds` is a batch by itself.

    Args:
        workers: threads that read headers.
        first: number of the first batch; position: of the first clip.
    """
    index, seen = first, position
    for block in entry_blocks(source.entries(), BLOCK_BATCHES * batch_size):
        block = [replace(entry, position=seen + i) for i, entry in enumerate(block)]
        seen += len(block)
        for batch in plan_block(source, block, batch_size, max_seconds, index, workers):
            yield batch
            index += 1


def plan_block(
    source: Source, block: Sequence[Entry], batch_size: int, max_seconds: float, first: int = 0, workers: int = 8
) -> list[Batch]:
    """The batches of one block of clips, numbered from `first`."""
    with ThreadPoolExecutor(workers) as pool:
        headers = list(pool.map(lambda entry: _header(source, entry), block))
    batches = []
    for index, group in enumerate(_groups(headers, batch_size, max_seconds), first):
        found = [header for i in group if (header := headers[i]) is not None]
        batches.append(Batch(index, tuple(block[i] for i in group), sum(h.frames / h.rate for h in found)))
    return batches


def entry_blocks(entries: Iterator[Entry], count: int) -> Iterator[list[Entry]]:
    """Lists of `count` entries, or of fewer if their keys hold many bytes."""
    block: list[Entry] = []
    held = 0
    for entry in entries:
        block.append(entry)
        held += len(entry.key) if isinstance(entry.key, bytes) else 0
        if len(block) == count or held > BLOCK_BYTES:
            yield block
            block, held = [], 0
    if block:
        yield block


def _groups(headers: Sequence[_Header | None], batch_size: int, max_seconds: float) -> list[list[int]]:
    """Positions of clips that form a batch."""
    buckets: dict[tuple[int, int], list[tuple[int, int]]] = {}
    groups = []
    for i, header in enumerate(headers):
        if header is None:
            groups.append([i])
        else:
            buckets.setdefault((header.rate, header.channels), []).append((header.frames, i))
    for (rate, _), members in sorted(buckets.items()):
        members.sort()
        for start in range(0, len(members), batch_size):
            chunk = members[start : start + batch_size]
            rows = groups_within([frames for frames, _ in chunk], max_seconds * rate)
            groups += [[i for _, i in chunk[part]] for part in rows]
    return groups


def _header(source: Source, entry: Entry) -> _Header | None:
    """Rate, channels and frames without decoding; None if unreadable: the reader will record the reason."""
    if entry.failure is not None:
        return None
    try:
        content = source.read(entry)
        if isinstance(content, Segment):
            info = _info(content.recording)
            begin = round((content.offset or 0.0) * info.samplerate)
            left = max(min(info.frames, MAX_FRAMES) - begin, 1)
            frames = left if content.duration is None else min(left, round(content.duration * info.samplerate))
            return _Header(info.samplerate, info.channels, frames)
        if isinstance(content, Mapping) and content.get("array") is not None:
            shape = np.shape(content["array"])
            return _Header(int(content["sampling_rate"]), shape[0] if len(shape) > 1 else 1, shape[-1])
        if isinstance(content, Mapping):
            content = content.get("bytes") or content["path"]
        info = _info(content)
    except STOPS:
        raise
    except BaseException:  # noqa: BLE001 (whatever it is, it is no other clip's fault)
        return None
    return _Header(info.samplerate, info.channels, min(info.frames, MAX_FRAMES))


class _Info(NamedTuple):
    """What `soundfile.info` gives, as far as it is needed."""

    samplerate: int
    channels: int
    frames: int


def _info(content: Any) -> _Info:
    """What libsndfile reads in a header; of a format that it does not know, what its own reader does."""
    try:
        found = sf.info(io.BytesIO(content) if isinstance(content, bytes) else str(content))
        return _Info(found.samplerate, found.channels, found.frames)
    except sf.LibsndfileError:
        rate, channels, samples = audio_io.info(content)
        if samples is None:
            raise LookupError("the file tells no length") from None
        return _Info(rate, channels, samples)
