"""What several commands take alike: which clips, on which device, in which batches."""

from __future__ import annotations

import argparse
import sys
from typing import Any, NoReturn

DATASET = (
    "folder, glob, manifest (.csv .tsv .jsonl), file, WebDataset or Parquet shards, "
    "or a data set of the hub (owner/name)"
)


class Parser(argparse.ArgumentParser):
    """A parser whose mistakes leave with 1, as all wrong usage does."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(1, f"{self.prog}: error: {message}\n")


def add_source_arguments(parser: argparse.ArgumentParser) -> None:
    """Which clips of a data set."""
    group = parser.add_argument_group("which clips")
    group.add_argument("--split", metavar="S", help="splits of a data set, joined by commas (default: all)")
    group.add_argument("--streaming", action="store_true", help="read a data set of the hub without storing it")
    group.add_argument("--audio-column", metavar="C", help="the column that holds audio (default: found by its type)")
    group.add_argument("--id-column", metavar="C", help="the column that names clips; row = number them (default: id)")
    group.add_argument("--limit", type=positive_int, metavar="N", help="only the first N clips")
    group.add_argument("--shuffle", action="store_true", help="take the clips in a random order (see --seed, --limit)")
    group.add_argument("--seed", type=int, default=0)


def source_arguments(args: argparse.Namespace) -> dict[str, Any]:
    """The same as fields of settings."""
    names = ("split", "streaming", "audio_column", "id_column", "limit", "shuffle", "seed")
    return {name: getattr(args, name) for name in names}


def add_device_arguments(parser: argparse.ArgumentParser) -> None:
    """Where and in which batches."""
    group = parser.add_argument_group("how")
    group.add_argument("--batch", type=positive_int, default=200, metavar="N", help="clips in one batch at most (200)")
    group.add_argument(
        "--max-batch-seconds",
        type=positive_float,
        metavar="S",
        help="audio in one batch at most, with padding (default: 120, on CUDA 1200)",
    )
    group.add_argument("--device", metavar="D", help="cuda, cuda:1, mps or cpu (default: the best there is)")
    group.add_argument(
        "--precision",
        choices=("exact", "fast"),
        default="exact",
        help="exact: float32, codes can be reproduced (default); fast: TF32 where there is some",
    )


def add_reader_arguments(parser: argparse.ArgumentParser) -> None:
    """Who reads."""
    parser.add_argument("--workers", type=_count, default=2, metavar="N", help="processes that read files (default 2)")


def add_machine_arguments(parser: argparse.ArgumentParser) -> None:
    """On which machines."""
    group = parser.add_argument_group("on several machines")
    group.add_argument(
        "--engine", choices=("local", "ray"), default="local", help="ray: on a Ray cluster (extra [ray])"
    )
    group.add_argument(
        "--address", metavar="A", help='of the Ray cluster, as "auto" or host:port (default: one is started here)'
    )
    group.add_argument(
        "--actors", type=positive_int, metavar="N", help="on Ray: processes that code, at most (default: one a GPU)"
    )
    group.add_argument(
        "--shard",
        type=_shard,
        metavar="I/N",
        help="this process does part I (from 0) of N; torchrun and srun are understood without it",
    )


def work_arguments(args: argparse.Namespace) -> dict[str, Any]:
    """The last three as fields of settings."""
    names = ("batch", "max_batch_seconds", "device", "precision", "workers", "engine", "address", "actors", "shard")
    return {name: getattr(args, name) for name in names}


def positive_int(text: str) -> int:
    value = _number(text, int)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"must be greater than zero; it is {text}")
    return int(value)


def positive_float(text: str) -> float:
    value = _number(text, float)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be greater than zero; it is {text}")
    return value


def _count(text: str) -> int:
    value = _number(text, int)
    if value < 0:
        raise argparse.ArgumentTypeError(f"must not be less than zero; it is {text}")
    return int(value)


def _number(text: str, kind: type) -> float:
    try:
        return kind(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number; it is {text!r}") from None


def _shard(text: str) -> tuple[int, int]:
    index, found, count = text.partition("/")
    if not found or not index.isdigit() or not count.isdigit():
        raise argparse.ArgumentTypeError(f"takes I/N, as 0/4; it is {text!r}")
    return int(index), int(count)
