"""`CodecInfo`: what a codec is, in one record, and the facts of networks that can be had without building them."""

from __future__ import annotations

import functools
import hashlib
import html
import json
import re
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from importlib import resources
from typing import Any

from codeczoo.base.variant import Variant

FACTS = "facts.json"  # beside the TOML files; written by scripts/update_readme.py
WIDTH = 80


@dataclass(frozen=True, repr=False)
class CodecInfo:
    """What a codec is. Rates in Hz, bitrates in bit/s, times in seconds. It prints as a table, also in a notebook.

    Attributes:
        channels: the channel counts that it takes.
        frame_rate, hop_length, bitrate: None where frames are not a clock (the bytes of a compressed file).
        num_codebooks: used by `encode` unless others are asked for; `max_codebooks`: all.
        bitrates: those that may be asked for.
        latency: from a sample to the code that holds it, without computing time; None = not causal, or not known.
        weights: where the published ones lie.
        also: other names of the same weights.
        aliases: other spellings of the name.
        arithmetic: what a loaded network computes in ("float32", "bfloat16; float32 in ..."), after its `precision` and
            device; None = not loaded, or no network.
    """

    name: str
    family: str
    sample_rate: int
    output_sample_rate: int  # of decoded audio
    channels: tuple[int, ...]
    frame_rate: float | None
    hop_length: int | None
    num_codebooks: int
    max_codebooks: int
    codebook_sizes: tuple[int, ...]
    bitrate: float | None
    bitrates: tuple[float, ...]
    causal: bool
    streams: tuple[str, ...]  # of "encode" and "decode", what goes chunk by chunk
    latency: float | None
    parameters: int
    supports_decode: bool
    code_licence: str
    weights_licence: str
    weights: str
    paper: str
    description: str
    also: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    arithmetic: str | None = None

    @classmethod
    def of(cls, variant: Variant, facts: Mapping[str, Any]) -> CodecInfo:
        """Of what the variant says, and the facts of its network: all other fields."""
        return cls(
            **facts,
            name=variant.name,
            family=variant.family,
            code_licence=variant.code_licence,
            weights_licence=variant.weights_licence,
            weights=str(variant.weights or "none needed"),
            paper=variant.paper,
            description=variant.description,
            also=variant.also,
            aliases=(*variant.aliases, *(copy.repo for copy in variant.copies if copy.repo)),
        )

    def table(self, width: int = WIDTH) -> str:
        """A line for each field; longer ones go on below."""
        rows = self.rows()
        margin = max(map(len, rows)) + 2
        lines = []
        for key, value in rows.items():
            first, *rest = textwrap.wrap(
                value, max(width - margin, 20), break_long_words=False, break_on_hyphens=False
            ) or ["-"]
            lines += [f"{key:{margin}}{first}", *(" " * margin + more for more in rest)]
        return "\n".join(lines)

    def rows(self) -> dict[str, str]:
        """Field → value, in words; without other names where there are none, and without what others say already."""
        left_out = {key for key in ("also", "aliases", "arithmetic") if not getattr(self, key)}
        if self.output_sample_rate == self.sample_rate:
            left_out.add("output_sample_rate")
        if self.causal == bool(self.streams):
            left_out.add("streams")
        return {key.replace("_", " "): _told(key, value) for key, value in asdict(self).items() if key not in left_out}

    def __repr__(self) -> str:
        return self.table()

    def _repr_html_(self) -> str:
        left = 'style="text-align:left"'
        cells = "".join(
            f"<tr><th {left}>{html.escape(key)}</th><td {left}>{html.escape(value)}</td></tr>"
            for key, value in self.rows().items()
        )
        return f"<table>{cells}</table>"


MAX_NAMES = 4  # of aliases in a table; `--format json` and `aliases` have all
UNITS = {
    "sample_rate": "Hz",
    "output_sample_rate": "Hz",
    "frame_rate": "frames/s",
    "hop_length": "samples",
    "bitrate": "bit/s",
    "bitrates": "bit/s",
    "latency": "s",
}


def _told(key: str, value: Any) -> str:
    """A value in words, with its unit."""
    if value in (None, "", ()):
        return "-"
    if key == "weights":  # of a commit, eight digits are enough to read
        return re.sub(r"@([0-9a-f]{8})[0-9a-f]{32}/", r"@\1/", value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    unit = f" {UNITS[key]}" if key in UNITS else ""
    if isinstance(value, int | float):
        grouped = f"{value:,}" if key == "parameters" else _number(value)
        return grouped + unit
    if isinstance(value, tuple) and key == "channels":
        return " or ".join(map(str, value))
    if isinstance(value, tuple) and all(isinstance(one, int | float) for one in value):
        return _numbers(value, unit)
    if isinstance(value, tuple):
        more = f" and {len(value) - MAX_NAMES} more" if len(value) > MAX_NAMES + 1 else ""
        return ", ".join(value[:MAX_NAMES] if more else value) + more
    return str(value)


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.7g}"


def _numbers(values: tuple[float, ...], unit: str) -> str:
    """All, or where they are many: how many of the same, or from where to where."""
    if len(values) > 2 and len(set(values)) == 1:
        return f"{len(values)} x {_number(values[0])}{unit}"
    if len(values) > 8:
        return f"{_number(min(values))} to {_number(max(values))}{unit} ({len(values)} of them)"
    return ", ".join(map(_number, values)) + unit


# -- facts of networks ------------------------------------------------------------------------------------------------

OF_VARIANT = {"name", "family", "code_licence", "weights_licence", "weights", "paper", "description", "also", "aliases"}
OF_NETWORK = [one.name for one in fields(CodecInfo) if one.name not in OF_VARIANT | {"arithmetic"}]


def known_facts(variant: Variant) -> CodecInfo | None:
    """What FACTS says of a variant; None where it has nothing, or something of a network with other numbers."""
    own = _facts().get(variant.root, {})
    if own.get("of") != _fingerprint(variant):
        return None
    facts = {**own, **_facts().get(variant.name, {})}
    return CodecInfo.of(
        variant, {key: tuple(facts[key]) if isinstance(facts[key], list) else facts[key] for key in OF_NETWORK}
    )


def facts_of(variants: Iterable[Variant]) -> dict[str, dict[str, Any]]:
    """The content of FACTS, from networks that are built for it: of a second name only what differs."""
    out: dict[str, dict[str, Any]] = {}
    for variant in variants:
        info = asdict(variant.build().info)
        own = {key: info[key] for key in OF_NETWORK}
        out[variant.name] = {"of": _fingerprint(variant), **own}
        for name in variant.second_names:
            other = asdict(variant.under(name).build().info)
            if differing := {key: other[key] for key in OF_NETWORK if other[key] != own[key]}:
                out[name] = differing
    return out


def write_facts(facts: Mapping[str, Mapping[str, Any]]) -> str:
    """As text, a line each."""
    lines = [f"{json.dumps(name)}: {json.dumps(own)}" for name, own in sorted(facts.items())]
    return "{\n" + ",\n".join(lines) + "\n}\n"


@functools.cache
def _facts() -> Mapping[str, Mapping[str, Any]]:
    return json.loads((resources.files("codeczoo") / "configs" / FACTS).read_text("utf-8"))


def _fingerprint(variant: Variant) -> str:
    """Of the class and the numbers of a network: facts of another class or other numbers do not count."""
    kind = variant.codec_class if isinstance(variant.codec_class, str) else variant.codec_class.__qualname__
    return hashlib.sha256(json.dumps([kind, dict(variant.network)], sort_keys=True).encode()).hexdigest()[:12]
