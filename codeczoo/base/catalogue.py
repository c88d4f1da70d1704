"""A variant: one published checkpoint and all that is known of it before it is loaded. Read from `configs/*.toml`."""

from __future__ import annotations

import difflib
import fnmatch
import functools
import importlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from codeczoo.base.codec import BaseCodec


@dataclass(frozen=True)
class WeightsSource:
    """Where the published weights lie: a file of a hub repository, or a URL. Both pinned where a pin is known."""

    repo: str | None = None
    file: str = ""
    revision: str | None = None
    url: str | None = None
    member: str | None = None  # of the zip archive at the URL
    sha256: str | None = None  # whole, or its known beginning
    more: tuple[Mapping[str, str], ...] = ()  # further files (or members) that belong to it

    def __str__(self) -> str:
        pin = f"@{self.revision}" if self.revision else ""
        return (self.url or f"{self.repo}{pin}/{self.file}") + (f" ({self.member})" if self.member else "")


@dataclass(frozen=True)
class Variant:
    """One entry of a family's TOML file."""

    name: str
    family: str
    codec_class: str
    aliases: tuple[str, ...] = ()
    network: Mapping[str, Any] = field(default_factory=dict)  # fields of the family's config dataclass
    num_codebooks: int | None = None  # used when the caller asks for none; None = all
    weights: WeightsSource | None = None
    code_licence: str = "unknown"
    weights_licence: str = "unknown"
    paper: str = ""
    description: str = ""
    root: str = ""  # the variant whose codes and weights these are; itself unless it inherits

    def codec_type(self) -> type[BaseCodec]:
        module = importlib.import_module(f"codeczoo.codecs.{self.family}")
        return getattr(module, self.codec_class)

    @property
    def refusal(self) -> str | None:
        """Why codes of it cannot be decoded, as a sentence with its name; None if they can."""
        return self.codec_type().refusal_of(self.name)

    def build(self) -> BaseCodec:
        """The codec with uninitialised weights, on the current default device."""
        kind = self.codec_type()
        return kind(kind.Config(**self.network), self)


@functools.cache
def variants() -> Mapping[str, Variant]:
    """Every variant of `configs/`, by name, in the order of the files."""
    found: dict[str, Variant] = {}
    folder = resources.files("codeczoo") / "configs"
    for entry in sorted(folder.iterdir(), key=lambda e: e.name):
        if entry.name.endswith(".toml"):
            for variant in parse_family(entry.name.removesuffix(".toml"), tomllib.loads(entry.read_text("utf-8"))):
                if variant.name in found:
                    raise ValueError(f"two variants are called {variant.name!r}")
                found[variant.name] = variant
    return found


def parse_family(family: str, table: Mapping[str, Any]) -> list[Variant]:
    """The variants of one TOML file: `[family]` holds what all share, `[variants.NAME]` each one's own
    (`class` may stand in either).

    A variant with `inherits = "OTHER"` is OTHER under another name and default rate: same weights, same codes.
    """
    shared = dict(table.get("family", {}))
    out: dict[str, Variant] = {}
    for name, own in table["variants"].items():
        base = dict(table["variants"][own["inherits"]]) if "inherits" in own else {}
        base.pop("aliases", None)
        entry = {**shared, **base, **own}
        entry["codec_class"] = entry.pop("class")
        root = entry.pop("inherits", name)
        weights = entry.pop("weights", None)
        if weights is not None:
            weights = WeightsSource(**{**weights, "more": tuple(weights.get("more", ()))})
        entry["aliases"] = tuple(entry.get("aliases", ()))
        entry["network"] = {**shared.get("network", {}), **base.get("network", {}), **own.get("network", {})}
        out[name] = Variant(name=name, family=family, root=root, weights=weights, **entry)
    return list(out.values())


@functools.cache
def _names() -> Mapping[str, str]:
    """Every name and alias, in lower case → the variant's name."""
    names: dict[str, str] = {}
    for variant in variants().values():
        for name in (variant.name, *variant.aliases):
            if names.setdefault(name.lower(), variant.name) != variant.name:
                raise ValueError(f"{name!r} names both {names[name.lower()]!r} and {variant.name!r}")
    return names


def find_variant(name: str) -> Variant:
    """The variant of a name, alias or hub repository id; upper and lower case are the same.

    Raises:
        KeyError: no such name; the message offers those that come near.
    """
    if not isinstance(name, str):
        raise TypeError(f"a codec's name is a string; this is {name!r}")
    names = _names()
    if name.lower() in names:
        return variants()[names[name.lower()]]
    near = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(repr(n) for n in near)}?" if near else "list_codecs() names them all"
    raise KeyError(f"no codec is called {name!r}: {hint}")


def list_codecs(pattern: str = "*") -> list[str]:
    """The names of all variants that match a glob pattern ("dac_*"), in alphabetical order.

    Raises:
        TypeError: a pattern that is no string.
    """
    if not isinstance(pattern, str):
        raise TypeError(f"a pattern of names is a string like 'dac_*'; this is {pattern!r}")
    return sorted(name for name in variants() if fnmatch.fnmatchcase(name.lower(), pattern.lower()))
