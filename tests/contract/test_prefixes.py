"""Every family's checkpoint behind the prefixes of trainers and wrappers, beside averages and discriminators.

The tensors are those of each published naming, of small networks (tests/support/published.py).
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from codeczoo import BaseCodec
from codeczoo.base.catalogue import find_variant
from codeczoo.weights.load import load_weights
from tests.contract.test_packagings import PACKAGINGS
from tests.support.packagings import Packaging, Tensors
from tests.support.small import small_variant

NAMINGS = {(row.codec, row.folder, row.manifest): label for label, row in reversed(PACKAGINGS.items())}
FIRST = {find_variant(PACKAGINGS[label].codec).family: label for label in NAMINGS.values()}  # one of each family
ROWS = [
    pytest.param(PACKAGINGS[label], id=label, marks=() if label in FIRST.values() else pytest.mark.slow)
    for label in reversed(NAMINGS.values())
]


# Two steps of one autoencoder: either of them is a whole one.
TWICE = ("audiodec_48k_activate_symmetric", "audiodec_48k_c16h320_symmetric")


def behind(prefix: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {f"{prefix}{key}": value for key, value in tensors.items()}


def compiled_part(tensors: Tensors) -> Tensors:
    """One part was wrapped by itself: its names alone have the wrapper's in them."""
    part = next(iter(tensors)).partition(".")[0]
    place = f"{part}._orig_mod."
    return {
        f"module.{place}{key[len(part) + 1 :]}" if key.startswith(f"{part}.") else f"module.{key}": value
        for key, value in tensors.items()
    }


def trained(tensors: Tensors) -> Tensors:
    others = {"discriminator.0.weight": torch.ones(3), "mel_loss.window": torch.ones(4), "n_averaged": torch.tensor(3)}
    return {**behind("generator.")(tensors), **others}


FORMS = {
    "model and compiled": behind("module.model._orig_mod."),
    "generator beside others": trained,
    "a compiled part": compiled_part,
}


def load(row: Packaging, weights: object, **options: str) -> BaseCodec:
    codec = small_variant(find_variant(row.codec).name).build()
    load_weights(codec, weights, **options)  # type: ignore[arg-type]
    return codec


@pytest.mark.parametrize("row", ROWS)
def test_prefixes_are_recognised_where_the_rest_fits(row: Packaging) -> None:
    tensors, _ = row.tensors()
    expected = load(row, tensors).state_dict()
    for form, wrap in FORMS.items():
        for name, value in load(row, {"state_dict": wrap(tensors), "epoch": 3}).state_dict().items():
            assert torch.equal(value, expected[name]), (form, name)


@pytest.mark.parametrize("row", ROWS)
def test_the_average_beside_the_model_is_named(row: Packaging) -> None:
    tensors, used = row.tensors()
    halved = {key: value / 2 if key in used and value.is_floating_point() else value for key, value in tensors.items()}
    both = {**behind("model.")(tensors), **behind("ema.")(halved)}
    with pytest.raises(ValueError, match="'model' and entry 'ema' fit equally well: say which, as weights_entry="):
        load(row, both)
    chosen, average = (load(row, both, weights_entry=entry).state_dict() for entry in ("model", "ema"))
    assert all(torch.equal(chosen[name], value) for name, value in load(row, tensors).state_dict().items())
    assert any(not torch.equal(chosen[name], value) for name, value in average.items())


@pytest.mark.parametrize("row", [row for row in ROWS if row.values[0].codec not in TWICE])
def test_what_is_missing_is_told_without_the_prefix(row: Packaging) -> None:
    tensors, used = row.tensors()
    gone = used[len(used) // 2]
    short = {f"generator.{key}": value for key, value in tensors.items() if key != gone}
    with pytest.raises(ValueError, match=r"read without the 'generator\.' that all \d+ names begin with") as caught:
        load(row, short)
    assert len(str(caught.value)) < 500, "not a list of everything"
