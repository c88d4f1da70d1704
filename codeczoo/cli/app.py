"""`codeczoo app`."""

from __future__ import annotations

import argparse

from codeczoo.cli.arguments import positive_float, positive_int

EPILOG = """
It listens on this machine only, unless --host says otherwise; whoever reaches that address may use it. Recordings and
results are deleted after an hour, and when it ends. Browsers give a microphone to pages of this machine, or over https.
Needs the extra [app]: docs/app.md.

examples:
  %(prog)s
  %(prog)s --open --device cpu
  %(prog)s --host 0.0.0.0 --port 8000 --max-seconds 60

exit code: 0 when it was ended by Ctrl-C; 1 if it could not start, as where the port is taken.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "A page to try codecs on: record or upload, choose codecs and rates, listen, look, measure."
    parser.epilog = EPILOG
    parser.add_argument("--host", metavar="H", help="the address to listen on (default: this machine only, 127.0.0.1)")
    parser.add_argument("--port", type=positive_int, metavar="P", help="default: the first free one from 7860 on")
    parser.add_argument("--open", action="store_true", help="open the page in a browser")
    parser.add_argument("--device", metavar="D", help="cuda, cuda:1, mps or cpu (default: the best there is)")
    parser.add_argument(
        "--max-seconds", type=positive_float, default=30.0, metavar="S", help="of a recording, at most (30)"
    )
    parser.add_argument(
        "--max-megabytes", type=positive_float, default=25.0, metavar="M", help="of a file, at most (25)"
    )


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    from codeczoo.base.device import choose_device

    choose_device(args.device)  # one that is not there is said now, not to the first user
    from codeczoo.app.interface import launch

    launch(
        host=args.host,
        port=args.port,
        max_seconds=args.max_seconds,
        max_megabytes=args.max_megabytes,
        device=args.device,
        open_browser=args.open,
    )
    return 0
