"""`codeczoo tune`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from codeczoo.base.device import PRECISIONS
from codeczoo.base.strategy import Strategy
from codeczoo.base.tuning import read_tables
from codeczoo.cli.arguments import codec_names, positive_float, positive_int, weights_for
from codeczoo.executor.tune import TuneSettings, forget, remember, the_file, tune

EPILOG = """
what is tried: one group of clips at a time on all threads, or several side by side on some each; groups as large as
memory is meant for, or small ones; smaller and larger tiles. What is faster by 3 %% than the built-in rule, and
gives the same codes, stands in the table from then on, and every codec loaded on this machine uses it for batches of
about that size (up to twice or half): codec.strategy(batch_size, seconds) tells what it chose. Codes never change.

The table is tuning.json in codeczoo's cache; the environment variable CODECZOO_TUNING names another file, or is "off".
It holds for this processor, this number of threads and this version of PyTorch. Speed does not depend on weights:
random ones are used unless --weights says otherwise, and nothing is downloaded.

examples:
  %(prog)s mimi encodec_24k
  %(prog)s dac_44k --batch 8 32 --seconds 1 --minutes 3
  %(prog)s zoo_16k --threads 1 --precision exact fast     measure each of them: no precision takes another's place
  %(prog)s --show
  %(prog)s --forget mimi                                   without a name: all of it

exit code: 0; 1 wrong usage, or a file that is no such table; 3 some points were not reached (each is named).
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "Measure how codecs run fastest on this machine, and keep it for load_codec."
    parser.epilog = EPILOG
    parser.add_argument("names", nargs="*", metavar="NAME", help="codecs, an alias, or a pattern as 'dac_*'")
    parser.add_argument("--batch", nargs="+", type=positive_int, default=(1, 8, 32), metavar="N", help="(1 8 32)")
    parser.add_argument(
        "--seconds", nargs="+", type=positive_float, default=(1.0, 5.0, 10.0), metavar="S", help="of a clip (1 5 10)"
    )
    parser.add_argument("--threads", type=positive_int, metavar="N", help="of the CPU (default: PyTorch's own number)")
    parser.add_argument(
        "--precision", nargs="+", choices=PRECISIONS, default=("exact",), help="which are measured (exact)"
    )
    parser.add_argument("--device", metavar="D", help="cuda, cuda:1, mps or cpu (default: the best there is)")
    parser.add_argument(
        "--minutes", type=positive_float, default=10.0, metavar="M", help="that all of it may take, about (10)"
    )
    parser.add_argument(
        "--weights",
        nargs="+",
        default=[],
        metavar="[CODEC=]PATH",
        help="file, folder, FILE::ENTRY or random (default: random; speed does not depend on them)",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--show", action="store_true", help="print the table, and measure nothing")
    what.add_argument("--forget", action="store_true", help="take the codecs out of it, or all")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--quiet", action="store_true", help="no progress bar and no table")


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    names = codec_names(args.names) if args.names else ()
    if not names and not args.show and not args.forget:
        raise ValueError("name the codecs to tune, as in `codeczoo tune mimi`; --show prints what was measured")
    path = the_file()
    if args.show:
        return _show(args, names)
    if args.forget:
        count = forget(names, path)
        sys.stdout.write(f"{count} entries are forgotten\n" if path.exists() or count else f"{path} is not there\n")
        return 0
    result = tune(
        TuneSettings(
            codecs=names,
            weights=weights_for(names, args.weights),
            batches=tuple(sorted(set(args.batch))),
            seconds=tuple(sorted(set(args.seconds))),
            precisions=tuple(dict.fromkeys(args.precision)),
            threads=args.threads,
            minutes=args.minutes,
            device=args.device,
            progress=not args.quiet,
        )
    )
    remember(result, path)
    if args.json:
        sys.stdout.write(json.dumps(result, indent=2) + "\n")
    elif not args.quiet:
        sys.stdout.write(f"{table_of(result['entries'])}\nkept in {path}\n")
    for line in result["left_out"]:
        sys.stderr.write(f"left out: {line}\n")
    return 3 if result["left_out"] else 0


def _show(args: argparse.Namespace, names: Sequence[str]) -> int:
    from codeczoo.base.catalogue import find_variant

    path = the_file()
    roots = {find_variant(name).root or name for name in names}
    tables = read_tables(path) if path.exists() else []
    for table in tables:
        table["entries"] = [entry for entry in table["entries"] if not roots or entry["codec"] in roots]
    if args.json:
        sys.stdout.write(json.dumps(tables, indent=2) + "\n")
        return 0
    if not tables:
        sys.stdout.write(f"nothing was measured: {path} is not there\n")
    for table in tables:
        told = ", ".join(f"{key} {value}" for key, value in table["machine"].items())
        sys.stdout.write(f"{told}\n{table_of(table['entries'])}\n")
    return 0


def table_of(entries: Sequence[Mapping[str, Any]]) -> str:
    """A line for each point: what the rule took, what the best took, and how it does it."""
    rows = [("codec", "", "precision", "threads", "clips", "s", "rule, ms", "best, ms", "x", "how")]
    for one in entries:
        strategy = one["strategy"]
        how = "as the rule" if strategy is None else str(Strategy(**strategy, source="tuned")).removesuffix(" (tuned)")
        times = f"{1000 * one['rule_took']:.1f}", f"{1000 * one['took']:.1f}", f"{one['rule_took'] / one['took']:.2f}"
        head = one["codec"], one["operation"], one["precision"], str(one["threads"])
        rows.append((*head, str(one["batch"]), f"{one['seconds']:g}", *times, how))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
