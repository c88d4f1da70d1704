"""`codeczoo decode`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

from codeczoo.cli.arguments import FORMATS, add_device_arguments, add_output, positive_int, weights_by_codec

if TYPE_CHECKING:
    from codeczoo.cli.batch_job import DecodeTask
    from codeczoo.cli.inputs import CodesEntry, Inputs
    from codeczoo.cli.outputs import Outputs
    from codeczoo.cli.progress import Progress
    from codeczoo.data.batching import Batch

EPILOG = """
examples:
  %(prog)s talk.codes.safetensors -o talk.wav
  %(prog)s codes/ -o decoded/ --format flac
      a folder, mirrored: codes/a/b.codes.safetensors becomes decoded/a/b.flac; of several codecs, each is loaded once
  %(prog)s codes/ --weights mimi=mimi.safetensors dac_44k=dac/ -o decoded/
  codeczoo encode - --codec g711_ulaw < talk.wav | %(prog)s - | aplay

Each file names the codec that made it. The audio has the codec's rate, unless --sample-rate asks for another, and the
length of the clip that was encoded. WAV and FLAC hold 16 bit. A file with a batch of clips becomes NAME.0.wav,
NAME.1.wav and so on. Outputs that are there already are kept.

exit code: 0 all clips are decoded; 1 wrong usage, or no such input; 3 some clips failed (each is named on standard
error); 130 stopped by Ctrl-C or a closed pipe.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "Codes to audio."
    parser.epilog = EPILOG
    parser.add_argument(
        "codes",
        nargs="+",
        metavar="CODES",
        help="files that `codeczoo encode`, `Codes.save` or EnCodec's package wrote (.ecdc), folders or globs of them; "
        "- for standard input",
    )
    parser.add_argument("--codec", metavar="NAME", help="decode with this codec, not with the one that the files name")
    parser.add_argument(
        "--weights",
        nargs="+",
        default=[],
        metavar="[CODEC=]PATH",
        help="file, folder, FILE::ENTRY or random (default: the published weights)",
    )
    parser.add_argument(
        "--allow-other-weights",
        action="store_true",
        help="decode codes that other weights made, too (default: an error)",
    )
    parser.add_argument(
        "--lm-weights", metavar="PATH", help="of the language model of .ecdc files (default: the published ones)"
    )
    parser.add_argument("--limit", type=positive_int, metavar="N", help="only the first N files")
    parser.add_argument("--sample-rate", type=int, metavar="HZ", help="of the audio (default: the codec's own)")
    parser.add_argument("--format", choices=FORMATS, help="default: by OUT's suffix, else wav")
    add_output(parser, "files", "decoded")
    add_device_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    from codeczoo.base.catalogue import find_variant
    from codeczoo.cli.batch_job import DecodeJob, local_executor, write_results
    from codeczoo.cli.inputs import open_codes
    from codeczoo.cli.outputs import audio_outputs
    from codeczoo.cli.progress import Progress
    from codeczoo.executor.settings import batch_seconds

    wanted = None if args.codec is None else find_variant(args.codec).name
    weights = weights_by_codec(args.weights)
    files, broken = _read_heads(open_codes(args.codes), wanted, args.limit)
    clips = sum(len(file.names) for file in files) + len(broken)
    outputs, make_writer = audio_outputs(args, "decoded", args.codes, clips)
    job = DecodeJob(
        weights,
        args.precision,
        args.sample_rate,
        make_writer,
        args.allow_other_weights,
        args.lm_weights,
        args.compile,
    )
    executor = local_executor(job, args)
    limit = batch_seconds(args.max_batch_seconds, executor.device)
    with Progress("decoded", clips, outputs, json_lines=args.json, quiet=args.quiet) as progress:
        for identity, why in broken.items():
            progress.failed(identity, why)
        missing = _missing(files, outputs, progress)
        write_results(executor, _tasks(missing, args.batch, limit, progress), outputs, progress)
        return progress.close()


def _read_heads(inputs: Inputs, codec: str | None, limit: int | None) -> tuple[list[CodesEntry], dict[str, str]]:
    """All files of codes; and of those that cannot be read, by id, the reason.

    Args:
        codec: that is to decode them; None = the one that made each.
        limit: only so many files, from the first.
    """
    from codeczoo.cli.codes_files import read_head
    from codeczoo.cli.inputs import CodesEntry
    from codeczoo.executor.bisect import reason_of

    files, broken = [], {}
    for clip in islice(inputs.entries(), limit):
        try:
            head = read_head(clip.key)
        except Exception as error:  # noqa: BLE001 (whatever it is, it is this file's failure)
            broken[clip.id] = reason_of(error)
            continue
        if head.clips == 0:
            broken[clip.id] = "a batch of no clips"
            continue
        names = (clip.name,) if head.clips == 1 else tuple(f"{clip.name}.{i}" for i in range(head.clips))
        files.append(
            CodesEntry(
                clip.id,
                clip.key,
                names=names,
                codec=codec or head.codec,
                codebook_sizes=head.codebook_sizes,
                weights=head.weights,
                seconds=head.seconds or 0.0,
            )
        )
    return files, broken


def _missing(files: Sequence[CodesEntry], outputs: Outputs, progress: Progress) -> Mapping[str, Sequence[CodesEntry]]:
    """The files with clips whose output is not there yet, by codec. The other clips are reported as kept."""
    missing: dict[str, list[CodesEntry]] = {}
    for file in files:
        todo = []
        for i, name in enumerate(file.names):
            if outputs.is_done(name):
                progress.kept(file.id, name, {"codec": file.codec})
            else:
                todo.append(i)
        if todo:
            missing.setdefault(file.codec, []).append(replace(file, missing=tuple(todo)))
    return missing


def _tasks(
    files: Mapping[str, Sequence[CodesEntry]], batch: int, seconds: float, progress: Progress
) -> Iterator[DecodeTask]:
    """The batches of each codec. Where a codec cannot decode, its clips are reported as failed."""
    from codeczoo.cli.batch_job import DecodeTask

    for codec, group in files.items():
        if (reason := _decode_unsupported_reason(codec)) is None:
            for planned in _batches(group, batch, seconds):
                yield DecodeTask(planned, codec)
        else:
            for file in group:
                for _ in file.missing:
                    progress.failed(file.id, reason)


def _decode_unsupported_reason(name: str) -> str | None:
    from codeczoo.base.catalogue import find_variant

    try:
        return find_variant(name).decode_unsupported_reason
    except KeyError as error:
        return str(error.args[0])


def _batches(files: Sequence[CodesEntry], count: int, seconds: float) -> Iterator[Batch]:
    """Files with equal codebooks and weights, and of similar length: at most `count`, and `seconds` with padding."""
    from codeczoo.base.ragged import groups_within
    from codeczoo.data.batching import Batch

    alike: dict[tuple[tuple[int, ...], str | None], list[CodesEntry]] = {}
    for file in files:
        alike.setdefault((file.codebook_sizes, file.weights), []).append(file)
    index = 0
    for group in alike.values():
        group.sort(key=lambda file: file.seconds)
        for start in range(0, len(group), count):
            chunk = group[start : start + count]
            for rows in groups_within([round(1000 * file.seconds * len(file.names)) for file in chunk], 1000 * seconds):
                yield Batch(index, tuple(chunk[rows]), sum(file.seconds for file in chunk[rows]))
                index += 1
