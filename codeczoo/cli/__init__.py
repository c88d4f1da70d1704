"""`codeczoo`: the command line. Each command is one file with `add_arguments(parser)` and `run(args)`, which returns
the exit code. Only the command that is asked for is imported."""

from __future__ import annotations

import argparse
import io
import logging
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from codeczoo.cli.arguments import Parser
from codeczoo.cli.listing import codec_table
from codeczoo.version import __version__

__all__ = ["codec_table", "main"]

log = logging.getLogger(__name__)

STOPPED = 130  # exit code after Ctrl-C, or when the reader of standard output is gone

# command → its module, and its line in the list of commands
COMMANDS = {
    "list": ("codeczoo.cli.listing", "the codecs: rates, codebooks, size, licence"),
    "info": ("codeczoo.cli.info", "facts about one codec"),
    "check": ("codeczoo.cli.check", "which clips can be read, and why others cannot"),
    "encode": ("codeczoo.cli.encode", "audio to codes: files, folders, data sets, or standard input"),
    "decode": ("codeczoo.cli.decode", "codes to audio"),
    "reconstruct": ("codeczoo.cli.reconstruct", "audio to codes and back, at its own rate, length and channels"),
    "separate": ("codeczoo.cli.separate", "music to its stems: drums, bass, other, vocals"),
    "export": ("codeczoo.cli.export", "a codec's weights as GGUF for codec.cpp, or as safetensors"),
    "pack": ("codeczoo.cli.pack", "a safetensors file, smaller and without loss; load_codec reads it as it is"),
    "unpack": ("codeczoo.cli.unpack", "the very file that was packed"),
    "tokenize": ("codeczoo.cli.tokenize", "a data set to shards of tokens, for training"),
    "benchmark": ("codeczoo.cli.benchmark", "encode, decode and measure a data set"),
    "verify": ("codeczoo.cli.verify", "are the weights on this machine the published ones, and do they work?"),
    "probe": ("codeczoo.cli.probe", "what codes are like: entropy, use, dependence, stability, predictability"),
    "drift": ("codeczoo.cli.drift", "how many codes change with batch, padding, threads, precision, device"),
    "tune": ("codeczoo.cli.tune", "how codecs run fastest on this machine: measured, and kept for load_codec"),
    "report": ("codeczoo.cli.report", "the results of a benchmark as a page, or as CSV, Markdown or JSON"),
    "app": ("codeczoo.cli.app", "a page to try codecs on: record, choose, listen, look, measure"),
    "env": ("codeczoo.cli.env", "versions, devices, cache, and what is missing for what: the text for a bug report"),
}

EPILOG = """
examples:
  codeczoo list 'dac_*'
  codeczoo encode recordings/ --codec mimi -o codes/
  codeczoo decode codes/ -o decoded/
  codeczoo reconstruct talk.wav --codec opus_12k -o talk.opus12k.wav
  codeczoo tokenize recordings/ --codec mimi --out tokens/
  codeczoo benchmark --dataset recordings/ --codecs mimi dac_44k opus_12k --out results/
  codeczoo report results/ -o report/

`codeczoo COMMAND --help` explains the command. Exit codes: 0 success; 1 wrong usage, or something is missing; 3 some
clips failed, each is named; 130 stopped by Ctrl-C or a closed pipe.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and run the command; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = Parser(
        prog="codeczoo",
        description="Neural audio codecs, native and exact, and the classical ones to compare them with.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    parsers = {name: commands.add_parser(name, help=line) for name, (_, line) in COMMANDS.items()}
    chosen = next((word for word in arguments if not word.startswith("-")), None)
    try:
        if chosen in parsers:
            import_module(COMMANDS[chosen][0]).add_arguments(parsers[chosen])
        args = parser.parse_args(arguments)
        logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
        code = import_module(COMMANDS[args.command][0]).run(args)
        sys.stdout.flush()
    except BrokenPipeError:
        _leave_stdout()
        return STOPPED
    except KeyboardInterrupt:
        return STOPPED
    except (KeyError, ValueError, OSError, ImportError, NotImplementedError) as error:
        log.debug("%s", type(error).__name__, exc_info=True)
        sys.stderr.write(f"error: {error.args[0] if isinstance(error, KeyError) and error.args else error}\n")
        return 1
    return code


def _leave_stdout() -> None:
    """Send what is still buffered to os.devnull: at exit the interpreter would report the closed pipe."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    except io.UnsupportedOperation:  # stdout is an object without a file
        return
