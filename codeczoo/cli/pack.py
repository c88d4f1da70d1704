"""`codeczoo pack`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

EPILOG = """
examples:
  %(prog)s model.safetensors
      writes model.packed.safetensors; codeczoo encode talk.wav --codec NAME --weights model.packed.safetensors reads it
  %(prog)s int8.safetensors --predict -o small.safetensors

Nothing is lost: `codeczoo unpack` gives the very same file. How much smaller it gets depends on the type of the tensors
(docs/formats.md). A pickle becomes safetensors with `codeczoo export`. Takes the extra [packed].

exit code: 0; 1 wrong usage, or not a safetensors file.
"""
SUFFIX = ".safetensors"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "Pack a safetensors file without loss: a sixth smaller (float32) to a third (bfloat16)."
    parser.epilog = EPILOG
    parser.add_argument("file", metavar="FILE", help="safetensors")
    parser.add_argument("-o", "--out", metavar="OUT", help="the packed file (default: FILE with .packed in its name)")
    parser.add_argument(
        "--predict", action="store_true", help="try differences along the last axis of int8 tensors, one by one"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a file that is there already")


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    source = Path(args.file)
    out = Path(args.out) if args.out else source.with_name(source.name.removesuffix(SUFFIX) + ".packed" + SUFFIX)
    check_target(source, out, args.overwrite)

    from codeczoo.weights.packed import pack

    pack(source, out, args.predict)
    tell(source, out)
    return 0


def check_target(source: Path, out: Path, overwrite: bool) -> None:
    """Raise if `out` cannot be written."""
    if out.exists() and source.exists() and out.samefile(source):
        raise ValueError(f"{out} is the input: name another file with -o")
    if out.exists() and not overwrite:
        raise ValueError(f"{out} is there already: --overwrite replaces it, -o names another file")
    if not out.parent.is_dir():
        raise FileNotFoundError(f"{out}: there is no folder {out.parent}")


def tell(source: Path, out: Path) -> None:
    """Say how large both files are."""
    before, after = source.stat().st_size, out.stat().st_size
    sys.stderr.write(f"{out}: {after / 1e6:.1f} MB, from {before / 1e6:.1f} ({after / max(before, 1):.1%})\n")
