"""docs/latents.md says what is so: its table of shapes is that of the networks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from tests.support.declarations import FAMILIES
from tests.support.small import OWN

PAGE = Path(__file__).parent.parent / "docs" / "latents.md"


def numbers(cell: str) -> set[int]:
    return {int(number) for number in re.findall(r"\d+", cell)}


@pytest.mark.parametrize("family", FAMILIES)
def test_its_table_has_the_shapes_of_every_family(family: str) -> None:
    rows = re.findall(rf"^\| {family} \| (.*?) \| (.*?) \| (.*?) \| ", PAGE.read_text("utf-8"), flags=re.MULTILINE)
    with torch.device("meta"):
        codecs = [variant.build() for variant in OWN.values() if variant.family == family]
    if not codecs[0].latent_dim:
        assert not rows
        return
    ((latent, vector, tables),) = rows
    for codec in codecs:
        dim, sizes = codec.latent_dim, [tuple(table.shape) for table in codec.codebooks]
        told = numbers(latent)
        assert dim in told or min(told) <= dim <= max(told)
        assert codec.vector_dim == dim if vector == "as D" else numbers(vector) == {codec.vector_dim} - {0}
        if "2^D" in tables:
            assert sizes == [(2**dim, dim)]
            continue
        found = numbers(tables)
        assert {number for size in sizes for number in size} <= found
        assert len(sizes) in found or min(found) <= len(sizes) or "to" in tables
