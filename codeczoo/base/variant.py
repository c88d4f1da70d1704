"""`Variant`: one published checkpoint, and all that is known of it before it is loaded."""

from __future__ import annotations

import dataclasses
import importlib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from codeczoo.base.codec_toml import nearest_name

if TYPE_CHECKING:
    from codeczoo.base.codec import BaseCodec


@dataclass(frozen=True)
class WeightsSource:
    """Where the published weights lie: a file of a hub repository, a URL, or a file of an installed Python package. The
    first two are pinned where a pin is known."""

    repo: str | None = None
    file: str = ""
    revision: str | None = None
    url: str | None = None
    package: str | None = None  # importable; `file` is a path in its folder
    member: str | None = None  # of the zip archive at the URL
    sha256: str | None = None  # whole, or its known beginning
    size: int | None = None  # bytes, where the sha256 is not known
    mirrors: tuple[Mapping[str, Any], ...] = ()  # where else the same file lies
    more: tuple[Mapping[str, Any], ...] = ()  # further files (or members) that belong to it

    def __str__(self) -> str:
        if self.package:
            return f"{self.file} of the package {self.package}"
        pin = f"@{self.revision}" if self.revision else ""
        return (self.url or f"{self.repo}{pin}/{self.file}") + (f" ({self.member})" if self.member else "")


@dataclass(frozen=True)
class Variant:
    """One entry of a family's TOML file (see `codec_toml` for its keys), or one of its second names.

    Attributes:
        codec_class: "module:Class", imported when it is needed; a bare "Class" lies in `codeczoo.codecs.FAMILY`. Or the
            class itself.
        second_names: other names of the same weights, with what differs under each ("num_codebooks", "description").
            Codes and results keep the name that was asked for. An alias, in contrast, stands for `name`.
        copies: the same weights in other files, in any naming. The repository's id of one, or its URL, is an alias that
            also replaces `weights`.
        root: the name of the entry whose weights these are: `name`, unless `name` is a second name of it.
        defined_in: the file, or the package, that says all this.
    """

    name: str
    family: str
    codec_class: str | type[BaseCodec]
    aliases: tuple[str, ...] = ()
    second_names: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    network: Mapping[str, Any] = field(default_factory=dict)  # fields of the family's config dataclass
    num_codebooks: int | None = None  # used when the caller asks for none; None = all
    float32_parts: tuple[str, ...] | None = None  # of precision="fast" in bfloat16; None = all that leads to codes
    weights: WeightsSource | None = None
    copies: tuple[WeightsSource, ...] = ()
    code_licence: str = "unknown"
    weights_licence: str = "unknown"
    paper: str = ""
    description: str = ""
    root: str = ""
    defined_in: str = ""

    @property
    def same_weights(self) -> tuple[str, ...]:
        """The names of these weights: their codes are the same."""
        return (self.root or self.name, *self.second_names)

    @property
    def also(self) -> tuple[str, ...]:
        """The other names of these weights."""
        return tuple(name for name in self.same_weights if name != self.name)

    def under(self, name: str) -> Variant:
        """The variant under its own name, under one of its second names, or with the weights of a copy."""
        for copy in self.copies:
            if name in (copy.repo, copy.url):
                return dataclasses.replace(self, root=self.root or self.name, weights=copy)
        own = self.second_names.get(name, {})
        return dataclasses.replace(self, name=name, root=self.root or self.name, **own)

    def codec_type(self) -> type[BaseCodec]:
        """The codec class; imports its module.

        Raises:
            ImportError: no such module, or no such class in it.
        """
        if not isinstance(self.codec_class, str):
            return self.codec_class
        module, _, name = self.codec_class.rpartition(":")
        module = module or f"codeczoo.codecs.{self.family}"
        try:
            return getattr(importlib.import_module(module), name)
        except AttributeError as error:
            raise ImportError(f"{self._place}: there is no class {name!r} in {module}") from error

    @property
    def decode_unsupported_reason(self) -> str | None:
        """Why codes of it cannot be decoded, as a sentence with its name; None if they can."""
        kind = self.codec_type()
        return None if kind.supports_decode else f"{self.name} cannot decode: {kind.decode_unsupported_reason}"

    def build(self) -> BaseCodec:
        """The codec with uninitialised weights, on the current default device.

        Raises:
            ValueError: a number of `network` that the family's `Config` does not have, or of another type.
        """
        kind = self.codec_type()
        self.check_network(kind)
        return kind(kind.Config(**self.network), self)

    def check_network(self, kind: type[BaseCodec]) -> None:
        """Raises a ValueError that names the number of `network` which `kind.Config` cannot take."""
        if not dataclasses.is_dataclass(kind.Config):
            return
        fields = {one.name: one for one in dataclasses.fields(kind.Config) if one.init}
        hints = typing.get_type_hints(kind.Config)
        config = f"{kind.__name__}.Config"
        for key, value in self.network.items():
            place = f"{self._place}: network.{key}"
            if key not in fields:
                raise ValueError(f"{place} is no number of {config}{nearest_name(key, fields)}")
            if not _fits(value, hints[key]):
                raise ValueError(
                    f"{place} must be {_told(hints[key])} by {config}; it is {value!r} ({type(value).__name__})"
                )
        for key, one in fields.items():
            no_default = one.default is dataclasses.MISSING and one.default_factory is dataclasses.MISSING
            if key not in self.network and no_default:
                raise ValueError(f"{self._place}: network.{key} is missing; {config} has no default for it")

    @property
    def _place(self) -> str:
        return f"{self.defined_in}: {self.name}" if self.defined_in else self.name


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value of a TOML file may stand for a field of that type. Types that are not listed here are the
    dataclass's own affair."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind in (bool, str, type(None)):
        return isinstance(value, kind)
    if origin is typing.Literal:
        return value in inner
    if origin in (types.UnionType, typing.Union):
        return any(_fits(value, one) for one in inner)
    if origin in (tuple, list, Sequence):
        return isinstance(value, list | tuple) and all(_fits(one, inner[0]) for one in value)
    return True


def _told(kind: Any) -> str:
    if isinstance(kind, type) and not typing.get_args(kind):
        return kind.__name__
    return str(kind).replace("typing.", "").replace("collections.abc.", "")
