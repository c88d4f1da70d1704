"""`codeczoo list`."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from codeczoo.base.info import CodecInfo

log = logging.getLogger(__name__)

WIDTH = 120  # of a line of second names

EPILOG = """
examples:
  %(prog)s
  %(prog)s 'dac_*'
  %(prog)s --families
  %(prog)s --format json | jq '.[] | select(.causal) | .name'
  %(prog)s --separators

exit code: 0; 1 where none matches.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = (
        "All codecs: rates, codebooks, size, licence, and other names of the same weights; or their families, or all "
        "separators."
    )
    parser.epilog = EPILOG
    parser.add_argument("pattern", nargs="?", default="*", help="a glob such as 'dac_*' (default: all)")
    parser.add_argument("--format", choices=("text", "md", "json"), default="text", help="default: text")
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument("--families", action="store_true", help="one row a family in place of one a codec")
    kinds.add_argument(
        "--separators", action="store_true", help="the networks of `codeczoo separate` in place of the codecs"
    )


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    from codeczoo.base.catalogue import list_codecs

    if args.separators:
        sys.stdout.write(_separators(args.pattern, args.format) + "\n")
        return 0
    names = list_codecs(args.pattern)
    if not names:
        raise KeyError(f"no codec matches {args.pattern!r}; `codeczoo list` shows all")
    infos = list(_infos(names))
    if args.format == "json":
        names_by_family = {family: [one.name for one in members] for family, members in _by_family(infos).items()}
        facts = names_by_family if args.families else [asdict(info) for info in infos]
        sys.stdout.write(json.dumps(facts, indent=2) + "\n")
    else:
        table = family_table if args.families else codec_table
        sys.stdout.write(table(infos, markdown=args.format == "md") + "\n")
    if args.format == "text":
        sys.stdout.write(f"\n{_counts(infos)}\n")
    return 0


def _infos(names: Sequence[str]) -> Iterator[CodecInfo]:
    """Without the codecs of other packages that cannot be built; each is named."""
    from codeczoo.base.catalogue import codec_info, find_variant

    for name in names:
        try:
            info = codec_info(name)
        except Exception as error:  # noqa: BLE001 (what is wrong with one package does not hide the others' codecs)
            place = find_variant(name).defined_in
            log.warning("%s (%s) is left out: %s: %s", name, place, type(error).__name__, error)
        else:
            yield info


def codec_table(infos: Sequence[CodecInfo], markdown: bool = False) -> str:
    """A table of codecs, with their second names; docs/codecs.md has it."""
    head = [
        "name",
        "rate (Hz)",
        "channels",
        "frames/s",
        "codebooks",
        "kbit/s",
        "causal",
        "parameters",
        "weights licence",
    ]
    rows = [
        [
            f"{info.name}<br>also: {', '.join(info.also)}" if markdown and info.also else info.name,
            str(info.sample_rate),
            " or ".join(str(count) for count in info.channels),
            f"{info.frame_rate:g}" if info.frame_rate else "-",
            f"{info.num_codebooks} of {info.max_codebooks} x {_sizes(info.codebook_sizes)}",
            f"{info.bitrate / 1000:.4g}" if info.bitrate else "-",
            "yes" if info.causal else "decoder" if info.streams else "no",
            f"{info.parameters / 1e6:.1f} M" if info.parameters else "-",
            info.weights_licence,
        ]
        for info in infos
    ]
    return _table(head, rows, [() if markdown else info.also for info in infos], markdown)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], also: Sequence[Sequence[str]], markdown: bool) -> str:
    """Rows under a head, each with a line of its other names in `also`, which Markdown leaves out."""
    if markdown:
        return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *rows])
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    text = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in [head, *rows]]
    lines = text[:1]
    for names, line in zip(also, text[1:], strict=True):
        lines.append(line)
        if names:
            names_line = f"also: {', '.join(names)}"
            lines += textwrap.wrap(names_line, WIDTH, initial_indent="  ", subsequent_indent=" " * len("  also: "))
    return "\n".join(lines)


def _separators(pattern: str, form: str) -> str:
    from codeczoo.separation.registry import list_separators, separators

    found = [separators()[name] for name in list_separators(pattern)]
    if not found:
        raise KeyError(f"no separator matches {pattern!r}; `codeczoo list --separators` shows all")
    if form == "json":
        facts = [
            {
                "name": one.name,
                "aliases": one.aliases,
                "sample_rate": one.network["sample_rate"],
                "stems": one.network["sources"],
                "description": one.description,
                "paper": one.paper,
                "weights": str(one.weights),
                "weights_licence": one.weights_licence,
            }
            for one in found
        ]
        return json.dumps(facts, indent=2)
    head = ["name", "rate (Hz)", "stems", "weights licence"]
    rows = [
        [one.name, str(one.network["sample_rate"]), ", ".join(one.network["sources"]), one.weights_licence]
        for one in found
    ]
    return _table(head, rows, [one.aliases for one in found], form == "md")


def _by_family(infos: Sequence[CodecInfo]) -> dict[str, list[CodecInfo]]:
    families: dict[str, list[CodecInfo]] = {}
    for info in sorted(infos, key=lambda one: one.family):
        families.setdefault(info.family, []).append(info)
    return families


def _counts(infos: Sequence[CodecInfo]) -> str:
    """A neural codec has parameters, a classical one has none."""
    families, neural = ({info.family for info in some} for some in (infos, [one for one in infos if one.parameters]))
    return (
        f"{len(infos)} codec{'s' * (len(infos) != 1)} of {len(families)} famil{'ies' if len(families) != 1 else 'y'}, "
        f"{len(neural)} of them neural"
    )


def family_table(infos: Sequence[CodecInfo], markdown: bool = False) -> str:
    """A table with one row a family: its variants, and the range of each fact over them."""
    head = ["family", "variants", "rate (kHz)", "frames/s", "kbit/s", "streams", "weights licence"]
    rows = []
    for family, members in _by_family(infos).items():
        papers = {info.paper for info in members}
        rates = [rate for info in members for rate in info.bitrates]
        rows.append(
            [
                f"[{family}]({papers.pop()})" if markdown and len(papers) == 1 and "" not in papers else family,
                ", ".join(f"`{info.name}`" if markdown else info.name for info in members[:2])
                + (f" and {len(members) - 2} more" * (len(members) > 2)),
                _range([info.sample_rate / 1000 for info in members]),
                _range([info.frame_rate for info in members if info.frame_rate]),
                _range([rate / 1000 for rate in rates] or [info.bitrate / 1000 for info in members if info.bitrate]),
                _together("yes" if info.causal else "decoder" if info.streams else "no" for info in members),
                _together(info.weights_licence for info in members),
            ]
        )
    return _table(head, rows, [()] * len(rows), markdown)


def _range(values: Sequence[float]) -> str:
    if not values:
        return "-"
    low, high = f"{min(values):.4g}", f"{max(values):.4g}"
    return low if low == high else f"{low} to {high}"


def _together(words: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(words))


def _sizes(sizes: Sequence[int]) -> str:
    return str(sizes[0]) if len(set(sizes)) == 1 else f"{min(sizes)}..{max(sizes)}"
