"""The published checkpoints: .th pickles and safetensors, one file or four; whole, damaged, of another model.

The networks are the published ones with fewer channels: same keys, same classes and arguments beside them.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from codeczoo.separation import Separator, find_separator, load_separator, registry
from codeczoo.separation.htdemucs import FINE_TUNED, FINE_TUNED_TH
from codeczoo.weights import load as weights_module
from codeczoo.weights.safe_pickle import UnsafeCheckpointError
from tests.support.golden import manifest_of
from tests.support.published import foreign_classes
from tests.support.separation import values_of

CHANNELS = 8
FOLDER = {"htdemucs": "htdemucs", "htdemucs_ft": "htdemucs", "htdemucs_6s": "htdemucs_6s", "hdemucs_mmi": "hdemucs_mmi"}
KLASS = {"hdemucs_mmi": "demucs.hdemucs.HDemucs"}
FILES = {"htdemucs": ("955717e8",), "htdemucs_ft": FINE_TUNED, "htdemucs_6s": ("5c90dfd2",),
         "hdemucs_mmi": ("75fc33f5",)}  # fmt: skip
Tensors = dict[str, Tensor]


@pytest.fixture(params=FOLDER)
def name(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A separator's name; under it lies a small network."""
    variant = find_separator(request.param)
    small = replace(variant, network={**variant.network, "channels": CHANNELS, **bottom(request.param)})
    monkeypatch.setitem(registry.separators(), request.param, small)  # type: ignore[arg-type]
    weights_module._say_licence.cache_clear()
    return request.param


def bottom(name: str) -> dict[str, int]:
    return {"bottom_channels": 16} if name in ("htdemucs", "htdemucs_ft") else {}


def checkpoint(name: str, which: int = 0) -> Tensors:
    """The published keys with the small network's shapes."""
    with torch.device("meta"):
        model = find_separator(name).build()
    shapes = {ours: tuple(value.shape) for ours, value in model.state_dict().items()}
    (naming,) = [one for one in model.key_maps if one.name == ("demucs, several files" if which_of(name) else "demucs")]
    sources = {naming.sources(ours)[0][0]: shape for ours, shape in shapes.items()}
    before = f"{FILES[name][which]}." if which_of(name) else ""
    found = {key.removeprefix(before): shape for key, shape in sources.items() if key.startswith(before)}
    assert set(found) == {entry["key"] for entry in manifest_of(FOLDER[name])["tensors"]}
    return {key: values_of(f"{which}/{key}", shape) for key, shape in found.items()}


def which_of(name: str) -> bool:
    return len(FILES[name]) > 1


def arguments(name: str) -> dict[str, Any]:
    """What stands beside the tensors."""
    network = {**manifest_of(FOLDER[name])["config"], "channels": CHANNELS, **bottom(name)}
    return {**network, "sources": list(find_separator(name).network["sources"]), "not_of_this_class": 1}


def write(name: str, form: str, folder: Path, change: Callable[[Tensors], Tensors] = dict, **settings: Any) -> Path:
    """The checkpoint; `change` is of the first file's tensors."""
    kwargs = {**arguments(name), **settings}
    klass = KLASS.get(name, "demucs.htdemucs.HTDemucs")
    for i, stem in enumerate(FINE_TUNED_TH if which_of(name) and form == ".th" else FILES[name]):
        tensors = checkpoint(name, i)
        tensors = change(tensors) if i == 0 else tensors
        if form == ".th":
            with foreign_classes(klass) as (kind,):
                segment = Fraction(kwargs["segment"])
                package = {"klass": kind, "args": (), "kwargs": {**kwargs, "segment": segment}, "state": tensors,
                           "training_args": {"seed": 42, "optim": {"lr": 3e-4, "betas": [0.9, 0.999]}}}  # fmt: skip
                torch.save(package, folder / f"{stem}.th")
        else:
            fraction = Fraction(kwargs["segment"])
            said = {"_type": "fraction", "numerator": fraction.numerator, "denominator": fraction.denominator}
            text = json.dumps({**kwargs, "segment": said})
            save_file(tensors, folder / f"{stem}.safetensors", {"klass": klass, "args": "[]", "kwargs": text})
    (folder / f"{name}.yaml").write_text(f"models: {list(FILES[name])}\n")
    return folder


def load(name: str, weights: Any) -> Separator:
    return load_separator(name, weights, device="cpu")


@pytest.mark.parametrize("form", [".th", ".safetensors"])
def test_it_holds_what_its_tensors_are(name: str, form: str, tmp_path: Path) -> None:
    separator = load(name, write(name, form, tmp_path))
    for i, model in enumerate(separator.models):
        expected = checkpoint(name, i)
        found = model.state_dict()
        assert torch.equal(found["encoder.1.dconv.layers.1.expand.weight"].half(),
                           expected["encoder.1.dconv.layers.1.3.weight"])  # fmt: skip
        assert sum(value.double().sum() for value in found.values()) == pytest.approx(
            sum(value.double().sum() for value in expected.values())
        )
    assert separator.dtype == torch.float32
    assert all(stem in str(separator.weights_source) for stem in FILES[name])


def without(tensors: Tensors) -> Tensors:
    return {key: value for key, value in tensors.items() if key != "tdecoder.1.rewrite.bias"}


def one_more(tensors: Tensors) -> Tensors:
    return {**tensors, "encoder.9.conv.bias": torch.ones(3)}


def another_shape(tensors: Tensors) -> Tensors:
    return {**tensors, "encoder.2.conv.bias": torch.ones(5)}


def with_nan(tensors: Tensors) -> Tensors:
    value = tensors["encoder.2.conv.bias"].clone()
    value[1] = torch.nan
    return {**tensors, "encoder.2.conv.bias": value}


FAULTS = {
    "1 missing: .*tdecoder.1.rewrite.bias": without,
    "1 unexpected: .*encoder.9.conv.bias": one_more,
    "1 of the wrong shape: .*encoder.2.conv.bias": another_shape,
    "1 with NaN or infinity: .*encoder.2.conv.bias": with_nan,
}


@pytest.mark.parametrize("form", [".th", ".safetensors"])
@pytest.mark.parametrize("said", FAULTS)
def test_what_does_not_fit_is_named(name: str, form: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        load(name, write(name, form, tmp_path, FAULTS[said]))
    assert str(caught.value).startswith(f"{name}: ")


@pytest.mark.parametrize("form", [".th", ".safetensors"])
def test_a_file_cut_at_its_half_is_named(name: str, form: str, tmp_path: Path) -> None:
    write(name, form, tmp_path)
    file = next(tmp_path.glob(f"*{form}"))
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(ValueError, match=f"{file.name}: not a whole "):
        load(name, tmp_path)


@pytest.mark.parametrize("form", [".th", ".safetensors"])
def test_settings_of_another_network_are_refused(name: str, form: str, tmp_path: Path) -> None:
    """Stems in another order leave no trace in the tensors."""
    sources = list(reversed(arguments(name)["sources"]))
    with pytest.raises(ValueError, match="of another model: sources is"):
        load(name, write(name, form, tmp_path, sources=sources))


def test_a_segment_of_another_length_is_refused_where_it_counts(name: str, tmp_path: Path) -> None:
    write(name, ".th", tmp_path, segment="21/2")
    if name == "hdemucs_mmi":
        load(name, tmp_path)
    else:
        with pytest.raises(ValueError, match="segment is 21/2 there and 39/5 here"):
            load(name, tmp_path)


def test_no_class_of_a_checkpoint_is_imported_and_other_code_is_refused(name: str, tmp_path: Path) -> None:
    write(name, ".th", tmp_path)
    file = next(tmp_path.glob("*.th"))
    package = {"state": checkpoint(name), "klass": tempfile.TemporaryDirectory}
    torch.save(package, file)
    with pytest.raises(UnsafeCheckpointError, match=r"names tempfile.TemporaryDirectory"):
        load(name, tmp_path)


def test_the_licence_is_said_once(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(name, ".safetensors", tmp_path)
    with caplog.at_level(logging.WARNING, "codeczoo"):
        load(name, tmp_path)
        load(name, tmp_path)
    (said,) = [message for message in caplog.messages if "weights of" in message]
    assert "is unclear" in said
