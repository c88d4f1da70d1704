"""`codeczoo encode`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from codeczoo.cli.arguments import add_audio_inputs, add_codec, add_output, source_arguments

if TYPE_CHECKING:
    from codeczoo.base.audio import Audio
    from codeczoo.base.codec import BaseCodec
    from codeczoo.base.codes import Codes
    from codeczoo.cli.batch_job import ClipOutput
    from codeczoo.cli.inputs import InputClip
    from codeczoo.cli.outputs import Outputs

EPILOG = """
examples:
  %(prog)s talk.wav --codec mimi -o talk.codes.safetensors
      one clip, one file
  %(prog)s recordings/ --codec mimi --weights mimi.safetensors -o codes/
      a folder, mirrored: recordings/a/b.flac becomes codes/a/b.codes.safetensors
  %(prog)s 'calls/**/*.wav' music.csv --codec encodec_24k --bitrate 3000 --json > codes.jsonl
      a glob and a manifest (columns path, id); one line a clip with its frames, bits and bitrate
  ffmpeg -i talk.mp4 -f wav - | %(prog)s - --codec opus_12k | codeczoo decode - | aplay
      through pipes

A file of codes is a safetensors file: `codes` [1, K, N] (codebooks, frames), `lengths`, `num_samples`, and in its
metadata the codec, its rate and its codebooks. With --format czt it is as small as its codes (docs/czt.md).
`codeczoo decode` and `Codes.load` read both. Outputs that are there already are kept: a command that was stopped goes
on when it is given again.

exit code: 0 all clips are encoded; 1 wrong usage, or no such input; 3 some clips failed (each is named on standard
error); 130 stopped by Ctrl-C or a closed pipe.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "Audio to codes: one .codes.safetensors file a clip."
    parser.epilog = EPILOG
    add_codec(parser)
    add_output(parser, "codes", "codes")
    parser.add_argument(
        "--format",
        choices=("safetensors", "czt"),
        help="of a file of codes; in czt a code of 1024 takes 10 bits (default: by OUT's suffix, else safetensors)",
    )
    add_audio_inputs(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    from codeczoo.base.catalogue import find_variant
    from codeczoo.cli.batch_job import run_on_audio
    from codeczoo.cli.inputs import CODES_SUFFIX, open_audio
    from codeczoo.cli.outputs import Outputs

    find_variant(args.codec)
    inputs = open_audio(args.inputs, **source_arguments(args))
    outputs = Outputs(
        args.out,
        folder="codes",
        inputs=args.inputs,
        clips=inputs.count,
        suffix=CODES_SUFFIX if args.format != "czt" else CODES_SUFFIX.replace("safetensors", "czt"),
        file_suffixes=(".safetensors", ".czt"),
        overwrite=args.overwrite,
        json_lines=args.json,
    )
    named = outputs.place.suffix.lower().removeprefix(".") if outputs.one and not outputs.stdout else None
    if None not in (args.format, named) and args.format != named:
        raise ValueError(f"-o {args.out} says {named} and --format says {args.format}")
    describe_kept = partial(_describe_kept, outputs=outputs, whole=args.json)
    encode = partial(_encode, czt="czt" in (args.format, named))
    return run_on_audio(args, inputs, outputs, encode, "encoded", describe_kept)


def _encode(codec: BaseCodec, clips: Sequence[Audio], *, czt: bool) -> list[ClipOutput]:
    from codeczoo.base.codes_czt import write_czt_file
    from codeczoo.cli.batch_job import ClipOutput

    codes = codec.encode(clips).cpu()
    return [
        ClipOutput(partial(write_czt_file, one) if czt else one.save, _facts(one, float(clip.seconds[0])))
        for one, clip in zip(codes, clips, strict=True)
    ]


def _facts(codes: Codes, seconds: float) -> dict[str, Any]:
    bits = float(codes.num_bits[0])
    frames = int(codes.lengths[0])
    return {"codec": codes.codec, "seconds": seconds, "frames": frames, "bits": bits, "bitrate": bits / seconds}


def _describe_kept(clip: InputClip, codec: Mapping[str, Any], outputs: Outputs, whole: bool) -> dict[str, Any]:
    """Facts of a file of codes that is there already.

    Args:
        whole: read the codes too; else there are no facts, only the check.

    Raises:
        ValueError: the codes are of another codec or other weights, or have another number of codebooks.
        UnreadableOutputError: the file is damaged.
    """
    from codeczoo.base.codes import Codes, describe_weights
    from codeczoo.base.codes_file import CodesFile
    from codeczoo.base.errors import first_line
    from codeczoo.cli.outputs import UnreadableOutputError
    from codeczoo.executor.record import weights_id

    path = outputs.path(clip.name)
    assert path is not None
    try:
        head = CodesFile.read(path)
        codes = Codes.load(path) if whole else None
    except Exception as error:
        raise UnreadableOutputError(
            f"{path} is there already and cannot be read ({first_line(error)}): remove it, or --overwrite"
        ) from error
    if (head.codec, len(head.codebook_sizes)) != (codec["name"], codec["num_codebooks"]):
        raise ValueError(
            f"{path} holds codes of {head.codec} with {len(head.codebook_sizes)} codebooks, not of {codec['name']} "
            f"with {codec['num_codebooks']}: choose another -o, or --overwrite"
        )
    if None not in (head.weights, now := weights_id(codec)) and head.weights != now:
        raise ValueError(
            f"{path} holds codes that {head.codec} made with the weights {describe_weights(head.weights)}; the weights "
            f"given now are {describe_weights(now)}: choose another -o, or --overwrite"
        )
    if codes is None:
        return {}
    return _facts(codes, int(codes.num_samples[0]) / codes.sample_rate)
