"""`codeczoo unpack`."""

from __future__ import annotations

import argparse
from pathlib import Path

from codeczoo.cli.pack import SUFFIX, check_target, tell

EPILOG = """
examples:
  %(prog)s model.packed.safetensors
      writes model.safetensors, byte for byte what was packed
  %(prog)s small.safetensors -o int8.safetensors

exit code: 0; 1 wrong usage, or a file that is damaged or not packed.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "The file that `codeczoo pack` was given, byte for byte."
    parser.epilog = EPILOG
    parser.add_argument("file", metavar="FILE", help="a packed file")
    parser.add_argument("-o", "--out", metavar="OUT", help="the file (default: FILE without .packed in its name)")
    parser.add_argument("--overwrite", action="store_true", help="replace a file that is there already")


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    source = Path(args.file)
    if not args.out and not source.name.endswith(f".packed{SUFFIX}"):
        raise ValueError(f"{source} has no .packed in its name: say with -o where the file goes")
    out = Path(args.out) if args.out else source.with_name(source.name.removesuffix(f".packed{SUFFIX}") + SUFFIX)
    check_target(source, out, args.overwrite)

    from codeczoo.weights.packed import unpack

    unpack(source, out)
    tell(source, out)
    return 0
