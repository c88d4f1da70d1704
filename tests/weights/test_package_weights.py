"""Weights that an installed package brings with it: no download, whatever the network."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest
from huggingface_hub import constants
from safetensors.torch import save

from codeczoo.base.catalogue import WeightsSource
from codeczoo.weights.download import WeightsUnavailableError
from codeczoo.weights.load import load_weights
from tests.support.tiny_codec import TinyCodec, published, tiny

FILE = "weights/tiny.safetensors"
CONTENT = save({key: value.contiguous() for key, value in published("transformers").items()})
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a package with weights in it, which must not be imported."""
    folder = tmp_path / "tiny_package"
    (folder / "weights").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise ImportError('this package was imported')")
    (folder / FILE).write_bytes(CONTENT)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return folder


def codec_of(package: str, file: str = FILE, sha256: str | None = None) -> TinyCodec:
    return tiny(weights=WeightsSource(package=package, file=file, sha256=sha256))


def test_they_are_loaded_from_the_package(package: Path) -> None:
    codec = codec_of("tiny_package", sha256=SHA256)
    load_weights(codec, local_files_only=True)
    assert codec.weights_source == f"{FILE} of the package tiny_package"
    assert codec.weights_hash == SHA256
    assert "tiny_package" not in sys.modules


@pytest.mark.parametrize(
    ("where", "file", "said"),
    [
        ("tiny_package", "weights/other.safetensors", r"weights/other\.safetensors is not in the package tiny_package"),
        ("no_such_package", FILE, "the package no_such_package is not installed"),
    ],
)
def test_what_is_missing_is_named(package: Path, where: str, file: str, said: str) -> None:
    with pytest.raises(WeightsUnavailableError, match=rf"tiny: {said}: .*pass weights=path"):
        load_weights(codec_of(where, file))


def test_a_changed_file_is_refused_and_stays(package: Path) -> None:
    (package / FILE).write_bytes(CONTENT[:-1] + b"x")
    with pytest.raises(ValueError, match=rf"tiny: .*tiny\.safetensors has sha256 [0-9a-f]{{64}}, not {SHA256[:8]}"):
        load_weights(codec_of("tiny_package", sha256=SHA256[:8]))
    assert (package / FILE).exists(), "only what was downloaded may be removed"


def test_they_have_no_revision(package: Path) -> None:
    with pytest.raises(ValueError, match="revision='v2' is for hub repositories; its weights come from weights/tiny"):
        load_weights(codec_of("tiny_package"), revision="v2")
