"""`codeczoo export`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

EPILOG = """
examples:
  %(prog)s mimi --format gguf -o mimi.gguf
  %(prog)s dac_44k --format gguf --type q8_0
      linear layers and convolutions of 8 bit where codec.cpp reads them so, all else F16
  %(prog)s snac_24khz --format safetensors
      a published pickle as safetensors: only what the network needs, weight norm folded, under codeczoo's names

What is written loads again: codeczoo encode talk.wav --codec mimi --weights mimi.gguf. GGUF takes the extra [gguf].

exit code: 0; 1 wrong usage, weights that cannot be had, or a codec that the format has no place for.
"""
SUFFIXES = {"gguf": ".gguf", "safetensors": ".safetensors"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "A codec's weights in another format: GGUF, as the engine codec.cpp reads it, or safetensors."
    parser.epilog = EPILOG
    parser.add_argument("codec", metavar="NAME", help="`codeczoo list` shows them")
    parser.add_argument("--format", choices=sorted(SUFFIXES), required=True)
    parser.add_argument(
        "--type",
        choices=("f32", "f16", "q8_0"),
        help="of the tensors of a GGUF file (default: f16, as codec.cpp's own)",
    )
    parser.add_argument("--weights", metavar="PATH", help="file, folder, or random (default: the published weights)")
    parser.add_argument("-o", "--out", metavar="OUT", help="the file (default: NAME with the format's suffix)")
    parser.add_argument("--overwrite", action="store_true", help="replace a file that is there already")


def run(args: argparse.Namespace) -> int:
    if args.type and args.format != "gguf":
        raise ValueError(f"--type is for GGUF files; --format {args.format} keeps float32")
    out = Path(args.out) if args.out else Path(args.codec.replace("/", "_") + SUFFIXES[args.format])
    if out.exists() and not args.overwrite:
        raise ValueError(f"{out} is there already: --overwrite replaces it, -o names another file")
    if not out.parent.is_dir():
        raise FileNotFoundError(f"{out}: there is no folder {out.parent}")

    from codeczoo.registry import load_codec
    from codeczoo.weights.export import export_gguf, export_safetensors

    codec = load_codec(args.codec, args.weights, device="cpu")
    if not codec.state_dict():
        raise ValueError(f"{codec.name} has no weights: there is nothing to export")
    if args.format == "gguf":
        export_gguf(codec, out, (args.type or "f16").upper())
    else:
        export_safetensors(codec, out)
    sys.stderr.write(f"{out}: {out.stat().st_size / 1e6:.1f} MB, weights of {codec.weights_source}\n")
    return 0
