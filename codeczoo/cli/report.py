"""`codeczoo report`: the results of a benchmark as a page with players, or as tables."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

from codeczoo.report.clip_values import read_clip_values
from codeczoo.report.comparisons import paired_differences, rate_table
from codeczoo.report.curves import codec_curves, find_anchor
from codeczoo.report.export import EXPORTS, pairs_to_csv, rates_to_csv
from codeczoo.report.presets import PRESETS, with_columns
from codeczoo.report.results import read_report

EPILOG = """
examples:
  %(prog)s results/
      a page in report/: open report/index.html, which needs no network
  %(prog)s neural/ classical/ -o page/
      the codecs of several runs over the same data set in one page
  %(prog)s results/ --format md
      the leaderboard as Markdown, on stdout; csv and json have every number, interval and count
  %(prog)s results/ --format tex --metrics pesq_wb stoi mel -o table.tex
      a table for a paper, of those metrics
  %(prog)s results/ --format tex --columns paper-speech
      the usual table of a paper on speech: UTMOS, DNSMOS, SIM, WER, PESQ, STOI, mel ... of what was measured
  %(prog)s results/ --format bd-rate --anchor opus
      how much more or less bitrate than Opus each codec takes for the same score
  %(prog)s probe/ -o page/
      the page of what `codeczoo probe` or `codeczoo drift` found

The players need audio: run the benchmark with --save-audio.

exit code: 0 the report is written; 1 wrong usage, no results there, or results that cannot be compared.
"""
COMPARISONS = ("bd-rate", "pairs")
NEEDED = ("jinja2", "matplotlib", "plotly", "scipy")  # for the page; the other formats need none of them


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "Show the results of one or several benchmarks: a static page, or its leaderboard as text."
    parser.epilog = EPILOG
    parser.add_argument(
        "results", nargs="+", metavar="RESULTS", help="folder that `codeczoo benchmark`, `probe` or `drift` wrote"
    )
    parser.add_argument(
        "-o",
        "--out",
        metavar="PATH",
        help="folder of the page (default: report); for other formats a file (default, or -: stdout)",
    )
    parser.add_argument(
        "--format",
        choices=("html", *EXPORTS, *COMPARISONS),
        default="html",
        help="default: html; bd-rate and pairs: comparisons on the same clips, as CSV",
    )
    parser.add_argument("--title", metavar="TEXT", help="of the page (default: the data set's name)")
    parser.add_argument(
        "--metrics",
        nargs="+",
        default=[],
        metavar="M",
        help="of the tables; the page shows these at first (default: all; the page five)",
    )
    parser.add_argument(
        "--columns",
        choices=tuple(PRESETS),
        help="metrics, headings and units of a table for papers, in place of --metrics; with --format csv, md or tex",
    )
    parser.add_argument(
        "--anchor",
        metavar="CODEC",
        help="that bitrates are compared with (BD-rate): one with two bitrates or more (default: opus, else another "
        "classical one)",
    )
    parser.add_argument(
        "--clips",
        type=int,
        default=100,
        metavar="N",
        help="saved clips on the listening page at most, spread over the categories (default 100; 0: all)",
    )
    parser.add_argument(
        "--allow-mixed", action="store_true", help="join runs of different protocols or data sets; the page says so"
    )


def run(args: argparse.Namespace) -> int:
    """Write the report; returns the exit code."""
    try:
        if args.clips < 0:
            raise ValueError(f"--clips must not be negative; it is {args.clips}")
        if args.columns and (args.metrics or args.format not in ("csv", "md", "tex")):
            raise ValueError("--columns chooses metrics itself, and goes with --format csv, md or tex")
        if args.format == "html":
            if args.out == "-":
                raise ValueError("a page is a folder: -o - goes with --format csv, md or json")
            check_installed()
            from codeczoo.report.code_pages import is_code_folder, write_code_page
            from codeczoo.report.page import write_report

            if any(map(is_code_folder, args.results)):
                if len(args.results) > 1:
                    raise ValueError("results of `codeczoo probe` and `codeczoo drift` are shown one folder at a time")
                sys.stdout.write(f"{write_code_page(args.results[0], args.out or 'report', args.title)}\n")
                return 0
            index = write_report(
                args.results,
                args.out or "report",
                clips=args.clips or None,
                title=args.title,
                allow_mixed=args.allow_mixed,
                anchor=args.anchor,
                metrics=args.metrics,
            )
            sys.stdout.write(f"{index}\n")
        else:
            text = _text(args)
            if args.out in (None, "-"):
                sys.stdout.write(text)
            else:
                Path(args.out).write_text(text, "utf-8", newline="")
    except (ValueError, OSError, ImportError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


def _text(args: argparse.Namespace) -> str:
    report = read_report(args.results, args.allow_mixed)
    if missing := [name for name in args.metrics if name not in report.metrics]:
        raise ValueError(f"not measured: {', '.join(missing)}; there are: {', '.join(report.metrics)}")
    if args.columns:
        report = with_columns(report, args.columns)
    if args.metrics:
        report = replace(report, metrics=tuple(dict.fromkeys(args.metrics)))
    if args.format in EXPORTS:
        return EXPORTS[args.format](report)
    values = read_clip_values(report)
    if args.format == "pairs":
        return pairs_to_csv(paired_differences(report, values))
    curves = codec_curves(report)
    if (anchor := find_anchor(curves, args.anchor)) is None:
        raise ValueError("no codec has two bitrates in these results, which a BD-rate takes")
    return rates_to_csv([rate_table(report, values, curves, anchor)])


def check_installed() -> None:
    """Raises an ImportError that says what to install, if a package is missing that the page needs."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(f"the page needs {', '.join(missing)}: pip install 'codeczoo[report]'")
