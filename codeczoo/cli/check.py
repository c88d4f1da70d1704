"""`codeczoo check`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codeczoo.cli.arguments import add_inputs, add_reader_arguments, add_source_arguments, source_arguments

if TYPE_CHECKING:
    from codeczoo.data.check import CheckedClip

EPILOG = """
examples:
  %(prog)s recordings/
      names each file below a folder that cannot be read, and why
  %(prog)s recordings/ -o readable.jsonl && codeczoo encode readable.jsonl --codec mimi
      writes a manifest of those that can, which every command takes
  %(prog)s shards/ --json | jq 'select(.status == "failed")'

exit code: 0 all clips can be read; 1 wrong usage, or no such input; 3 some cannot (each is named on standard error);
130 stopped by Ctrl-C or a closed pipe.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "Read and decode every clip, code none: which can be read, and why others cannot."
    parser.epilog = EPILOG
    add_inputs(parser)
    parser.add_argument(
        "-o", "--out", metavar="OUT", help="a manifest (.jsonl) of the clips that can be read, where they are files"
    )
    parser.add_argument("--json", action="store_true", help="one line of JSON a clip on standard output")
    parser.add_argument("--quiet", action="store_true", help="no progress bar, no closing line; failures are reported")
    add_source_arguments(parser)
    add_reader_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    from tqdm import tqdm

    from codeczoo.base.errors import printable
    from codeczoo.cli.inputs import open_audio
    from codeczoo.cli.progress import SOME_FAILED, counted
    from codeczoo.data.check import check_clips

    if args.out is not None and not args.out.lower().endswith(".jsonl"):
        raise ValueError(f"-o {args.out}: a manifest is written as .jsonl")
    inputs = open_audio(args.inputs, **source_arguments(args))
    failed, readable = 0, []
    hidden = True if args.quiet else None
    with tqdm(total=inputs.count, unit="clip", disable=hidden, file=sys.stderr) as bar:
        for clip in check_clips(inputs, args.workers):
            bar.update()
            if clip.failure is not None:
                failed += 1
                tqdm.write(printable(f"failed: {clip.entry.id}: {clip.failure}"), file=sys.stderr)
            else:
                readable.append((clip.entry.position, _row(clip) if args.out is not None else {}))
            if args.json:
                sys.stdout.write(json.dumps(_facts(clip)) + "\n")
    if args.out is not None:
        rows = [row for _, row in sorted(readable, key=lambda pair: pair[0])]
        Path(args.out).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    if not args.quiet:
        said = f"{counted(len(readable), 'clip')} can be read, {failed} cannot"
        sys.stderr.write(f"{said}{f'; in {args.out}' if args.out else ''}\n")
    return SOME_FAILED if failed else 0


def _facts(clip: CheckedClip) -> dict[str, Any]:
    if clip.failure is not None:
        return {"id": clip.entry.id, "status": "failed", "reason": clip.failure}
    facts = {"seconds": clip.seconds, "sample_rate": clip.sample_rate, "channels": clip.channels}
    return {"id": clip.entry.id, "status": "ok", **facts}


def _row(clip: CheckedClip) -> dict[str, Any]:
    """A row of a manifest.

    Raises:
        ValueError: the clip is no file.
    """
    from codeczoo.data.source import Segment

    key = clip.entry.key
    segment = key if isinstance(key, Segment) else Segment(key)
    if not isinstance(segment.recording, str | Path):
        raise ValueError(
            f"-o lists files, and {clip.entry.id!r} lies inside of {clip.entry.origin or 'a stream'}: leave -o out, "
            "and take the ids of --json"
        )
    path = segment.recording if isinstance(segment.recording, str) else str(segment.recording.absolute())
    row = {"id": clip.entry.id, "path": path, "offset": segment.offset, "duration": segment.duration}
    row["category"] = clip.entry.category
    return {name: value for name, value in row.items() if value is not None}
