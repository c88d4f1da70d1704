"""The commands encode, reconstruct and decode as Jobs, and the writing of their outputs."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from codeczoo.base.audio import Audio
from codeczoo.base.catalogue import find_variant
from codeczoo.base.codec import BaseCodec
from codeczoo.base.codes import Codes
from codeczoo.base.device import choose_device
from codeczoo.cli.arguments import weights_of
from codeczoo.cli.codes_files import read_codes
from codeczoo.cli.inputs import CodesEntry, InputClip, Inputs
from codeczoo.cli.outputs import Outputs, UnreadableOutputError, Writer
from codeczoo.cli.progress import Progress
from codeczoo.data.batching import plan_batches
from codeczoo.data.read import ReadBatch
from codeczoo.data.source import Content, Entry, Segment, Source
from codeczoo.executor.bisect import reason_of, run_bisecting
from codeczoo.executor.job import AudioJob, BatchTask, Executor, Finished, Job, JobWorker, Task
from codeczoo.executor.local import LocalExecutor
from codeczoo.executor.record import describe_codec, environment, versions
from codeczoo.executor.settings import batch_seconds
from codeczoo.registry import load_codec

WRITER_THREADS = 4  # compressing audio and writing files release Python's lock
MAX_CLIPS_WITHOUT_READERS = 8  # up to this many clips are read by this process: starting others takes longer


@dataclass(frozen=True)
class ClipOutput:
    """One clip's output: what writes it, and what --json tells of it."""

    write: Writer
    facts: dict[str, Any]


@dataclass(frozen=True)
class CommandResult:
    """Clips of one batch.

    Attributes:
        outputs: each with the id of the input and the name of the output; failed: id of the input, and the reason.
    """

    outputs: list[tuple[str, str, ClipOutput]] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)

    @classmethod
    def merged(cls, results: Sequence[CommandResult]) -> CommandResult:
        return cls(
            [output for result in results for output in result.outputs],
            [failure for result in results for failure in result.failed],
        )


# -- encode and reconstruct: audio in ---------------------------------------------------------------

Transform = Callable[[BaseCodec, Sequence[Audio]], Sequence[ClipOutput]]


@dataclass
class AudioCommandJob(AudioJob[BatchTask, CommandResult]):
    """A command that takes audio.

    Attributes:
        codec: keyword arguments of `load_codec`; transform: what the command does with a batch.
    """

    codec: Mapping[str, Any]
    transform: Transform

    def start_worker(self, device: str, folder: Path) -> AudioCommandWorker:
        return AudioCommandWorker(load_codec(device=device, **self.codec), self.transform)

    def failed(self, task: BatchTask, stage: str, reason: str) -> CommandResult:
        return CommandResult(failed=[(entry.id, reason) for entry in task.batch.entries])

    def merge(self, task: BatchTask, results: Sequence[CommandResult]) -> CommandResult:
        return CommandResult.merged(results)


class AudioCommandWorker(JobWorker[BatchTask, ReadBatch, CommandResult]):
    """One codec on one device."""

    def __init__(self, codec: BaseCodec, transform: Transform) -> None:
        self.codec, self.transform, self.device = codec, transform, codec.device

    def start(self, task: BatchTask, read: ReadBatch) -> Iterator[Finished[CommandResult]]:
        if read.failures:
            yield Finished(CommandResult(failed=list(read.failures.items())))
        clips = [pair for group in read.groups for pair in zip(group.entries, group.audio, strict=True)]
        for part, outputs in run_bisecting(self._work, clips):
            if isinstance(outputs, Exception):
                yield Finished(CommandResult(failed=[(part[0][0].id, reason_of(outputs))]))
            else:
                yield Finished(CommandResult(outputs))

    def _work(self, clips: Sequence[tuple[Entry, Audio]]) -> list[tuple[str, str, ClipOutput]]:
        outputs = self.transform(self.codec, [audio for _, audio in clips])
        return [(*_id_and_name(entry), output) for (entry, _), output in zip(clips, outputs, strict=True)]

    def describe(self) -> dict[str, Any]:
        return {
            "codec": {**describe_codec(self.codec), "num_codebooks": self.codec.num_codebooks},
            "versions": versions(),
            "environment": environment(self.device),
        }


def run_on_audio(
    args: argparse.Namespace,
    inputs: Inputs,
    outputs: Outputs,
    transform: Transform,
    verb: str,
    describe_kept: Callable[[InputClip, Mapping[str, Any]], dict[str, Any]] = lambda clip, codec: {},
) -> int:
    """`transform` on all clips whose output is not there yet; returns the exit code.

    Args:
        args: of `add_codec`, `add_audio_inputs` and `add_output`.
        verb: for the last line, in the past tense.
        describe_kept: takes a clip whose output is there, and the codec as `describe_codec` tells of it; returns what
            --json tells of the clip, or raises a ValueError where that output is not what would be written, and an
            UnreadableOutputError where it is damaged.
    """
    given = {key: getattr(args, key) for key in ("precision", "compile", "num_codebooks", "bitrate")}
    weights = weights_of(args.weights, args.codec)
    job = AudioCommandJob(inputs, {"name": args.codec, "weights": weights, **given}, transform)
    few = inputs.count is not None and inputs.count <= MAX_CLIPS_WITHOUT_READERS
    executor = local_executor(job, args, readers=0 if few else args.workers)
    codec = executor.describe()["codec"]
    with Progress(verb, inputs.count, outputs, json_lines=args.json, quiet=args.quiet) as progress:
        missing = _MissingClips(inputs, outputs, progress, lambda clip: describe_kept(clip, codec))
        batches = plan_batches(missing, args.batch, batch_seconds(args.max_batch_seconds, executor.device))
        write_results(executor, map(BatchTask, batches), outputs, progress)
        return progress.close()


class _MissingClips(Source):
    """The clips whose output is not there yet. While it passes over the others, it reports them as kept."""

    def __init__(
        self, inputs: Inputs, outputs: Outputs, progress: Progress, describe_kept: Callable[[InputClip], dict[str, Any]]
    ) -> None:
        self.name, self.inputs, self.outputs, self.progress = inputs.name, inputs, outputs, progress
        self.describe_kept = describe_kept

    def entries(self) -> Iterator[Entry]:
        for clip in self.inputs.entries():
            path = self.outputs.path(clip.name)
            if path is not None and _is_input(path, clip):
                raise ValueError(f"{path} is an input, and would be written over: choose another -o")
            if not self.outputs.is_done(clip.name):
                yield clip
                continue
            try:
                facts = self.describe_kept(clip)
            except UnreadableOutputError as error:
                self.progress.failed(clip.id, str(error))
            else:
                self.progress.kept(clip.id, clip.name, facts)

    def read(self, entry: Entry) -> Content:
        return self.inputs.read(entry)


def _is_input(path: Path, clip: Entry) -> bool:
    """Whether an output's path is the clip's own file."""
    key = clip.key.recording if isinstance(clip.key, Segment) else clip.key
    try:
        return isinstance(key, Path) and path.exists() and path.samefile(key)
    except OSError:  # an input that is gone, a name that no file can have
        return False


def _id_and_name(entry: Entry) -> tuple[str, str]:
    assert isinstance(entry, InputClip)
    return entry.id, entry.name


# -- decode: codes in -------------------------------------------------------------------------------


@dataclass(frozen=True)
class DecodeTask(BatchTask):
    """Files of codes (each a `CodesEntry`) that one codec decodes together."""

    codec: str


@dataclass(frozen=True)
class ReadCodes:
    """The files of a task, read.

    Attributes:
        clips: those to be decoded, each with the id of its file and the name of its output.
        failed: id of a file that cannot be read, once for each of its clips, and the reason.
    """

    clips: list[tuple[str, str, Codes]]
    failed: list[tuple[str, str]]


@dataclass
class DecodeJob(Job[DecodeTask, ReadCodes, CommandResult]):
    """Decode files of codes.

    Attributes:
        weights: codec (or another name of its weights) → path, and under None that of all others.
        precision, compile: of `load_codec`.
        sample_rate: of the audio; None = the codec's.
        make_writer: of a waveform [C, T] at a sample rate.
        allow_other_weights: as in `BaseCodec.decode`.
        lm_weights: of the language model of `.ecdc` files; None = the published ones.
    """

    weights: Mapping[str | None, str]
    precision: str
    sample_rate: int | None
    make_writer: Callable[[Tensor, int], Writer]
    allow_other_weights: bool = False
    lm_weights: str | None = None
    compile: bool = False

    def read(self, task: DecodeTask) -> ReadCodes:
        read = ReadCodes([], [])
        for file in task.batch.entries:
            assert isinstance(file, CodesEntry)
            try:
                codes = read_codes(file.key, self.lm_weights)
                read.clips.extend([(file.id, file.names[i], codes[i]) for i in file.missing])
            except Exception as error:  # noqa: BLE001 (its head was readable when the run began)
                read.failed.extend((file.id, reason_of(error)) for _ in file.missing)
        return read

    def start_worker(self, device: str, folder: Path) -> DecodeWorker:
        return DecodeWorker(self, device)

    def failed(self, task: DecodeTask, stage: str, reason: str) -> CommandResult:
        files = [file for file in task.batch.entries if isinstance(file, CodesEntry)]
        return CommandResult(failed=[(file.id, reason) for file in files for _ in file.missing])

    def merge(self, task: DecodeTask, results: Sequence[CommandResult]) -> CommandResult:
        return CommandResult.merged(results)


class DecodeWorker(JobWorker[DecodeTask, ReadCodes, CommandResult]):
    """One codec at a time on one device: that of the last task."""

    def __init__(self, job: DecodeJob, device: str) -> None:
        self.job, self.device = job, choose_device(device)
        self._codec: tuple[str, BaseCodec] | None = None

    def start(self, task: DecodeTask, read: ReadCodes) -> Iterator[Finished[CommandResult]]:
        if read.failed:
            yield Finished(CommandResult(failed=read.failed))
        codec = self._loaded(task.codec)
        for clips, outputs in run_bisecting(partial(self._decode, codec), read.clips):
            if isinstance(outputs, Exception):
                yield Finished(CommandResult(failed=[(clips[0][0], reason_of(outputs))]))
            else:
                yield Finished(CommandResult(outputs))

    def describe(self) -> dict[str, Any]:
        return {"versions": versions(), "environment": environment(self.device)}

    def _loaded(self, name: str) -> BaseCodec:
        if self._codec is None or self._codec[0] != name:
            self._codec = None  # its memory is free before the next one is loaded
            given = self.job.weights
            named = (given[one] for one in (name, *find_variant(name).same_weights) if one in given)
            path = next(named, given.get(None))
            how: dict[str, Any] = {"precision": self.job.precision, "compile": self.job.compile}
            self._codec = (name, load_codec(name, path, device=self.device, **how))
        return self._codec[1]

    def _decode(self, codec: BaseCodec, clips: Sequence[tuple[str, str, Codes]]) -> list[tuple[str, str, ClipOutput]]:
        codes = Codes.cat([codes for _, _, codes in clips])
        audio = codec.decode(codes, allow_other_weights=self.job.allow_other_weights)
        audio = audio.resample(self.job.sample_rate or audio.sample_rate).cpu()
        return [(id, name, self._output(codec, clip)) for (id, name, _), clip in zip(clips, audio, strict=True)]

    def _output(self, codec: BaseCodec, clip: Audio) -> ClipOutput:
        facts = {
            "codec": codec.name,
            "seconds": float(clip.seconds[0]),
            "sample_rate": clip.sample_rate,
            "channels": clip.channels,
        }
        return ClipOutput(self.job.make_writer(clip.waveform[0], clip.sample_rate), facts)


# -- both -------------------------------------------------------------------------------------------


def local_executor(
    job: Job[Task, Any, CommandResult], args: argparse.Namespace, readers: int = 0
) -> LocalExecutor[Task, CommandResult]:
    """An executor on the device of `add_device_arguments`."""
    return LocalExecutor(job, str(choose_device(args.device)), Path(), readers)


def write_results(
    executor: Executor[Task, CommandResult], tasks: Iterable[Task], outputs: Outputs, progress: Progress
) -> None:
    """Run all tasks; write each result as it comes, and report its clips as done or failed."""

    def write(name: str, writer: Writer) -> str | None:
        """The reason of a failure, if it fails."""
        try:
            outputs.write(name, writer)
        except BrokenPipeError:
            raise
        except Exception as error:  # noqa: BLE001 (whatever it is, it is this clip's failure)
            return reason_of(error)
        return None

    with ThreadPoolExecutor(WRITER_THREADS) as pool:
        for result in executor.run(tasks):
            for id, reason in result.failed:
                progress.failed(id, reason)
            reasons = pool.map(write, [name for _, name, _ in result.outputs], [o.write for _, _, o in result.outputs])
            for (id, name, output), failure in zip(result.outputs, reasons, strict=True):
                if failure is None:
                    progress.done(id, name, output.facts)
                else:
                    progress.failed(id, failure)
