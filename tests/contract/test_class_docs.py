"""`codec?` in a notebook shows the docstring of the codec's class: what it is, shapes and rates, and how to use it."""

from __future__ import annotations

import ast
import inspect
import re

import pytest

from codeczoo.base.catalogue import find_variant, variants

CLASSES = sorted({variant.codec_type() for variant in variants().values()}, key=lambda kind: kind.__name__)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_a_docstring_says_what_the_codec_is_and_shows_it_in_use(kind: type) -> None:
    what, shapes, example, *_ = inspect.cleandoc(kind.__doc__ or "").split("\n\n")
    assert re.match(r"[A-Z][^\[\]]+\(.*\d{4}\)", what), "its name, who made it or where it stands, and the year"
    assert re.search(r"\[B, .*\].* (↔|→) codes \[B, ", shapes.replace("\n", " "))
    ast.parse(inspect.cleandoc(f"\n{example}"))
    (name,) = re.findall(r'load_codec\("(\w+)"\)', example)
    assert issubclass(find_variant(name).codec_type(), kind)
