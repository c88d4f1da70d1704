"""What one batch with one codec came to: rows of the results, counts of codes, seconds; and the wait for them."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from codeczoo.base.codes import Codes
from codeczoo.base.errors import STOPS
from codeczoo.benchmark.embeddings import Embedded, Sets, add_sets
from codeczoo.benchmark.protocols import CodecOutput
from codeczoo.data.read import Group, ReadBatch
from codeczoo.executor.bisect import reason_of, run_bisecting
from codeczoo.executor.job import Pending
from codeczoo.executor.record import number
from codeczoo.metrics import Evaluation, Scores
from codeczoo.metrics.pool import PoolError

log = logging.getLogger(__name__)

CLOCKS = ("audio", "encode", "decode", "metrics", "waiting")  # seconds: of audio, of work, of waiting for the pool


@dataclass(frozen=True)
class Outcome:
    """The results of one batch with one codec. Plain values: they travel between processes.

    Attributes:
        batch: its index; codec: its name, or that of a reconstruction.
        rows: one a clip, in the batch's order.
        counts: for each codebook, how often each code occurred.
        seconds: spent, by `CLOCKS`.
        events: batches that were halved, processes that died, and why.
        sets: what the clips add to the sets of metrics of the run.
    """

    batch: int
    codec: str
    rows: list[dict[str, Any]]
    counts: list[dict[int, int]]
    seconds: dict[str, float]
    events: list[dict[str, Any]]
    sets: Sets = field(default_factory=dict)


class Evaluating(NamedTuple):
    """The metrics of an output, in progress: those of clips (None without a decoder), and what it adds to the run's."""

    scores: Evaluation | None
    embedded: Embedded


class Measured(NamedTuple):
    """Rows by the ids of clips, counts of codes by codebook, and what the clips add to the sets of the run."""

    rows: dict[str, dict[str, Any]]
    counts: list[dict[int, int]]
    sets: Sets


@dataclass
class PendingOutcome(Pending[Outcome]):
    """A batch that one codec is done with, while the metric pool may still work at it.

    Attributes:
        measured: groups of clips, each with its output and its evaluation.
        failed: id → stage and reason.
        evaluate: starts the evaluation of a group's output.
    """

    batch: ReadBatch
    codec: str
    measured: list[tuple[Group, CodecOutput, Evaluating]] = field(default_factory=list)
    failed: dict[str, tuple[str, str]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(CLOCKS, 0.0))
    events: list[dict[str, Any]] = field(default_factory=list)
    evaluate: Callable[[Group, CodecOutput], Evaluating] = lambda group, output: Evaluating(None, Embedded())

    @property
    def done(self) -> bool:
        return all(evaluation.scores is None or evaluation.scores.done for _, _, evaluation in self.measured)

    def finish(self) -> Outcome:
        rows: dict[str, dict[str, Any]] = {}
        counts: list[dict[int, int]] = []
        sets: Sets = {}
        for group, output, evaluation in self.measured:
            began = time.perf_counter()
            for part, result in self._finished(group, output, evaluation):
                if isinstance(result, Exception):
                    self.failed[group.entries[part[0]].id] = ("metrics", reason_of(result))
                else:
                    rows |= result.rows
                    _add(counts, result.counts)
                    add_sets(sets, result.sets)
            self.seconds["waiting"] += time.perf_counter() - began
        lines = []
        for entry in self.batch.entries:
            head = {"codec": self.codec, "id": entry.id, "path": entry.origin, "category": entry.category}
            if entry.speaker is not None:
                head["speaker"] = entry.speaker
            if entry.id in self.failed:
                stage, reason = self.failed[entry.id]
                lines.append({**head, "status": "failed", "stage": stage, "reason": reason})
            else:
                lines.append({**head, "status": "ok", **rows[entry.id]})
        return Outcome(self.batch.index, self.codec, lines, counts, self.seconds, self.events, sets)

    def _finished(
        self, group: Group, output: CodecOutput, evaluation: Evaluating
    ) -> Iterator[tuple[list[int], Measured | Exception]]:
        """What the rows of a group say, once the metric pool is done with it; where that fails, of its halves, down to
        the clip at fault.

        Raises:
            ImportError, PoolError: no clip is to blame.
        """
        try:
            measured = _measured(group, output, evaluation)
        except (ImportError, PoolError, *STOPS):
            raise
        except BaseException as error:  # noqa: BLE001 (whatever it is, it is one clip's failure)
            log.info("%s in the metrics of %d clips; trying halves", reason_of(error), len(group))
        else:
            yield list(range(len(group))), measured
            return
        again = lambda rows: _measured(group[rows], output[rows], self.evaluate(group[rows], output[rows]))  # noqa: E731
        yield from run_bisecting(again, range(len(group)))


def _measured(group: Group, output: CodecOutput, evaluation: Evaluating) -> Measured:
    scores = None if evaluation.scores is None else evaluation.scores.finish()
    rows = _rows(group, output, scores)
    for id_, undefined in evaluation.embedded.undefined.items():
        rows[id_]["undefined"] |= undefined
    return Measured(rows, _counts(output.codes), evaluation.embedded.sets)


def _rows(group: Group, output: CodecOutput, scores: Scores | None) -> dict[str, dict[str, Any]]:
    """What a row says of each clip, by id."""
    seconds = group.audio.seconds.tolist()
    codes = output.codes
    bits = None if codes is None else codes.num_bits.tolist()
    tokens = None if codes is None else codes.counts.sum(1).tolist()
    values = {} if scores is None else {name: scores[name].tolist() for name in scores}
    reasons: Mapping[str, Sequence[str | None]] = {} if scores is None else scores.reasons
    rows = {}
    for i, entry in enumerate(group.entries):
        measured = {name: column[i] for name, column in values.items()}
        undefined = {name: reasons[name][i] for name in measured if math.isnan(measured[name])}
        stand_ins = {name: r for name in measured if name not in undefined and (r := reasons[name][i]) is not None}
        rows[entry.id] = {
            "seconds": seconds[i],
            "sample_rate": group.audio.sample_rate,
            "channels": group.audio.channels,
            "bits": None if bits is None else number(bits[i]),
            "bitrate": None if bits is None else number(bits[i] / seconds[i]),
            "tokens": None if tokens is None else int(tokens[i]),
            "metrics": {name: number(value) for name, value in measured.items()},
            "undefined": undefined,
            **({"stand_ins": stand_ins} if stand_ins else {}),
            **({"details": made} if (made := _details(scores, i)) else {}),
        }
    return rows


def _details(scores: Scores | None, clip: int) -> dict[str, Any]:
    """What the values of one clip were made of, by metric."""
    results = {} if scores is None else scores.results
    return {name: dict(made) for name, result in results.items() if result.details and (made := result.details[clip])}


def _counts(codes: Codes | None) -> list[dict[int, int]]:
    """For each codebook, how often each code occurs."""
    if codes is None:
        return []
    mask, counts = codes.mask, []
    for k in range(codes.num_codebooks):
        values, times = codes.codes[:, k][mask[:, k]].unique(return_counts=True)
        counts.append(dict(zip(values.tolist(), times.tolist(), strict=True)))
    return counts


def _add(total: list[dict[int, int]], more: list[dict[int, int]]) -> None:
    """Add counts to counts."""
    total.extend({} for _ in range(len(more) - len(total)))
    for k, counts in enumerate(more):
        for code, times in counts.items():
            total[k][code] = total[k].get(code, 0) + times
