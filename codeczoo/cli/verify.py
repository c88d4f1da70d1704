"""`codeczoo verify`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from codeczoo.cli.arguments import add_names, codec_names, weights_of

EPILOG = """
what is checked, in this order:
  file        its sha256, commit or size, as far as they are public (docs/weights.md)
  tensors     all there, in their shapes, finite
  outputs     what the real checkpoint is known to give without any data: bytes of DAC's codebooks, Mimi's and DAC's
              quantiser, WavTokenizer's codes of a sine
  promises    with the real weights, on the embedded speech: ragged batch = each clip alone, stream = whole clip,
              in passes = in one
  quality     STOI of the embedded speech, above three quarters of the published one; noise falls far below
  codes       with --data: codes and errors of LibriSpeech dummy that public test suites expect
  table       with --full: mel and STFT distances within 10 %% of Codec-SUPERB's table, under its protocol
  device      on a GPU: its codes against the CPU's

A check that cannot be made says why; it neither passes nor fails.

examples:
  %(prog)s mimi
  %(prog)s mimi dac_44k --data hf-internal-testing/librispeech_asr_dummy --json checks.json
  %(prog)s dac_44k --weights weights.pth --record trusted.json     # on one machine, or of one form of the weights
  %(prog)s dac_44k --expect trusted.json                           # on another, or of another form
  %(prog)s encodec_24k --report > issue.md

exit code: 0 if no check failed; 1 if one did, or the weights cannot be had.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "Shows that the weights on this machine are the published ones and do what they should."
    parser.epilog = EPILOG
    add_names(parser)
    parser.add_argument(
        "--weights", metavar="PATH", help="file, folder or FILE::ENTRY, for one codec (default: the published weights)"
    )
    parser.add_argument("--data", metavar="DIR", help="LibriSpeech dummy: a folder of it, or its name on the hub")
    parser.add_argument(
        "--full",
        nargs="?",
        const="voidful/codec-superb-tiny",
        metavar="DIR",
        help="also Codec-SUPERB's table, on 150 clips of its small data set (default DIR: voidful/codec-superb-tiny)",
    )
    parser.add_argument("--device", metavar="D", help="cuda, cuda:1, mps or cpu (default: the best there is)")
    parser.add_argument("--expect", metavar="FILE", help="compare with what --record wrote, too")
    parser.add_argument("--record", metavar="FILE", help="write what these weights give, for --expect (one codec)")
    parser.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="FILE",
        help="all checks as JSON on standard output, or into a file (behind the names)",
    )
    parser.add_argument("--report", action="store_true", help="print text to paste into an issue, not a table")
    parser.add_argument("--offline", action="store_true", help="never ask the network")


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    from codeczoo.verify import verify

    names = codec_names(args.names)
    if len(names) > 1 and (args.weights or args.record):
        raise ValueError(f"--weights and --record are for one codec; these are {', '.join(names)}")
    reports, unavailable = [], []
    for name in names:
        try:
            report = verify(
                name,
                weights_of(args.weights, name),
                data=args.data,
                full=args.full,
                device=args.device,
                expect=args.expect,
                record=args.record,
                local_files_only=args.offline,
            )
        except FileNotFoundError as error:  # the other codecs are verified all the same
            unavailable.append(name)
            sys.stderr.write(f"error: {error}\n")
            continue
        reports.append(report)
        if args.json != "-":
            sys.stdout.write((report.issue() if args.report else report.table()) + "\n")
    if args.json:
        text = json.dumps([report.to_dict() for report in reports], indent=2) + "\n"
        if args.json == "-":
            sys.stdout.write(text)
        else:
            Path(args.json).write_text(text, "utf-8")
    return 0 if not unavailable and all(report.passed for report in reports) else 1
