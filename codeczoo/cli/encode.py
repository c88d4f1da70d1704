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
    from codeczoo.cli.outputs import Outputs, Writer

FORMATS = ("safetensors", "czt", "ecdc")
EPILOG = """
examples:
  %(prog)s talk.wav --codec mimi -o talk.codes.safetensors
      one clip, one file
  %(prog)s recordings/ --codec mimi --weights mimi.safetensors -o codes/
      a folder, mirrored: recordings/a/b.flac becomes codes/a/b.codes.safetensors
  %(prog)s 'calls/**/*.wav' music.csv --codec encodec_24k --bitrate 3000 --json > codes.jsonl
      a glob and a manifest (columns path, id); one line a clip with its frames, bits and bitrate
  %(prog)s talk.wav --codec encodec_24k -o talk.ecdc --lm
      EnCodec's own files; --lm makes them a quarter smaller, slowly
  ffmpeg -i talk.mp4 -f wav - | %(prog)s - --codec opus_12k | codeczoo decode - | aplay
      through pipes

A file of codes is a safetensors file: `codes` [1, K, N] (codebooks, frames), `lengths`, `num_samples`, and in its
metadata the codec, its rate and its codebooks. With --format czt it is as small as its codes (docs/czt.md).
`codeczoo decode` and `Codes.load` read both. --format ecdc writes what EnCodec's published package reads. A file made
with --lm is read back where it was made, or on a like machine (docs/ecdc.md). Outputs that are there already are kept:
a command that was stopped goes on when it is given again.

exit code: 0 all clips are encoded; 1 wrong usage, or no such input; 3 some clips failed (each is named on standard
error); 130 stopped by Ctrl-C or a closed pipe.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "Audio to codes: one .codes.safetensors file a clip."
    parser.epilog = EPILOG
    add_codec(parser)
    add_output(parser, "codes", "codes")
    parser.add_argument(
        "--format",
        choices=FORMATS,
        help="of a file of codes; in czt a code of 1024 takes 10 bits; ecdc is EnCodec's own (default: by OUT's "
        "suffix, else safetensors)",
    )
    parser.add_argument(
        "--lm", action="store_true", help="ecdc: entropy-code with EnCodec's language model (smaller, slow)"
    )
    parser.add_argument("--lm-weights", metavar="PATH", help="of that model, with --lm (default: the published ones)")
    add_audio_inputs(parser)


def run(args: argparse.Namespace) -> int:
    from codeczoo.base.catalogue import find_variant
    from codeczoo.cli.batch_job import run_on_audio
    from codeczoo.cli.codes_files import check_ecdc, language_model
    from codeczoo.cli.inputs import CODES_SUFFIXES, open_audio
    from codeczoo.cli.outputs import Outputs

    variant = find_variant(args.codec)
    inputs = open_audio(args.inputs, **source_arguments(args))
    outputs = Outputs(
        args.out,
        folder="codes",
        inputs=args.inputs,
        clips=inputs.count,
        suffix=next(suffix for suffix in CODES_SUFFIXES if suffix.endswith(args.format or FORMATS[0])),
        file_suffixes=[f".{name}" for name in FORMATS],
        overwrite=args.overwrite,
        json_lines=args.json,
    )
    named = outputs.place.suffix.lower().removeprefix(".") if outputs.one and not outputs.stdout else None
    if None not in (args.format, named) and args.format != named:
        raise ValueError(f"-o {args.out} says {named} and --format says {args.format}")
    form = args.format or named or FORMATS[0]
    if form == "ecdc":
        check_ecdc(args.codec)
    elif args.lm:
        raise ValueError(f"--lm is of .ecdc files; these are {form}: add --format ecdc")
    if args.lm_weights is not None and not args.lm:
        raise ValueError(f"--lm-weights {args.lm_weights} is of the language model: add --lm")
    if args.lm:
        language_model(variant.root, args.lm_weights)  # if it cannot be had, that is said before anything is done
    describe_kept = partial(_describe_kept, outputs=outputs, whole=args.json, lm_weights=args.lm_weights)
    encode = partial(_encode, form=form, lm=args.lm, lm_weights=args.lm_weights)
    return run_on_audio(args, inputs, outputs, encode, "encoded", describe_kept)


def _encode(
    codec: BaseCodec, clips: Sequence[Audio], *, form: str, lm: bool, lm_weights: str | None
) -> list[ClipOutput]:
    from codeczoo.base.codes_czt import write_czt_file
    from codeczoo.cli.batch_job import ClipOutput
    from codeczoo.cli.codes_files import write_ecdc_file

    def writer(codes: Codes) -> Writer:
        if form == "ecdc":
            return partial(write_ecdc_file, codes, lm, lm_weights)
        return partial(write_czt_file, codes) if form == "czt" else codes.save

    codes = codec.encode(clips).cpu()
    return [
        ClipOutput(writer(one), _facts(one, float(clip.seconds[0]))) for one, clip in zip(codes, clips, strict=True)
    ]


def _facts(codes: Codes, seconds: float) -> dict[str, Any]:
    bits = float(codes.num_bits[0])
    frames = int(codes.lengths[0])
    return {"codec": codes.codec, "seconds": seconds, "frames": frames, "bits": bits, "bitrate": bits / seconds}


def _describe_kept(
    clip: InputClip, codec: Mapping[str, Any], outputs: Outputs, whole: bool, lm_weights: str | None
) -> dict[str, Any]:
    """Facts of a file of codes that is there already.

    Args:
        whole: read the codes too; else there are no facts, only the check.
        lm_weights: of the language model that an `.ecdc` file may need for that.

    Raises:
        ValueError: the codes are of another codec or other weights, or have another number of codebooks.
        UnreadableOutputError: the file is damaged.
    """
    from codeczoo.base.catalogue import find_variant
    from codeczoo.base.codes import describe_weights
    from codeczoo.base.errors import first_line
    from codeczoo.cli.codes_files import read_codes, read_head
    from codeczoo.cli.outputs import UnreadableOutputError
    from codeczoo.executor.record import weights_id

    path = outputs.path(clip.name)
    assert path is not None
    try:
        head = read_head(path)
        codes = read_codes(path, lm_weights) if whole else None
    except Exception as error:
        raise UnreadableOutputError(
            f"{path} is there already and cannot be read ({first_line(error)}): remove it, or --overwrite"
        ) from error
    named = codec["name"] if path.suffix.lower() != ".ecdc" else find_variant(codec["name"]).root
    if (head.codec, len(head.codebook_sizes)) != (named, codec["num_codebooks"]):
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
