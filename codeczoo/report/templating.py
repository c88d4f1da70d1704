"""Jinja's environment of the pages: the templates, and the filters that they use."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import jinja2
from markupsafe import Markup, escape

from codeczoo.report import formatting
from codeczoo.report.results import CodecResult
from codeczoo.report.spectrogram import ticks


def template_environment(*packages: str) -> jinja2.Environment:
    """Of the report's templates, and before them of the `templates` folders of other packages."""
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader([*map(jinja2.PackageLoader, packages), jinja2.PackageLoader("codeczoo.report")]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "fixed": formatting.fixed,
        "kbps": formatting.kbps,
        "better": formatting.better,
        "unit": formatting.unit,
        "summary": formatting.summary,
        "round_number": formatting.round_number,
        "signed": formatting.signed,
        "p_value": formatting.p_value,
        "reason": formatting.reason_text,
        "searchable": _searchable,
        "breakable": _breakable,
        "plain": _plain,
        "ticks": ticks,
        "first_of": lambda names, wanted: [name for name in wanted if name in names],
        "other_than": lambda names, taken: [name for name in names if name not in taken],
    }
    return environment


def _searchable(codec: CodecResult) -> str:
    """The text that the leaderboard's filter searches."""
    keys = ("family", "description", "code_licence", "weights_licence")
    return " ".join([codec.label, *(str(codec.info.get(key, "")) for key in keys)]).lower()


def _breakable(text: str) -> Markup:
    """A name that may break after underscores and slashes only."""
    return Markup(re.sub(r"([_/])", r"\1<wbr>", str(escape(text))))


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(inner)}" for key, inner in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(_plain(inner) for inner in value) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "default" if value is None else str(value)
