"""Read and decode a batch: clips in groups that share a tensor, and the reasons why others could not be read."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from codeczoo.base import audio_io
from codeczoo.base.audio import Audio, stack
from codeczoo.base.errors import STOPS, first_line, message_of
from codeczoo.base.inputs import Clip, read_clips
from codeczoo.data.batching import Batch
from codeczoo.data.open import Content, Entry, Source
from codeczoo.data.source import Segment

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Group:
    """Clips of a batch that share a tensor: of one rate and channel count."""

    entries: tuple[Entry, ...]
    audio: Audio
    estimates: Mapping[str, tuple[Clip | str, ...]] = field(
        default_factory=dict
    )  # a string is the reason why there is none

    def __getitem__(self, rows: Sequence[int]) -> Group:
        return Group(
            tuple(self.entries[i] for i in rows),
            self.audio[rows],
            {name: tuple(clips[i] for i in rows) for name, clips in self.estimates.items()},
        )

    def __len__(self) -> int:
        return len(self.entries)

    def pin_memory(self) -> Group:
        """The same in pinned memory, which a GPU copies asynchronously."""
        return replace(self, audio=replace(self.audio, waveform=self.audio.waveform.pin_memory()))


@dataclass(frozen=True)
class ReadBatch:
    """A batch as read: groups of clips, and by id the reasons why others could not be read."""

    index: int
    entries: tuple[Entry, ...]
    groups: tuple[Group, ...]
    failures: Mapping[str, str]  # id → reason

    def pin_memory(self) -> ReadBatch:
        return replace(self, groups=tuple(group.pin_memory() for group in self.groups))

    @classmethod
    def failed(cls, batch: Batch, reason: str) -> ReadBatch:
        """The batch where no clip could be read."""
        entries = tuple(replace(entry, key=None) for entry in batch.entries)
        return cls(batch.index, entries, (), {entry.id: reason for entry in entries})


def decoded(content: Content) -> Clip:
    """The samples of a clip."""
    if isinstance(content, Segment):
        return Clip(*audio_io.read(content.recording, offset=content.offset, duration=content.duration))
    (clip,) = read_clips({"bytes": content} if isinstance(content, bytes) else content)
    return clip


def read_batch(source: Source, batch: Batch, estimates: Sequence[str] = ()) -> ReadBatch:
    """Read all clips of a batch. A clip that fails, for whatever reason, is in `failures`; the others go on."""
    clips: dict[tuple[int, int], list[tuple[Entry, Clip]]] = {}
    failures: dict[str, str] = {}
    kept: list[Entry] = []
    for entry in batch.entries:
        clip = entry.failure or _read(partial(source.read, entry))
        entry = replace(entry, key=None)  # the key may hold the clip's bytes
        kept.append(entry)
        if isinstance(clip, str):
            failures[entry.id] = clip
        else:
            # A file may differ from its header, so clips are grouped by what was read.
            clips.setdefault((clip.sample_rate, len(clip.waveform)), []).append((entry, clip))
    keys = {entry.id: entry for entry in batch.entries}
    groups: list[Group] = []
    for (rate, _), members in clips.items():
        for part in _stacked(members, rate, failures):
            found = {
                name: tuple(_read(partial(source.read_estimate, keys[entry.id], name)) for entry in part.entries)
                for name in estimates
            }
            groups.append(replace(part, estimates=found))
    return ReadBatch(batch.index, tuple(kept), tuple(groups), failures)


def _read(read: Callable[[], Content]) -> Clip | str:
    """A clip, or the reason why there is none."""
    content: Content = b""
    try:
        content = read()
        return decoded(content)
    except STOPS:
        raise
    except BaseException as error:  # noqa: BLE001 (whatever a reader raises, it is this clip's failure)
        return _reason(error, content)


def _reason(error: BaseException, content: Content) -> str:
    """Why a clip could not be read, in one line."""
    if not isinstance(error, OSError | ValueError | TypeError | LookupError):
        return first_line(error)
    text = message_of(error)
    name = content.recording if isinstance(content, Segment) else content
    # The results name the clip already.
    text = text.removeprefix(f"{name}: " if isinstance(name, str | Path) else "<bytes>: ")
    return text.splitlines()[0] if text else type(error).__name__


def _stacked(members: Sequence[tuple[Entry, Clip]], rate: int, failures: dict[str, str]) -> list[Group]:
    """Clips as one group; where there is no memory for that, as several. A clip that fits into none is a failure."""
    try:
        return [Group(tuple(entry for entry, _ in members), stack([clip.waveform for _, clip in members], rate))]
    except Exception as error:  # noqa: BLE001 (MemoryError, or a RuntimeError of torch's allocator)
        if len(members) == 1:
            failures[members[0][0].id] = first_line(error)
            return []
    middle = len(members) // 2
    return _stacked(members[:middle], rate, failures) + _stacked(members[middle:], rate, failures)


def join_reads(batch: Batch, reads: Sequence[ReadBatch]) -> ReadBatch:
    """Join a batch whose clips were read one by one: the same as if they had been read together."""
    alike: dict[tuple[int, int], list[Group]] = {}
    failures: dict[str, str] = {}
    for read in reads:
        failures |= read.failures
        for group in read.groups:
            alike.setdefault((group.audio.sample_rate, group.audio.channels), []).append(group)
    groups: list[Group] = []
    for members in alike.values():
        try:
            groups.append(_joined(members))
        except Exception as error:  # noqa: BLE001 (no memory for all of them together)
            log.debug("%s", first_line(error))
            groups += members
    return ReadBatch(batch.index, tuple(entry for read in reads for entry in read.entries), tuple(groups), failures)


def _joined(groups: Sequence[Group]) -> Group:
    return Group(
        tuple(entry for group in groups for entry in group.entries),
        stack([clip for group in groups for clip in group.audio.split()], groups[0].audio.sample_rate),
        {name: tuple(clip for group in groups for clip in group.estimates[name]) for name in groups[0].estimates},
    )
