"""Read and decode a batch: clips in groups that share a tensor, and the reasons why others could not be read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from codeczoo.base.audio import Audio, stack
from codeczoo.base.inputs import Clip, read_clips
from codeczoo.data.batching import Batch
from codeczoo.data.open import Content, Entry, Source


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


def read_batch(source: Source, batch: Batch, estimates: Sequence[str] = ()) -> ReadBatch:
    """Read all clips of a batch. A clip that fails is in `failures`; the others go on."""
    clips: dict[tuple[int, int], list[tuple[Entry, Clip]]] = {}
    failures: dict[str, str] = {}
    kept: list[Entry] = []
    for entry in batch.entries:
        clip = _read(partial(source.read, entry))
        kept.append(replace(entry, key=None))  # the key may hold the clip's bytes
        if isinstance(clip, str):
            failures[entry.id] = clip
        else:
            # A file may differ from its header, so clips are grouped by what was read.
            clips.setdefault((clip.sample_rate, len(clip.waveform)), []).append((entry, clip))
    groups = []
    for (rate, _), members in clips.items():
        found = {
            name: tuple(_read(partial(source.read_estimate, entry, name)) for entry, _ in members) for name in estimates
        }
        entries = tuple(replace(entry, key=None) for entry, _ in members)
        groups.append(Group(entries, stack([clip.waveform for _, clip in members], rate), found))
    return ReadBatch(batch.index, tuple(kept), tuple(groups), failures)


def _read(read: Callable[[], Content]) -> Clip | str:
    """A clip, or the reason why there is none."""
    content: Content = b""
    try:
        content = read()
        (clip,) = read_clips({"bytes": content} if isinstance(content, bytes) else content)
    except (OSError, ValueError, TypeError, LookupError) as error:
        text = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
        # The results name the clip already.
        return text.removeprefix(f"{content}: " if isinstance(content, str | Path) else "<bytes>: ")
    return clip


def join_reads(batch: Batch, reads: Sequence[ReadBatch]) -> ReadBatch:
    """Join a batch whose clips were read one by one: the same as if they had been read together."""
    alike: dict[tuple[int, int], list[Group]] = {}
    failures: dict[str, str] = {}
    for read in reads:
        failures |= read.failures
        for group in read.groups:
            alike.setdefault((group.audio.sample_rate, group.audio.channels), []).append(group)
    groups = [
        Group(
            tuple(entry for group in members for entry in group.entries),
            stack([clip for group in members for clip in group.audio.split()], rate),
            {name: tuple(c for group in members for c in group.estimates[name]) for name in members[0].estimates},
        )
        for (rate, _), members in alike.items()
    ]
    return ReadBatch(batch.index, tuple(entry for read in reads for entry in read.entries), tuple(groups), failures)
