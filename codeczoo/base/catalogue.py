"""The catalogue: every variant by its names.

It holds the families of `configs/`, the families of installed packages (entry points of the group "codeczoo.codecs")
and what `register_codec` was given. Another package needs one line in its pyproject.toml:

    [project.entry-points."codeczoo.codecs"]
    tiny = "their_package.tiny"     # name of the family = its module

`their_package/tiny.py` holds the family; `tiny.toml` beside it holds the variants (`codec_toml` lists the keys).
The catalogue reads the TOML without importing the module. The module is imported when one of its codecs is built.
"""

from __future__ import annotations

import difflib
import fnmatch
import functools
import importlib.metadata
import importlib.util
import logging
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.machinery import ModuleSpec, PathFinder
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from codeczoo.base.codec_toml import read_family
from codeczoo.base.info import CodecInfo, known_facts
from codeczoo.base.variant import Variant, WeightsSource

if TYPE_CHECKING:
    from codeczoo.base.codec import BaseCodec

__all__ = [
    "Variant",
    "WeightsSource",
    "codec_info",
    "find_variant",
    "list_codecs",
    "matching",
    "no_such_name",
    "parse_family",
    "read_configs",
    "register_again",
    "register_codec",
    "registered",
    "variants",
]

log = logging.getLogger(__name__)

GROUP = "codeczoo.codecs"  # of entry points
_registered: dict[str, Variant] = {}  # by `register_codec`, in this process


# -- asking -----------------------------------------------------------------------------------------------------------


def variants() -> Mapping[str, Variant]:
    """Every variant by its name: first `configs/` in the order of the files, then other packages, then
    `register_codec`. It has no second names; `find_variant` knows them."""
    return _catalogue().variants


def find_variant(name: str) -> Variant:
    """The variant of a name, second name, alias or hub repository id; upper and lower case are the same.

    Raises:
        KeyError: no such name; the message offers those that come near.
    """
    if not isinstance(name, str):
        raise TypeError(f"a codec's name is a string; this is {name!r}")
    known = _catalogue()
    if name.lower() in known.names:
        root, asked = known.names[name.lower()]
        return known.variants[root].under(asked)
    raise no_such_name("codec", name, known.names, "; `codeczoo list` (or list_codecs()) shows all names")


def list_codecs(pattern: str = "*") -> list[str]:
    """The names of all variants that match a glob pattern ("dac_*"), in alphabetical order. A variant also matches by
    its second names.

    Raises:
        TypeError: a pattern that is no string.
    """
    return matching(variants().values(), pattern, "dac_*")


def codec_info(name: str) -> CodecInfo:
    """What is known of a codec, without its weights. `print` shows it as a table.

    Raises:
        KeyError: no codec has that name; the message offers those that come near.
    """
    variant = find_variant(name)
    if known := known_facts(variant):
        return known
    import torch

    with torch.device("meta"):
        return variant.build().info


# -- for every catalogue, the separators' too --------------------------------------------------------------------------


def read_configs(folder: Traversable, where: str, package: str = "") -> Iterator[Variant]:
    """The variants of a folder with one TOML file a family, in the order of the files.

    Args:
        where: of the folder, as `Variant.defined_in` tells it.
        package: that holds a module a family; "" = `codeczoo.codecs`.
    """
    for entry in sorted(folder.iterdir(), key=lambda e: e.name):
        if entry.name.endswith(".toml"):
            family, place = entry.name.removesuffix(".toml"), f"{where}/{entry.name}"
            table = _parsed(entry.read_text("utf-8"), place)
            yield from parse_family(family, table, place, module=f"{package}.{family}" if package else "")


def matching(variants: Iterable[Variant], pattern: str, example: str) -> list[str]:
    """The names of the variants that match a glob pattern, also by second names. A TypeError shows the example."""
    if not isinstance(pattern, str):
        raise TypeError(f"a pattern of names is a string like {example!r}; this is {pattern!r}")
    return sorted(
        variant.name
        for variant in variants
        if any(fnmatch.fnmatchcase(name.lower(), pattern.lower()) for name in variant.same_weights)
    )


def no_such_name(kind: str, name: str, names: Iterable[str], otherwise: str) -> KeyError:
    """The error for a name that is not known: it offers the names that come near, and says `otherwise` if none does."""
    near = difflib.get_close_matches(name.lower(), list(names), n=3, cutoff=0.5)
    hint = f": did you mean {', '.join(map(repr, near))}?" if near else otherwise
    return KeyError(f"no {kind} is called {name!r}{hint}")


# -- adding -----------------------------------------------------------------------------------------------------------


def register_codec(
    source: str | Path | Mapping[str, Any] | Variant,
    codec_class: type[BaseCodec] | Sequence[type[BaseCodec]] = (),
    *,
    overwrite: bool = False,
) -> list[str]:
    """Make a codec known by name in this process: to `load_codec`, `list_codecs`, the benchmark, the report.

    A package does better with an entry point of the group "codeczoo.codecs", which works in every process and on the
    command line; docs/codec_toml.md shows both.

    Args:
        source: a TOML file (path), its text (several lines) or its parsed content, as docs/codec_toml.md describes it;
            or one `Variant`.
        codec_class: the class, or a list of them. With several, `class` in the TOML chooses one by its name; with none,
            `class` is "module:Class".
        overwrite: replace codecs that were registered earlier under one of these names, so that a notebook's cell can
            run again. Codecs of codeczoo and of installed packages are never replaced.

    Returns:
        The variants' names.

    Raises:
        TypeError: a class that is no subclass of BaseCodec.
        ValueError: a TOML that is not as described, or a name that is taken; the message names both.
    """
    classes = [codec_class] if isinstance(codec_class, type) else list(codec_class)
    _check_classes(classes)
    if isinstance(source, Variant):
        found = [replace(source, codec_class=classes[0] if classes else source.codec_class)]
    else:
        found = _read(source, classes)
    found = [replace(one, root=one.root or one.name, defined_in=one.defined_in or "register_codec") for one in found]
    for variant in found:
        variant.check_network(variant.codec_type())
    known = _catalogue()
    trial = known.copy()  # all of them are added, or none
    if overwrite:
        taken = (trial.names.get(name.lower(), ("", ""))[0] for one in found for name in _names_of(one))
        for old in set(taken) & _registered.keys():
            trial.remove(old)
    for variant in found:
        trial.add(variant)
    known.become(trial)
    for old in _registered.keys() - known.variants.keys():
        del _registered[old]
    _registered.update((variant.name, variant) for variant in found)
    return [variant.name for variant in found]


def registered() -> tuple[Variant, ...]:
    """What `register_codec` was given in this process: for `register_again` in another one."""
    return tuple(_registered.values())


def register_again(known: Iterable[Variant]) -> None:
    """Register what another process has registered."""
    for variant in known:
        if _registered.get(variant.name) != variant:
            register_codec(variant, overwrite=True)


def parse_family(
    family: str, table: Mapping[str, Any], defined_in: str = "a table", module: str = "", default_class: str = ""
) -> list[Variant]:
    """The variants of a family's TOML file.

    Args:
        module: where a `class` without one lies; "" = `codeczoo.codecs.FAMILY`.
        default_class: where the file names no class.

    Raises:
        ValueError: as `codec_toml.read_family`.
    """
    found = []
    for entry in read_family(table, family, defined_in, default_class or None):
        if module and ":" not in entry["codec_class"]:
            entry["codec_class"] = f"{module}:{entry['codec_class']}"
        if "weights" in entry:
            entry["weights"] = WeightsSource(**entry["weights"])
        entry["copies"] = tuple(WeightsSource(**copy) for copy in entry["copies"])
        found.append(Variant(**entry))
    return found


def _check_classes(classes: Sequence[Any]) -> None:
    from codeczoo.base.codec import BaseCodec

    for kind in classes:
        if not (isinstance(kind, type) and issubclass(kind, BaseCodec)):
            raise TypeError(f"a codec's class is a subclass of codeczoo.BaseCodec; this is {kind!r}")


def _read(source: str | Path | Mapping[str, Any], classes: Sequence[type[BaseCodec]]) -> list[Variant]:
    """The variants of a TOML file, its text or its content, with the classes that it names."""
    by_name = {kind.__name__: kind for kind in classes}
    only = next(iter(by_name)) if len(by_name) == 1 else ""
    family, place = only.lower() or "registered", "register_codec"
    if isinstance(source, Mapping):
        table = source
    elif isinstance(source, str) and "\n" in source:
        table = _parsed(source, place)
    else:
        path = Path(source).expanduser()
        family, place = path.stem, str(path)
        table = _parsed(path.read_text("utf-8"), place)
    found = []
    for variant in parse_family(family, table, place, default_class=only):
        name = str(variant.codec_class)
        if ":" not in name and name not in by_name:
            given = f"; the classes given are {', '.join(by_name)}" if by_name else ""
            raise ValueError(
                f"{place}: [variants.{variant.name}]: class {name!r} is neither given nor module:Class{given}"
            )
        found.append(replace(variant, codec_class=by_name.get(name, name)))
    return found


def _parsed(text: str, place: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{place}: not TOML: {error}") from error


# -- the catalogue ----------------------------------------------------------------------------------------------------


class _Catalogue(NamedTuple):
    variants: dict[str, Variant]
    names: dict[str, tuple[str, str]]  # in lower case → the variant's name, and what `Variant.under` takes

    def copy(self) -> _Catalogue:
        return _Catalogue(dict(self.variants), dict(self.names))

    def become(self, other: _Catalogue) -> None:
        self.variants.clear()
        self.variants.update(other.variants)
        self.names.clear()
        self.names.update(other.names)

    def add(self, variant: Variant) -> None:
        """Raises a ValueError if one of its names is taken."""
        for name, asked in _names_of(variant).items():
            owner, _ = self.names.setdefault(name.lower(), (variant.name, asked))
            if owner != variant.name or owner in self.variants:
                other = self.variants[owner]
                hint = "; overwrite=True replaces it" if owner in _registered else ""
                raise ValueError(
                    f"{name!r} is a name of {variant.name} ({variant.defined_in}) "
                    f"and of {owner} ({other.defined_in}){hint}"
                )
        self.variants[variant.name] = variant

    def remove(self, name: str) -> None:
        for one in _names_of(self.variants.pop(name)):
            self.names.pop(one.lower(), None)


@functools.cache
def _catalogue() -> _Catalogue:
    """The families of codeczoo, and those of installed packages."""
    found = _Catalogue({}, {})
    for variant in read_configs(files("codeczoo") / "configs", "configs"):
        found.add(variant)
    for point in sorted(importlib.metadata.entry_points(group=GROUP), key=lambda point: (point.name, point.value)):
        owner = point.dist.name if point.dist else "an installed package"
        trial = found.copy()
        try:
            for variant in _installed(point, owner):
                trial.add(variant)
        except Exception as error:  # noqa: BLE001 (whatever is wrong with one package, the others' codecs are there)
            reason = f"{type(error).__name__}: {error}"
            log.warning("the codecs of %s (%s = %r) are left out: %s", owner, point.name, point.value, reason)
        else:
            found = trial
    return found


def _names_of(variant: Variant) -> dict[str, str]:
    """Every name of a variant → what `Variant.under` takes: the name that codes are to bear, or a copy's place."""
    return {
        variant.name: variant.name,
        **dict.fromkeys(variant.aliases, variant.name),
        **{name: name for name in variant.second_names},
        **{place: place for copy in variant.copies if (place := copy.repo or copy.url)},
    }


def _installed(point: importlib.metadata.EntryPoint, owner: str) -> list[Variant]:
    """The variants of an entry point's TOML, found without importing its module."""
    spec = _spec(point.module)
    if spec is None or not spec.origin:
        raise ImportError(f"there is no module {point.module}")
    path = Path(spec.origin).with_name(f"{point.module.rpartition('.')[2]}.toml")
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path.name} beside {spec.origin}")
    place = f"{owner}: {path.name}"
    table = _parsed(path.read_text("utf-8"), place)
    return parse_family(point.name, table, place, module=point.module, default_class=point.attr or "")


def _spec(module: str) -> ModuleSpec | None:
    """Where a module lies. `importlib.util.find_spec` would import the packages around it."""
    first, *rest = module.split(".")
    spec = importlib.util.find_spec(first)
    name = first
    for part in rest:
        if spec is None or spec.submodule_search_locations is None:
            return None
        name = f"{name}.{part}"
        spec = PathFinder.find_spec(name, list(spec.submodule_search_locations))
    return spec
