"""Write the tables of docs/weights.md from the TOML files: how the weights are pinned, counted and one by one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from codeczoo.base.catalogue import variants
from codeczoo.base.variant import Variant, WeightsSource
from codeczoo.codecs.formats.encodec_lm import language_models
from codeczoo.separation.registry import separators

PAGE = Path(__file__).parent.parent / "docs" / "weights.md"
SETTINGS = (".json", ".yaml")  # beside the weights
PINS = {  # the strongest first
    "sha256": "the file's content",
    "sha256, first digits": "the file's content, by the digits that stand in its name",
    "revision": "a commit of its repository, which holds one file of that name",
    "size": "the number of bytes",
    "nothing": "the newest file of that name",
}


def own_variants() -> list[Variant]:
    """The codecs, separators and EnCodec's language models of this package that have weights, by name."""
    codecs = (one for one in variants().values() if one.defined_in.startswith("configs/"))
    everything = (*codecs, *separators().values(), *language_models().values())
    return sorted((one for one in everything if one.weights), key=lambda one: one.name)


def files_of(source: WeightsSource) -> Iterator[Mapping[str, Any]]:
    """The files with tensors: place and pins of each."""
    own = {name: getattr(source, name) for name in ("repo", "revision", "url", "sha256", "size", "mirrors")}
    yield {**own, "file": source.file, "member": source.member}
    for more in source.more:
        in_archive = {"url": source.url, "sha256": source.sha256, "size": source.size} if "member" in more else {}
        in_repository = {"repo": source.repo, "revision": source.revision}
        entry = {**in_archive, **more} if "url" in more or "member" in more else {**in_repository, **more}
        if not str(entry.get("file", "")).endswith(SETTINGS):
            yield entry


def pin_of(file: Mapping[str, Any]) -> str:
    """A key of PINS."""
    if sha256 := file.get("sha256"):
        return "sha256" if len(sha256) == 64 else "sha256, first digits"
    return next((name for name in ("revision", "size") if file.get(name)), "nothing")


def weakest(variant: Variant) -> str:
    """The pin of that file of a variant which is pinned least."""
    assert variant.weights is not None
    return max((pin_of(file) for file in files_of(variant.weights)), key=list(PINS).index)


def counts() -> str:
    found = Counter(weakest(variant) for variant in own_variants())
    rows = [f"| {name} | {found[name]} | {meaning} |" for name, meaning in PINS.items()]
    return "\n".join(["| pinned by | variants | what is sure |", "|---|---|---|", *rows, f"| | {found.total()} | |"])


def pins() -> str:
    rows = []
    for variant in own_variants():
        assert variant.weights is not None
        kinds = Counter(pin_of(file) for file in files_of(variant.weights))
        told = ", ".join(f"{kind} ({count})" if len(kinds) > 1 else kind for kind, count in kinds.items())
        place = re.sub(r"@([0-9a-f]{8})[0-9a-f]{32}/", r"@\1/", str(variant.weights).removeprefix("https://"))
        files = f" and {kinds.total() - 1} more" if kinds.total() > 1 else ""
        mirrors = ", ".join(mirror.get("repo") or mirror["url"] for mirror in variant.weights.mirrors)
        rows.append(f"| `{variant.name}` | {place}{files} | {told} | {mirrors} | {variant.weights_licence} |")
    return "\n".join(["| variant | weights | pinned by | mirrors | licence |", "|---|---|---|---|---|", *rows])


def page(text: str) -> str:
    """`text` with its tables replaced."""
    for name, table in (("counts", counts()), ("pins", pins())):
        pattern = rf"(<!-- {name}: .*? -->\n).*?(<!-- /{name} -->)"
        text = re.sub(pattern, lambda found, table=table: f"{found[1]}{table}\n{found[2]}", text, flags=re.DOTALL)  # type: ignore[misc]
    return text


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")
