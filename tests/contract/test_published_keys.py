"""Every variant takes the tensors of its checkpoint by their published keys, at their published shapes.

The shapes are full, the values one number, which is stored once: nothing here takes memory.
"""

from __future__ import annotations

import difflib
import functools
import json
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from codeczoo import list_codecs
from codeczoo.base.catalogue import Variant, variants
from codeczoo.weights.convert import CheckpointError, convert, fit
from tests.support.declarations import FAMILIES, declared
from tests.support.golden import GOLDEN, packaged_manifest
from tests.support.published import state_of

WITH_WEIGHTS = [name for name in list_codecs() if variants()[name].weights is not None]


def filled(shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.ones((), dtype=dtype).expand(tuple(shape))


@functools.cache
def manifests() -> dict[str, dict[str, dict[str, Tensor]]]:
    """The tensors of every golden manifest, and of the weights that lie in the package, by family and file."""
    read = [
        (f"{path.parent.name}/{path.name}", json.loads(path.read_text())) for path in GOLDEN.glob("*/manifest*.json")
    ]
    own = [variant for variant in variants().values() if variant.weights and variant.weights.package]
    found: dict[str, dict[str, dict[str, Tensor]]] = {}
    for file, manifest in sorted([*read, *((variant.name, packaged_manifest(variant)) for variant in own)]):
        dtypes = {"I64": torch.int64, "I32": torch.int32, "BOOL": torch.bool}
        tensors = {e["key"]: filled(e["shape"], dtypes.get(e["dtype"], torch.float32)) for e in manifest["tensors"]}
        found.setdefault(manifest["family"], {})[file] = tensors
    return found


@functools.cache
def why_none_fits(kind: type, network: str, name: str) -> dict[str, str]:
    """What is said of the family's golden manifests, those of like names first; nothing if one fills the network."""
    variant = variants()[name]
    wanted, said = state_of(variant), {}
    files = manifests()[variant.family]
    for file in sorted(files, key=lambda file: -difflib.SequenceMatcher(None, name, file).ratio()):
        try:
            converted = convert(files[file], wanted, kind.key_maps, name)
        except CheckpointError as error:
            said[file] = str(error)
            continue
        assert {key: tensor.shape for key, tensor in converted.items()} == {k: t.shape for k, t in wanted.items()}
        return {}
    return said


def first_of_network(variant: Variant) -> str:
    """The first variant with the same numbers, but for the rate."""
    return next(name for name in WITH_WEIGHTS if network_of(variants()[name]) == network_of(variant))


def network_of(variant: Variant) -> tuple[type, str]:
    return variant.codec_type(), repr(sorted((k, v) for k, v in variant.network.items() if k != "sample_rate"))


@pytest.mark.parametrize("name", WITH_WEIGHTS)
def test_it_takes_the_tensors_of_a_golden_manifest(name: str) -> None:
    variant = variants()[name]
    assert why_none_fits(*network_of(variant), first_of_network(variant)) == {}


# Namings of which there is no manifest at these sizes.
TRANSFORMERS = [name for family in FAMILIES for name in declared(family, "TRANSFORMERS", ())]


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_the_names_of_transformers_at_every_size(name: str) -> None:
    kind, wanted = variants()[name].codec_type(), state_of(variants()[name])
    (key_map,) = (key_map for key_map in kind.key_maps if "transformers" in key_map.name)
    published: dict[str, Tensor] = {}
    for ours, like in wanted.items():
        sources, combine = key_map.sources(ours)
        stacked = combine is not None and "codebook" in ours
        count = 1 if stacked or combine is None else len(sources)  # others are put together along the first axis
        shape = like.shape[1:] if stacked else (like.shape[0] // count, *like.shape[1:])
        if "widen" in ours or "narrow" in ours:
            shape = (*shape, 1)
        if ours.endswith(("snake.alpha", "snake.beta")) and combine is not None:
            shape = like.shape[1:2]
        assert not set(sources) & set(published), f"{ours} shares its source with another"
        published |= dict.fromkeys(sources, filled(shape))
    assert fit(published, wanted, kind.key_maps) == ((len(wanted), 0), key_map)
    assert convert(published, wanted, kind.key_maps, name).keys() == wanted.keys()


def test_every_golden_case_has_a_test() -> None:
    tests = (path for room in ("codecs", "separation", "metrics") for path in (GOLDEN.parent / room).glob("test_*.py"))
    texts = "".join(path.read_text() for path in tests)
    cases = [path for path in GOLDEN.glob("*/*") if (path.parent / "manifest.json").exists() and path.is_file()]
    assert len(cases) > 80
    names = {case.parent.name for case in cases} | {case.stem for case in cases} - {"manifest", "public"}
    assert [name for name in sorted(names) if f'"{name}' not in texts] == []
