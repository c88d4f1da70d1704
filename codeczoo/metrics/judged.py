"""What all metrics that a network computes share: the engine's loop over groups of clips, and what is undefined."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import logging
import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from codeczoo.base.ragged import groups_within, pad_stack
from codeczoo.base.resampling import resample, resampled_length
from codeczoo.metrics.networks.models import NoModelError, NotInstalledError
from codeczoo.metrics.pair import Pair, Result, Undefined
from codeczoo.metrics.soxr import resampled_by_soxr

log = logging.getLogger(__name__)

Value = tuple[Any, ...]  # of one clip: plain values

RATE = 16000  # Hz, of all networks here
# Seconds of audio that go through a network at once, padding counted, by kind of device. A CPU's cache holds few.
GROUP_SECONDS, GROUP_SECONDS_ELSEWHERE = {"cuda": 60.0}, 4.0
REMEMBERED = 10_000  # values of originals, which come again with every codec


class Rows:
    """One side of a pair as the networks want it: clips of one channel, which `values` hands over at 16 kHz.

    A clip is resampled when a network is to see it, once for all networks that resample alike.

    Args:
        shortest: samples at 16 kHz that the network needs.
        mono: mix the channels to one (on the CPU) instead of taking each by itself.
        resampler: `hann`, or `soxr`, which librosa uses and so the published DNSMOS and Resemblyzer; the clips of
            `soxr` are float32 on the CPU.

    Attributes:
        clips: float [T] at the pair's rate, of each row that has a value; rows are the channels of the items, [B · C].
        index: the row of each.
        reasons: for each row None, or why it has no value.

    Raises:
        NotInstalledError: `soxr` is not installed.
    """

    def __init__(
        self, pair: Pair, side: str, shortest: int, *, mono: bool = False, resampler: Literal["hann", "soxr"] = "hann"
    ) -> None:
        if resampler == "soxr" and pair.sample_rate != RATE and importlib.util.find_spec("soxr") is None:
            raise NotInstalledError("this metric resamples with soxr: pip install 'codeczoo[models]'")
        self.pair = pair.mono() if mono and pair.reference.shape[1] > 1 else pair
        self.side, self.resampler = side, resampler
        waveform = getattr(self.pair, side)
        rows, ends = waveform.flatten(0, 1), self.pair.row_lengths.tolist()
        self.reasons = self._reasons(shortest)
        self.index = [i for i, reason in enumerate(self.reasons) if reason is None]
        self.clips = [rows[i, : ends[i]] for i in self.index]

    def keep(self, rows: Sequence[bool]) -> None:
        """Leave out the clips of the rows that are False."""
        self.clips = [clip for clip, i in zip(self.clips, self.index, strict=True) if rows[i]]
        self.index = [i for i in self.index if rows[i]]

    def _reasons(self, shortest: int) -> list[str | None]:
        silent = self.pair.silent_reference if self.side == "reference" else self.pair.silent_estimate
        lengths = resampled_length(self.pair.lengths, self.pair.sample_rate, RATE)
        undefined: list[Undefined] = [("too_short", lengths < shortest), (f"silent_{self.side}", silent)]
        return [reason for row in self.pair.row_reasons(undefined) for reason in row]

    def values(
        self, compute: Callable[[list[Tensor]], Sequence[Value]], memory: Memory | None = None, network: str = ""
    ) -> Sequence[Value]:
        """What a network makes of the `clips`, at 16 kHz.

        Args:
            memory: gives those of clips that it knows, which are not resampled then, and keeps the others.
            network: its identity, for the memory.
        """

        def run(chosen: Sequence[int]) -> Sequence[Value]:
            return compute(self._at_16k(chosen)) if chosen else []

        if memory is None:
            return run(range(len(self.clips)))
        dtype = self.clips[0].dtype if self.clips else None
        return memory.through(f"{network} {self.resampler} {self.pair.sample_rate} {dtype}", self.clips, run)

    def _at_16k(self, chosen: Sequence[int]) -> list[Tensor]:
        """Those of the clips."""
        rate = self.pair.sample_rate
        if self.resampler == "hann" and rate == RATE:
            return [self.clips[i] for i in chosen]
        held: dict[int, Tensor] = self.pair.held((self.side, self.resampler))
        if new := [i for i in chosen if self.index[i] not in held]:
            clips = [self.clips[i] for i in new]
            resampled = resampled_by_soxr(clips, rate) if self.resampler == "soxr" else _resampled(clips, rate)
            held |= zip((self.index[i] for i in new), resampled, strict=True)
        return [held[self.index[i]] for i in chosen]

    def result(self, values: Sequence[float | None], undefined: str = "") -> Result:
        """Values of `clips` → the batch's, the mean over the channels of each item. None = the reason `undefined`."""
        rows: list[tuple[float, str | None]] = [(math.nan, reason) for reason in self.reasons]
        for i, value in zip(self.index, values, strict=True):
            rows[i] = (math.nan, undefined) if value is None else (value, None)
        channels = self.pair.reference.shape[1]
        items = [rows[i : i + channels] for i in range(0, len(rows), channels)]
        found: list[tuple[float | None, str | None]] = []
        for item in items:
            reason = next((reason for _, reason in item if reason), None)
            found.append((None, reason) if reason else (sum(value for value, _ in item) / channels, None))
        return Result.of(found)


def _resampled(clips: Sequence[Tensor], rate: int) -> list[Tensor]:
    """Clips [T] → at 16 kHz, with the `hann` filter, together."""
    batch, lengths = pad_stack(clips)
    found = resample(batch[:, None], rate, RATE, filter="hann", lengths=lengths)
    ends = resampled_length(lengths, rate, RATE).tolist()
    return [row[0, :end] for row, end in zip(found, ends, strict=True)]


def in_groups(clips: Sequence[Tensor], run: Callable[[Tensor, Tensor], Tensor]) -> list[Tensor]:
    """`run` of padded clips [B, 1, T] and their lengths [B], group by group, shortest first → for each clip its row."""
    order = sorted(range(len(clips)), key=lambda i: len(clips[i]))
    found: list[Tensor | None] = [None] * len(clips)
    sizes = [len(clips[i]) for i in order]
    seconds = GROUP_SECONDS.get(clips[0].device.type, GROUP_SECONDS_ELSEWHERE) if clips else 0.0
    for rows in groups_within(sizes, seconds * RATE) if order else ():
        chosen = order[rows]
        lengths = torch.tensor([len(clips[i]) for i in chosen], device=clips[0].device)
        batch = clips[0].new_zeros(len(chosen), 1, int(lengths.max()))
        for row, i in zip(batch, chosen, strict=True):
            row[0, : len(clips[i])] = clips[i]
        for i, value in zip(chosen, run(batch, lengths), strict=True):
            found[i] = value
    return [value for value in found if value is not None]


class Memory:
    """Values of clips that come again, by a hash of their samples."""

    def __init__(self) -> None:
        self._values: OrderedDict[tuple[str, str], Value] = OrderedDict()

    def through(
        self, name: str, clips: Sequence[Tensor], compute: Callable[[Sequence[int]], Sequence[Value]]
    ) -> list[Value]:
        """The values of `clips`; `compute` is asked for those that are not known, by their numbers."""
        keys = [(name, hashlib.sha256(clip.cpu().contiguous().numpy().tobytes()).hexdigest()) for clip in clips]
        new = {key: i for i, key in reversed(list(enumerate(keys))) if key not in self._values}
        found = dict(zip(new, compute(list(new.values())), strict=True)) if new else {}
        values = [found[key] if key in found else self._values[key] for key in keys]
        for key, value in zip(keys, values, strict=True):
            self._values[key] = value
            self._values.move_to_end(key)
        while len(self._values) > REMEMBERED:
            self._values.popitem(last=False)
        return values


def no_model(pair: Pair, names: Sequence[str], error: NoModelError) -> dict[str, Result]:
    """NaN for every clip, with the reason `no_model` or, of a package, `not_installed`; why is said once."""
    _say_once(str(error))
    return {name: Result.of((None, reason or error.reason) for reason in pair.reasons) for name in names}


@functools.cache
def _say_once(message: str) -> None:
    log.warning("%s", message)
