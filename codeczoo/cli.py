"""`codeczoo`: the command line."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict

from codeczoo import __version__, codec_info, list_codecs
from codeczoo.base.codec import CodecInfo


def main(argv: Sequence[str] | None = None) -> int:
    """Parse and run; returns the exit code."""
    parser = argparse.ArgumentParser(prog="codeczoo", description="Neural audio codecs, native and exact.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    listing = commands.add_parser("list", help="the codecs: rates, codebooks, size, licence")
    listing.add_argument("pattern", nargs="?", default="*", help="a glob such as 'dac_*'")
    listing.add_argument("--format", choices=("text", "md", "json"), default="text")
    info = commands.add_parser("info", help="all that is known of one codec")
    info.add_argument("codec")
    benchmark = commands.add_parser("benchmark", help="encode, decode and measure a data set")
    from codeczoo.bench import cli as bench

    bench.add_arguments(benchmark)
    reporting = commands.add_parser(
        "report", help="a page of what a benchmark found, or its table as CSV, Markdown, JSON"
    )
    from codeczoo.report import cli as report

    report.add_arguments(reporting)
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        if args.command == "list":
            return _list(args.pattern, args.format)
        if args.command == "info":
            sys.stdout.write(json.dumps(asdict(codec_info(args.codec)), indent=2) + "\n")
            return 0
    except KeyError as error:
        sys.stderr.write(f"error: {error.args[0]}\n")
        return 1
    return report.run(args) if args.command == "report" else bench.run(args)


def _list(pattern: str, form: str) -> int:
    names = list_codecs(pattern)
    if not names:
        sys.stderr.write(f"error: no codec matches {pattern!r}\n")
        return 1
    infos = [codec_info(name) for name in names]
    if form == "json":
        sys.stdout.write(json.dumps([asdict(info) for info in infos], indent=2) + "\n")
    else:
        sys.stdout.write(codec_table(infos, markdown=form == "md") + "\n")
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
            "yes" if info.causal else "no",
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
