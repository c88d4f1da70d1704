"""Every family's checkpoint in its published packaging, whole and damaged, through `load_codec`.

Each family declares its packagings in its own test file (`PACKAGINGS`). The networks are small ones of the same
architecture (tests/support/published.py); keys, nesting and the files beside the tensors are as published.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants

from codeczoo import BaseCodec, load_codec
from codeczoo.base.catalogue import find_variant, variants
from codeczoo.weights import load as weights_module
from tests.support.declarations import FAMILIES, declared, packagings_of
from tests.support.packagings import Packaging, Tensors
from tests.support.small import small_variant


def collected() -> dict[str, Packaging]:
    """Every packaging that a family's test file declares, by label."""
    found: dict[str, Packaging] = {}
    for family in FAMILIES:
        own = packagings_of(family)
        assert not own.keys() & found.keys(), f"{family}: another family has {own.keys() & found.keys()} too"
        found |= own
    return found


PACKAGINGS = collected()


@pytest.fixture(params=PACKAGINGS)
def packaging(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Packaging:
    """A packaging, with a small network under its codec's name, and an empty cache."""
    row = PACKAGINGS[request.param]
    row.tensors()  # is made from the full network too, and kept
    name = find_variant(row.codec).root
    monkeypatch.setitem(variants(), name, small_variant(name))  # type: ignore[arg-type]
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "home"))
    weights_module._say_licence.cache_clear()
    return row


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "published").mkdir()
    return tmp_path / "published"


def load(packaging: Packaging, weights: Path | Tensors) -> BaseCodec:
    return load_codec(packaging.codec, weights=weights, device="cpu")


def test_it_holds_what_its_tensors_are(packaging: Packaging, place: Path) -> None:
    tensors, _ = packaging.tensors()
    codec = load(packaging, packaging.write(packaging, tensors, place))
    expected = load(packaging, tensors).state_dict()
    for name, value in codec.state_dict().items():
        assert torch.equal(value, expected[name]), name


def without(tensors: Tensors, key: str) -> tuple[Tensors, str, str]:
    return {name: tensor for name, tensor in tensors.items() if name != key}, "missing", key


def one_more(tensors: Tensors, key: str) -> tuple[Tensors, str, str]:
    more = "encoder.blocks.9.mlp.2.bias" if "encoder.blocks.0.mlp.2.bias" in tensors else f"{key}_more"
    return {**tensors, more: torch.ones(3)}, "unexpected", more


def another_shape(tensors: Tensors, key: str) -> tuple[Tensors, str, str]:
    return {**tensors, key: torch.cat([tensors[key], tensors[key][:1]])}, "of the wrong shape", key


def with_nan(tensors: Tensors, key: str) -> tuple[Tensors, str, str]:
    values = tensors[key].clone()
    values.view(-1)[values.numel() // 2] = torch.nan
    return {**tensors, key: values}, "with NaN or infinity", key


@pytest.mark.parametrize("fault", [without, one_more, another_shape, with_nan])
def test_what_does_not_fit_is_named(packaging: Packaging, fault: Callable, place: Path) -> None:
    tensors, used = packaging.tensors()
    changed, kind, key = fault(tensors, used[2 * len(used) // 3])
    path = packaging.write(packaging, changed, place)
    with pytest.raises(ValueError, match=rf"\d {kind}: .*{as_told(key)}") as caught:
        load(packaging, path)
    assert f"{find_variant(packaging.codec).name}: " in str(caught.value)
    assert path.stem in str(caught.value), "the file"


def as_told(key: str) -> str:
    """An expression of a key, in either spelling of weight norm."""
    old, pattern = {"original0": "weight_g", "original1": "weight_v"}, re.escape(key)
    return re.sub(r"parametrizations\\\.weight\\\.(original\d)", lambda m: f"(?:{m[0]}|{old[m[1]]})", pattern)


def test_a_file_cut_at_its_half_is_named(packaging: Packaging, place: Path) -> None:
    path = packaging.write(packaging, packaging.tensors()[0], place)
    file = max(place.rglob("*"), key=lambda p: p.stat().st_size if p.is_file() else 0) if path.is_dir() else path
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(ValueError, match=rf"{re.escape(file.name)}: not a whole ") as caught:
        load(packaging, path)
    assert str(caught.value).startswith(f"{find_variant(packaging.codec).name}: ")


@pytest.mark.parametrize(
    ("packaging", "setting", "value", "said"),
    [(label, *case) for label, row in PACKAGINGS.items() for case in row.refused],
    indirect=["packaging"],
)
def test_settings_of_another_network_are_refused(
    packaging: Packaging, setting: str, value: Any, said: str, place: Path
) -> None:
    """What these say leaves no trace in the tensors, or one that is hard to read."""
    path = packaging.write(packaging, packaging.tensors()[0], place)
    settings = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps({**settings, setting: value}))
    with pytest.raises(ValueError, match=f"the checkpoint is of another model: {said}"):
        load(packaging, path)


# -- what must be said of them --------------------------------------------------------------------


def test_licences_are_as_the_authors_state_them(
    packaging: Packaging, place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "codeczoo"):
        codec = load(packaging, packaging.write(packaging, packaging.tensors()[0], place))
        load(packaging, packaging.tensors()[0])
    said = [message for message in caplog.messages if "of the weights" in message or "weights of" in message]
    licence = declared(codec.info.family, "LICENCE", None)
    if isinstance(licence, Mapping):
        licence = licence.get(find_variant(packaging.codec).root)
    if licence is not None:
        assert (codec.info.weights_licence, said) == (licence, [])
        return
    (once,) = said
    assert codec.info.weights_licence in once
    assert declared(codec.info.family, "LICENCE_WARNING", "is unclear") in once
