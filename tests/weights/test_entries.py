"""Checkpoints as people save them: behind prefixes of trainers and wrappers, beside averages and discriminators."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file
from torch import Tensor, nn

from codeczoo import load_codec, register_codec
from codeczoo.base.catalogue import WeightsSource
from codeczoo.weights.load import load_weights
from tests.support.published import save_lightning
from tests.support.registering import registered_for_a_while
from tests.support.tiny_codec import VARIANT, TinyCodec, published, tiny, truth

Tensors = dict[str, Tensor]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "home"))


def behind(prefix: str, tensors: Tensors) -> Tensors:
    return {f"{prefix}{key}": value for key, value in tensors.items()}


def times(factor: float, tensors: Tensors) -> Tensors:
    return {key: value * factor for key, value in tensors.items()}


def assert_holds(codec: TinyCodec, factor: float = 1.0) -> None:
    for name, value in truth().items():
        torch.testing.assert_close(codec.state_dict()[name], value * factor, rtol=1e-5, atol=1e-6)


def loaded(given: Any, **options: Any) -> TinyCodec:
    codec = tiny()
    load_weights(codec, given, **options)
    return codec


def refused(given: Any, **options: Any) -> str:
    """The sentence with which a checkpoint is refused."""
    codec = tiny()
    with pytest.raises(ValueError) as caught:
        load_weights(codec, given, **options)
    assert codec.weights_hash is None
    return str(caught.value)


# -- found without being asked for ----------------------------------------------------------------


@pytest.mark.parametrize("naming", ["authors", "transformers", "two files"])
@pytest.mark.parametrize(
    "prefix",
    ["module.", "_orig_mod.", "model.", "generator.", "codec.", "module._orig_mod.model.", "net.audio_codec.g."],
)
def test_a_prefix_of_all_names(prefix: str, naming: str, tmp_path: Path) -> None:
    wrapped = behind(prefix, published(naming))
    assert_holds(loaded(wrapped))
    save_file({key: value.contiguous() for key, value in wrapped.items()}, tmp_path / "w.safetensors")
    assert_holds(loaded(tmp_path / "w.safetensors"))
    torch.save({"state_dict": wrapped, "step": 3}, tmp_path / "w.pt")
    assert_holds(loaded(tmp_path / "w.pt"))


def test_wrappers_inside_the_names() -> None:
    """A part that was compiled alone, in a model that was trained on several devices; some names of each kind."""
    tensors = published("authors")
    places = {"enc.": "enc._orig_mod.", "dec.": "module.dec.module.", "vq.": "_orig_mod.vq."}
    mixed = {}
    for key, tensor in tensors.items():
        part = key[: key.find(".") + 1]
        mixed[places.get(part, part) + key.removeprefix(part)] = tensor
    assert {"enc._orig_mod.norm.weight", "module.dec.module.convtr.convtr.bias", "_orig_mod.vq.usage"} <= mixed.keys()
    assert_holds(loaded(mixed))


def test_what_pytorch_itself_writes(tmp_path: Path) -> None:
    """A compiled model, a data-parallel one, an average of weights."""
    codec = tiny()
    codec.load_state_dict(truth())
    average = torch.optim.swa_utils.AveragedModel(codec)
    for number, model in enumerate((torch.compile(codec), nn.DataParallel(codec), nn.DataParallel(average), average)):
        torch.save(model.state_dict(), tmp_path / f"{number}.pt")
        assert_holds(loaded(tmp_path / f"{number}.pt"))


def test_a_lightning_checkpoint_with_everything_in_it(tmp_path: Path) -> None:
    tensors = behind("model._orig_mod.generator.", published("authors"))
    others = {"model._orig_mod.discriminator.conv.weight": torch.ones(3), "loss.window": torch.ones(4)}
    save_lightning({**tensors, **others}, tmp_path / "last.ckpt")
    assert_holds(loaded(tmp_path / "last.ckpt"))


def test_a_discriminator_beside_the_generator() -> None:
    others = {"discriminator.encoder.layers.0.weight": torch.ones(3), "steps": torch.tensor(7)}
    assert_holds(loaded({**behind("generator.", published("transformers")), **others}))


def test_one_dict_under_two_names_is_one() -> None:
    tensors = published("transformers")
    codec = loaded({"model": tensors, "state_dict": tensors})
    assert_holds(codec)
    assert codec.weights_source == "a dict of tensors"


@pytest.mark.parametrize("naming", ["authors", "two files"])
@pytest.mark.parametrize("prefix", ["model.", "module.generator."])
def test_a_prefix_in_each_of_several_files(prefix: str, naming: str, tmp_path: Path) -> None:
    """Merged, or with each file's stem before its names."""
    tensors = published(naming)
    stems = ("a", "b") if naming == "authors" else ("CodecEnc", "generator")
    first = {key: value for key, value in tensors.items() if key.startswith(("enc.", "CodecEnc."))}
    for stem, part in zip(stems, (first, {k: v for k, v in tensors.items() if k not in first}), strict=True):
        bare = {key.removeprefix(f"{stem}."): value for key, value in part.items()}
        torch.save(behind(prefix, bare), tmp_path / f"{stem}.pt")
    codec = tiny(weights=WeightsSource(repo="someone/tiny", file=f"{stems[0]}.pt", more=({"file": f"{stems[1]}.pt"},)))
    load_weights(codec, tmp_path)
    assert_holds(codec)


def test_a_prefix_in_one_of_several_files(tmp_path: Path) -> None:
    tensors = published("authors")
    first = {key: value for key, value in tensors.items() if key.startswith("enc.")}
    torch.save(behind("module._orig_mod.", first), tmp_path / "a.pt")
    torch.save({key: value for key, value in tensors.items() if key not in first}, tmp_path / "b.pt")
    codec = tiny(weights=WeightsSource(repo="someone/tiny", file="a.pt", more=({"file": "b.pt"},)))
    load_weights(codec, tmp_path)
    assert_holds(codec)


# -- asked for ------------------------------------------------------------------------------------


AVERAGES: dict[str, tuple[Any, str, str]] = {
    "two entries": (lambda t: {"model": t, "ema": times(2, t), "optimizer": {0: torch.ones(3)}}, "model", "ema"),
    "two prefixes": (
        lambda t: {**behind("model.", t), **behind("ema_model.", times(2, t)), "initted": torch.tensor(True)},
        "model",
        "ema_model",
    ),
    "deep": (
        lambda t: {"net": {"g": behind("module.", t), "g_ema": behind("module.", times(2, t))}},
        "net/g",
        "net/g_ema",
    ),
}


@pytest.mark.parametrize("kind", AVERAGES)
def test_an_average_beside_the_model_is_chosen_by_name(kind: str, tmp_path: Path) -> None:
    pack, model, average = AVERAGES[kind]
    path = tmp_path / "both.pt"
    torch.save(pack(published("transformers")), path)
    said = refused(path)
    assert "fit equally well: say which, as weights_entry=" in said and "--weights PATH::" in said
    for entry in (model, average):
        assert entry.partition("/")[2] in said
    assert_holds(loaded(path, weights_entry=model))
    one, other = loaded(path, weights_entry=average), loaded(f"{path}::{average}")
    assert_holds(one, 2)
    assert_holds(other, 2)
    dotted = loaded(path, weights_entry=average.replace("/", "."))
    assert one.weights_hash == other.weights_hash == dotted.weights_hash
    assert (one.weights_source or "").startswith(f"{path}::")


def test_two_entries_of_one_file_are_told_apart_by_their_hash(tmp_path: Path) -> None:
    """Codes of the one are not codes of the other."""
    tensors = published("transformers")
    path = tmp_path / "both.pt"
    torch.save({"model": tensors, "ema": times(2, tensors)}, path)
    hashes = {loaded(path, weights_entry=entry).weights_hash for entry in ("model", "ema")}
    assert len(hashes) == 2
    torch.save({"model": tensors}, path)
    file = hashlib.sha256(path.read_bytes()).hexdigest()
    assert loaded(path, weights_entry="model").weights_hash == file, "the name said nothing that was not clear"


def test_load_codec_takes_the_entry(tmp_path: Path) -> None:
    tensors = published("transformers")
    torch.save({"model": tensors, "ema": times(2, tensors)}, tmp_path / "both.pt")
    with registered_for_a_while():
        register_codec(VARIANT, TinyCodec)
        codec = load_codec("tiny", weights=tmp_path / "both.pt", weights_entry="ema", device="cpu")
    assert isinstance(codec, TinyCodec)
    assert_holds(codec, 2)


def test_an_entry_that_is_not_there() -> None:
    both = {"model": published("transformers"), "ema": times(2, published("transformers"))}
    assert "it has no entry 'emma': did you mean 'ema'?" in refused(both, weights_entry="emma")
    assert "it has no entry 'xyz': there are 'model', 'ema'" in refused(both, weights_entry="xyz")


def test_an_entry_that_does_not_fit_is_not_replaced_by_one_that_does() -> None:
    tensors = published("transformers")
    short = {key: value for key, value in tensors.items() if key != "encoder.layers.1.bias"}
    said = refused({"model": tensors, "ema": short}, weights_entry="ema")
    assert "entry 'ema', does not fit" in said and "1 missing: encoder.layers.1.bias" in said
    assert "entry 'ema', does not fit" in refused({"model": tensors, "ema": {"w": torch.ones(2)}}, weights_entry="ema")


@pytest.mark.parametrize("weights", [None, "random"])
def test_an_entry_of_nothing(weights: str | None) -> None:
    assert "weights_entry='ema' chooses in a checkpoint of yours" in refused(weights, weights_entry="ema")


def test_a_path_with_colons_in_its_name_is_a_path(tmp_path: Path) -> None:
    torch.save(published("transformers"), tmp_path / "run::3.pt")
    assert_holds(loaded(str(tmp_path / "run::3.pt")))
    torch.save({"model": published("transformers")}, tmp_path / "run::4.pt")
    assert_holds(loaded(f"{tmp_path}/run::4.pt::model"))


# -- one sentence where it does not fit -----------------------------------------------------------


def test_faults_are_told_of_what_stands_behind_the_prefix() -> None:
    tensors = published("transformers")
    del tensors["encoder.layers.1.bias"]
    said = refused(behind("generator.", tensors))
    assert "read without the 'generator.' that all 6 names begin with, does not fit" in said
    assert said.endswith("1 missing: encoder.layers.1.bias")


def test_another_model_behind_a_prefix_is_one_sentence() -> None:
    """Not two lists of all there is."""
    said = refused({f"generator.net.conv{i}.weight": torch.ones(2) for i in range(200)})
    assert said == (
        "tiny: a dict of tensors: all 200 names begin with 'generator.net.', and what stands behind that "
        "(conv0.weight, conv1.weight, conv2.weight ...) is none of this model's 7 (enc.conv.conv.weight, "
        "enc.conv.conv.bias, enc.norm.weight ...)"
    )
