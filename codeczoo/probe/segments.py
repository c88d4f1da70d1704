"""Stretches of equal length of a data set's clips, at a codec's rate."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from codeczoo.base.codec import BaseCodec
from codeczoo.base.errors import first_line
from codeczoo.data.read import decoded
from codeczoo.data.source import Source

log = logging.getLogger(__name__)

MAX_CLIPS = 200  # of a data set, that segments are taken of
CLIP_SECONDS = 60.0  # of a clip at most


@dataclass(frozen=True)
class Segments:
    """Audio to encode in different ways.

    Attributes:
        equal: tensors [C, T] of equal length, all different; none is silent.
        joined: the clips that they are of, end to end: [C, T].
        sample_rate: in Hz, the codec's.
    """

    equal: Sequence[Tensor]
    joined: Tensor
    sample_rate: int

    def long(self, seconds: float) -> Tensor:
        """The beginning of `joined`; repeated, if it is too short."""
        samples = round(seconds * self.sample_rate)
        times = -(-samples // self.joined.shape[-1])
        return self.joined.repeat(1, times)[:, :samples]


def cut_segments(source: Source, codec: BaseCodec, count: int, seconds: float) -> Segments:
    """`count` segments of `seconds`, evenly spread over the first clips of a data set. Clips that cannot be read, are
    too short or silent are left out.

    Raises:
        ValueError: no clip is as long, or all are silent.
    """
    samples = round(seconds * codec.sample_rate)
    clips = []
    for entry in islice(source.entries(), MAX_CLIPS):
        try:
            entry.check_readable()
            clip = decoded(source.read(entry))
        except (OSError, ValueError) as error:
            log.warning("%s is left out: %s", entry.id, first_line(error))
            continue
        audio = codec.prepare([(clip.waveform[:, : round(CLIP_SECONDS * clip.sample_rate)], clip.sample_rate)])
        waveform = audio.waveform[0].expand(max(codec.channels), -1).cpu()
        if waveform.shape[-1] >= samples and bool(waveform.any()):
            clips.append(waveform)
    if not clips:
        raise ValueError(f"{source.name}: no clip is {seconds:g} s long and not silent: choose less with --seconds")
    starts = torch.tensor([clip.shape[-1] - samples + 1 for clip in clips])
    ends = starts.cumsum(0)
    if int(ends[-1]) < count:
        raise ValueError(f"{source.name}: its clips hold {int(ends[-1])} segments of {seconds:g} s; {count} are needed")
    equal = []
    for i in range(count):
        place = (2 * i + 1) * int(ends[-1]) // (2 * count)
        chosen = int(torch.searchsorted(ends, place, right=True))
        start = place - int(ends[chosen] - starts[chosen])
        equal.append(clips[chosen][:, start : start + samples])
    return Segments(equal, torch.cat(clips, dim=-1), codec.sample_rate)
