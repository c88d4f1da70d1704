"""Options that several commands have, each with one meaning."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

FORMATS = ("wav", "flac", "ogg", "opus", "mp3")


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


def add_running(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", metavar="D", help="cuda, cuda:1, mps or cpu (default: the best there is)")
    parser.add_argument(
        "--precision",
        choices=("exact", "fast"),
        default="exact",
        help="exact: float32, codes can be reproduced (default); fast: TF32 where there is some",
    )
    parser.add_argument(
        "--batch", type=_count, default=200, metavar="N", help="clips in one batch at most (default 200)"
    )
    parser.add_argument(
        "--max-batch-seconds",
        type=_seconds,
        metavar="S",
        help="audio in one batch at most (default: 120, on CUDA 1200)",
    )


def add_reading(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workers", type=_count0, default=2, metavar="N", help="processes that read (default 2)")
    parser.add_argument("--limit", type=_count, metavar="N", help="only the first N clips")


def add_codec(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--codec", required=True, metavar="NAME", help="`codeczoo list` shows them")
    parser.add_argument("--weights", metavar="PATH", help="a file or folder, or random (default: the published ones)")
    rate = parser.add_mutually_exclusive_group()
    rate.add_argument("--num-codebooks", type=_count, metavar="K", help="how many codebooks (default: the codec's own)")
    rate.add_argument("--bitrate", type=float, metavar="B", help="the same in bit/s, one that the codec has")


def batch_seconds(asked: float | None, device: torch.device) -> float:
    """Audio in one batch at most, in seconds with padding."""
    return asked or {"cuda": 1200.0}.get(device.type, 120.0)


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


def _count(text: str) -> int:
    if (value := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1; it is {value}")
    return value


def _count0(text: str) -> int:
    if (value := int(text)) < 0:
        raise argparse.ArgumentTypeError(f"must not be negative; it is {value}")
    return value


def _seconds(text: str) -> float:
    if not (value := float(text)) > 0:
        raise argparse.ArgumentTypeError(f"must be greater than zero; it is {value}")
    return value
