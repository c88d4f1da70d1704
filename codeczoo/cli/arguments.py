"""Arguments that several commands share: which clips, on which device, in which batches, on which machines."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

DATASET = (
    "folder, glob, manifest (.csv .tsv .jsonl .txt .scp), file, WebDataset or Parquet shards, "
    "or a data set of the hub (owner/name)"
)


class Parser(argparse.ArgumentParser):
    """A parser that exits with 1 on wrong usage, as the commands do."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(1, f"{self.prog}: error: {message}\n")


def add_names(parser: argparse.ArgumentParser) -> None:
    """Which codecs."""
    parser.add_argument("names", nargs="+", metavar="NAME", help="codecs, an alias, or a pattern as 'dac_*'")


def add_weights(parser: argparse.ArgumentParser) -> None:
    """--weights, by codec."""
    parser.add_argument(
        "--weights",
        nargs="+",
        default=[],
        metavar="[CODEC=]PATH",
        help="file, folder, FILE::ENTRY or random (default: the published weights)",
    )


def add_source_arguments(parser: argparse.ArgumentParser) -> None:
    """Which clips of a data set."""
    group = parser.add_argument_group("which clips")
    group.add_argument("--split", metavar="S", help="splits of a data set, joined by commas (default: all)")
    group.add_argument("--streaming", action="store_true", help="read a data set of the hub without storing it")
    group.add_argument("--audio-column", metavar="C", help="the column of audio or paths (default: found)")
    group.add_argument("--id-column", metavar="C", help="the column that names clips; row = number them (default: id)")
    group.add_argument("--limit", type=positive_int, metavar="N", help="only the first N clips")
    group.add_argument("--shuffle", action="store_true", help="take the clips in a random order (see --seed, --limit)")
    group.add_argument("--seed", type=int, default=0)


def source_arguments(args: argparse.Namespace) -> dict[str, Any]:
    """The values of `add_source_arguments`, as keyword arguments of `SourceSettings`."""
    names = ("split", "streaming", "audio_column", "id_column", "limit", "shuffle", "seed")
    return {name: getattr(args, name) for name in names}


def add_device_arguments(parser: argparse.ArgumentParser) -> None:
    """On which device, and in which batches."""
    group = parser.add_argument_group("how")
    group.add_argument("--batch", type=positive_int, default=200, metavar="N", help="clips in one batch at most (200)")
    group.add_argument(
        "--max-batch-seconds",
        type=positive_float,
        metavar="S",
        help="audio in one batch at most, with padding (default: 120, on CUDA 1200)",
    )
    precision = (
        "exact: float32, codes can be reproduced (default); fast: TF32 or bfloat16 where the device has it and few "
        "codes change; fastest: bfloat16 everywhere"
    )
    add_device(group, precision)
    group.add_argument(
        "--compile", action="store_true", help="on CUDA, as captured graphs: short clips in less time (docs/graphs.md)"
    )


def add_device(group: argparse._ActionsContainer, precision: str) -> None:
    """--device and --precision; `precision`: the help of the latter."""
    group.add_argument("--device", metavar="D", help="cuda, cuda:1, mps or cpu (default: the best there is)")
    group.add_argument("--precision", choices=("exact", "fast", "fastest"), default="exact", help=precision)


def add_reader_arguments(parser: argparse.ArgumentParser) -> None:
    """How many processes read."""
    parser.add_argument("--workers", type=count, default=2, metavar="N", help="processes that read files (default 2)")


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
        "--actors", type=positive_int, metavar="N", help="on Ray: processes that encode, at most (default: one a GPU)"
    )
    group.add_argument(
        "--shard",
        "--rank",
        type=_rank,
        metavar="I/N",
        help="this process is number I (from 0) of N and does its share; not needed with torchrun and srun",
    )


def work_arguments(args: argparse.Namespace) -> dict[str, Any]:
    """The values of `add_device_arguments`, `add_reader_arguments` and `add_machine_arguments`, as keyword arguments of
    `WorkSettings`."""
    how = ("batch", "max_batch_seconds", "device", "precision", "compile")
    names = (*how, "workers", "engine", "address", "actors", "shard")
    return {name: getattr(args, name) for name in names}


def positive_int(text: str) -> int:
    """A whole number above zero, or argparse's error."""
    value = _number(text, int)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"must be greater than zero; it is {text}")
    return int(value)


def positive_float(text: str) -> float:
    """A finite number above zero, or argparse's error."""
    value = _number(text, float)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be greater than zero; it is {text}")
    return value


def count(text: str) -> int:
    """A whole number, 0 or more."""
    value = _number(text, int)
    if value < 0:
        raise argparse.ArgumentTypeError(f"must not be less than zero; it is {text}")
    return int(value)


def _number(text: str, kind: type) -> float:
    try:
        return kind(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number; it is {text!r}") from None


def _rank(text: str) -> tuple[int, int]:
    index, found, count = text.partition("/")
    if not found or not index.isdigit() or not count.isdigit():
        raise argparse.ArgumentTypeError(f"takes I/N, as 0/4; it is {text!r}")
    return int(index), int(count)


FORMATS = ("wav", "flac", "ogg", "opus", "mp3")


def add_inputs(parser: argparse.ArgumentParser) -> None:
    """Audio, named on the command line."""
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="file, folder, glob, manifest (.csv .tsv .jsonl .txt .scp) or data set; - for audio on standard input",
    )


def add_audio_inputs(parser: argparse.ArgumentParser) -> None:
    """The inputs of a command that takes audio: which clips, on which device, by how many readers."""
    add_inputs(parser)
    add_source_arguments(parser)
    add_device_arguments(parser)
    add_reader_arguments(parser)


def add_output(parser: argparse.ArgumentParser, what: str, folder: str) -> None:
    """Where to write, and what to say meanwhile."""
    parser.add_argument(
        "-o",
        "--out",
        metavar="OUT",
        help=f"a folder, in which the inputs' folders are mirrored; a file, for one clip; or - for standard output "
        f"(default: {folder}/, or standard output where the input is -)",
    )
    parser.add_argument("--overwrite", action="store_true", help=f"write again {what} that are there already")
    parser.add_argument("--json", action="store_true", help="one line of JSON a clip on standard output")
    parser.add_argument("--quiet", action="store_true", help="no progress bar, no closing line; failures are reported")


def add_codec(parser: argparse.ArgumentParser) -> None:
    """Which codec, with which weights, at which rate."""
    parser.add_argument("--codec", required=True, metavar="NAME", help="`codeczoo list` shows them")
    parser.add_argument(
        "--weights", metavar="PATH", help="file, folder, FILE::ENTRY or random (default: the published weights)"
    )
    rate = parser.add_mutually_exclusive_group()
    rate.add_argument(
        "--num-codebooks", type=positive_int, metavar="K", help="how many codebooks (default: the codec's own)"
    )
    rate.add_argument("--bitrate", type=float, metavar="B", help="the number of codebooks by its bitrate, in bit/s")


def weights_by_codec(given: Sequence[str]) -> dict[str | None, str]:
    """What --weights means in every command: `PATH` for every codec (under None), `CODEC=PATH` for one.

    A file whose own name has an equals sign is a path: `epoch=3.ckpt`.
    """
    from codeczoo.base.catalogue import find_variant

    weights: dict[str | None, str] = {}
    for text in given:
        name, found, path = text.partition("=")
        if found and not path:
            raise ValueError(f"--weights takes CODEC=PATH or PATH; it is {text!r}")
        if found and "/" not in name and not Path(text).exists():
            weights[find_variant(name).name] = path
        else:
            weights[None] = text
    return weights


def weights_for(codecs: Sequence[str], given: Sequence[str]) -> dict[str, str]:
    """--weights by codec: `PATH` alone is for every codec that has weights and is not named.

    Raises:
        ValueError: a `PATH` alone, and no codec that it is for.
    """
    from codeczoo.base.catalogue import codec_info

    by_codec = weights_by_codec(given)
    everyone = by_codec.pop(None, None)
    weights = {name: path for name, path in by_codec.items() if name is not None}
    for name in codecs if everyone is not None else ():
        info = codec_info(name)
        if info.parameters and info.name not in weights:
            weights[info.name] = str(everyone)
    if everyone is not None and str(everyone) not in weights.values():
        raise ValueError(f"--weights {everyone}: none of the codecs has weights; CODEC=PATH names another one")
    return weights


def codec_names(given: Sequence[str]) -> tuple[str, ...]:
    """The codecs that names, aliases and patterns ("dac_*") stand for, each once.

    Raises:
        KeyError: no codec has that name, or none matches.
    """
    from codeczoo.base.catalogue import find_variant, list_codecs

    found = (list_codecs(name) if "*" in name else [find_variant(name).name] for name in given)
    names = tuple(dict.fromkeys(name for each in found for name in each))
    if not names:
        raise KeyError(f"no codec is called {' or '.join(given)}")
    return names


def weights_of(given: str | None, codec: str) -> str | None:
    """The same, of a command with one codec.

    Raises:
        ValueError: the weights are for another codec.
    """
    from codeczoo.base.catalogue import find_variant

    if given is None:
        return None
    ((name, path),) = weights_by_codec([given]).items()
    if name not in (None, *(wanted := find_variant(codec)).same_weights, wanted.name):
        raise ValueError(f"--weights {given} is for {name}, and --codec is {codec}")
    return path
