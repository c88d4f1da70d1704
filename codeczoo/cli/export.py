"""`codeczoo export`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from codeczoo.cli.arguments import positive_int, weights_of

EPILOG = """
examples:
  %(prog)s mimi --format gguf -o mimi.gguf
  %(prog)s mimi --format gguf --type q8_0
      linear layers of 8 bit, all else F16, as codec.cpp's converters do it
  %(prog)s snac_24khz --format safetensors
      a published pickle as safetensors: only what the network needs, weight norm folded, under codeczoo's names
  %(prog)s mimi --format onnx --num-codebooks 8 -o mimi_onnx/
      encoder.onnx (waveform to codes) and decoder.onnx, checked with onnxruntime; docs/onnx.md says which codecs can
  %(prog)s dac_44k --format safetensors --type int8
      a quarter of the size; docs/formats.md says how many codes stay the same, a family

What is written loads again: codeczoo encode talk.wav --codec mimi --weights mimi.gguf. (ONNX does not: it is for other
engines.) GGUF takes the extra [gguf], ONNX [onnx].

exit code: 0; 1 wrong usage, weights that cannot be had, or a codec that the format has no place for.
"""
TYPES = {"gguf": ("f16", "f32", "q8_0"), "onnx": ("f32",), "safetensors": ("f32", "int8")}  # the default first
SUFFIXES = {"gguf": ".gguf", "onnx": "_onnx", "safetensors": ".safetensors"}
ONNX_SIDES = ("encoder", "decoder")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = (
        "A codec in another format: its weights as GGUF, as the engine codec.cpp reads it, or as safetensors; "
        "its encoder and decoder as ONNX."
    )
    parser.epilog = EPILOG
    parser.add_argument("codec", metavar="NAME", help="`codeczoo list` shows them")
    parser.add_argument("--format", choices=sorted(SUFFIXES), required=True)
    parser.add_argument(
        "--type",
        choices=sorted({kind for kinds in TYPES.values() for kind in kinds}),
        help="of the tensors; gguf: f16 (default, as codec.cpp's own), f32, q8_0; safetensors: f32 (default), int8; "
        "onnx: f32",
    )
    parser.add_argument(
        "--weights", metavar="PATH", help="file, folder, FILE::ENTRY or random (default: the published weights)"
    )
    parser.add_argument(
        "-o", "--out", metavar="OUT", help="the file, of ONNX the folder (default: NAME with the format's suffix)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a file that is there already")
    group = parser.add_argument_group("ONNX")
    group.add_argument("--side", choices=ONNX_SIDES, help="write this one alone (default: both)")
    rate = group.add_mutually_exclusive_group()
    rate.add_argument(
        "--num-codebooks", type=positive_int, metavar="K", help="of the graphs (default: the codec's own)"
    )
    rate.add_argument("--bitrate", type=float, metavar="B", help="the number of codebooks by its bitrate, in bit/s")


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    kind = args.type or TYPES[args.format][0]
    if kind not in TYPES[args.format]:
        raise ValueError(f"--format {args.format} has the types {', '.join(TYPES[args.format])}; {kind} was asked for")
    out = Path(args.out) if args.out else Path(args.codec.replace("/", "_") + SUFFIXES[args.format])
    if args.format == "onnx":
        return _run_onnx(args, out)
    if args.side or args.num_codebooks is not None or args.bitrate is not None:
        raise ValueError(
            f"--side, --num-codebooks and --bitrate are for --format onnx; {args.format} holds all weights"
        )
    if out.exists() and not args.overwrite:
        raise ValueError(f"{out} is there already: --overwrite replaces it, -o names another file")
    if not out.parent.is_dir():
        raise FileNotFoundError(f"{out}: there is no folder {out.parent}")

    from codeczoo.registry import load_codec
    from codeczoo.weights.export import export_gguf, export_safetensors

    codec = load_codec(args.codec, weights_of(args.weights, args.codec), device="cpu")
    if not codec.state_dict():
        raise ValueError(f"{codec.name} has no weights: there is nothing to export")
    if args.format == "gguf":
        export_gguf(codec, out, kind.upper())
    else:
        export_safetensors(codec, out, kind.upper())
    sys.stderr.write(f"{out}: {out.stat().st_size / 1e6:.1f} MB, weights of {codec.weights_source}\n")
    return 0


def _run_onnx(args: argparse.Namespace, folder: Path) -> int:
    if folder.suffix == ".onnx" or folder.is_file():
        raise ValueError(
            f"ONNX is {' and '.join(f'{side}.onnx' for side in ONNX_SIDES)} in a folder; {folder} is a file"
        )
    chosen = [args.side] if args.side else None
    there = [folder / f"{side}.onnx" for side in chosen or ONNX_SIDES if (folder / f"{side}.onnx").exists()]
    if there and not args.overwrite:
        raise ValueError(f"{there[0]} is there already: --overwrite replaces it, -o names another folder")

    from codeczoo.registry import load_codec

    codec = load_codec(args.codec, weights_of(args.weights, args.codec), device="cpu")
    rate = {"num_codebooks": args.num_codebooks, "bitrate": args.bitrate}
    for side, found in codec.export_onnx(folder, sides=chosen, **rate).items():
        file = folder / f"{side}.onnx"
        size = sum(part.stat().st_size for part in folder.glob(f"{side}.onnx*")) / 1e6
        sys.stderr.write(
            f"{file}: {size:.1f} MB, weights of {codec.weights_source}; "
            f"{found or 'not checked, because onnxruntime is not installed'}\n"
        )
    return 0
