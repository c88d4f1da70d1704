"""The way of audio through a codec, for `encode` and `reconstruct`: read ahead, in batches, written as they come."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codeczoo.base.audio import Audio
from codeczoo.base.codec import BaseCodec
from codeczoo.cli.inputs import Clip, Inputs
from codeczoo.cli.outputs import Fill, Outputs
from codeczoo.cli.progress import Report
from codeczoo.data.batching import plan_batches
from codeczoo.data.open import Content, Entry, Source
from codeczoo.data.reader_pool import read_ahead
from codeczoo.executor.bisect import reason_of, run_bisecting
from codeczoo.executor.settings import batch_seconds
from codeczoo.registry import load_codec

WRITERS = 4  # threads: compressing audio and writing it leave Python's lock free
FEW = 8  # clips for which no process is started


@dataclass(frozen=True)
class Made:
    """One clip's output, and what is told of it."""

    fill: Fill
    facts: dict[str, Any]


Make = Callable[[BaseCodec, Sequence[Audio]], Sequence[Made]]


def load(args: argparse.Namespace) -> BaseCodec:
    """The codec of `add_codec` and `add_device_arguments`."""
    return load_codec(
        args.codec,
        args.weights,
        device=args.device,
        precision=args.precision,
        num_codebooks=args.num_codebooks,
        bitrate=args.bitrate,
    )


def run_clips(
    args: argparse.Namespace,
    codec: BaseCodec,
    inputs: Inputs,
    outputs: Outputs,
    make: Make,
    verb: str,
    kept: Callable[[Clip], dict[str, Any]] = lambda clip: {},
) -> int:
    """`make` on all clips that are not there yet; returns the exit code.

    Args:
        kept: what is told of a clip that is there already; raises a ValueError where that cannot stand for it.
    """
    with Report(verb, inputs.count, outputs, json_lines=args.json, quiet=args.quiet) as report:
        pending = _Pending(inputs, outputs, report, kept)
        seconds = batch_seconds(args.max_batch_seconds, codec.device)
        few = inputs.count is not None and inputs.count <= FEW
        batches = plan_batches(pending, args.batch, seconds)
        for batch in read_ahead(inputs, batches, 0 if few else args.workers):
            for identity, reason in batch.failures.items():
                report.failed(identity, reason)
            good = [pair for group in batch.groups for pair in zip(group.entries, group.audio, strict=True)]
            for part, made in run_bisecting(lambda part: make(codec, [audio for _, audio in part]), good):
                if isinstance(made, Exception):
                    report.failed(part[0][0].id, reason_of(made))
                else:
                    write_all([_identity(entry) for entry, _ in part], made, outputs, report)
        return report.close()


def write_all(clips: Sequence[tuple[str, str]], made: Sequence[Made], outputs: Outputs, report: Report) -> None:
    """Write clips, each given as its id and name; those that cannot be written are told as failed."""

    def write(name: str, fill: Fill) -> str | None:
        try:
            outputs.write(name, fill)
        except BrokenPipeError:
            raise
        except (OSError, ValueError) as error:
            return reason_of(error)
        return None

    with ThreadPoolExecutor(min(WRITERS, len(clips))) as pool:
        failures = pool.map(write, [name for _, name in clips], [item.fill for item in made])
        for (identity, name), item, failure in zip(clips, made, failures, strict=True):
            if failure is None:
                report.done(identity, name, item.facts)
            else:
                report.failed(identity, failure)


class _Pending(Source):
    """The clips that are still to do; the others are told as kept while they are passed by."""

    def __init__(
        self, inputs: Inputs, outputs: Outputs, report: Report, kept: Callable[[Clip], dict[str, Any]]
    ) -> None:
        self.name, self.inputs, self.outputs, self.report, self.kept = inputs.name, inputs, outputs, report, kept

    def entries(self) -> Iterator[Entry]:
        for clip in self.inputs.entries():
            path = self.outputs.path(clip.name)
            if path is not None and isinstance(clip.key, Path) and path.exists() and path.samefile(clip.key):
                raise ValueError(f"{path} is an input, and would be written over: choose another -o")
            if self.outputs.there(clip.name):
                self.report.kept(clip.id, clip.name, self.kept(clip))
            else:
                yield clip

    def read(self, entry: Entry) -> Content:
        return self.inputs.read(entry)


def _identity(entry: Entry) -> tuple[str, str]:
    """A clip's id and the name of its output."""
    assert isinstance(entry, Clip)
    return entry.id, entry.name
