"""Ways to encode the same audio that should not matter: each gives codes, and those that they are compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from codeczoo.base.codec import BaseCodec
from codeczoo.base.codes import Codes
from codeczoo.base.device import PRECISIONS, available_devices, torch_threads
from codeczoo.probe.segments import Segments

FEW = 32  # segments of the conditions other than batch sizes
ORDER_BATCH = 8
PADDED_BATCHES = 2
PADDINGS = (2, 4)  # how many times as long the longest clip of a batch is
LONG_SECONDS = 8.0
ALONE = "each clip alone"

Pair = tuple[Codes, Codes]  # what is compared with, and what is compared
Load = Callable[..., BaseCodec]  # the codec with other options of `load_codec`
Encode = Callable[[BaseCodec, Sequence[Tensor]], Codes]


@dataclass(frozen=True)
class Condition:
    """One way to encode.

    Attributes:
        kind, label: what is changed, and to what. `value`: the same as a number, where it is one.
        against: what the codes are compared with, in words.
        steps: calls of the network, for a progress bar.
        pairs: encodes, and yields codes of the same clips.
        reason: why it cannot be made here; then there are no pairs.
        note: what a reader must know of it.
    """

    kind: str
    label: str
    pairs: Callable[[], Iterator[Pair]]
    against: str = ALONE
    value: float | None = None
    steps: int = 1
    reason: str | None = None
    note: str = ""


@dataclass
class Conditions:
    """The conditions of one codec.

    Attributes:
        load: loads it once more, with another precision or device.
        count: codebooks that are used.
        on_step: called after each call of a network.
    """

    codec: BaseCodec
    load: Load
    segments: Segments
    count: int
    on_step: Callable[[], object] = lambda: None
    _alone: list[Codes] = field(default_factory=list)

    def encode(self, codec: BaseCodec, clips: Sequence[Tensor]) -> Codes:
        codes = codec.encode(list(clips), self.segments.sample_rate, num_codebooks=self.count).cpu()
        self.on_step()
        return codes

    @property
    def alone(self) -> list[Codes]:
        """Each segment by itself: what most conditions are compared with."""
        if not self._alone:
            self._alone = [self.encode(self.codec, [clip]) for clip in self.segments.equal]
        return self._alone

    def of_batches(self, sizes: Sequence[int]) -> Iterator[Condition]:
        """Dense batches of each size; of size 1, the same once more."""
        for size in sizes:
            whole = len(self.segments.equal) // size * size

            def pairs(size: int = size, whole: int = whole) -> Iterator[Pair]:
                for start in range(0, whole, size):
                    codes = self.encode(self.codec, self.segments.equal[start : start + size])
                    yield from zip(self.alone[start : start + size], codes, strict=True)

            together = self._together(size)
            note = f"of which {together} go through the network at once" if together < size else ""
            label = "1, once more" if size == 1 else str(size)
            yield Condition("batch size", label, pairs, value=size, steps=whole // size, note=note)

    def _together(self, size: int) -> int:
        """How many of a batch's clips go through the network at once."""
        lengths = torch.full((size,), self.segments.equal[0].shape[-1])
        return max(len(range(*rows.indices(size))) for rows in self.codec._groups(lengths, 1))

    def of_padding(self) -> Iterator[Condition]:
        """Batches of 8 in which one clip is longer."""
        equal = self.segments.equal
        own = ORDER_BATCH - 1
        starts = range(0, min(len(equal), own * PADDED_BATCHES), own)
        for times in PADDINGS:
            longer = self.segments.long(times * equal[0].shape[-1] / self.segments.sample_rate)

            def pairs(longer: Tensor = longer) -> Iterator[Pair]:
                for start in starts:
                    codes = self.encode(self.codec, [*equal[start : start + own], longer])
                    yield from zip(self.alone[start : start + own], codes, strict=False)

            yield Condition("padding", f"{times} × its length", pairs, value=times, steps=len(starts))

    def of_order(self) -> Iterator[Condition]:
        """Batches of 8 in reverse."""
        equal = self.segments.equal[: min(FEW, len(self.segments.equal))]

        def pairs() -> Iterator[Pair]:
            for start in range(0, len(equal), ORDER_BATCH):
                batch = equal[start : start + ORDER_BATCH]
                forward, backward = self.encode(self.codec, batch), self.encode(self.codec, batch[::-1])
                yield from zip(forward, list(backward)[::-1], strict=True)

        steps = 2 * -(-len(equal) // ORDER_BATCH)
        yield Condition("order", "reversed", pairs, f"batches of {ORDER_BATCH} as they were", steps=steps)

    def of_threads(self, counts: Sequence[int]) -> Iterator[Condition]:
        """Other numbers of threads of the CPU."""
        here = torch.get_num_threads()
        for count in counts:

            def pairs(count: int = count) -> Iterator[Pair]:
                with torch_threads(count):
                    yield from self._few(self.codec)

            reason = None if self.codec.device.type == "cpu" else f"the codec runs on {self.codec.device.type}"
            note = "as many as everything else here" if count == here else ""
            yield Condition("threads", str(count), pairs, value=count, steps=self._few_count, reason=reason, note=note)

    def of_precision(self) -> Iterator[Condition]:
        """Other precisions, and PyTorch's autocast to bfloat16 around all of the network."""
        for precision in PRECISIONS:
            if precision != "exact":
                yield Condition("precision", precision, partial(self._precise, precision), steps=self._few_count)
        yield Condition(
            "precision",
            "bfloat16 autocast",
            partial(self._precise, PRECISIONS[-1], torch.bfloat16),
            steps=self._few_count,
        )

    def _precise(self, precision: str, autocast: torch.dtype | None = None) -> Iterator[Pair]:
        other = self.load(precision=precision)
        with torch.autocast(other.device.type, autocast) if autocast else nullcontext():
            yield from self._few(other)

    def of_devices(self) -> Iterator[Condition]:
        """The other kinds of device on this machine."""
        kinds = {device.partition(":")[0] for device in available_devices()} - {self.codec.device.type}
        for kind in sorted(kinds):
            yield Condition("device", kind, partial(self._elsewhere, kind), steps=self._few_count)
        if not kinds:
            reason = f"this machine has the {self.codec.device.type.upper()} alone"
            yield Condition("device", "another", lambda: iter(()), reason=reason)

    def _elsewhere(self, device: str) -> Iterator[Pair]:
        yield from self._few(self.load(device=device))

    def of_chunks(self, lengths: Sequence[float]) -> Iterator[Condition]:
        """One longer clip in chunks of each length."""
        long, codec = self.segments.long(LONG_SECONDS), self.codec
        approximate = "encode" in codec.approximate_when_long
        note = "it attends to the whole clip; in chunks it is approximate by design" if approximate else ""

        whole: list[Codes] = []

        def in_chunks(seconds: float) -> Codes:
            kept = codec.max_chunk_seconds
            try:
                codec.max_chunk_seconds = seconds
                return self.encode(codec, [long])
            finally:
                codec.max_chunk_seconds = kept

        def pairs(seconds: float) -> Iterator[Pair]:
            if not whole:
                whole.append(in_chunks(LONG_SECONDS))
            yield whole[0], in_chunks(seconds)

        against = f"{LONG_SECONDS:g} s in one"
        for i, seconds in enumerate(lengths):
            steps = 1 + (i == 0)  # the whole clip once
            run = partial(pairs, seconds)
            yield Condition("chunk length", f"{seconds:g} s", run, against, seconds, steps=steps, note=note)

    @property
    def _few_count(self) -> int:
        return min(FEW, len(self.segments.equal))

    def _few(self, codec: BaseCodec) -> Iterator[Pair]:
        """Some segments, each alone, by `codec`."""
        for clip, codes in zip(self.segments.equal[: self._few_count], self.alone, strict=False):
            yield codes, self.encode(codec, [clip])
