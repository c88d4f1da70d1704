"""`codeczoo report`: the results of a benchmark as a page with players, or as a table."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

from codeczoo.report.export import EXPORTS
from codeczoo.report.results import read_report

EPILOG = """
examples:
  %(prog)s results/
      a page in report/: open report/index.html, which needs no network
  %(prog)s neural/ classical/ -o page/
      the codecs of several runs over the same data set in one page
  %(prog)s results/ --format md
      the leaderboard as Markdown, on stdout; csv and json have every number, interval and count

The players need audio: run the benchmark with --save-audio.

exit code: 0 the report is written; 1 wrong usage, no results there, or results that cannot be compared.
"""
NEEDED = ("jinja2", "matplotlib", "plotly")  # for the page; the other formats need none of them


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "Show the results of one or several benchmarks: a static page, or its leaderboard as text."
    parser.epilog = EPILOG
    parser.add_argument("results", nargs="+", metavar="RESULTS", help="folder that `codeczoo benchmark` wrote")
    parser.add_argument(
        "-o",
        "--out",
        metavar="PATH",
        help="folder of the page (default: report); for other formats a file (default, or -: stdout)",
    )
    parser.add_argument("--format", choices=("html", *EXPORTS), default="html", help="default: html")
    parser.add_argument("--title", metavar="TEXT", help="of the page (default: the data set's name)")
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
        if args.format == "html":
            if args.out == "-":
                raise ValueError("a page is a folder: -o - goes with --format csv, md or json")
            check_installed()
            from codeczoo.report.page import write_report

            index = write_report(
                args.results,
                args.out or "report",
                clips=args.clips or None,
                title=args.title,
                allow_mixed=args.allow_mixed,
            )
            sys.stdout.write(f"{index}\n")
        else:
            text = EXPORTS[args.format](read_report(args.results, args.allow_mixed))
            if args.out in (None, "-"):
                sys.stdout.write(text)
            else:
                Path(args.out).write_text(text, "utf-8", newline="")
    except (ValueError, OSError, ImportError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


def check_installed() -> None:
    """Raises an ImportError that says what to install, if a package is missing that the page needs."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(f"the page needs {', '.join(missing)}: pip install 'codeczoo[report]'")
