"""`Separator`: what every network of source separation does. The network itself comes from its family."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from fractions import Fraction
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from codeczoo.base.audio import Audio, AudioLike
from codeczoo.base.device import matmul_precision
from codeczoo.base.key_map import compare_settings
from codeczoo.base.memory import release_memory_between
from codeczoo.base.model import Model
from codeczoo.base.variant import Variant

# Seconds of audio that go through a network at once, by device; one segment at least.
SECONDS_PER_PASS = {"cpu": 0.0, "mps": 0.0, "cuda": 64.0}
SHIFT_SECONDS = 0.5  # that `shifts` delay a clip by, at most
Progress = Callable[[float, float], None]  # seconds done, seconds in all


class Segment(NamedTuple):
    """A part of one clip of a batch on its way through the network.

    Attributes:
        start: of what the network is given, in samples of the clip; zeros stand where the clip has none.
        size: of that.
        offset: of the part itself; `length` samples.
        delay: zeros before the clip.
    """

    clip: int
    start: int
    size: int
    offset: int
    length: int
    delay: int


class Separator(Model):
    """A mix into its stems.

    A family gives the networks, each [B, C, T] → [B, S, C, T] at its own rate, and sets `whole_segments` if they take
    segments of one length only. There is one network, or one a stem: then the stem of each place is that of the network
    of that place.
    """

    whole_segments: bool = False

    def __init__(self, config: Any, variant: Variant, models: Sequence[nn.Module]) -> None:
        super().__init__(config, variant)
        if len(models) not in (1, len(config.sources)):
            raise ValueError(f"{variant.name}: {len(models)} networks for {len(config.sources)} stems")
        self.models = nn.ModuleList(models)
        self.sources: tuple[str, ...] = tuple(config.sources)
        self.sample_rate, self.channels = config.sample_rate, (2,)
        self.max_batch_seconds: float | None = None

    # -- use ------------------------------------------------------------------------------------

    @torch.no_grad()
    def separate(
        self,
        audio: AudioLike,
        sample_rate: int | None = None,
        *,
        stems: Sequence[str] | None = None,
        overlap: float = 0.25,
        segment: float | None = None,
        shifts: int = 0,
        seed: int = 0,
        progress: bool | Progress = False,
    ) -> dict[str, Audio]:
        """Audio of any form, rate, channel count and length → its stems by name, each as long as the mix, at the
        separator's rate and in stereo. Each clip of a batch is separated as if it were alone.

        A clip is cut into segments that overlap; the results are cross-faded. Beside the mix, the stems and the weights
        of the cross-fades (a row a shift), this takes the same memory for a clip of any length.

        Args:
            audio: path(s) or open files, NumPy or torch [T], [C, T], [B, C, T], a list of those, an `Audio`, or a dict
                or decoder of Hugging Face datasets. Mono stands in both channels; of more than two the first two count.
            sample_rate: in Hz, of bare arrays.
            stems: only these; None = all of `sources`.
            overlap: of neighbouring segments, as a part of one: from 0 to below 1.
            segment: in seconds; None = the separator's own. A shorter one takes less memory and separates worse.
            shifts: how many times each clip is separated, each time delayed by a random part of half a second; the
                results are averaged. 0 = once, without delay. (The published program does 1 unless told otherwise, and
                so gives something else each time.)
            seed: of the delays.
            progress: True = a bar; or a function of (seconds done, seconds in all).

        Raises:
            TypeError, ValueError: audio that cannot be taken, a stem that is not there, a number out of its range.
        """
        places = self.stem_places(stems)
        window = self._window(segment)
        if not 0 <= overlap < 1:
            raise ValueError(f"overlap must be from 0 to below 1; it is {overlap!r}")
        if isinstance(shifts, bool) or not isinstance(shifts, int) or shifts < 0:
            raise ValueError(f"shifts must be a whole number, 0 or more; it is {shifts!r}")
        batch = self.prepare(audio, sample_rate)
        delays = self._delays(shifts, seed)
        stride = max(int((1 - overlap) * window), 1)
        fade = _triangle(window, batch.waveform)
        lengths = batch.lengths.tolist()
        out = {name: torch.zeros_like(batch.waveform) for name in places}
        scales = [_scale(clip) for clip in batch.split()]
        shares = [[_share(fade, length + delay, stride, len(delays)) for delay in delays] for length in lengths]
        segments = list(self._segments(lengths, delays, window, stride))
        seconds = sum(part.length for part in segments) / self.sample_rate
        with matmul_precision(self.precision), _Bar(progress, seconds) as bar:
            for group in release_memory_between(self._passes(segments)):
                mix = torch.stack([_cut(batch.waveform[part.clip], lengths[part.clip], scales[part.clip], part)
                                   for part in group])  # fmt: skip
                for stem, found in self._run(mix, places):
                    for part, one in zip(group, found, strict=True):
                        share = shares[part.clip][delays.index(part.delay)]
                        _add(out[stem][part.clip, :, : lengths[part.clip]], one, part, fade, share, scales[part.clip])
                bar.advance(sum(part.length for part in group) / self.sample_rate)
        for waveform in out.values():
            for row, length, (mean, _) in zip(waveform, lengths, scales, strict=True):
                row[:, :length] += mean
        return {name: Audio(waveform, batch.lengths, self.sample_rate) for name, waveform in out.items()}

    def forward(self, audio: AudioLike, sample_rate: int | None = None) -> dict[str, Audio]:
        """`separate`, so that a separator is a module like others."""
        return self.separate(audio, sample_rate)

    @property
    def audio_dtype(self) -> torch.dtype:
        """float32 where the network has half precision: spectra and sums of segments need it."""
        return torch.promote_types(self.dtype, torch.float32)

    @property
    def segment_samples(self) -> int:
        """Of the separator's own segments."""
        return self.config.segment_samples

    def __repr__(self) -> str:
        stems = ", ".join(self.sources)
        return f"{type(self).__name__}({self.name!r}: {stems}; {self.sample_rate} Hz, {self.device}, {self.dtype})"

    # -- what is asked for ----------------------------------------------------------------------

    def stem_places(self, stems: Sequence[str] | None) -> dict[str, int]:
        """The stems that are wanted → their places."""
        wanted = [stems] if isinstance(stems, str) else list(self.sources if stems is None else stems)
        unknown = [name for name in wanted if name not in self.sources]
        if unknown or not wanted:
            raise ValueError(f"{self.name} has the stems {', '.join(self.sources)}; stems={stems!r} was asked for")
        return {name: self.sources.index(name) for name in wanted}

    def _window(self, segment: float | None) -> int:
        """Samples of a segment."""
        if segment is None:
            return self.segment_samples
        samples = int(segment * self.sample_rate)
        most = self.segment_samples if self.whole_segments else math.inf
        if not 2 <= samples <= most:
            limit = f", up to {most / self.sample_rate:g} s for {self.name}" if most < math.inf else ""
            raise ValueError(f"segment must be a length in seconds{limit}; it is {segment!r}")
        return samples

    def _delays(self, shifts: int, seed: int) -> list[int]:
        if not shifts:
            return [0]
        most = int(SHIFT_SECONDS * self.sample_rate)
        return torch.randint(0, most + 1, (shifts,), generator=torch.Generator().manual_seed(seed)).tolist()

    def _with_fewer_channels(self, waveform: Tensor, channels: int) -> Tensor:
        """The first ones, as the published program takes them."""
        return waveform[:channels]

    # -- segments -------------------------------------------------------------------------------

    def _segments(self, lengths: Sequence[int], delays: Sequence[int], window: int, stride: int) -> Iterator[Segment]:
        for clip, length in enumerate(lengths):
            for delay in delays:
                for offset in range(0, length + delay, stride):
                    own = min(window, length + delay - offset)
                    size = window if self.whole_segments else own
                    yield Segment(clip, offset - (size - own) // 2, size, offset, own, delay)

    def _passes(self, segments: Sequence[Segment]) -> Iterator[list[Segment]]:
        """Segments that go through the network together: of one size, as many as the device takes at once."""
        limit = self.max_batch_seconds
        if limit is None:
            limit = SECONDS_PER_PASS.get(self.device.type, 0.0)
        by_size: dict[int, list[Segment]] = {}
        for part in segments:
            by_size.setdefault(part.size, []).append(part)
        for size, parts in by_size.items():
            count = max(int(limit * self.sample_rate / size), 1)
            for first in range(0, len(parts), count):
                yield parts[first : first + count]

    def _run(self, mix: Tensor, places: Mapping[str, int]) -> Iterator[tuple[str, Tensor]]:
        """[B, C, T] → each stem that is wanted, [B, C, T]."""
        if len(self.models) == 1:
            stems = self.models[0](mix)
            yield from ((name, stems[:, place]) for name, place in places.items())
        else:
            yield from ((name, self.models[place](mix)[:, place]) for name, place in places.items())

    # -- what a checkpoint says -----------------------------------------------------------------

    def published_settings(self) -> Mapping[str, Any]:
        """The network's numbers as the arguments that a published checkpoint holds."""
        return {
            "sources": list(self.sources),
            "channels": self.config.channels,
            "growth": self.config.growth,
            "depth": self.config.depth,
            "nfft": self.config.n_fft,
            "dconv_comp": self.config.compress,
            "samplerate": self.sample_rate,
        }

    def check_metadata(self, metadata: Mapping[str, Any]) -> None:
        """The arguments of the published class: in a .th file as they are, in safetensors as JSON; of several files one
        after the other."""
        for one in (metadata, *(part for part in metadata.values() if isinstance(part, Mapping))):
            there = one.get("kwargs")
            if isinstance(there, str):
                there = json.loads(there)
            if isinstance(there, Mapping):
                compare_settings({key: _plain(value) for key, value in there.items()}, self.published_settings())


def _plain(value: Any) -> Any:
    """A fraction as text, whichever way it is written."""
    if isinstance(value, Mapping) and value.get("_type") == "fraction":
        return str(Fraction(value["numerator"], value["denominator"]))
    return value


# -- cutting and cross-fading -----------------------------------------------------------------------------------------


def _triangle(window: int, like: Tensor) -> Tensor:
    """Weights of a segment's samples: up to 1 in the middle."""
    rising = torch.arange(1, window // 2 + 1, device=like.device, dtype=like.dtype)
    falling = torch.arange(window - window // 2, 0, -1, device=like.device, dtype=like.dtype)
    fade = torch.cat([rising, falling])
    return fade / fade.max()


def _share(fade: Tensor, length: int, stride: int, times: int) -> Tensor:
    """[length]: what a sample's weights are to be multiplied with so that they add up to 1 / `times`."""
    total = fade.new_zeros(length)
    for offset in range(0, length, stride):
        part = total[offset : offset + len(fade)]
        part += fade[: len(part)]
    return total.mul_(times).reciprocal_()


def _scale(clip: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of a clip [C, T], of its channels' mean."""
    mono = clip.mean(0)
    std = mono.std() if len(mono) > 1 else torch.zeros_like(mono[0])
    return mono.mean(), std + 1e-8


def _cut(clip: Tensor, length: int, scale: tuple[Tensor, Tensor], part: Segment) -> Tensor:
    """What the network is given: [C, size], normalised."""
    start = part.start - part.delay
    first, last = (min(max(bound, 0), length) for bound in (start, start + part.size))
    own = (clip[:, first:last] - scale[0]) / scale[1]
    before = min(max(-start, 0), part.size)
    return F.pad(own, (before, part.size - before - own.shape[-1]))


def _add(out: Tensor, found: Tensor, part: Segment, fade: Tensor, share: Tensor, scale: tuple[Tensor, Tensor]) -> None:
    """Add the samples of a segment [C, size], weighted, to those of the clip."""
    skip = part.offset - part.start
    first, last = max(part.offset, part.delay), part.offset + part.length
    if first >= last:
        return  # all of it lies before the clip
    weights = fade[first - part.offset : part.length] * share[first:last] * scale[1]
    out[:, first - part.delay : last - part.delay].addcmul_(
        found[:, skip + first - part.offset : skip + part.length], weights
    )


class _Bar:
    """Progress, as it was asked for."""

    def __init__(self, progress: bool | Progress, seconds: float) -> None:
        self.seconds, self.done = seconds, 0.0
        self.tell = progress if callable(progress) else None
        form = "{percentage:3.0f}% |{bar}| {n:.0f} of {total:.0f} s [{elapsed}, {remaining} left]"
        self.bar = tqdm(total=seconds, bar_format=form) if progress is True else nullcontext()

    def __enter__(self) -> _Bar:
        self.bar.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.bar.__exit__(*error)

    def advance(self, seconds: float) -> None:
        self.done += seconds
        if self.tell is not None:
            self.tell(self.done, self.seconds)
        elif isinstance(self.bar, tqdm):
            self.bar.update(seconds)
