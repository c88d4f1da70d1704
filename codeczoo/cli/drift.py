"""`codeczoo drift`."""

from __future__ import annotations

import argparse
import sys

from codeczoo.cli.arguments import (
    add_source_arguments,
    codec_names,
    positive_float,
    positive_int,
    source_arguments,
    weights_for,
)
from codeczoo.cli.probe import add_codings, write_page
from codeczoo.probe.drift import KINDS, DriftSettings, drift, usual_threads
from codeczoo.probe.files import DRIFT, check_folder, drift_markdown, write_drift

EPILOG = """
what is changed, while the audio stays the same:
  batch size    dense batches, against each clip alone (1: alone once more)
  padding       a clip 2 and 4 times as long in the same batch
  order         a batch in reverse
  threads       of the CPU
  chunk length  8 s in chunks, as long clips are encoded
  precision     fast, fastest, and PyTorch's autocast to bfloat16
  device        the CPU against a GPU, where there is one

examples:
  %(prog)s zoo_16k
      200 segments of 1 s of the embedded clips; drift/index.html is the page, drift/drift.md the table
  %(prog)s mimi dac_44k --dataset recordings/ --device cuda --out drift-gpu/
      everything on the GPU, and once against the CPU
  %(prog)s mimi snac_24khz --weights random --batches 1 2 8 32 --seconds 0.5
      without a download. Networks of random weights say little of trained ones; the results name them

docs/drift.md has the tables of nine codecs, and what follows for people who store tokens.

exit code: 0 all is measured; 1 wrong usage, or something is missing; 3 a condition ended in an error (it is named;
what this machine cannot do, such as another device, is none).
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "How many codes change with how the same audio is encoded."
    parser.epilog = EPILOG
    add_codings(parser, out="drift")
    parser.add_argument("--device", metavar="D", help="cuda, cuda:1, mps or cpu (default: the best there is)")
    group = parser.add_argument_group("what")
    group.add_argument(
        "--batches",
        nargs="+",
        type=positive_int,
        default=(1, 2, 8, 32, 200),
        metavar="N",
        help="batch sizes; as many segments as the largest are encoded (1 2 8 32 200)",
    )
    group.add_argument(
        "--only", nargs="+", choices=KINDS, default=KINDS, metavar="KIND", help=f"of {', '.join(KINDS)} (default: all)"
    )
    group.add_argument("--seconds", type=positive_float, default=1.0, metavar="S", help="of a segment (1)")
    group.add_argument(
        "--chunks", nargs="+", type=positive_float, default=(0.5, 1.0, 2.0), metavar="S", help="in seconds (0.5 1 2)"
    )
    group.add_argument("--threads", nargs="+", type=positive_int, metavar="N", help="(1, 2 and as many as cores)")
    parser.add_argument("--overwrite", action="store_true", help="replace results that are there")
    parser.add_argument("--quiet", action="store_true", help="no progress bar and no table")
    add_source_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    names = codec_names(args.names)
    settings = DriftSettings(
        codecs=names,
        dataset=args.dataset,
        weights=weights_for(names, args.weights),
        device=args.device,
        num_codebooks=args.num_codebooks,
        batches=tuple(sorted(set(args.batches))),
        seconds=args.seconds,
        chunks=tuple(sorted(set(args.chunks))),
        threads=tuple(sorted(set(args.threads))) if args.threads else usual_threads(),
        kinds=tuple(args.only),
        progress=not args.quiet,
        **source_arguments(args),
    )
    check_folder(args.out, DRIFT, args.overwrite)
    result = drift(settings)
    folder = write_drift(result, args.out)
    failed = [(codec["name"], row) for codec in result["codecs"] for row in codec["rows"] if row["failed"]]
    for name, row in failed:
        sys.stderr.write(f"failed: {name}: {row['kind']} {row['label']}: {row['reason']}\n")
    page = write_page(folder)
    if not args.quiet:
        sys.stdout.write(f"{drift_markdown(result)}\nresults in {page or folder}\n")
    return 1 if result["unavailable"] else 3 if failed else 0
