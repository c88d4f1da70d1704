"""One call for all metrics: `evaluate(reference, estimate) -> Scores`."""

from __future__ import annotations

import functools
import logging
import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from codeczoo.base.arrays import channels_first, samples_of
from codeczoo.base.audio import Audio, stack
from codeczoo.base.device import choose_device
from codeczoo.base.ragged import pad_stack
from codeczoo.base.rows import rate_of_wrapping, unwrapped
from codeczoo.base.sample_rate import check_rate
from codeczoo.base.sample_values import check_peak, peak_of
from codeczoo.base.warn_once import warn_once
from codeczoo.metrics.error_rates import corpus_rate
from codeczoo.metrics.networks.recogniser import Recogniser
from codeczoo.metrics.pair import Pair, Result
from codeczoo.metrics.pool import PendingMetrics, WorkerPool, shared_pool
from codeczoo.metrics.table import METRICS, Metric, find_metrics

log = logging.getLogger(__name__)

NOT_INSTALLED = "not_installed"

Batch = Audio | Tensor | np.ndarray | Sequence[Tensor | np.ndarray] | Sequence[Audio]


def evaluate(
    reference: Batch,
    estimate: Batch,
    sample_rate: int | None = None,
    metrics: str | Collection[str] | None = None,
    *,
    device: str | torch.device | None = None,
    num_workers: int | None = None,
    pool: WorkerPool | None = None,
    transcripts: Sequence[str | None] | None = None,
    recogniser: Recogniser | None = None,
) -> Scores:
    """Compare estimates with references, clip by clip.

    Args:
        reference, estimate: an `Audio`; or floating point samples with full scale 1, torch or NumPy, [T], [C, T] or
            [B, C, T], alone or as a pair with their rate; or a list of [T] or [C, T] for clips of different lengths,
            or of `Audio`. Both with as many clips and channels. Of each clip the longer side is cut to the shorter
            one; nothing is filled, aligned or normalised.
        sample_rate: in Hz; needed where one of both is not an `Audio`. Two `Audio` of different rates are compared
            at the reference's: the estimate is resampled, and `Scores.resampled` says so.
        metrics: a name, names or patterns (`"superb/*"`) of `METRICS`; None = `DEFAULT_METRICS`. One whose package is
            not installed is NaN (`not_installed`), and a warning says what to install.
        device: where batched metrics are computed; None = where the reference is.
        num_workers: processes for those that libraries compute; None = one a core. They stay for the next call.
        pool: a `WorkerPool` of your own instead, with its own time limit.
        transcripts: for `wer` and `cer`, what is said in each clip; None among them where that is not known.
        recogniser: for these, `dwer` and `dcer`, which network recognises speech; None = `Recogniser()`.

    Samples in float64 are computed on in float64, all others in float32 with float64 sums.

    Raises:
        KeyError: an unknown metric (the message says which come near).
        TypeError, ValueError: input of a wrong type, shape or rate; no clip at all.
    """
    evaluation = start_evaluation(
        reference,
        estimate,
        sample_rate,
        metrics,
        device=device,
        num_workers=num_workers,
        pool=pool,
        transcripts=transcripts,
        recogniser=recogniser,
    )
    return evaluation.finish()


class Evaluation:
    """An evaluation in progress: the device's part is done, the pool may still be working (`finish` waits).

    A pipeline starts the next batch meanwhile.
    """

    def __init__(
        self, pair: Pair, wanted: Sequence[Metric], pool: WorkerPool | None, cropped: Tensor, resampled: str | None
    ) -> None:
        self._wanted, self._sample_rate, self._cropped, self._resampled = wanted, pair.sample_rate, cropped, resampled
        self._results: dict[str, Result] = {}
        self._started: list[PendingMetrics] = []
        engines: dict[Any, list[str]] = {}
        for metric in wanted:
            if lacks := metric.lacks:
                _say_once(lacks)
                self._results[metric.name] = Result.of((None, reason or NOT_INSTALLED) for reason in pair.reasons)
                continue
            engines.setdefault(metric.engine, []).append(metric.name)
        pooled = {metric.engine for metric in wanted if metric.where == "pool"}
        try:
            # The pool works while the device does.
            for engine in (engine for engine in engines if engine in pooled):
                self._started.append(engine(pair, engines[engine], pool))
            with _one_thread() if pooled and pair.reference.device.type == "cpu" else nullcontext():
                for engine in (engine for engine in engines if engine not in pooled):
                    self._results |= engine(pair, engines[engine])
        except BaseException:
            self.cancel()
            raise

    @property
    def done(self) -> bool:
        """Whether `finish` would not wait."""
        return all(future.done() for tasks in self._started for future in tasks.futures)

    def finish(self) -> Scores:
        """Wait for the pool; all scores."""
        try:
            for tasks in self._started:
                self._results |= tasks.finish()
        except BaseException:
            self.cancel()
            raise
        results = {metric.name: self._results[metric.name] for metric in self._wanted}
        return Scores(results, self._sample_rate, self._cropped, self._resampled)

    def cancel(self) -> None:
        """Cancel the tasks that the pool has not begun."""
        for tasks in self._started:
            for future in tasks.futures:
                future.cancel()


def start_evaluation(
    reference: Batch,
    estimate: Batch,
    sample_rate: int | None = None,
    metrics: str | Collection[str] | None = None,
    *,
    device: str | torch.device | None = None,
    num_workers: int | None = None,
    pool: WorkerPool | None = None,
    transcripts: Sequence[str | None] | None = None,
    recogniser: Recogniser | None = None,
) -> Evaluation:
    """As `evaluate`, without waiting for the pool's metrics: `.finish()` gives the `Scores`."""
    wanted = find_metrics(metrics)
    pair, cropped, resampled = _pair(reference, estimate, sample_rate, device)
    if transcripts is not None or recogniser is not None:
        pair = pair.told(transcripts, recogniser)
    if pool is None and any(metric.where == "pool" for metric in wanted):
        pool = shared_pool(num_workers)
    return Evaluation(pair, wanted, pool, cropped, resampled)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Run torch on one core, in this thread, while the pool uses the others: torch's threads would spin and slow it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@functools.cache
def _say_once(message: str) -> None:
    log.warning("%s", message)


class Summary(NamedTuple):
    """One metric over a batch."""

    mean: float  # over the finite values; NaN where there is none
    defined: int  # clips with a value, infinite ones among them
    infinite: int
    undefined: dict[str, int]  # clips without one, by reason
    stand_ins: dict[str, int]  # clips with a value that stands for none (`superb/...` only), by reason
    corpus: float | None = None  # of an error rate: the errors of all clips over all words or characters


@dataclass(frozen=True, eq=False)
class Scores(Mapping[str, Tensor]):
    """Metrics of a batch: a mapping from each one's name to its values [B], float64, NaN where undefined.

    Attributes:
        results: the same with reasons.
        sample_rate: at which was compared, in Hz.
        cropped: [B] int64, the estimate's length less the reference's, in samples; what was too long was cut.
        resampled: None, or how the estimate was brought to `sample_rate`.
    """

    results: Mapping[str, Result]
    sample_rate: int
    cropped: Tensor
    resampled: str | None = None

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.results:
            raise KeyError(f"{name!r} was not computed; these were: {', '.join(self.results)}")
        return self.results[name].values

    def __iter__(self) -> Iterator[str]:
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.results)

    def __contains__(self, name: object) -> bool:
        return name in self.results

    @property
    def reasons(self) -> dict[str, list[str | None]]:
        """For each metric, for each clip: None, or why its value is NaN (or, of `superb/...`, a stand-in)."""
        return {name: result.reasons for name, result in self.results.items()}

    def summary(self) -> dict[str, Summary]:
        """For each metric its mean, and the number of clips in it."""
        out = {}
        for name, result in self.results.items():
            values = result.values
            finite = values[values.isfinite()]
            undefined: Counter[str] = Counter()
            stand_ins: Counter[str] = Counter()
            for value, reason in zip(values.tolist(), result.reasons, strict=True):
                if reason is not None:
                    (undefined if math.isnan(value) else stand_ins)[reason] += 1
            out[name] = Summary(
                mean=float(finite.mean()) if len(finite) else math.nan,
                defined=int((~values.isnan()).sum()),
                infinite=int(values.isinf().sum()),
                undefined=dict(undefined),
                stand_ins=dict(stand_ins),
                corpus=corpus_rate(result.details or ()),
            )
        return out

    def mean(self) -> dict[str, float]:
        """For each metric the mean over its finite values; `summary` also gives their number."""
        return {name: summary.mean for name, summary in self.summary().items()}

    def to_dict(self) -> dict[str, Any]:
        """Everything in JSON's types: None for NaN, "inf" and "-inf" for infinities."""
        return {
            "sample_rate": self.sample_rate,
            "resampled": self.resampled,
            "cropped": self.cropped.tolist(),
            "values": {name: [_plain(value) for value in values.tolist()] for name, values in self.items()},
            "reasons": {name: list(result.reasons) for name, result in self.results.items()},
            "details": {name: list(result.details) for name, result in self.results.items() if result.details},
        }

    def __repr__(self) -> str:
        clips = len(self.cropped)
        head = f"Scores of {clips} clip{'' if clips == 1 else 's'} at {self.sample_rate} Hz"
        lines = [f"{head} (estimate resampled: {self.resampled})" if self.resampled else head]
        for name, summary in self.summary().items():
            metric = METRICS[name]
            notes = [f"{metric.better} is better"]
            if summary.corpus is not None:
                notes.append(f"of all clips together {summary.corpus:.5g}")
            if summary.infinite:
                notes.append(f"{summary.infinite} infinite")
            notes += [f"{count} undefined: {reason}" for reason, count in summary.undefined.items()]
            notes += [f"{count} stood in for: {reason}" for reason, count in summary.stand_ins.items()]
            lines.append(f"  {name:<16}{summary.mean:>12.5g} {metric.unit:<6}{', '.join(notes)}")
        if cut := int((self.cropped != 0).sum()):
            lines.append(f"  lengths differed in {cut} of {clips}: the longer side was cut (see .cropped)")
        return "\n".join(lines)


def _plain(value: float) -> float | str | None:
    return None if math.isnan(value) else str(value) if math.isinf(value) else value


def _pair(
    reference: Batch, estimate: Batch, sample_rate: int | None, device: str | torch.device | None
) -> tuple[Pair, Tensor, str | None]:
    """Both sides as one `Pair`; the differences of their lengths [B]; how the estimate was resampled, if it was."""
    rate = None if sample_rate is None else check_rate(sample_rate)
    x, y = _audio("reference", reference, rate), _audio("estimate", estimate, rate)
    if not len(x) or not len(y):
        raise ValueError("no clips were given: the batch is empty")
    resampled = None
    if x.sample_rate != y.sample_rate:
        resampled = f"{y.sample_rate} Hz to {x.sample_rate} Hz, filter hann"
        y = y.resample(x.sample_rate)
    place = choose_device(device) if device is not None else x.device
    x, y = x.to(place), y.to(place)
    pair = Pair.of(x.waveform, y.waveform, x.sample_rate, x.lengths, y.lengths)
    return pair, (y.lengths - x.lengths).cpu(), resampled


def _audio(name: str, given: Batch, rate: int | None) -> Audio:
    """Reference or estimate in any form as an `Audio`. Unlike `Audio.of` it accepts NaN: the clip's scores are NaN."""
    if isinstance(given, list | tuple) and given and all(isinstance(item, Audio) for item in given):
        given = _joined(name, given)
    if isinstance(given, Audio):
        if rate not in (None, given.sample_rate):
            raise ValueError(f"sample_rate={rate} was given, but the {name} is an Audio at {given.sample_rate} Hz")
        return given
    own = rate_of_wrapping(given)
    if None not in (rate, own) and rate != own:
        raise ValueError(f"sample_rate={rate} was given, but the {name} says {own} Hz")
    given, rate = unwrapped(given, rate)
    if not isinstance(given, Tensor | np.ndarray | list | tuple):
        raise _no_samples(f"the {name}", given)
    if rate is None:
        raise ValueError(f"the {name} is a bare array and has no sample rate: pass sample_rate= (in Hz)")
    if isinstance(given, list | tuple):
        clips = [_clip(f"clip {i} of the {name}", clip) for i, clip in enumerate(given)]
        if not clips:
            raise ValueError(f"the {name} is an empty list")
        if len({len(clip) for clip in clips}) > 1:
            raise ValueError(f"the clips of the {name} differ in channels: {sorted({len(clip) for clip in clips})}")
        waveform, lengths = pad_stack(clips)
    else:
        waveform = _tensor(f"the {name}", given)
        if waveform.ndim > 1:
            waveform = channels_first(waveform, f"the {name}: ")
        if waveform.ndim == 2:
            _warn_of_channels(f"the {name}", len(waveform))
        waveform = waveform.reshape((1,) * (3 - waveform.ndim) + waveform.shape)
        lengths = torch.full((len(waveform),), waveform.shape[-1])
    peak = peak_of(waveform)
    if math.isfinite(peak):  # NaN and infinite samples are the clip's own: its scores are NaN
        check_peak(peak, waveform, f"the {name}: ")
    return Audio(waveform, lengths, rate)


def _clip(what: str, given: Any) -> Tensor:
    """[C, T] of [T] or [C, T]."""
    clip = _tensor(what, given)
    if clip.ndim > 2:
        raise ValueError(f"{what} must be [T] or [C, T]; its shape is {tuple(clip.shape)}")
    return clip[None] if clip.ndim == 1 else channels_first(clip, f"{what}: ")


def _warn_of_channels(what: str, channels: int) -> None:
    if channels > 2:
        warn_once(
            "channels in metrics",
            f"{what} is one clip of {channels} channels. If they are {channels} clips, pass [{channels}, 1, T], "
            "x[:, None], or a list",
        )


def _joined(name: str, items: Sequence[Audio]) -> Audio:
    """Several `Audio` as one."""
    for what, found in (
        ("sample rate", {item.sample_rate for item in items}),
        ("channels", {item.channels for item in items}),
    ):
        if len(found) > 1:
            raise ValueError(f"the clips of the {name} differ in {what}: {sorted(found)}")
    return stack([clip for item in items for clip in item.split()], items[0].sample_rate)


def _no_samples(what: str, given: Any) -> TypeError:
    return TypeError(
        f"{what} must be an Audio, a torch tensor or a NumPy array, or a list of those; it is {type(given).__name__} "
        "(Audio.load() reads files)"
    )


def _tensor(what: str, given: Any) -> Tensor:
    if not isinstance(given, Tensor | np.ndarray):
        raise _no_samples(what, given)
    try:
        return samples_of(given, what)
    except (TypeError, ValueError) as error:
        told = str(error) if str(error).startswith(what) else f"{what}: {error}"
        raise (TypeError if isinstance(error, TypeError) else ValueError)(told) from None
