"""What all metrics that a network computes share: the engine's loop over groups of clips, and what is undefined."""

from __future__ import annotations

import functools
import hashlib
import logging
import math
from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from codeczoo.base.ragged import groups_within
from codeczoo.metrics.networks.models import NoModelError
from codeczoo.metrics.pair import Pair, Result, Undefined

log = logging.getLogger(__name__)

RATE = 16000  # Hz, of all networks here
GROUP_SECONDS = 60.0  # of audio that go through a network at once, padding counted
REMEMBERED = 10_000  # values of originals, which come again with every codec


class Rows:
    """One side of a pair as the networks want it: clips of one channel at 16 kHz.

    Args:
        shortest: samples at 16 kHz that the network needs.
        mono: mix the channels to one (on the CPU) instead of taking each by itself.

    Attributes:
        clips: float [T] of each row that has a value; rows are the channels of the items, [B · C].
        index: the row of each.
    """

    def __init__(self, pair: Pair, side: str, shortest: int, *, mono: bool = False) -> None:
        self.pair, self.side = pair.mono() if mono else pair, side
        view = self._view()
        waveform = getattr(view, side)
        rows, lengths = waveform.flatten(0, 1), view.lengths.repeat_interleave(waveform.shape[1])
        self.reasons = self._reasons(view, shortest)
        self.index = [i for i, reason in enumerate(self.reasons) if reason is None]
        ends = lengths.tolist()
        self.clips = [rows[i, : ends[i]] for i in self.index]

    def _view(self) -> Pair:
        return self.pair.resampled(RATE, "hann")

    def _reasons(self, view: Pair, shortest: int) -> list[str | None]:
        """For each row None, or why it has no value."""
        silent = self.pair.silent_reference if self.side == "reference" else self.pair.silent_estimate
        undefined: list[Undefined] = [("too_short", view.lengths < shortest), (f"silent_{self.side}", silent)]
        return [reason for row in self.pair.row_reasons(undefined) for reason in row]

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


def in_groups(clips: Sequence[Tensor], run: Callable[[Tensor, Tensor], Tensor]) -> list[Tensor]:
    """`run` of padded clips [B, 1, T] and their lengths [B], group by group, shortest first → for each clip its row."""
    order = sorted(range(len(clips)), key=lambda i: len(clips[i]))
    found: list[Tensor | None] = [None] * len(clips)
    sizes = [len(clips[i]) for i in order]
    for rows in groups_within(sizes, GROUP_SECONDS * RATE) if order else ():
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
        self._values: OrderedDict[tuple[str, str], tuple[float, ...]] = OrderedDict()

    def through(
        self, name: str, clips: Sequence[Tensor], compute: Callable[[list[Tensor]], list[tuple[float, ...]]]
    ) -> list[tuple[float, ...]]:
        """The values of `clips`; those that are not known are computed."""
        keys = [(name, hashlib.sha256(clip.cpu().contiguous().numpy().tobytes()).hexdigest()) for clip in clips]
        new = {key: clip for key, clip in zip(keys, clips, strict=True) if key not in self._values}
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
