"""`Pair`: two batches that are compared, the input of every metric. `Result`: its output, with reasons."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from codeczoo.base.ragged import check_lengths, valid_mask
from codeczoo.base.resampling import Filter, resample, resampled_length
from codeczoo.base.sample_rate import check_rate
from codeczoo.metrics.networks.recogniser import Recogniser

Undefined = tuple[str, Tensor]  # a reason, and where it holds: bool [B, C], [B · C], [B] or []


@dataclass(frozen=True, eq=False)
class Result:
    """One metric of one batch.

    Attributes:
        values: [B] float64 on the CPU; NaN where the metric is undefined.
        reasons: for each item None, or why its value is not what it seems: `non_finite`, `silent_reference`, ...
        details: for each item what its value was made of, in JSON's types (the counts of an error rate), or None; None
            where the metric has none.
    """

    values: Tensor
    reasons: list[str | None]
    details: list[Mapping[str, Any] | None] | None = None

    def __len__(self) -> int:
        return len(self.values)

    @classmethod
    def of(cls, items: Iterable[tuple[float | None, str | None]]) -> Result:
        """From a value or a reason for each item; an item with a reason and no value becomes NaN."""
        values, reasons = [], []
        for value, reason in items:
            values.append(math.nan if value is None else value)
            reasons.append(reason)
        return cls(torch.tensor(values, dtype=torch.float64), reasons)


@dataclass(frozen=True, eq=False)
class Pair:
    """References and estimates, item by item equally long: the longer one of the two is cut, nothing is padded.

    Behind an item's end stand zeros, and an item with a NaN or infinite sample is all zeros (`reasons` names it),
    so that no metric need look out for either. Made by `Pair.of`.

    Attributes:
        reference, estimate: [B, C, T], one floating point type, one device.
        lengths: [B] int64, the samples that count.
        sample_rate: in Hz.
        reasons: for each item None, or what makes every metric undefined: `non_finite`, `too_short` (no sample).
        uncut: the same pair with its shorter side filled with zeros, which is what Codec-SUPERB measures.
        transcripts: for each item what is said in it, or None where that is not known; None = of no item.
        recogniser: by which speech is recognised; None = the default one.
    """

    reference: Tensor
    estimate: Tensor
    lengths: Tensor
    sample_rate: int
    reasons: list[str | None]
    uncut: Pair | None = None
    transcripts: Sequence[str | None] | None = None
    recogniser: Recogniser | None = None
    _views: dict[object, Pair] = field(default_factory=dict, repr=False)
    _held: dict[object, dict[int, Tensor]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls,
        reference: Tensor,
        estimate: Tensor,
        sample_rate: int,
        lengths: Tensor | None = None,
        estimate_lengths: Tensor | None = None,
    ) -> Pair:
        """Two batches [B, C, T] (their T may differ) as a pair.

        Args:
            lengths: [B], of the references and, unless `estimate_lengths` is given, of the estimates too.

        Raises:
            TypeError: not floating point tensors.
            ValueError: shapes that do not go together, a rate that is no rate.
        """
        for name, value in (("reference", reference), ("estimate", estimate)):
            if not isinstance(value, Tensor) or not value.is_floating_point():
                kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
                raise TypeError(f"{name} must be a floating point tensor with full scale 1; it is {kind}")
            if value.ndim != 3:
                raise ValueError(f"{name} must be [B, C, T]; its shape is {tuple(value.shape)}")
        if reference.shape[:2] != estimate.shape[:2]:
            raise ValueError(
                "reference and estimate must have as many items and channels: "
                f"they are {tuple(reference.shape)} and {tuple(estimate.shape)}"
            )
        sample_rate = check_rate(sample_rate)
        # Half precision holds neither the sums nor the logarithms of any metric.
        dtype = torch.promote_types(torch.promote_types(reference.dtype, estimate.dtype), torch.float32)
        reference, estimate = reference.detach().to(dtype), estimate.detach().to(reference.device, dtype)
        theirs = lengths if estimate_lengths is None else estimate_lengths
        ends = []
        for side, given in ((reference, lengths), (estimate, theirs)):
            batch, longest = len(side), side.shape[-1]
            end = torch.full((batch,), longest) if given is None else check_lengths(given, batch, longest, "samples")
            ends.append(end.to(reference.device))
        shorter, longer = torch.minimum(*ends), torch.maximum(*ends)
        cut = cls._make(reference, estimate, ends, shorter, sample_rate)
        if bool((shorter == longer).all()):
            return cut
        return replace(cut, uncut=cls._make(reference, estimate, ends, longer, sample_rate))

    @classmethod
    def _make(cls, reference: Tensor, estimate: Tensor, ends: list[Tensor], lengths: Tensor, rate: int) -> Pair:
        longest = int(lengths.max()) if len(lengths) else 0
        sides = []
        for side, end in zip((reference, estimate), ends, strict=True):
            side = torch.nn.functional.pad(side, (0, max(longest - side.shape[-1], 0)))[..., :longest]
            own = torch.minimum(end, lengths)
            if bool((own < longest).any()):
                side = torch.where(valid_mask(own, longest)[:, None], side, 0.0)
            sides.append(side)
        pair = cls(sides[0], sides[1], lengths, rate, [])
        finite = torch.stack([bound.isfinite() for bounds in pair.bounds for bound in bounds]).all(0).all(-1)
        if not bool(finite.all()):
            sides = [torch.where(finite[:, None, None], side, 0.0) for side in sides]
            pair = cls(sides[0], sides[1], lengths, rate, [])
        pair.reasons.extend(
            "non_finite" if not ok else "too_short" if not length else None
            for ok, length in zip(finite.tolist(), lengths.tolist(), strict=True)
        )
        return pair

    def told(self, transcripts: Sequence[str | None] | None, recogniser: Recogniser | None) -> Pair:
        """The pair, with what is said in its items, and by what that is recognised.

        Raises:
            TypeError: transcripts that are no texts.
            ValueError: not one for each item.
        """
        if transcripts is not None:
            if isinstance(transcripts, str) or not all(text is None or isinstance(text, str) for text in transcripts):
                raise TypeError(f"transcripts must be a text or None for each clip; they are {transcripts!r}")
            if len(transcripts) != len(self):
                raise ValueError(f"transcripts must be {len(self)}, one for each clip; there are {len(transcripts)}")
        return replace(self, transcripts=transcripts, recogniser=recogniser)

    # -- looking --------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.reference)

    @property
    def padded(self) -> Pair:
        """The pair as Codec-SUPERB sees it: the shorter side filled with zeros."""
        return self.uncut or self

    @cached_property
    def row_lengths(self) -> Tensor:
        """[B · C]: the length of each channel."""
        return self.lengths.repeat_interleave(self.reference.shape[1])

    @cached_property
    def bounds(self) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """The least and the greatest sample of each channel, [B, C] each, of the reference and of the estimate."""
        sides = [self.reference, self.estimate]
        if not self.reference.shape[-1]:
            none = self.reference.new_zeros(self.reference.shape[:2])
            return (none, none), (none, none)
        if bool((self.lengths < self.reference.shape[-1]).any()):
            valid = valid_mask(self.lengths, self.reference.shape[-1])[:, None]
            sides = [torch.where(valid, side, side[..., :1]) for side in sides]
        (low_x, high_x), (low_y, high_y) = (side.aminmax(dim=-1) for side in sides)
        return (low_x, high_x), (low_y, high_y)

    @property
    def constant_reference(self) -> Tensor:
        """[B, C] bool: every sample is the same."""
        low, high = self.bounds[0]
        return low == high

    @property
    def constant_estimate(self) -> Tensor:
        """[B, C] bool."""
        low, high = self.bounds[1]
        return low == high

    @property
    def silent_reference(self) -> Tensor:
        """[B, C] bool: every sample is zero."""
        return self.constant_reference & (self.bounds[0][0] == 0)

    @property
    def silent_estimate(self) -> Tensor:
        """[B, C] bool."""
        return self.constant_estimate & (self.bounds[1][0] == 0)

    def single(self) -> Pair:
        """The pair in float32, which some packages require."""
        return self._view("single", lambda side: side.float())

    def double(self) -> Pair:
        """The pair on the CPU in float64."""
        return self._view("double", lambda side: side.cpu().double())

    def resampled(self, sample_rate: int, name: Filter) -> Pair:
        """The pair at another rate; computed once for all metrics."""
        if sample_rate == self.sample_rate:
            return self
        return self._view(
            (sample_rate, name),
            lambda side: resample(side, self.sample_rate, sample_rate, filter=name, lengths=self.lengths),
            sample_rate,
        )

    def resampled_for_pesq(self, sample_rate: int) -> Pair:
        """The pair at another rate, equal to julius bit for bit, because PESQ's alignment can depend on the last bit.

        On the CPU, in float32, and with lengths rounded down.
        """
        if sample_rate == self.sample_rate:
            return self
        here = self._view("here", lambda side: side.cpu().float())
        view = here.resampled(sample_rate, "julius")
        return replace(view, lengths=here.lengths * sample_rate // self.sample_rate, _views={}, _held={})

    def mono(self) -> Pair:
        """The pair mixed to mono, on the CPU; a mix of several channels is float64."""
        if self.reference.shape[1] == 1:
            return self._view("mono", lambda side: side.cpu())
        return self._view("mono", lambda side: side.cpu().double().mean(1, keepdim=True))

    def held(self, key: object) -> dict[int, Tensor]:
        """What metrics hold of single rows for one another, by the number of the row."""
        return self._held.setdefault(key, {})

    def _view(self, key: object, change: Callable[[Tensor], Tensor], sample_rate: int | None = None) -> Pair:
        if key not in self._views:
            rate = sample_rate or self.sample_rate
            x, y = change(self.reference), change(self.estimate)
            lengths = resampled_length(self.lengths, self.sample_rate, rate).to(x.device)
            self._views[key] = Pair(x, y, lengths, rate, self.reasons)
        return self._views[key]

    # -- ending ---------------------------------------------------------------------------------

    def result(self, rows: Tensor, reasons: Sequence[Undefined] = ()) -> Result:
        """Values of channels [B, C] as the result of the batch: their mean, or NaN and the first reason that holds."""
        values = double(rows).mean(-1).cpu()
        found = [next(filter(None, row), None) for row in self.row_reasons(reasons)]
        values[[reason is not None for reason in found]] = torch.nan
        return Result(values, found)

    def row_reasons(self, reasons: Sequence[Undefined] = ()) -> list[list[str | None]]:
        """[B][C]: for each channel None, or the first reason that holds, the pair's own before those given."""
        shape = self.reference.shape[:2]
        found = [[reason] * shape[1] for reason in self.reasons]
        for reason, mask in reasons:
            holds = (mask.reshape(len(self), -1) if mask.ndim else mask).expand(shape).tolist()
            found = [
                [before or (reason if here else None) for before, here in zip(*rows, strict=True)]
                for rows in zip(found, holds, strict=True)
            ]
        return found


def double(values: Tensor) -> Tensor:
    """In float64; on the CPU if the device (MPS) has no float64."""
    return values.cpu().double() if values.device.type == "mps" else values.double()
