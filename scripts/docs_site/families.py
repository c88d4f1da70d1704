"""A page for every family, made from its TOML file, its module, and what was measured of it."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from codeczoo.base.catalogue import Variant, codec_info, find_variant, variants
from codeczoo.base.info import CodecInfo
from codeczoo.base.variant import WeightsSource
from codeczoo.cli.listing import codec_table, family_table
from scripts.docs_site.text import module_docstring, plain, table

MEASURED = ("compare-cpu", "gpu", "memory", "small_weights")
PUBLISHED = {"mel": "mel ↓", "stft": "stft ↓", "pesq": "PESQ ↑", "stoi": "STOI ↑", "f0corr": "F0 correlation ↑"}


def pages(root: Path) -> dict[str, str]:
    """Path → Markdown, a page a family and a list of all."""
    families: dict[str, list[Variant]] = {}
    for variant in variants().values():
        if variant.defined_in.startswith("configs/"):
            families.setdefault(variant.family, []).append(variant)
    out = {"families/index.md": _index(families)}
    for family, members in sorted(families.items()):
        out[f"families/{family}.md"] = "\n\n".join(_page(root, family, members)) + "\n"
    return out


def _index(families: dict[str, list[Variant]]) -> str:
    infos = [codec_info(one.name) for members in families.values() for one in members]
    rows = family_table(infos, markdown=True)
    for family in families:  # the first cell leads to the family's page, whatever it led to
        rows = re.sub(rf"^\| (?:\[{family}\]\([^)]*\)|{family}) \|", f"| [{family}]({family}.md) |", rows, flags=re.M)
    return (
        "# Codecs by family\n\nA family is one file of networks; a variant is one published checkpoint of it. "
        "[Which codec for what](../guides/which_codec.md) helps to choose; [all variants](../codecs.md) are in one "
        f"table too.\n\n{rows}\n"
    )


def _page(root: Path, family: str, members: Sequence[Variant]) -> Iterator[str]:
    infos = [codec_info(one.name) for one in members]
    kinds = sorted({str(one.codec_class) for one in members})
    module = _module(root, family)
    text = module_docstring(module)
    yield f"# {family}"
    yield _docstring(text.split("\n\n")[0])
    yield f'```python\nfrom codeczoo import load_codec\n\ncodec = load_codec("{members[0].name}")\n```'
    yield "## Variants"
    yield re.sub(r"<br>[^|]* \|", " |", codec_table(infos, markdown=True))
    yield "\n".join(f"- **`{one.name}`**: {plain(one.description or 'no description')}" + _names(one) for one in infos)
    yield "## Paper and licences"
    yield _licences(infos)
    yield "## What it is, and what is done otherwise than upstream"
    yield f"The head of `{module.relative_to(root)}`:"
    yield _docstring(text)
    if any(one.network for one in members):
        yield "## Numbers of the networks"
        yield _numbers(members)
    yield "## Weights"
    yield _weights(members)
    yield "## Measured"
    yield "\n\n".join(_measured(root, family)) or "Nothing of this family is in the pages of measurements."
    yield "## Quality"
    yield "\n\n".join(_quality(root, members))
    yield "## Class"
    yield "What every codec can do is in [`BaseCodec`][codeczoo.base.codec.BaseCodec]."
    for kind in kinds:
        yield f"::: {'.'.join(module.relative_to(root).with_suffix('').parts)}.{kind.rpartition(':')[2]}\n{OPTIONS}"


OPTIONS = """    options:
      heading_level: 3
      members: false
      inherited_members: false
      show_root_full_path: true
      merge_init_into_class: false
      show_labels: false
"""


def _module(root: Path, family: str) -> Path:
    places = (root / "codeczoo" / "codecs" / f"{family}.py", root / "codeczoo" / "codecs" / "formats" / f"{family}.py")
    return next(place for place in places if place.is_file())


def _docstring(text: str) -> str:
    """Paragraphs as they are; what is indented is code."""
    lines = [line if line.startswith("    ") else plain(line) for line in text.splitlines()]
    return re.sub(r"\(arXiv (\d{4}\.\d{5})\)", r"([arXiv \1](https://arxiv.org/abs/\1))", "\n".join(lines))


def _names(info: CodecInfo) -> str:
    said = ""
    if info.also:
        said += f". Second names: {', '.join(f'`{name}`' for name in info.also)}"
    if info.aliases:
        said += f". Aliases: {', '.join(f'`{name}`' for name in info.aliases)}"
    return said


def _licences(infos: Sequence[CodecInfo]) -> str:
    rows: dict[tuple[str, str, str], list[str]] = {}
    for info in infos:
        rows.setdefault((info.paper, info.code_licence, info.weights_licence), []).append(f"`{info.name}`")
    return table(
        ["variants", "paper", "licence of the published code", "licence of the weights"],
        [
            ["all" if len(rows) == 1 else ", ".join(names), f"<{paper}>" if paper else "-", plain(code), plain(weights)]
            for (paper, code, weights), names in rows.items()
        ],
    )


def _numbers(members: Sequence[Variant]) -> str:
    keys = list(dict.fromkeys(key for one in members for key in one.network))
    shared = [key for key in keys if len({json.dumps(one.network.get(key)) for one in members}) == 1]
    out = []
    if shared:
        title = "number" if len(members) == 1 else "number, of all variants"
        out.append(table([title, "value"], [[f"`{key}`", _value(members[0].network[key])] for key in shared]))
    if own := [key for key in keys if key not in shared]:
        rows = [
            [f"`{one.name}`", *(_value(one.network[key]) if key in one.network else "default" for key in own)]
            for one in members
        ]
        out.append(table(["variant", *(f"`{key}`" for key in own)], rows))
    return "\n\n".join(out)


def _value(value: object) -> str:
    return f"`{json.dumps(value)}`"


def _weights(members: Sequence[Variant]) -> str:
    rows = [[f"`{one.name}`", place, pin] for one in members for place, pin in _sources(one)]
    if not rows:
        return "None are needed."
    return (
        table(["variant", "file", "pinned by"], rows)
        + "\n\n[Weights](../weights.md) says what the pins mean, and how to load weights of your own."
    )


def _sources(variant: Variant) -> Iterator[tuple[str, str]]:
    if variant.weights is None:
        return
    for source in (variant.weights, *(WeightsSource(**more) for more in variant.weights.more)):
        yield f"`{_place(source)}`", _pin(source)
    for copy in variant.copies:
        yield f"`{_place(copy)}` (a copy)", _pin(copy)


def _place(source: WeightsSource) -> str:
    return re.sub(r"@([0-9a-f]{8})[0-9a-f]{32}/", r"@\1/", str(source))


def _pin(source: WeightsSource) -> str:
    if source.sha256:
        return f"sha256 `{source.sha256[:12]}`"
    if source.revision:
        return "revision"
    return f"size, {source.size:,} bytes" if source.size else "the package" if source.package else "nothing"


def _measured(root: Path, family: str) -> Iterator[str]:
    """The rows about this family of every table in docs/measurements whose first column is a codec."""
    for name in MEASURED:
        page, heading, head = root / "docs" / "measurements" / f"{name}.md", "", ""
        found: dict[tuple[str, str], list[str]] = {}
        lines = page.read_text("utf-8").splitlines()
        title = lines[0].removeprefix("# ")
        for line, following in zip(lines, [*lines[1:], ""], strict=True):
            if line.startswith("#"):
                heading = line.lstrip("# ")
            elif re.fullmatch(r"\|[\s|:-]+\|", following) and line.startswith("|"):
                head = f"{line}\n{following}"
            elif line.startswith("|") and _family_of(line.split("|")[1]) == family:
                found.setdefault((heading, head), []).append(line)
        for (heading, head), rows in found.items():
            yield f"**[{title}](../measurements/{name}.md)**" + (
                f", {heading[0].lower()}{heading[1:]}" if heading != title else ""
            )
            yield "\n".join([head, *rows])


@functools.cache
def _family_of(cell: str) -> str | None:
    name = cell.strip().strip("*`")
    try:
        return find_variant(name).family
    except KeyError:
        return None


def _quality(root: Path, members: Sequence[Variant]) -> Iterator[str]:
    published = json.loads((root / "codeczoo/report/published/codec_superb_tiny.json").read_text("utf-8"))
    own = {one.root or one.name for one in members}
    rows, flags = [], []
    for name, entry in published["codecs"].items():
        if (find_variant(name).root or find_variant(name).name) not in own:
            continue
        for category, values in entry["results"].items():
            rows.append([f"`{name}`", category, *(_number(values.get(key)) for key in PUBLISHED)])
        flags += [f"- `{name}`: {plain(flag['kind'])}. {plain(flag['note'])}" for flag in entry["flags"]]
    if "zoo_16k" in own:
        yield "Measured with intervals on held-out clips: [zoo_16k](../zoo_16k.md#how-good-it-is)."
    elif rows:
        yield (
            "Codec-SUPERB's published means of `codec-superb-tiny` (2000 clips a category), with its definitions, "
            "which [differ](../benchmark.md#protocol-superb-2026-05) from those of this package. "
            "They were not measured here."
        )
        yield table(["codec", "category", *PUBLISHED.values()], rows)
        if flags:
            yield "What is known to be wrong with these rows:\n\n" + "\n".join(flags)
    else:
        yield (
            "No published means of this family are in the package. `codeczoo benchmark --codecs "
            f"{members[0].name}` measures it on clips of yours: [the benchmark](../benchmark.md)."
        )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
