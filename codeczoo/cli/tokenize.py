"""`codeczoo tokenize`."""

from __future__ import annotations

import argparse
import sys

from codeczoo.base.errors import printable
from codeczoo.cli.arguments import (
    DATASET,
    add_device_arguments,
    add_machine_arguments,
    add_reader_arguments,
    add_source_arguments,
    positive_int,
    source_arguments,
    weights_of,
    work_arguments,
)
from codeczoo.cli.progress import counted, duration
from codeczoo.tokens.formats import FORMS
from codeczoo.tokens.settings import TokenSettings
from codeczoo.tokens.tokenize import tokenize

EPILOG = """
examples:
  %(prog)s recordings/ --codec mimi --out tokens/
      every audio file below a folder, 1000 clips a shard
  %(prog)s openslr/librispeech_asr --split train.clean.100 --codec mimi --num-codebooks 8 --out tokens/ --format parquet
      a data set of the hub; the shards open with datasets.load_dataset("parquet", data_files="tokens/*.parquet")
  srun %(prog)s ... or torchrun --no-python --nproc-per-node 8 codeczoo tokenize ...
      each process takes its share of the shards, on its own GPU; all write to the same --out

A run that was stopped goes on at the first shard that is missing, when it is started again with the same settings and
weights. A shard is never there in part; index.json has its sha256, which --verify compares. To read the tokens in
Python: codeczoo.tokens.TokenSet("tokens/").

exit code: 0 all clips are tokenised; 1 wrong usage, or something is missing; 3 some clips failed (index.json names
them).
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "Encode a data set into shards of tokens, for training language models."
    parser.epilog = EPILOG
    parser.add_argument("dataset", metavar="DATASET", help=DATASET)
    parser.add_argument("--codec", required=True, metavar="NAME", help="`codeczoo list` shows them")
    parser.add_argument("-o", "--out", required=True, metavar="DIR", help="folder of the shards")
    parser.add_argument(
        "--format",
        "--form",
        dest="form",
        choices=tuple(FORMS),
        default="safetensors",
        help="of a shard (default safetensors)",
    )
    parser.add_argument(
        "--shard-clips", type=positive_int, default=1000, metavar="N", help="clips in one shard (default 1000)"
    )
    parser.add_argument("--num-codebooks", type=int, metavar="K", help="how many codebooks (default: the codec's own)")
    parser.add_argument("--bitrate", type=float, metavar="B", help="the number of codebooks by its bitrate, in bit/s")
    parser.add_argument(
        "--weights", metavar="PATH", help="file, folder, FILE::ENTRY or random (default: the published weights)"
    )
    parser.add_argument("--overwrite", action="store_true", help="discard tokens that are there, and start again")
    parser.add_argument(
        "--verify",
        action="store_true",
        help="compare the sha256 of shards that are there; write again those that differ",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar and no summary")
    add_source_arguments(parser)
    add_device_arguments(parser)
    add_reader_arguments(parser)
    add_machine_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Tokenise; returns the exit code."""
    index = tokenize(
        TokenSettings(
            codec=args.codec,
            out=args.out,
            dataset=args.dataset,
            form=args.form,
            shard_clips=args.shard_clips,
            num_codebooks=args.num_codebooks,
            bitrate=args.bitrate,
            weights=weights_of(args.weights, args.codec),
            overwrite=args.overwrite,
            verify=args.verify,
            progress=not args.quiet,
            **source_arguments(args),
            **work_arguments(args),
        )
    )
    if index is None:
        if not args.quiet:
            sys.stdout.write(f"this process's share is done; others are still at work in {args.out}\n")
        return 0
    for failure in index["failed"]:
        sys.stderr.write(printable(f"failed: {failure['id']}: {failure['stage']}: {failure['reason']}\n"))
    if not args.quiet:
        sys.stdout.write(
            f"{counted(index['clips'], 'clip')}, {duration(index['seconds'])}, {counted(index['tokens'], 'token')} in "
            f"{counted(len(index['shards']), 'shard')}; {len(index['failed'])} failed; in {args.out}\n"
        )
    return 3 if index["failed"] else 0
