"""The TOML file of a family: its keys, and what is said of a wrong one. docs/codec_toml.md has the same as a page.

[family]                    # what all variants share; each may say otherwise
class = "TinyCodec"
paper = "https://example.org/tiny"
code_licence = "MIT"

[family.network]            # fields of TinyCodec.Config
sample_rate = 16000

[variants.tiny_16k]
aliases = ["someone/tiny"]
description = "A codec of a few hundred weights"

[variants.tiny_16k.weights]
repo = "someone/tiny"
file = "model.safetensors"

[variants.tiny_16k.second_names]
tiny_16k_1kbps = { num_codebooks = 2 }
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple


class Key(NamedTuple):
    """What may stand under a key."""

    form: str  # of FORMS
    meaning: str


SHA256_DIGITS = 64
FORMS = {
    "string": "a string",
    "number": "a whole number, 1 or more",
    "strings": "a list of strings",
    "table": "a table",
    "tables": "a list of tables",
}

TOP = {
    "family": Key("table", "what all variants share"),
    "variants": Key("table", "one table for each variant, by its name"),
}
SHARED = {
    "class": Key("string", "the codec class: `Class` of the family's module, or `module:Class`"),
    "network": Key("table", "fields of the class's `Config`; those of a variant go before those of the family"),
    "num_codebooks": Key("number", "codebooks that `encode` uses unless asked for others (default: all)"),
    "float32_parts": Key(
        "strings",
        'modules of the codec that stay in float32 where `precision="fast"` means bfloat16 (default: all that leads '
        "to codes)",
    ),
    "code_licence": Key("string", "licence of the published code (default: unknown)"),
    "weights_licence": Key("string", "licence of the published weights, said when they are loaded (default: unknown)"),
    "paper": Key("string", "address of the paper"),
    "description": Key("string", "one sentence: what it is, rates, what it was trained on"),
}
FAMILY = {"name": Key("string", "the family's name (default: that of the file)"), **SHARED}
VARIANT = {
    **SHARED,
    "aliases": Key("strings", "other spellings, the hub's id among them; results and codes bear the variant's name"),
    "second_names": Key("table", "names of the same weights that results and codes keep, a table for each"),
    "weights": Key("table", "where the published weights lie (default: it needs none)"),
    "copies": Key("tables", "the same weights in other files, in any naming; the repository or URL of one is an alias"),
}
SECOND_NAME = {
    "num_codebooks": Key("number", "codebooks that `encode` uses under this name (default: as the variant)"),
    "description": Key("string", "default: that of the variant"),
}
FILE = {
    "repo": Key("string", "repository of the Hugging Face hub, `owner/name`"),
    "revision": Key("string", "commit or tag of the repository (default: the newest)"),
    "file": Key("string", "path in the repository"),
    "url": Key("string", "address of a file that is in no repository"),
    "package": Key("string", "importable package in whose folder `file` lies: weights that need no download"),
    "member": Key("string", "path in the zip archive at `url`"),
    "sha256": Key("string", "of the file, or the beginning of it; with a member, of the archive"),
    "size": Key("number", "of the file in bytes, where its sha256 is not known"),
    "mirrors": Key("tables", "where else the same file lies, asked if the first place does not give it; needs sha256"),
}
MIRROR = {name: FILE[name] for name in ("repo", "revision", "file", "url")}
COPY = {name: FILE[name] for name in ("repo", "revision", "file", "url", "sha256", "size")}
WEIGHTS = {**FILE, "more": Key("tables", "further files that belong to it, with the same keys; theirs go first")}

TABLES = {
    "[family]": FAMILY,
    "[variants.NAME]": VARIANT,
    "[variants.NAME.second_names] OTHER": SECOND_NAME,
    "[variants.NAME.weights]": WEIGHTS,
    "[[variants.NAME.weights.more]]": FILE,
    "[[variants.NAME.weights.mirrors]]": MIRROR,
    "[[variants.NAME.copies]]": COPY,
}


def markdown() -> str:
    """All keys as the table of docs/codec_toml.md."""
    lines = ["| table | key | value | meaning |", "|---|---|---|---|"]
    for table, keys in TABLES.items():
        lines += [f"| `{table}` | `{name}` | {FORMS[key.form]} | {key.meaning} |" for name, key in keys.items()]
    return "\n".join(lines)


def read_family(
    table: Mapping[str, Any], family: str, defined_in: str, default_class: str | None = None
) -> list[dict[str, Any]]:
    """The variants of a parsed TOML file, as fields of `Variant`.

    Args:
        family: its name, unless the file says another.
        defined_in: the file, as errors name it.
        default_class: where the file names no class.

    Raises:
        ValueError: a key that is unknown, missing or of another form; the message names file, variant, key and value.
    """
    _check(table, TOP, defined_in)
    shared = dict(table.get("family", {}))
    _check(shared, FAMILY, f"{defined_in}: [family]")
    if "variants" not in table:
        raise ValueError(f"{defined_in}: there is no table [variants.NAME]")
    family = shared.pop("name", family)
    out = []
    for name, own in table["variants"].items():
        place = f"{defined_in}: [variants.{name}]"
        _is(own, "table", place)
        _check(own, VARIANT, place)
        entry = {**shared, **own, "name": name, "family": family, "root": name, "defined_in": defined_in}
        entry["codec_class"] = entry.pop("class", default_class)
        if not entry["codec_class"]:
            raise ValueError(f"{place}: class is missing, and [family] has none")
        entry["network"] = {**shared.get("network", {}), **own.get("network", {})}
        if "float32_parts" in entry:
            entry["float32_parts"] = tuple(entry["float32_parts"])
        entry["aliases"] = tuple(own.get("aliases", ()))
        entry["second_names"] = own.get("second_names", {})
        for second, what in entry["second_names"].items():
            _is(what, "table", f"{place}: second_names.{second}")
            _check(what, SECOND_NAME, f"{place}: second_names.{second}")
        if "weights" in own:
            entry["weights"] = _weights(own["weights"], f"{place}: weights")
        entry["copies"] = tuple(own.get("copies", ()))
        for i, copy in enumerate(entry["copies"]):
            _check(copy, COPY, f"{place}: copies[{i}]")
            _has_a_place(copy, f"{place}: copies[{i}]")
        out.append(entry)
    return out


def _weights(table: Mapping[str, Any], place: str) -> dict[str, Any]:
    _check(table, WEIGHTS, place)
    _has_a_place(table, place, packages=True)
    _check_mirrors(table, place)
    for i, more in enumerate(table.get("more", ())):
        _check(more, FILE, f"{place}.more[{i}]")
        _check_mirrors(more, f"{place}.more[{i}]")
    return {**table, **{key: tuple(table.get(key, ())) for key in ("more", "mirrors")}}


def _has_a_place(table: Mapping[str, Any], place: str, packages: bool = False) -> None:
    homes = ("repo", "package") if packages else ("repo",)
    if not ("file" in table and table.keys() & set(homes)) and "url" not in table:
        raise ValueError(f"{place} needs {', '.join(f'{home} and file' for home in homes)}, or url")


def _check_mirrors(table: Mapping[str, Any], place: str) -> None:
    for i, mirror in enumerate(table.get("mirrors", ())):
        _check(mirror, MIRROR, f"{place}.mirrors[{i}]")
        _has_a_place(mirror, f"{place}.mirrors[{i}]")
        if len(table.get("sha256", "")) != SHA256_DIGITS:
            raise ValueError(f"{place}.mirrors: another host may hold another file: the whole sha256 is needed")


def _check(table: Mapping[str, Any], keys: Mapping[str, Key], place: str) -> None:
    for name, value in table.items():
        if name not in keys:
            raise ValueError(f"{place}: {name!r} is no key{nearest_name(name, keys)}")
        _is(value, keys[name].form, f"{place}: {name}")


def _is(value: Any, form: str, place: str) -> None:
    if form == "number":
        right = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    elif form == "strings":
        right = isinstance(value, list | tuple) and all(isinstance(one, str) for one in value)
    elif form == "tables":
        right = isinstance(value, list | tuple) and all(isinstance(one, Mapping) for one in value)
    else:
        right = isinstance(value, Mapping if form == "table" else str)
    if not right:
        raise ValueError(f"{place} must be {FORMS[form]}; it is {value!r} ({type(value).__name__})")


def nearest_name(key: str, known: Iterable[str]) -> str:
    """The end of a sentence on an unknown key: what was meant, or what there is."""
    known = list(known)
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else f"; the keys are {', '.join(known)}"
