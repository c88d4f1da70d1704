"""`codeczoo info`."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from dataclasses import asdict

EPILOG = """
examples:
  %(prog)s mimi
  %(prog)s kyutai/mimi --format json | jq .bitrates

exit code: 0; 1 where no codec has that name (the message offers those that come near).
"""
WIDEST = 120  # columns of the text, on a wider terminal too


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "All that is known of one codec, without loading its weights."
    parser.epilog = EPILOG
    parser.add_argument("codec", help="its name, an alias, or the hub repository of its weights")
    parser.add_argument(
        "--format", choices=("json", "text"), help="default: text on a terminal, json into a file or pipe"
    )


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    from codeczoo.base.catalogue import codec_info

    info = codec_info(args.codec)
    if (args.format or ("text" if sys.stdout.isatty() else "json")) == "json":
        text = json.dumps(asdict(info), indent=2)
    else:
        text = info.table(min(shutil.get_terminal_size().columns, WIDEST))
    sys.stdout.write(text + "\n")
    return 0
