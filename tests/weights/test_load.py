"""Weights of every published packaging find their way into a codec, or an error says why not."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file
from torch import Tensor, nn

from codeczoo.base.catalogue import WeightsSource
from codeczoo.weights import load as weights_module
from codeczoo.weights.checkpoint import WHOLE_FILE, read_checkpoint
from codeczoo.weights.download import file_hash
from codeczoo.weights.load import load_weights, randomise
from codeczoo.weights.safe_pickle import UnsafeCheckpointError
from tests.support.published import by_entry
from tests.support.tiny_codec import TinyCodec, TinyConfig, published, tiny, truth


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own for each test."""
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "home"))
    weights_module._say_licence.cache_clear()
    return tmp_path / "home"


def assert_loaded(codec: TinyCodec) -> None:
    for name, value in truth().items():
        torch.testing.assert_close(codec.state_dict()[name], value, rtol=1e-5, atol=1e-6)


def loaded(given: Any, **changes: Any) -> TinyCodec:
    codec = tiny(**changes)
    load_weights(codec, given)
    assert_loaded(codec)
    return codec


# -- packagings -----------------------------------------------------------------------------------


PACKAGINGS: dict[str, tuple[str, Callable[[dict[str, Tensor]], Any]]] = {
    "flat": ("authors", lambda t: t),
    "state_dict and metadata": ("authors", lambda t: {"state_dict": t, "metadata": {"kwargs": {"width": 6}}}),
    "model and generator": ("authors", lambda t: {"model": {"generator": t, "discriminator": {"w": torch.ones(3)}}}),
    "data parallel": ("authors", lambda t: {f"module.{key}": value for key, value in t.items()}),
    "two entries": ("two files", by_entry),
    "flat with two entries": ("two files", lambda t: t),
    "of transformers": ("transformers", lambda t: t),
    "prefixed by its trainer": ("transformers", lambda t: {"ema": {"model": t}, "step": 5}),
}


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("packaging", PACKAGINGS)
def test_every_packaging_of_a_pickle(packaging: str, zipped: bool, tmp_path: Path) -> None:
    naming, pack = PACKAGINGS[packaging]
    path = tmp_path / "no-suffix-at-all"
    torch.save(pack(published(naming)), path, _use_new_zipfile_serialization=zipped)
    codec = loaded(path)
    assert codec.weights_source == str(path)
    assert codec.weights_hash == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("packaging", PACKAGINGS)
def test_every_packaging_as_a_dict(packaging: str) -> None:
    naming, pack = PACKAGINGS[packaging]
    codec = loaded(pack(published(naming)))
    assert codec.weights_source == "a dict of tensors"
    assert re.fullmatch("[0-9a-f]{64}", codec.weights_hash or "")


@pytest.mark.parametrize("naming", ["authors", "transformers", "two files"])
@pytest.mark.parametrize("recent", [False, True], ids=["weight_g", "parametrizations"])
def test_every_naming_in_safetensors(naming: str, recent: bool, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file(published(naming, recent), path, metadata={"format": "pt"})
    loaded(str(path))
    loaded(tmp_path)


def test_its_own_state_dict_loads_again(tmp_path: Path) -> None:
    codec = loaded(published("authors"))
    loaded(codec.state_dict())
    save_file(codec.state_dict(), tmp_path / "saved.safetensors")
    loaded(tmp_path / "saved.safetensors")


def test_numpy_arrays_are_tensors_too() -> None:
    tensors = published("authors")
    arrays = {"generator": {key: value.numpy() for key, value in tensors.items()}}
    arrays["generator"]["vq.usage"].flags.writeable = False
    codec = loaded(arrays)
    assert codec.weights_hash == loaded({"generator": tensors}).weights_hash


def test_a_dict_has_the_same_hash_in_any_order_and_another_for_other_values() -> None:
    tensors = published("authors")
    first = loaded(tensors).weights_hash
    assert loaded(dict(reversed(tensors.items()))).weights_hash == first
    changed = {**tensors, "enc.norm.bias": tensors["enc.norm.bias"] * (1 + 1e-6)}
    assert loaded(changed).weights_hash != first


def test_shards_are_put_together(tmp_path: Path) -> None:
    tensors = published("transformers")
    keys = sorted(tensors)
    names = {key: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, key in enumerate(keys)}
    for name in set(names.values()):
        save_file({key: tensors[key] for key in keys if names[key] == name}, tmp_path / name)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": names}))
    loaded(tmp_path)
    loaded(index)
    (tmp_path / names[keys[0]]).unlink()
    with pytest.raises(FileNotFoundError, match="00001-of-00002"):
        load_weights(tiny(), tmp_path)
    index.write_text(json.dumps({"weight_map": {"a": "../elsewhere.safetensors"}}))
    with pytest.raises(ValueError, match="elsewhere"):
        load_weights(tiny(), index)
    index.write_text('{"weight_')
    with pytest.raises(ValueError, match=r"model\.safetensors\.index\.json: not JSON"):
        load_weights(tiny(), index)
    index.write_text("[]")
    with pytest.raises(ValueError, match=r"model\.safetensors\.index\.json: not the index"):
        load_weights(tiny(), index)


# -- several files, folders -----------------------------------------------------------------------


def test_files_of_one_checkpoint_by_their_stems(tmp_path: Path) -> None:
    for stem, tensors in by_entry(published("two files")).items():
        torch.save(tensors, tmp_path / f"{stem}.pt")
    source = WeightsSource(repo="someone/tiny", file="v0/CodecEnc.pt", more=({"file": "v0/generator.pt"},))
    codec = loaded(tmp_path, weights=source)
    hashes = [hashlib.sha256((tmp_path / f"{stem}.pt").read_bytes()).hexdigest() for stem in ("CodecEnc", "generator")]
    assert codec.weights_hash == hashlib.sha256("\n".join(hashes).encode()).hexdigest()
    (tmp_path / "generator.pt").unlink()
    with pytest.raises(ValueError, match=r"of v0/CodecEnc\.pt, v0/generator\.pt only CodecEnc\.pt"):
        load_weights(tiny(weights=source), tmp_path)


def test_files_of_one_name_in_two_folders_are_merged(tmp_path: Path) -> None:
    tensors = published("authors")
    first = {key: value for key, value in tensors.items() if key.startswith("enc.")}
    for place, part in (("autoencoder", first), ("vocoder", {k: v for k, v in tensors.items() if k not in first})):
        (tmp_path / place).mkdir()
        torch.save({"model": {"generator": part}}, tmp_path / place / "checkpoint-500000steps.pkl")
    source = WeightsSource(
        repo="someone/tiny",
        file="autoencoder/checkpoint-500000steps.pkl",
        more=({"file": "vocoder/checkpoint-500000steps.pkl"},),
    )
    loaded(tmp_path, weights=source)
    (tmp_path / "exp").mkdir()  # one folder farther down, as their archive has it
    for place in ("autoencoder", "vocoder"):
        (tmp_path / place).rename(tmp_path / "exp" / place)
    loaded(tmp_path, weights=source)
    shutil.copytree(tmp_path / "exp", tmp_path / "other")
    with pytest.raises(FileNotFoundError, match=r"autoencoder/checkpoint-500000steps\.pkl, vocoder/.* is expected"):
        load_weights(tiny(weights=source), tmp_path)


def test_a_folder_is_searched_for_what_is_published_then_for_what_is_usual(tmp_path: Path) -> None:
    source = WeightsSource(repo="someone/tiny", file="ckpt/ours.bin")
    with pytest.raises(FileNotFoundError, match=r"ckpt/ours\.bin is expected"):
        load_weights(tiny(weights=source), tmp_path)
    torch.save(published("authors"), tmp_path / "step-100.ckpt")
    loaded(tmp_path, weights=source)
    torch.save({}, tmp_path / "step-200.ckpt")
    with pytest.raises(ValueError, match=r"several checkpoints \(step-100\.ckpt, step-200\.ckpt\)"):
        load_weights(tiny(weights=source), tmp_path)
    torch.save(published("transformers"), tmp_path / "pytorch_model.bin")
    assert loaded(tmp_path, weights=source).weights_source == str(tmp_path / "pytorch_model.bin")
    torch.save(published("two files"), tmp_path / "ours.bin")
    assert loaded(tmp_path, weights=source).weights_source == str(tmp_path / "ours.bin")


def test_a_form_of_one_family_is_read_by_its_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "tokenizer.onnx"
    torch.save(published("transformers"), path)
    with pytest.raises(ValueError, match=r'tokenizer\.onnx: ONNX is read only .*pip install "codeczoo\[onnx\]"'):
        load_weights(tiny(), path)
    monkeypatch.setattr(TinyCodec, "readers", {".onnx": lambda p: torch.load(p, weights_only=True)})
    loaded(path)


# -- what does not fit ----------------------------------------------------------------------------


def safetensors_file(tensors: dict[str, Tensor], path: Path) -> None:
    save_file({key: value.contiguous() for key, value in tensors.items()}, path)


def zip_file(tensors: dict[str, Tensor], path: Path) -> None:
    torch.save({"model": {"generator": tensors}}, path)


def legacy_file(tensors: dict[str, Tensor], path: Path) -> None:
    torch.save({"state_dict": tensors}, path, _use_new_zipfile_serialization=False)


def without(tensors: dict[str, Tensor], path: Path, write: Callable) -> None:
    write({key: value for key, value in tensors.items() if key != "enc.norm.weight"}, path)


def one_more(tensors: dict[str, Tensor], path: Path, write: Callable) -> None:
    write({**tensors, "enc.norm.running_mean": torch.ones(6)}, path)


def other_shape(tensors: dict[str, Tensor], path: Path, write: Callable) -> None:
    write({**tensors, "enc.norm.weight": torch.ones(7)}, path)


def with_nan(tensors: dict[str, Tensor], path: Path, write: Callable) -> None:
    write({**tensors, "enc.norm.weight": torch.full((6,), float("nan"))}, path)


def cut(tensors: dict[str, Tensor], path: Path, write: Callable) -> None:
    write(tensors, path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


FAULTS = {
    without: r"1 missing: enc\.norm\.weight$",
    one_more: r"1 unexpected: enc\.norm\.running_mean$",
    other_shape: r"1 of the wrong shape: enc\.norm\.weight \[7\] instead of \[6\]$",
    with_nan: r"1 with NaN or infinity: enc\.norm\.weight$",
    cut: r"not a whole (torch checkpoint|safetensors file) \(.+\)$",
}


@pytest.mark.parametrize("write", [safetensors_file, zip_file, legacy_file])
@pytest.mark.parametrize("fault", FAULTS)
def test_five_clear_errors(fault: Callable, write: Callable, tmp_path: Path) -> None:
    path = tmp_path / f"tiny.{'safetensors' if write is safetensors_file else 'pt'}"
    fault(published("authors"), path, write)
    codec = tiny()
    before = {name: value.clone() for name, value in codec.state_dict().items()}
    with pytest.raises(ValueError, match=FAULTS[fault]) as caught:
        load_weights(codec, path)
    assert str(caught.value).startswith(f"tiny: {path}")
    assert all(torch.equal(value, before[name]) for name, value in codec.state_dict().items() if value.isfinite().all())
    assert codec.weights_hash is None, "nothing was loaded"


def test_a_pickle_that_runs_code_names_codec_and_file(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple:
            return shutil.rmtree, (str(tmp_path),)

    path = tmp_path / "evil.pt"
    torch.save({**published("authors"), "evil": Evil()}, path)
    with pytest.raises(UnsafeCheckpointError, match=r"tiny: .*evil\.pt: refused: it names shutil\.rmtree"):
        load_weights(tiny(), path)
    assert path.exists()


def test_two_entries_that_fit_alike_are_not_guessed_at(tmp_path: Path) -> None:
    tensors = published("authors")
    averaged = {key: value * 0.9 for key, value in tensors.items()}
    torch.save({"generator": tensors, "generator_ema": averaged}, tmp_path / "both.pt")
    with pytest.raises(ValueError, match=r"entry 'generator' and entry 'generator_ema' fit equally well"):
        load_weights(tiny(), tmp_path / "both.pt")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "it is empty"),
        (b"<!DOCTYPE html><html>Not found</html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git LFS pointer"),
        (b"RIFF....WAVE", "not a whole"),
        (b'\xff\xff\x00\x00\x00\x00\x00\x00{"a":', "not a whole"),
    ],
)
def test_files_of_other_kinds_are_told_apart(content: bytes, match: str, tmp_path: Path) -> None:
    for name in ("weights.pt", "weights.safetensors"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=rf"tiny: .*{name}.*{match}"):
            load_weights(tiny(), tmp_path / name)


def test_a_file_without_tensors_is_an_error(tmp_path: Path) -> None:
    for tree in ({"epoch": 1}, [torch.ones(2)], torch.ones(2)):
        torch.save(tree, tmp_path / "weights.pt")
        with pytest.raises(ValueError, match=r"tiny: .*weights\.pt: it holds no tensors by name"):
            load_weights(tiny(), tmp_path / "weights.pt")
    endless: dict[str, Any] = {"w": torch.ones(2)}
    endless["self"] = endless
    torch.save(endless, tmp_path / "weights.pt")
    with pytest.raises(ValueError, match=r"weights\.pt: its entries are nested without end"):
        load_weights(tiny(), tmp_path / "weights.pt")


def test_weights_that_are_none_of_the_known_things(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"tiny: weights='.*nowhere\.pt' is neither 'random' nor a file"):
        load_weights(tiny(), tmp_path / "nowhere.pt")
    with pytest.raises(TypeError, match="it is int"):
        load_weights(tiny(), 3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="tiny: weights= is a dict, but it holds no tensors"):
        load_weights(tiny(), {"w": [1, 2]})
    with pytest.raises(ValueError, match="no published weights are known"):
        load_weights(tiny(weights=None))
    with pytest.raises(ValueError, match="revision='main'"):
        load_weights(tiny(), published("authors"), revision="main")


def test_plain_values_beside_the_tensors_are_checked_by_the_codec(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": published("authors"), "kwargs": {"width": 8, "more": [1, "x"]}}, path)
    with pytest.raises(ValueError, match=r"tiny: .*weights\.pth: it is a network of width 8, not 6"):
        load_weights(tiny(), path)
    assert read_checkpoint(path).metadata == {"kwargs": {"width": 8, "more": [1, "x"]}}


def test_settings_in_the_same_folder_are_checked_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(published("authors"), tmp_path / "weights.pt")
    (tmp_path / "config.json").write_text('{"strides": [2, 2]}')
    seen: list[Mapping[str, Any]] = []
    monkeypatch.setattr(TinyCodec, "check_metadata", lambda self, metadata: seen.append(metadata))
    codec = loaded(tmp_path)
    assert seen == [{"config": {"strides": [2, 2]}}]
    assert codec.weights_hash == hashlib.sha256((tmp_path / "weights.pt").read_bytes()).hexdigest()
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"tiny: .*config\.json: not JSON"):
        load_weights(tiny(), tmp_path)


def test_a_codec_may_look_at_the_tensors_that_were_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    def check(self: TinyCodec, tensors: Mapping[str, Tensor]) -> None:
        raise ValueError(f"of another model, {len(tensors)} tensors")

    monkeypatch.setattr(TinyCodec, "check_tensors", check)
    with pytest.raises(ValueError, match="tiny: a dict of tensors: of another model, 7 tensors"):
        load_weights(tiny(), {"ema": published("transformers"), "step": 3})


def test_candidates_are_the_whole_and_each_entry(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save({"model": {"generator": {"w": torch.ones(1)}}, "step": 3, "ema": {"w": torch.zeros(1)}}, path)
    found = read_checkpoint(path)
    assert {name: list(tensors) for name, tensors in found.candidates.items()} == {
        WHOLE_FILE: ["model.generator.w", "ema.w"],
        "entry 'model'": ["generator.w"],
        "entry 'model/generator'": ["w"],
        "entry 'ema'": ["w"],
    }
    assert found.metadata == {"step": 3}


# -- hash, licence, noise -------------------------------------------------------------------------


def test_a_hash_is_remembered_until_the_file_changes(tmp_path: Path, home: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"one")
    assert file_hash(path) == hashlib.sha256(b"one").hexdigest()
    (note,) = (home / "codeczoo" / "sha256").iterdir()
    known = json.loads(note.read_text())
    note.write_text(json.dumps({**known, "sha256": "remembered"}))
    assert file_hash(path) == "remembered"
    path.write_bytes(b"other")
    assert file_hash(path) == hashlib.sha256(b"other").hexdigest()
    note.write_text("broken")
    assert file_hash(path) == hashlib.sha256(b"other").hexdigest()


@pytest.mark.parametrize(
    ("licence", "says"),
    [
        ("CC-BY-NC-4.0", "non-commercial use only"),
        ("CC-BY-NC 4.0", "non-commercial use only"),
        ("Non-Commercial research licence", "non-commercial use only"),
        ("unknown", "unclear"),
        ("", "unclear"),
        ("none stated", "unclear"),
        ("not verified", "unclear"),
        ("MIT", None),
        ("CC-BY-4.0", None),
        ("Apache-2.0", None),
    ],
)
def test_licences_that_bind_are_said_once(licence: str, says: str | None, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for name, root in (("tiny", "tiny"), ("tiny_fast", "tiny")):
            loaded(published("authors"), name=name, root=root, weights_licence=licence)
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == (says is not None)
    assert says is None or (says in messages[0] and "tiny" in messages[0])


def test_what_was_loaded_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    torch.save(published("authors"), tmp_path / "w.pt")
    with caplog.at_level(logging.INFO):
        codec = loaded(tmp_path / "w.pt")
    assert f"tiny: weights of {tmp_path / 'w.pt'}, sha256 {codec.weights_hash}" in caplog.text


def test_random_weights_are_a_function_of_the_seed_alone_and_say_so(caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(5)
    one = tiny()
    load_weights(one, "random", seed=3)
    assert "random weights (seed 3)" in caplog.text
    assert (one.weights_source, one.weights_hash) == ("random, seed 3", None)
    torch.manual_seed(6)
    double, other = tiny().double(), tiny()
    load_weights(double, "random", seed=3)
    load_weights(other, "random", seed=4)
    for name, value in one.state_dict().items():
        assert torch.equal(double.state_dict()[name], value.double()), name
        assert not torch.equal(other.state_dict()[name], value), name


def test_random_weights_keep_signals_at_their_size() -> None:
    """Through sixty layers of every common kind the signal neither vanishes nor explodes."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wide = nn.Conv1d(32, 64, 7, padding=3)
            self.up = nn.ConvTranspose1d(64, 32, 8, 4, 2)
            self.down = nn.Conv1d(32, 32, 8, 4, 2)
            self.depthwise = nn.Conv1d(32, 32, 5, padding=2, groups=32)
            self.alpha = nn.Parameter(torch.empty(1, 32, 1))
            self.layer_scale = nn.Parameter(torch.empty(32))
            self.mix = nn.Linear(32, 32)
            self.norm = nn.LayerNorm(32)

        def forward(self, x: Tensor) -> Tensor:
            x = self.depthwise(self.down(self.up(self.wide(x))))
            x = x + torch.sin(self.alpha * x) ** 2 / self.alpha
            return x + (self.layer_scale * self.mix(self.norm(x.mT))).mT

    net = nn.Sequential(*(Block() for _ in range(10)))
    randomise(net, 0)
    torch.manual_seed(0)
    x = torch.randn(1, 32, 64)
    with torch.no_grad():
        for block in net:
            x = block(x)
            assert 0.02 < float(x.std()) < 50


def test_noise_suits_the_role_of_a_tensor() -> None:
    net = nn.ModuleDict({"codebook": nn.Embedding(4096, 8), "batch_norm": nn.BatchNorm1d(64), "lstm": nn.LSTM(8, 8)})
    net.register_buffer("codebooks", torch.zeros(4, 1024, 8))
    net.register_buffer("steps", torch.tensor(7))
    randomise(net, 1)
    state = net.state_dict()
    for name in ("codebook.weight", "codebooks"):
        assert abs(float(state[name].std()) - 1) < 0.02
    assert bool((state["batch_norm.running_var"] > 0.4).all())
    assert abs(float(state["batch_norm.weight"].mean()) - 1) < 0.1
    assert float(state["lstm.bias_ih_l0"].abs().max()) < 0.1
    assert int(state["steps"]) == 7, "integers stay"


class Still(TinyCodec):
    """A codec without weights, as those of telephony are."""

    def __init__(self, config: TinyConfig, variant: Any) -> None:
        super().__init__(config, variant)
        for name in ("encoder", "norm", "quantizer", "decoder"):
            delattr(self, name)


def test_a_codec_without_weights_needs_none() -> None:
    for weights in (None, "random"):
        codec = Still(TinyConfig(), tiny(weights=None).variant)
        load_weights(codec, weights)
        assert codec.weights_source is None
    with pytest.raises(ValueError, match="tiny has no weights"):
        load_weights(codec, published("authors"))
