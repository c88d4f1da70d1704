"""Damaged checkpoints of every form end in a model, or in an error that names model and file; in bounded time and
memory."""

from __future__ import annotations

import json
import random
import shutil
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from codeczoo.base.catalogue import find_variant
from codeczoo.base.model import Model
from codeczoo.weights.load import load_weights
from tests.contract.test_packagings import PACKAGINGS
from tests.support.damage import bounded, damaged
from tests.support.packagings import Packaging
from tests.support.published import save_lightning
from tests.support.small import small_variant
from tests.support.tiny_codec import published, tiny

SECONDS, MEMORY = 5, 1 << 28  # of processor time, and bytes beside what was there


@dataclass(frozen=True)
class Form:
    """A form of checkpoint: writes one into a folder and gives what is passed as weights=, and the model for it."""

    write: Callable[[Path], Path]
    model: Callable[[], Model] = tiny


def of_packaging(label: str) -> Form:
    row: Packaging = PACKAGINGS[label]

    def model() -> Model:
        return small_variant(find_variant(row.codec).name).build()

    return Form(lambda folder: row.write(row, row.tensors()[0], folder), model)


def safetensors_file(folder: Path) -> Path:
    tensors = {key: value.contiguous() for key, value in published("authors").items()}
    save_file(tensors, folder / "w.safetensors", {"format": "pt"})
    return folder / "w.safetensors"


def zip_pickle(folder: Path) -> Path:
    save_lightning({f"model.{key}": value for key, value in published("authors").items()}, folder / "w.ckpt")
    return folder / "w.ckpt"


def legacy_pickle(folder: Path) -> Path:
    """As torch wrote them in 2019, and the `.th` archives of Demucs and EnCodec."""
    tree = {"model": {"generator": published("authors")}, "kwargs": {"width": 6}, "args": [], "step": 3}
    torch.save(tree, folder / "w.th", _use_new_zipfile_serialization=False)
    return folder / "w.th"


def two_shards(folder: Path) -> Path:
    tensors = published("transformers")
    places = {key: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, key in enumerate(tensors)}
    for name in set(places.values()):
        save_file({key: tensors[key].contiguous() for key in tensors if places[key] == name}, folder / name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return folder


FORMS = {
    "safetensors": Form(safetensors_file),
    "shards": Form(two_shards),
    "zip pickle": Form(zip_pickle),
    "legacy pickle": Form(legacy_pickle),
    "archive of pickles": of_packaging("audiodec in its archive"),
    "nemo": of_packaging("nanocodec"),
    "onnx": of_packaging("s3tokenizer_v1"),
    "with config.json": of_packaging("snac"),
    "with config.yaml": of_packaging("funcodec"),
}


def outcome(form: Form, given: Path) -> str:
    """What loading comes to, in a word; anything but a model or a named error fails the test."""
    model = form.model()
    said = ""
    with bounded(SECONDS, MEMORY):
        try:
            load_weights(model, given)
        except (ValueError, FileNotFoundError) as error:  # the latter of shards, whose index may name any file
            said = str(error)
    if said:
        assert said.startswith(f"{model.name}: ") or "no such file" in said, f"names the model: {said}"
        assert given.stem in said, f"names the file: {said}"
        return "refused"
    assert model.weights_hash, "what was loaded has a hash"
    assert all(value.isfinite().all() for value in model.state_dict().values())
    return "loaded"


def take(label: str, cases: int, tmp_path: Path) -> Counter[str]:
    """Damage one file of a form again and again."""
    form = FORMS[label]
    whole = form.write(_empty(tmp_path / "whole"))
    files = sorted(path for path in (whole.rglob("*") if whole.is_dir() else [whole]) if path.is_file())
    r = random.Random(label)
    found: Counter[str] = Counter()
    for _ in range(cases):
        folder = _empty(tmp_path / "damaged")
        victim = r.choice(files)
        for path in files:
            place = folder / (path.relative_to(whole) if whole.is_dir() else path.name)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(damaged(path.read_bytes(), r) if path == victim else path.read_bytes())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of strings that were damaged
            found[outcome(form, folder if whole.is_dir() else folder / whole.name)] += 1
    assert found["refused"] > cases // 10, found
    return found


def _empty(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "home"))


@pytest.mark.parametrize("label", FORMS)
def test_damaged_checkpoints(label: str, tmp_path: Path) -> None:
    take(label, 40, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("label", FORMS)
def test_thousands_of_damaged_checkpoints(label: str, tmp_path: Path) -> None:
    take(label, 2000 if FORMS[label].model is tiny else 300, tmp_path)
