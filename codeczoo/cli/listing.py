"""`codeczoo list`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from codeczoo.base.info import CodecInfo

EPILOG = """
examples:
  %(prog)s
  %(prog)s 'dac_*'
  %(prog)s --format json | jq '.[] | select(.causal) | .name'

exit code: 0; 1 where no codec matches.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "The codecs that there are, with their rates, codebooks, size and licence."
    parser.epilog = EPILOG
    parser.add_argument("pattern", nargs="?", default="*", help="a glob such as 'dac_*' (default: all)")
    parser.add_argument("--format", choices=("text", "md", "json"), default="text", help="default: text")


def run(args: argparse.Namespace) -> int:
    from codeczoo import codec_info, list_codecs

    names = list_codecs(args.pattern)
    if not names:
        raise KeyError(f"no codec matches {args.pattern!r}")
    infos = [codec_info(name) for name in names]
    if args.format == "json":
        sys.stdout.write(json.dumps([asdict(info) for info in infos], indent=2) + "\n")
    else:
        sys.stdout.write(codec_table(infos, markdown=args.format == "md") + "\n")
    return 0


def codec_table(infos: Sequence[CodecInfo], markdown: bool = False) -> str:
    """A table of codecs; the README's is made of it."""
    head = [
        "name",
        "rate (Hz)",
        "channels",
        "frames/s",
        "codebooks",
        "kbit/s",
        "causal",
        "parameters",
        "weights licence",
    ]
    rows = [
        [
            info.name,
            str(info.sample_rate),
            " or ".join(str(count) for count in info.channels),
            f"{info.frame_rate:g}" if info.frame_rate else "-",
            f"{info.num_codebooks} of {info.max_codebooks} x {_sizes(info.codebook_sizes)}",
            f"{info.bitrate / 1000:.4g}" if info.bitrate else "-",
            "yes" if info.causal else "decoder" if info.streams else "no",
            f"{info.parameters / 1e6:.1f} M" if info.parameters else "-",
            info.weights_licence,
        ]
        for info in infos
    ]
    if markdown:
        lines = [head, ["---"] * len(head), *rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in [head, *rows]
    )


def _sizes(sizes: Sequence[int]) -> str:
    return str(sizes[0]) if len(set(sizes)) == 1 else f"{min(sizes)}..{max(sizes)}"
