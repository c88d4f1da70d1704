"""`Audio`: a batch of waveforms, each of its own length, at one sample rate."""

from __future__ import annotations

import base64
import html
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, NoReturn, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor

from codeczoo.base import audio_io
from codeczoo.base.audio_files.reading import FileLike
from codeczoo.base.deprecated import HidesFormerNames, Renamed
from codeczoo.base.ragged import batch_index, check_lengths, padded
from codeczoo.base.resampling import resample, resampled_length
from codeczoo.base.sample_rate import check_rate

MAX_PLAYERS = 8  # players that a notebook shows of one batch


@dataclass(frozen=True, eq=False)
class Audio(HidesFormerNames):
    """A batch of waveforms, each of its own length, at one sample rate.

        audio = Audio.load(["a.wav", "b.flac"], sample_rate=24000, channels=1)
        audio[0].save("a.flac")

    Two are equal (`==`) if their clips, rate and channels are, wherever they lie and whatever their padding.

    Attributes:
        waveform: [B, C, T] floating point, full scale = 1. Samples behind an item's length are zero.
        lengths: [B] int64, each item's own number of samples, at most T.
        sample_rate: in Hz.
    """

    waveform: Tensor
    lengths: Tensor
    sample_rate: int

    like = Renamed("matched_to")

    def __post_init__(self) -> None:
        if not isinstance(self.waveform, Tensor) or not self.waveform.is_floating_point():
            raise TypeError("Audio.waveform must be a floating point tensor [B, C, T]; use Audio.of() for other forms")
        if self.waveform.ndim != 3:
            raise ValueError(f"Audio.waveform must be [B, C, T]; its shape is {tuple(self.waveform.shape)}")
        object.__setattr__(self, "sample_rate", check_rate(self.sample_rate))
        lengths = check_lengths(self.lengths, len(self.waveform), self.waveform.shape[-1], "samples")
        object.__setattr__(self, "lengths", lengths.to(self.waveform.device))

    # -- making ---------------------------------------------------------------------------------

    @classmethod
    def of(cls, audio: AudioLike, sample_rate: int | None = None, *, channels: int | None = None) -> Audio:
        """Audio in any form (see `AudioLike`) as one `Audio`, in memory of its own. All rates must agree.

        Args:
            sample_rate: of bare arrays, in Hz; files and dicts carry their own.
            channels: mix (or repeat) to this number; None = all channel counts must agree.
        """
        from codeczoo.base.inputs import collate, read_clips

        clips = read_clips(audio, sample_rate)
        made = collate(clips, channels=channels)
        if isinstance(audio, Audio | str | os.PathLike):
            return made
        taken = {clip.waveform.untyped_storage().data_ptr() for clip in clips}
        shared = made.waveform.untyped_storage().data_ptr() in taken
        return replace(made, waveform=made.waveform.clone()) if shared else made

    @staticmethod
    def cat(parts: Sequence[Audio]) -> Audio:
        """Several `Audio` as one batch, with the clips of all.

        Raises:
            ValueError: no parts, or parts of different rates or channel counts.
        """
        return stack([clip for part in parts for clip in part.split()], _alike(parts).sample_rate)

    @staticmethod
    def concat(parts: Sequence[Audio]) -> Audio:
        """Several `Audio` of as many clips end to end in time, clip by clip, as the chunks that a stream decodes.

        Raises:
            ValueError: no parts, or parts of different rates, channel counts or numbers of clips.
        """
        head = _alike(parts)
        if len(counts := {len(part) for part in parts}) > 1:
            raise ValueError(f"audio of {sorted(counts)} clips does not join in time, clip by clip")
        rows = zip(*(part.split() for part in parts), strict=True)
        clips = [torch.cat(row, dim=-1) for row in rows]
        return stack(clips, head.sample_rate) if clips else head

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        sample_rate: int | None = None,
        channels: int | None = None,
        *,
        offset: float | None = None,
        duration: float | None = None,
    ) -> Audio:
        """Read one file or several into one batch, resampled to `sample_rate` when given.

        With `offset` and `duration`, in seconds, only that stretch of each is read; `audio_io.read` says how.
        """
        from codeczoo.base.inputs import Clip, collate, read_clips

        if offset is None and duration is None:
            return collate(read_clips(path), sample_rate=sample_rate, channels=channels)
        paths = [path] if isinstance(path, str | os.PathLike) else path
        clips = [Clip(*audio_io.read(each, offset=offset, duration=duration)) for each in paths]
        return collate(clips, sample_rate=sample_rate, channels=channels)

    # -- looking --------------------------------------------------------------------------------

    @property
    def channels(self) -> int:
        """Channels of every item."""
        return self.waveform.shape[1]

    @property
    def device(self) -> torch.device:
        """Where the waveform lies."""
        return self.waveform.device

    @property
    def seconds(self) -> Tensor:
        """[B] float64."""
        return self.lengths.double() / self.sample_rate

    def __len__(self) -> int:
        return len(self.waveform)

    def __getitem__(self, index: int | slice | Sequence[int] | Tensor) -> Audio:
        """Item(s) of the batch, still an `Audio`, cut to the longest that remains."""
        index = batch_index(index, len(self))
        waveform, lengths = self.waveform[index], self.lengths[index]
        longest = int(lengths.max()) if len(lengths) else 0
        return Audio(waveform[..., :longest], lengths, self.sample_rate)

    def __iter__(self) -> Iterator[Audio]:
        return (self[i] for i in range(len(self)))

    def split(self) -> list[Tensor]:
        """The clips without padding: a list of B tensors [C, T_b]."""
        return [w[:, :n] for w, n in zip(self.waveform, self.lengths.tolist(), strict=True)]

    def numpy(self, index: int = 0) -> np.ndarray:
        """One item as float32 NumPy: [T] when mono, else [C, T]."""
        clip = self[index].waveform[0].detach().float().cpu().numpy()
        return clip[0] if len(clip) == 1 else clip

    def equal(self, other: Audio) -> bool:
        """Whether both hold the same samples, at the same rate; as `==`. A NaN equals nothing."""
        return self == other

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Audio):
            return NotImplemented
        if (len(self), self.channels, self.sample_rate) != (len(other), other.channels, other.sample_rate):
            return False
        if not torch.equal(self.lengths, other.lengths.to(self.device)):
            return False
        kind = torch.promote_types(self.waveform.dtype, other.waveform.dtype)
        pairs = zip(self.split(), other.split(), strict=True)
        return all(torch.equal(a.to(kind), b.to(a.device, kind)) for a, b in pairs)

    def __hash__(self) -> int:
        return hash((len(self), self.channels, self.sample_rate))  # what cannot be changed in place

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NoReturn:
        raise TypeError("an Audio is a batch with lengths, not an array: take one clip by .numpy(index), or .waveform")

    def __repr__(self) -> str:
        seconds = self.seconds.tolist()
        span = (
            f"{seconds[0]:.2f} s"
            if len(seconds) == 1
            else f"{min(seconds, default=0):.2f} to {max(seconds, default=0):.2f} s"
        )
        kind = {1: "mono", 2: "stereo"}.get(self.channels, f"{self.channels} channels")
        return f"Audio({len(self)} x {span}, {kind}, {self.sample_rate} Hz, {self.waveform.dtype}, {self.device})"

    def _repr_html_(self) -> str:
        players = []
        for item in self[:MAX_PLAYERS]:
            buffer = io.BytesIO()
            try:
                audio_io.write(buffer, item.waveform[0], self.sample_rate, format="FLAC")
            except ValueError as error:  # no samples, NaN, more channels than FLAC has: shown in the player's place
                players.append(f"<i>{html.escape(str(error))}</i>")
                continue
            data = base64.b64encode(buffer.getvalue()).decode()
            players.append(f'<audio controls preload="none" src="data:audio/flac;base64,{data}"></audio>')
        more = f"<p>and {len(self) - MAX_PLAYERS} more</p>" if len(self) > MAX_PLAYERS else ""
        return f"<p>{html.escape(repr(self))}</p>" + "<br>".join(players) + more

    # -- changing -------------------------------------------------------------------------------

    def to(self, device: torch.device | str | torch.dtype, non_blocking: bool = False) -> Audio:
        """On another device, or with another floating point type."""
        return replace(self, waveform=self.waveform.to(device, non_blocking=non_blocking))

    def cpu(self) -> Audio:
        """On the CPU."""
        return self.to("cpu")

    def pin_memory(self) -> Audio:
        """In memory that a GPU copies from asynchronously; a `DataLoader` with pin_memory=True calls it."""
        return replace(self, waveform=self.waveform.pin_memory())

    def resample(self, sample_rate: int) -> Audio:
        """At another rate; each item has ceil(length * new / old) samples. All items at once, on their device."""
        sample_rate = check_rate(sample_rate, "new_rate")
        if sample_rate == self.sample_rate:
            return self
        waveform = resample(self.waveform, self.sample_rate, sample_rate, lengths=self.lengths)
        return Audio(waveform, resampled_length(self.lengths, self.sample_rate, sample_rate), sample_rate)

    def mix(self, channels: int) -> Audio:
        """With another number of channels: to mono by the mean, from mono by repetition.

        Between two counts above 1 no matrix is the standard one: that is a ValueError.
        """
        if channels == self.channels:
            return self
        if channels < 1:
            raise ValueError(f"channels must be at least 1; it is {channels}")
        if channels == 1:
            return replace(self, waveform=self.waveform.mean(1, keepdim=True))
        if self.channels == 1:
            return replace(self, waveform=self.waveform.repeat(1, channels, 1))
        raise ValueError(
            f"there is no standard mix from {self.channels} to {channels} channels: choose channels by indexing the "
            "waveform, or mix to mono first with audio.mix(1)"
        )

    def trim(self, lengths: Tensor | int) -> Audio:
        """Each item cut to at most its entry of `lengths` [B]."""
        lengths = torch.as_tensor(lengths, device=self.device).expand(len(self))
        return clean(self.waveform, torch.minimum(self.lengths, lengths), self.sample_rate)

    def matched_to(self, other: Audio) -> Audio:
        """At the rate, lengths and channel count of `other`, clip by clip; clips that are too short end in zeros."""
        back = self.resample(other.sample_rate)
        if back.channels != other.channels:
            back = back.mix(1).mix(other.channels)
        longest = other.waveform.shape[-1]
        missing = longest - back.waveform.shape[-1]
        waveform = torch.nn.functional.pad(back.waveform, (0, max(missing, 0)))[..., :longest]
        return clean(waveform, other.lengths.to(waveform.device), other.sample_rate)

    # -- keeping --------------------------------------------------------------------------------

    def save(
        self, path: str | os.PathLike[str] | BinaryIO | Sequence[str | os.PathLike[str] | BinaryIO], **options: Any
    ) -> None:
        """Write to one path (a batch of one) or one path for each item; paths or open files.

        The format follows the suffix: .wav .flac .ogg .opus .mp3. `options` go to `audio_io.write`.
        """
        paths = list(path) if isinstance(path, Sequence) and not isinstance(path, str) else [path]
        if len(paths) != len(self):
            raise ValueError(f"a batch of {len(self)} clips needs {len(self)} paths; {len(paths)} were given")
        for target, clip in zip(paths, self.split(), strict=True):
            audio_io.write(target, clip, self.sample_rate, **options)


class AudioDecoder(Protocol):
    """torchcodec's `AudioDecoder`, which rows of Hugging Face datasets hold since version 4."""

    def get_all_samples(self) -> Any: ...


ClipLike: TypeAlias = (
    FileLike
    | np.ndarray
    | Tensor
    | Audio
    | Mapping[str, Any]
    | AudioDecoder
    | tuple[Any, Any]  # samples with their rate
)  # one clip
AudioLike: TypeAlias = ClipLike | Sequence[ClipLike] | Iterator[ClipLike]
"""Audio in any form that `encode`, `reconstruct`, `prepare` and `Audio.of` take. Forms may be mixed in a list.

===================================== =============================== ==================================
form                                  clips                           sample rate
===================================== =============================== ==================================
path, address (https://), bytes of a  1                               the file's
file, file open for reading bytes, or
open SoundFile
NumPy array or torch tensor           [T] or [C, T] 1; [B, C, T] B    `sample_rate=`, in Hz
(floating point, full scale 1)
`Audio`                               its own; 1 inside a list        its own
dict of Hugging Face datasets         1                               "sampling_rate" beside "array", or
("array", "bytes" or "path")                                          the file's
row of a data set, with such a dict,  1; of a column of lists all     as of what it holds
a decoder or, named "audio", a path
or an array
torchcodec's `AudioDecoder`           1                               the file's
path of a `.npy` file                 as of the array in it           `sample_rate=`, in Hz
(array, rate) or (rate, array)        as of the array                 the pair's
nested tensor                         its own                         `sample_rate=`, in Hz
list, tuple or iterator of these      1 each                          of each, as above
===================================== =============================== ==================================

Of an array with more than 8 rows of at most 8 values, the rows are taken as samples: [T, C], as `soundfile.read` gives
it. With more than 8 rows, of more than 8 values but fewer than rows, it is refused. `base.rows` lists who gives what.
"""


def _alike(parts: Sequence[Audio]) -> Audio:
    """The first of parts that agree in rate and channels."""
    if not parts:
        raise ValueError("no audio was given")
    for what, found in (
        ("sample rate", {part.sample_rate for part in parts}),
        ("channel count", {part.channels for part in parts}),
    ):
        if len(found) > 1:
            way = ".resample(rate)" if what == "sample rate" else ".mix(channels)"
            raise ValueError(f"audio that differs in {what} ({sorted(found)}) does not join: make it alike by {way}")
    return parts[0]


def stack(clips: Sequence[Tensor], sample_rate: int) -> Audio:
    """Clips [C, T_b] of one rate and channel count as one batch."""
    # The lengths are checked on the CPU: reading them back from a GPU would wait for it.
    return Audio(padded(clips), torch.tensor([clip.shape[-1] for clip in clips]), sample_rate)


def clean(waveform: Tensor, lengths: Tensor, sample_rate: int) -> Audio:
    """An `Audio` cut to its longest item, with zeros behind each item's length."""
    values = lengths.tolist()
    longest = max(values, default=0)
    waveform = waveform[..., :longest]
    if min(values, default=0) < longest:
        behind = torch.arange(longest, device=waveform.device) >= lengths.to(waveform.device)[:, None, None]
        waveform = waveform.masked_fill(behind, 0)
    return Audio(waveform, lengths, sample_rate)
