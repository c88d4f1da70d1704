"""`codeczoo decode`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from codeczoo.cli.arguments import FORMATS, add_device_arguments, add_output, weights_by_codec

if TYPE_CHECKING:
    from torch import Tensor

    from codeczoo.base.codec import BaseCodec
    from codeczoo.base.codes import Codes
    from codeczoo.cli.batch_job import Made
    from codeczoo.cli.inputs import Inputs
    from codeczoo.cli.outputs import Fill, Outputs
    from codeczoo.cli.progress import Report

EPILOG = """
examples:
  %(prog)s talk.codes.safetensors -o talk.wav
  %(prog)s codes/ -o decoded/ --format flac
      a folder, mirrored: codes/a/b.codes.safetensors becomes decoded/a/b.flac; of several codecs, each is loaded once
  %(prog)s codes/ --weights mimi=mimi.safetensors dac_44k=dac/ -o decoded/
  codeczoo encode - --codec g711_ulaw < talk.wav | %(prog)s - | aplay

Each file says which codec made it. The audio is at the codec's own rate, unless --sample-rate asks for another, and as
long as what was encoded. WAV and FLAC hold 16 bit. A file that holds a batch of clips becomes NAME.0.wav, NAME.1.wav
and so on. Outputs that are there already are kept and count as done.

exit code: 0 all clips are decoded; 1 wrong usage, or nothing there; 3 some clips failed (each is named on standard
error); 130 stopped by Ctrl-C or a closed pipe.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "Codes to audio."
    parser.epilog = EPILOG
    parser.add_argument(
        "codes",
        nargs="+",
        metavar="CODES",
        help="files that `codeczoo encode` or `Codes.save` wrote, folders or globs of them; - for standard input",
    )
    parser.add_argument("--codec", metavar="NAME", help="decode with this one, not with that which the files name")
    parser.add_argument(
        "--weights",
        nargs="+",
        default=[],
        metavar="[CODEC=]PATH",
        help="a file or folder, or random (default: the published ones)",
    )
    parser.add_argument(
        "--allow-other-weights",
        action="store_true",
        help="decode codes that other weights made, too (default: an error)",
    )
    parser.add_argument("--sample-rate", type=int, metavar="HZ", help="of the audio (default: the codec's own)")
    parser.add_argument("--format", choices=FORMATS, help="default: by OUT's suffix, else wav")
    add_output(parser, "files", "decoded")
    add_device_arguments(parser)


@dataclass(frozen=True)
class _File:
    """One file of codes, by its head.

    Attributes:
        names: of its clips' outputs, one a clip.
        content: its path, or its bytes.
        seconds: of its longest clip, about.
    """

    id: str
    names: tuple[str, ...]
    content: Path | bytes
    codec: str
    codebooks: tuple[int, ...]
    seconds: float
    weights: str | None


def run(args: argparse.Namespace) -> int:
    from codeczoo.base.catalogue import find_variant
    from codeczoo.cli.inputs import open_codes
    from codeczoo.cli.outputs import audio_outputs
    from codeczoo.cli.progress import Report
    from codeczoo.registry import load_codec

    wanted = None if args.codec is None else find_variant(args.codec).name
    weights = weights_by_codec(args.weights)
    files, broken = _look(open_codes(args.codes))
    clips = sum(len(file.names) for file in files) + len(broken)
    outputs, form = audio_outputs(args, "decoded", args.codes, clips)
    with Report("decoded", clips, outputs, json_lines=args.json, quiet=args.quiet) as report:
        for identity, why in broken.items():
            report.failed(identity, why)
        todo: dict[str, list[_File]] = {}
        for file in files:
            there = [output for output in file.names if outputs.there(output)]
            for output in there:
                report.kept(file.id, output, {"codec": file.codec})
            if len(there) < len(file.names):
                todo.setdefault(wanted or file.codec, []).append(file)
        for name, group in todo.items():
            if (reason := _why_not(name)) is None:
                named = (weights[one] for one in (name, *find_variant(name).same_weights) if one in weights)
                path = next(named, weights.get(None))
                codec = load_codec(name, path, device=args.device, precision=args.precision)
                _decode_all(args, codec, group, outputs, form, report)
            else:
                for file in group:
                    _fail(file, reason, outputs, report)
        return report.close()


def _look(inputs: Inputs) -> tuple[list[_File], dict[str, str]]:
    """The heads of all files; and of those that are none of codes, why."""
    from codeczoo.base.codes import Codes, CodesFile
    from codeczoo.executor.bisect import reason_of

    files, broken = [], {}
    for clip in inputs.entries():
        try:
            head = CodesFile.of(Codes.load(clip.key)) if isinstance(clip.key, bytes) else CodesFile.read(clip.key)
        except (OSError, ValueError, LookupError) as error:
            broken[clip.id] = reason_of(error)
            continue
        if head.clips == 0:
            broken[clip.id] = "a batch of no clips"
            continue
        names = (clip.name,) if head.clips == 1 else tuple(f"{clip.name}.{i}" for i in range(head.clips))
        seconds = head.seconds or 0.0
        files.append(_File(clip.id, names, clip.key, head.codec, head.codebook_sizes, seconds, head.weights))
    return files, broken


def _why_not(name: str) -> str | None:
    """Why codes of that codec cannot be decoded, if so."""
    from codeczoo.base.catalogue import find_variant

    try:
        return find_variant(name).decode_unsupported_reason
    except KeyError as error:
        return str(error.args[0])


def _fail(file: _File, reason: str, outputs: Outputs, report: Report) -> None:
    """All clips of a file that are not there."""
    for name in file.names:
        if not outputs.there(name):
            report.failed(file.id, reason)


def _decode_all(
    args: argparse.Namespace,
    codec: BaseCodec,
    files: Sequence[_File],
    outputs: Outputs,
    form: Callable[[Tensor, int], Fill],
    report: Report,
) -> None:
    """All clips of one codec, in batches of similar length."""
    from codeczoo.base.codes import Codes
    from codeczoo.cli.batch_job import write_all
    from codeczoo.executor.bisect import reason_of, run_bisecting
    from codeczoo.executor.settings import batch_seconds

    limit = batch_seconds(args.max_batch_seconds, codec.device)
    for batch in _batches(files, args.batch, limit):
        items = []
        for file in batch:
            try:
                codes = Codes.load(file.content)
            except (OSError, ValueError, LookupError) as error:  # it was whole a moment ago
                _fail(file, reason_of(error), outputs, report)
                continue
            clips = zip(file.names, codes, strict=True)
            items += [(file.id, name, one) for name, one in clips if not outputs.there(name)]
        work = partial(
            _decode,
            codec=codec,
            form=form,
            sample_rate=args.sample_rate,
            allow_other_weights=args.allow_other_weights,
        )
        for part, made in run_bisecting(work, items):
            if isinstance(made, Exception):
                report.failed(part[0][0], reason_of(made))
            else:
                write_all([(identity, name) for identity, name, _ in part], made, outputs, report)


def _batches(files: Sequence[_File], count: int, seconds: float) -> Iterator[Sequence[_File]]:
    """Files of equal codebooks and weights and similar length: at most `count`, and `seconds` with padding."""
    from codeczoo.base.ragged import groups_within

    alike: dict[tuple[tuple[int, ...], str | None], list[_File]] = {}
    for file in files:
        alike.setdefault((file.codebooks, file.weights), []).append(file)
    for group in alike.values():
        group.sort(key=lambda file: file.seconds)
        for start in range(0, len(group), count):
            chunk = group[start : start + count]
            for rows in groups_within([round(1000 * file.seconds * len(file.names)) for file in chunk], 1000 * seconds):
                yield chunk[rows]


def _decode(
    items: Sequence[tuple[str, str, Codes]],
    codec: BaseCodec,
    form: Callable[[Tensor, int], Fill],
    sample_rate: int | None,
    allow_other_weights: bool,
) -> list[Made]:
    from codeczoo.base.codes import Codes
    from codeczoo.cli.batch_job import Made

    codes = Codes.cat([codes for _, _, codes in items])
    audio = codec.decode(codes, allow_other_weights=allow_other_weights)
    audio = audio.resample(sample_rate or audio.sample_rate).cpu()
    return [
        Made(
            form(clip.waveform[0], clip.sample_rate),
            {
                "codec": codec.name,
                "seconds": float(clip.seconds[0]),
                "sample_rate": clip.sample_rate,
                "channels": clip.channels,
            },
        )
        for clip in audio
    ]
