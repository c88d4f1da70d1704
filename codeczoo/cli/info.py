"""`codeczoo info`."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from typing import Any

EPILOG = """
examples:
  %(prog)s mimi
  %(prog)s kyutai/mimi --format text

exit code: 0; 1 where no codec has that name (the message offers those that come near).
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "All that is known of one codec, without loading its weights."
    parser.epilog = EPILOG
    parser.add_argument("codec", help="its name, an alias, or the hub repository of its weights")
    parser.add_argument("--format", choices=("json", "text"), default="json", help="default: json")


def run(args: argparse.Namespace) -> int:
    from codeczoo import codec_info

    info = asdict(codec_info(args.codec))
    if args.format == "json":
        sys.stdout.write(json.dumps(info, indent=2) + "\n")
    else:
        width = max(map(len, info))
        sys.stdout.write("".join(f"{key.replace('_', ' '):{width}}  {_told(value)}\n" for key, value in info.items()))
    return 0


def _told(value: Any) -> str:
    if isinstance(value, tuple) and len(value) > 2 and len(set(value)) == 1:
        return f"{len(value)} x {value[0]}"
    if isinstance(value, tuple):
        return ", ".join(map(_told, value)) or "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else "-" if value in (None, "") else str(value)
