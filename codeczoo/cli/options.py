"""Options that several commands have, each with one meaning."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from codeczoo.bench.arguments import (
    add_device_arguments,
    add_reader_arguments,
    add_source_arguments,
    positive_int,
)

FORMATS = ("wav", "flac", "ogg", "opus", "mp3")


def add_audio_inputs(parser: argparse.ArgumentParser) -> None:
    """What is read, by whom, and on which device it is worked on."""
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="file, folder, glob, manifest (.csv .tsv .jsonl) or data set; - for audio on standard input",
    )
    add_source_arguments(parser)
    add_device_arguments(parser)
    add_reader_arguments(parser)


def add_output(parser: argparse.ArgumentParser, what: str, folder: str) -> None:
    parser.add_argument(
        "-o",
        "--out",
        metavar="OUT",
        help=f"a folder, in which the inputs' folders are mirrored; a file, for one clip; or - for standard output "
        f"(default: {folder}/; where the input is -, standard output)",
    )
    parser.add_argument("--overwrite", action="store_true", help=f"write {what} anew where they are there already")
    parser.add_argument("--json", action="store_true", help="a line of JSON a clip on standard output")
    parser.add_argument("--quiet", action="store_true", help="no progress bar and no closing words; failures are named")


def add_codec(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--codec", required=True, metavar="NAME", help="`codeczoo list` shows them")
    parser.add_argument("--weights", metavar="PATH", help="a file or folder, or random (default: the published ones)")
    rate = parser.add_mutually_exclusive_group()
    rate.add_argument(
        "--num-codebooks", type=positive_int, metavar="K", help="how many codebooks (default: the codec's own)"
    )
    rate.add_argument("--bitrate", type=float, metavar="B", help="the same in bit/s, one that the codec has")


def weights_by_codec(given: Sequence[str]) -> dict[str | None, str]:
    """`PATH` for every codec (under None), `CODEC=PATH` for one."""
    from codeczoo.base.variant import find_variant

    weights: dict[str | None, str] = {}
    for text in given:
        name, found, path = text.partition("=")
        if found and "/" not in name:
            weights[find_variant(name).name] = path
        else:
            weights[None] = text
    return weights
